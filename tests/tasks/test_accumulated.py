"""Metrics that an accumulator gives: declared like others, judged at evaluations alone."""

import pytest

from cnnjax import Metric, NetworkTask, Refused
from cnnjax.tasks.task import DataSpec, figures_of
from cnnjax.training.events import Events
from cnnjax.training.loop import named


class Judged(NetworkTask):
    metrics = (
        Metric("loss", "nats", "lower", "mean"),
        Metric("worst_error", "%", "lower", "of the worst class"),
    )

    def losses(self, outputs, batch):
        return outputs


class Gives:
    def __init__(self, **figures):
        self.figures = figures

    def add(self, indices, outputs): ...

    def merge(self, other): ...

    def finish(self):
        return self.figures


TASK = Judged(model=None, data=DataSpec.of_images((8, 8, 1), 10))
SUMS = {"loss": 2.0, "examples": 4.0}


def test_it_is_judged_beside_the_sums():
    figures = figures_of(TASK, SUMS, Gives(worst_error=40.0, table=[[1]]))
    assert named(TASK, "test", figures) == {"test_loss": 0.5, "test_worst_error": 40.0}
    assert figures["table"] == [[1]]
    assert named(TASK, "batch", figures_of(TASK, SUMS)) == {"batch_loss": 0.5}


def test_one_that_nothing_gives_is_refused():
    with pytest.raises(Refused, match="the metric worst_error, which neither"):
        figures_of(TASK, SUMS, Gives())


def test_events_hold_the_figures_that_a_task_has(tmp_path):
    events = Events(tmp_path)
    record = {"epoch": 1, "step": 3, "learning_rate": 0.1, "test_turn_error": 9.0}
    events.write({**record, "batch_turn_error": None, "train_seconds": 1.0})
    events.close()
    (file,) = tmp_path.iterdir()
    written = file.read_bytes()
    assert b"learning_rate" in written
    assert b"test_turn_error" in written
    assert b"batch_turn_error" not in written
    assert b"train_seconds" not in written
