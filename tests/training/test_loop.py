"""A run cut anywhere goes on with the same bits; a run that blows up ends as diverged."""

import chex
import numpy as np
import pytest

from cnnjax import Refused, load_dataset, small_images
from cnnjax.core.config import override
from cnnjax.tasks.task import figures_of
from cnnjax.training import loop
from cnnjax.training.checkpoint import LightSaves, OrbaxSaves
from cnnjax.training.initial import fresh_state, saved_tree
from cnnjax.training.loop import evaluate
from cnnjax.training.make import make_task
from tests.runs import train


def recipe(**settings):
    changed = small_images
    values = {"model.depth": 8, "model.width": 0.25, "epochs": 3, **settings}
    for path, value in values.items():
        changed = override(changed, path, value)
    return changed


class Recorder:
    """Keeps the newest state; asks to stop after so many dispatches."""

    keeps_last = True
    in_parts = False

    def __init__(self, stop_after=10**9):
        self.tree, self.asked, self.stop_after = None, 0, stop_after

    def due(self):
        return True

    def save(self, step, tree, *, force=False):
        self.tree = tree

    def restore(self, template):
        return self.tree

    def stop(self):
        self.asked += 1
        return self.asked >= self.stop_after


@pytest.fixture(scope="module")
def whole(digits):
    """The uninterrupted run."""
    saves, lines = Recorder(), []
    result = train(recipe(), 3, digits, saves=saves, on_epoch=lines.append)
    return result, saves.tree, lines


def test_a_run_learns_and_reports_each_epoch(whole):
    result, tree, lines = whole
    assert (result.status, result.steps, int(tree["state"].step)) == ("done", 42, 42)
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[-1]["batch_error"] < lines[0]["batch_error"]
    assert result.figures["train_error"] < 25  # chance is 90
    assert result.figures["test_error"] == lines[-1]["test_error"]


@pytest.mark.parametrize("stop_after", [1, 2, 5])
@pytest.mark.parametrize("form", ["orbax", "light"])
def test_an_interrupted_run_goes_on_with_the_same_bits(
    whole, digits, tmp_path, monkeypatch, stop_after, form
):
    monkeypatch.setattr("cnnjax.training.loop.DISPATCH_SECONDS", 0.0)  # one step a dispatch
    make = {
        "orbax": lambda say: OrbaxSaves(tmp_path / "orbax", "mine", say),
        "light": lambda say: LightSaves(tmp_path / "light", "mine", say),
    }[form]
    said, lines = [], []
    stopper = Recorder(stop_after * 5 - 2)  # in the midst of an epoch
    while True:
        saves = make(said.append)
        result = train(recipe(), 3, digits, saves=saves, stop=stopper.stop, on_epoch=lines.append)
        if result.status == "done":
            break
        stopper = Recorder(stop_after * 5)
    expected, tree, expected_lines = whole
    for key in ("status", "steps", "train_error", "test_error", "train_loss", "test_loss"):
        assert result.flat()[key] == expected.flat()[key], key
    task = make_task(recipe(), digits)
    state = fresh_state(task, recipe(), 3)
    restored = make(said.append).restore(saved_tree(state, task.empty_metrics(state)))
    if form == "orbax":  # the light form keeps what the last interruption saved
        chex.assert_trees_all_equal(restored["state"], tree["state"])
    untimed = [
        [{k: v for k, v in line.items() if "second" not in k} for line in each]
        for each in (lines, expected_lines)
    ]
    assert untimed[0] == untimed[1]
    assert said == []


def test_another_seed_is_another_run(whole, digits):
    assert train(recipe(), 4, digits).figures["train_loss"] != whole[0].figures["train_loss"]


def test_a_rate_that_is_too_high_ends_as_diverged_with_its_last_good_figures(digits):
    result = train(recipe(**{"optimizer.learning_rate": 1e18}), 0, digits)
    assert result.status == "diverged"
    assert 0 < result.steps < 42
    assert result.diverged["step"] == result.steps
    assert result.diverged["leaf"].split(".")[0] in ("loss", "gradient", "state")
    assert 0 <= result.figures["train_error"] <= 100


def test_a_run_may_end_within_an_epoch(digits):
    lines = []
    result = train(recipe(steps=17), 0, digits, on_epoch=lines.append)
    assert result.steps == 17
    assert [line["step"] for line in lines] == [14, 17]


def test_evaluation_does_not_depend_on_batches(whole, digits, monkeypatch):
    _, tree, _ = whole
    task = make_task(recipe(), digits)
    expected = evaluate(task, recipe().data, tree["state"], digits, "test")
    assert expected["examples"] == 450
    monkeypatch.setattr("cnnjax.training.feed.EVALUATION_BATCH", 64)
    found = evaluate(task, recipe().data, tree["state"], digits, "test")
    assert found["top1_error"] == expected["top1_error"]
    np.testing.assert_allclose(found["loss"], expected["loss"], rtol=1e-5)


def test_too_few_classes_are_refused(digits):
    with pytest.raises(Refused, match="has 10 classes"):
        make_task(recipe(**{"model.num_classes": 5}), digits)


def test_a_loss_that_is_not_finite_is_no_number_in_the_record(digits, monkeypatch):
    from cnnjax.tasks.classification import Classification

    monkeypatch.setattr(
        Classification,
        "summary",
        lambda self, sums: {
            "loss": float("inf"),
            "top1_error": 90.0,
            "top5_error": 50.0,
            "examples": 1,
        },
    )
    lines = []
    result = train(recipe(steps=3), 0, digits, on_epoch=lines.append)
    assert lines[0]["test_loss"] is None
    assert (result.figures["test_loss"], result.figures["test_error"]) == (None, 90.0)


def test_a_run_that_blew_up_at_its_end_is_diverged_after_a_kill_too(digits):
    """Killed between its last save and its result."""
    blown = recipe(steps=1, **{"optimizer.learning_rate": 3e38})
    saves = Recorder()
    assert train(blown, 0, digits, saves=saves).status == "diverged"
    assert train(blown, 0, digits, saves=saves).status == "diverged"


@pytest.mark.parametrize("unmeasured", ["train", "test"])
def test_what_only_one_split_has_objects_for_is_no_divergence(digits, monkeypatch, unmeasured):
    """Average precision, say, of a part without an object; no batch has a figure of it."""
    judge = loop._judge

    def without(training, state, split, on_part):
        figure = None if split == unmeasured else 50.0
        return {**judge(training, state, split, on_part), "top5_error": figure}

    monkeypatch.setattr(loop, "_judge", without)
    monkeypatch.setattr(loop, "figures_of", lambda *given: _without_top5(figures_of(*given)))
    result = train(recipe(epochs=1), 0, digits)
    assert result.figures[f"{unmeasured}_top5_error"] is None
    assert result.status == "done"


def _without_top5(figures):
    return {name: value for name, value in figures.items() if name != "top5_error"}


def test_progress_counts_evaluation_too(digits, monkeypatch):
    monkeypatch.setattr("cnnjax.training.feed._TELL_SECONDS", 0.0)
    told = []
    train(recipe(), 3, digits, on_progress=told.append)
    assert (told[0].phase, told[0].seconds_left) == ("compiling", None)
    phases = [progress.phase for progress in told]
    assert phases[-1] == "evaluating train"
    assert phases.count("evaluating train") == -(-1347 // 512)
    assert phases.count("evaluating test") == 3 * -(-450 // 512)
    judged = [progress for progress in told if progress.phase.startswith("evaluating")]
    assert all(0 < progress.part <= 1 for progress in judged)
    assert judged[-1].seconds_left == pytest.approx(0, abs=1e-9)
    last = [progress.seconds_left for progress in told if progress.phase == "evaluating train"]
    assert last == sorted(last, reverse=True)


def test_epochs_that_are_shorter_than_the_test_split_are_judged_together(digits):
    """450 test images: 96 of 100 trained in an epoch, so every fifth is judged, and the last."""
    few = {"data.train_examples": 100, "epochs": 12}
    lines = []
    small = load_dataset(recipe(**few).data)
    result = train(recipe(**few), 0, small, on_epoch=lines.append)
    assert [line["epoch"] for line in lines] == [5, 10, 12]
    assert result.figures["test_error"] == lines[-1]["test_error"]
