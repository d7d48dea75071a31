"""The loop: repeats a task's step, evaluates after each epoch, can stop and go on anywhere.

A run is cut into dispatches of about a second, so that it shows progress and hears a signal. The
cuts change no bit: positions are arguments of one compiled program, sums are carried along.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.core.errors import Refused
from cnnjax.core.random import stream_keys
from cnnjax.core.recipe import Recipe
from cnnjax.core.registry import create_model, field_types
from cnnjax.data.dataset import AnyDataset
from cnnjax.data.normalization import chosen_normalization
from cnnjax.data.order import steps_per_epoch, total_steps
from cnnjax.tasks.classification import Classification
from cnnjax.tasks.state import TrainState, set_hyperparams
from cnnjax.tasks.task import Metrics
from cnnjax.train.feed import evaluation_feed, make_feed, on_device
from cnnjax.train.placement import Jit, Placement
from cnnjax.train.program import Source
from cnnjax.train.progress import Clock, Progress
from cnnjax.train.schedules import learning_rates

DISPATCH_SECONDS = 1.0


@runtime_checkable
class Saves(Protocol):
    """Where a run keeps its state: `OrbaxSaves` or `LightSaves`."""

    @property
    def keeps_last(self) -> bool:
        """Whether the state at the end of a run is kept, or only what a run goes on from."""
        ...

    def due(self) -> bool:
        """Whether it is time for a save."""
        ...

    def restore(self, template: Any) -> Any | None: ...

    def save(self, step: int, tree: Any, *, force: bool = False) -> None: ...


@dataclass(frozen=True)
class Result:
    """How a run ended. Errors in per cent; the two final ones in evaluation mode, whole splits."""

    status: str  # done | diverged | interrupted
    steps: int
    train_error: float | None
    test_error: float | None
    train_loss: float | None
    test_loss: float | None
    train_seconds: float
    compile_seconds: float
    init_seconds: float
    diverged: dict | None = None  # {"step": ..., "leaf": ...}


def make_task(
    recipe: Recipe, dataset: AnyDataset, placement: Placement | None = None
) -> Classification:
    """The task of a recipe on a data set: the model gets its classes and its norm axis.

    Raises:
      Refused: the model does not exist, is impossible, or does not fit the data.
    """
    on_device(recipe.data, dataset)
    chosen_normalization(recipe.data, dataset)
    return task_for(recipe, dataset.name, dataset.image_shape, dataset.num_classes, placement)


def task_for(
    recipe: Recipe,
    data_name: str,
    image_shape: tuple[int, int, int],
    num_classes: int,
    placement: Placement | None = None,
) -> Classification:
    """`make_task` from what it needs of a data set."""
    fields = dict(recipe.model.fields)
    types = field_types(recipe.model.name)
    if "num_classes" in types:
        fields.setdefault("num_classes", num_classes)
        if fields["num_classes"] != num_classes:
            raise Refused(
                f"model.num_classes={fields['num_classes']}: data set {data_name} has"
                f" {num_classes} classes; leave it out"
            )
    if "norm_axis" in types and placement is not None:
        fields["norm_axis"] = placement.norm_axis
    model = create_model(recipe.model.name, **fields)
    return Classification(model, image_shape, num_classes, recipe.loss)


def fit(
    recipe: Recipe,
    seed: int,
    dataset: AnyDataset,
    *,
    task: Classification | None = None,
    placement: Placement | None = None,
    source: Source | None = None,
    saves: Saves | None = None,
    on_start: Callable[[int], None] = lambda step: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_epoch: Callable[[dict], None] = lambda record: None,
    stop: Callable[[], bool] = lambda: False,
) -> Result:
    """Train one network.

    Args:
      recipe: how.
      seed: of every random stream that the recipe does not seed by itself.
      dataset: on what.
      task: `make_task(recipe, dataset, placement)`, if it was made already.
      placement: where; default `Jit()`.
      source: `make_source(recipe.data, dataset, placement)`, if it exists already.
      saves: where state is kept; the run goes on from the newest that is intact.
      on_start: called with the step from which the run goes on, 0 if it is new.
      on_progress: called about once a second.
      on_epoch: called with the figures of each epoch, ready to be a JSON line.
      stop: asked about once a second; if true, state is saved and the result "interrupted".
    """
    placement = placement or Jit()
    task = task or make_task(recipe, dataset, placement)
    per_epoch = steps_per_epoch(len(dataset.train), recipe.batch_size)
    steps = total_steps(recipe, len(dataset.train))
    clock = Clock(steps, per_epoch, recipe.batch_size, len(dataset.train), len(dataset.test))
    on_progress(clock.progress("compiling", 0, None))
    rates = learning_rates(recipe.schedule, recipe.optimizer.learning_rate, steps)

    start = time.perf_counter()
    state = jax.device_get(initial_state(task, recipe, seed))
    metrics = task.empty_metrics(state)
    init_seconds = time.perf_counter() - start

    train_seconds = 0.0
    restored = saves.restore(saved_tree(state, metrics)) if saves else None
    if restored is not None:
        state, metrics = restored["state"], restored["metrics"]
        train_seconds = float(restored["train_seconds"])
    # The programs take the packed form, so that they do not grow with depth.
    state, metrics = placement.put((task.pack(jax.device_get(state)), metrics))
    names = task.checked_names(state)

    def save(*, force: bool = False) -> None:
        if saves:
            ordinary = task.unpack(jax.device_get(state))
            saves.save(step, saved_tree(ordinary, metrics, train_seconds), force=force)

    feed = make_feed(task, placement, recipe, dataset, seed, source)

    def judge(split: str, loss: float | None) -> dict[str, float | None]:
        start = time.perf_counter()
        phase = f"evaluating {split}"
        sums = feed.evaluate(
            state, split, lambda part: on_progress(clock.progress(phase, step, loss, part))
        )
        figures = _finite(task.summary(sums))
        clock.evaluated(split, time.perf_counter() - start)
        return figures

    step, loss = int(state.step), None
    on_start(step)
    in_dispatch = 1
    status, diverged, test = "done", None, None
    while step < steps:
        epoch, index = divmod(step, per_epoch)
        end = min((epoch + 1) * per_epoch, steps) - epoch * per_epoch
        if index == 0:
            metrics = jax.tree.map(jnp.zeros_like, metrics)
        last = min(index + in_dispatch, end)
        epoch_rates = np.zeros(per_epoch, np.float32)
        epoch_rates[:end] = rates[epoch * per_epoch : epoch * per_epoch + end]

        start = time.perf_counter()
        state, metrics = feed.advance(state, metrics, epoch, index, last, epoch_rates)
        nonfinite = np.asarray(metrics["nonfinite"])
        seconds = time.perf_counter() - start
        train_seconds += seconds

        step = int(state.step)
        if nonfinite.any():
            leaf = names[int(np.argmax(nonfinite > 0))].removeprefix("0_")
            status, diverged = "diverged", {"step": step, "leaf": leaf}
            break
        done = last - index
        in_dispatch = max(1, min(4 * done, round(done * DISPATCH_SECONDS / max(seconds, 1e-6))))
        figures = _finite(task.summary(metrics))
        loss = figures["loss"]
        clock.trained(done, seconds)
        on_progress(clock.progress("training", step, loss))
        if last == end:
            test = judge("test", loss)
            on_epoch(
                {
                    "epoch": epoch + 1,
                    "step": step,
                    "learning_rate": float(epoch_rates[end - 1]),
                    # Of the epoch's batches as they were trained on: augmented, mixed.
                    "batch_loss": figures["loss"],
                    "batch_error": figures["top1_error"],
                    "test_loss": test["loss"],
                    "test_error": test["top1_error"],
                    "images_per_second": round(done * recipe.batch_size / seconds, 1),
                    "train_seconds": round(train_seconds, 3),
                }
            )
        if stop() and step < steps:
            status = "interrupted"
            break
        if step < steps and saves and saves.due():
            save()

    if saves and (status == "interrupted" or saves.keeps_last):
        save(force=True)
    train = None
    if status != "interrupted":
        train = judge("train", loss)
        if test is None or status == "diverged":  # else the last epoch has just judged this state
            test = judge("test", loss)
        if status == "done" and train["loss"] is None:  # the last update of all blew it up
            status, diverged = "diverged", {"step": step, "leaf": "loss in evaluation"}
    return Result(
        status=status,
        steps=step,
        train_error=train["top1_error"] if train else None,
        test_error=test["top1_error"] if test else None,
        train_loss=train["loss"] if train else None,
        test_loss=test["loss"] if test else None,
        train_seconds=train_seconds,
        compile_seconds=feed.compile_seconds,
        init_seconds=init_seconds,
        diverged=diverged,
    )


def saved_tree(state: TrainState, metrics: Metrics, train_seconds: float = 0.0) -> dict[str, Any]:
    """What is kept of a run: its state, the epoch's sums so far, the seconds that it took."""
    seconds = jnp.asarray(train_seconds, jnp.float32)
    return {"state": state, "metrics": metrics, "train_seconds": seconds}


def initial_state(task: Classification, recipe: Recipe, seed: int) -> TrainState:
    """Fresh parameters and the recipe's hyperparameters."""
    state = task.init(stream_keys(seed, recipe.streams)["init"])
    return set_hyperparams(
        state,
        learning_rate=recipe.optimizer.learning_rate,
        momentum=recipe.optimizer.momentum,
        weight_decay=recipe.optimizer.weight_decay,
    )


def evaluate(
    task: Classification,
    recipe: Recipe,
    state: TrainState,
    dataset: AnyDataset,
    split: str,
    placement: Placement | None = None,
) -> dict[str, float | None]:
    """Loss (nats), top-1 error (per cent) and number of examples of a whole split."""
    placement = placement or Jit()
    state = placement.put(task.pack(jax.device_get(state)))
    feed = evaluation_feed(task, placement, state, recipe.data, dataset)
    return _finite(task.summary(feed.evaluate(state, split)))


def _finite(figures: dict[str, Any]) -> dict[str, Any]:
    """A figure that is not finite is None: JSON has no number for it."""
    return {key: value if np.isfinite(value) else None for key, value in figures.items()}
