"""How long a run will take: training and evaluation, from what was timed so far."""

import pytest

from cnnjax.training.progress import Clock


def clock(epochs=4):
    # 10 steps of 10 images an epoch; a step takes 1 s, an evaluated image 0.1 s.
    timed = Clock(10 * epochs, 10, 10, train=100, test=50)
    timed.trained(5, 5.0)
    timed.evaluated("test", 5.0)
    return timed


@pytest.mark.parametrize(
    ("phase", "step", "part", "left"),
    [
        ("training", 0, 0.0, 40 + 4 * 5 + 10),
        ("training", 5, 0.0, 35 + 4 * 5 + 10),
        ("training", 10, 0.0, 30 + 4 * 5 + 10),  # the first epoch is not judged yet
        ("evaluating test", 10, 0.5, 30 + 3.5 * 5 + 10),
        ("training", 11, 0.0, 29 + 3 * 5 + 10),
        ("evaluating test", 40, 0.5, 0.5 * 5 + 10),
        ("evaluating train", 40, 0.0, 10),
        ("evaluating train", 40, 0.75, 2.5),
        ("evaluating train", 40, 1.0, 0),
    ],
)
def test_what_is_left_by_hand(phase, step, part, left):
    progress = clock().progress(phase, step, "loss 0.5", part)
    assert progress.seconds_left == pytest.approx(left)
    assert progress.part == pytest.approx(1 - left / 70)
    assert progress.images_per_second == 10


def test_before_anything_was_timed_nothing_is_said():
    timed = Clock(10, 10, 10, train=100, test=50)
    progress = timed.progress("compiling", 0)
    assert (progress.part, progress.images_per_second, progress.seconds_left) == (0, 0, None)
    timed.trained(10, 10.0)  # evaluation, not timed yet, at a third of a step for each image
    assert timed.progress("training", 10).seconds_left == pytest.approx(150 * 0.1 / 3)
