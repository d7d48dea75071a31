"""Metrics that an accumulator gives: declared like others, judged at evaluations alone."""

from dataclasses import dataclass
from typing import ClassVar

import jax.numpy as jnp
import pytest

from cnnjax import Metric, Model, NetworkTask, Refused, create_model, make_task, small_images
from cnnjax.core.config import override
from cnnjax.core.errors import Failed
from cnnjax.tasks.classification import Classification
from cnnjax.tasks.task import DataSpec, figures_of
from cnnjax.training.events import Events
from cnnjax.training.loop import fit, named
from cnnjax.training.make import task_for
from cnnjax.training.setup import prepare


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


def test_one_that_nothing_gives_is_named():
    with pytest.raises(Failed, match="the metric worst_error, which neither"):
        figures_of(TASK, SUMS, Gives())


class Raises(Gives):
    def finish(self):
        raise RuntimeError("boom")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Gives(), "declares the metric recall and does not compute it"),
        (Raises(), r"accumulator of task Accumulates cannot be used.*RuntimeError: boom"),
        (Gives(recall=1.0), None),
    ],
)
def test_an_accumulator_is_tried_before_any_compute(given, message):
    @dataclass(frozen=True, kw_only=True)
    class Accumulates(Classification):
        metrics: ClassVar = (*Classification.metrics, Metric("recall", "%", "higher", "of all"))

        def accumulator(self, detailed=False):
            return given

    model = create_model("lenet5")
    task = Accumulates(model=model, data=DataSpec.of_images((28, 28, 1), 10))
    if message is None:
        task.check(4)
        return
    with pytest.raises(Refused, match=message):
        task.check(4)


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


@dataclass(frozen=True, kw_only=True)
class Undefined(Classification):
    """Its last metric is no number on any data."""

    metrics: ClassVar = (*Classification.metrics, Metric("recall", "%", "higher", "of no image"))

    def figures(self, outputs, batch):
        return {**super().figures(outputs, batch), "recall": jnp.full(len(outputs), jnp.nan)}


def test_a_metric_that_never_was_a_number_is_no_divergence(digits):
    recipe = small_images.replace(model=Model("cifar_resnet8", {"width": 0.25}), steps=1)
    task = Undefined(**vars(make_task(recipe, digits)))
    result = fit(prepare(recipe, 0, digits, task=task))
    assert (result.status, result.figures["train_recall"]) == ("done", None)


def test_views_that_a_task_cannot_judge_are_refused_before_compute(monkeypatch):
    data = DataSpec.of_images((32, 32, 3), 10)
    monkeypatch.setattr(Classification, "over_views", NetworkTask.over_views)
    with pytest.raises(Refused, match=r"data.test_crops=10: task classification has one output"):
        task_for(override(small_images, "data.test_crops", 10), data)
