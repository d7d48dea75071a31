"""The loop: repeats a task's step, evaluates after each epoch, can stop and go on anywhere.

A run is cut into dispatches of about a second, so that it shows progress and hears a signal. The
cuts change no bit: positions are arguments of one compiled program, sums are carried along.
"""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np

from cnnjax.core.distributed import everyone
from cnnjax.core.recipe import Data
from cnnjax.data.dataset import AnyDataset
from cnnjax.tasks.state import TrainState
from cnnjax.tasks.task import SPLITS, Accumulator, Metrics, Task, figures_of
from cnnjax.training.feed import evaluation_feed
from cnnjax.training.initial import saved_tree
from cnnjax.training.placement import Jit, Placement, check_agreement
from cnnjax.training.progress import Clock, Progress
from cnnjax.training.setup import Training

DISPATCH_SECONDS = 1.0


@runtime_checkable
class Saves(Protocol):
    """Where a run keeps its state: `OrbaxSaves`, `LightSaves`, those of `shared_saves`."""

    @property
    def keeps_last(self) -> bool:
        """Whether the state at the end of a run is kept, or only what a run goes on from."""
        ...

    @property
    def in_parts(self) -> bool:
        """Whether it takes arrays as they lie on the devices, or whole ones on the host."""
        ...

    def due(self) -> bool:
        """Whether it is time for a save."""
        ...

    def restore(self, template: Any) -> Any | None: ...

    def save(self, step: int, tree: Any, *, force: bool = False) -> None: ...


@dataclass(frozen=True)
class Result:
    """How a run ended.

    Attributes:
      status: done | diverged | interrupted.
      figures: `{split}_{metric}` of both whole splits in evaluation mode; {} if interrupted.
      diverged: {"step": ..., "leaf": ...}.
    """

    status: str
    steps: int
    train_seconds: float
    compile_seconds: float
    init_seconds: float
    figures: Mapping[str, float | None] = field(default_factory=dict)
    diverged: dict | None = None

    def flat(self) -> dict[str, Any]:
        """As one object of plain values, for result.json and --json."""
        values = asdict(self)
        return {"status": values.pop("status"), "steps": values.pop("steps")} | {
            **values.pop("figures"),
            **values,
        }


def fit(
    training: Training,
    *,
    saves: Saves | None = None,
    on_start: Callable[[int], None] = lambda step: None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_epoch: Callable[[dict], None] = lambda record: None,
    stop: Callable[[], bool] = lambda: False,
    pauses: Collection[int] = (),
    on_pause: Callable[[int, TrainState], None] = lambda step, state: None,
) -> Result:
    """Train one network.

    Args:
      saves: where state is kept; the run goes on from the newest that is intact.
      on_start: called with the step from which the run goes on, 0 if it is new.
      on_progress: called about once a second.
      on_epoch: called with the figures of each epoch, ready to be a JSON line; where an epoch is
        shorter than the test split, of every so many.
      stop: asked about once a second; if true, state is saved and the result "interrupted".
      pauses: after how many steps `on_pause` is called, 0 being before the first; it has the state
        as it lies on the devices, which it must not keep. Where a run goes on, those before it
        went on are not called again.
    """
    task, placement, feed = training.task, training.placement, training.feed
    per_epoch, steps = training.per_epoch, len(training.rates)
    clock = Clock(steps, per_epoch, training.batch_size, **training.sizes)
    state, sums, train_seconds = _begin(training, saves)
    so_far, made = placement.fetch((sums, state.step), "whole")
    step = int(made)
    on_start(step)
    if step:
        on_progress(clock.progress("training", step))

    def judge(split: str) -> dict[str, Any]:
        start = time.perf_counter()
        found = _judge(training, state, split, lambda part: on_progress(
            clock.progress(f"evaluating {split}", step, shown, part)))  # fmt: skip
        clock.evaluated(split, time.perf_counter() - start)
        return found

    in_dispatch, shown = 1, ""
    # Metrics that batches had a number of: on some data one is none. The sums are saved, so a run
    # that goes on knows of them; of a judged split it would not.
    finite = _numbers(figures_of(task, so_far)) if step and so_far["examples"] else set()
    status, diverged, test = "done", None, None
    if step == 0 and 0 in pauses:
        on_pause(0, state)
    while step < steps:
        epoch, index = divmod(step, per_epoch)
        rates = training.rates[epoch * per_epoch : (epoch + 1) * per_epoch]
        if index == 0:
            sums = placement.put(jax.tree.map(np.zeros_like, so_far), "whole")
        pause = min((p - step for p in pauses if p > step), default=in_dispatch)
        last = min(index + in_dispatch, index + pause, len(rates))
        start = time.perf_counter()
        state, sums = feed.advance(state, sums, epoch, index, last, _padded(rates, per_epoch))
        so_far, made = placement.fetch((sums, state.step), "whole")
        seconds = time.perf_counter() - start
        train_seconds += seconds
        step = int(made)
        nonfinite = so_far["nonfinite"]
        if nonfinite.any():
            leaf = task.checked_names(state)[int(np.argmax(nonfinite > 0))]
            status, diverged = "diverged", {"step": step, "leaf": leaf.removeprefix("0_")}
            break

        done = last - index
        # The first process's clock decides for all, or they would wait for each other for ever.
        said = everyone([seconds, bool(saves and saves.due()), stop()])
        (seconds, due, _), stopping = said[0], said[:, 2].any()
        in_dispatch = max(1, min(4 * done, round(done * DISPATCH_SECONDS / max(seconds, 1e-6))))
        figures = figures_of(task, so_far)
        finite |= _numbers(figures)
        shown = _shown(task, figures)
        clock.trained(done, seconds)
        on_progress(clock.progress("training", step, shown))
        if last == len(rates) and (_is_judged(training, epoch) or step == steps):
            test = judge("test")
            record = {
                "epoch": epoch + 1,
                "step": step,
                "learning_rate": float(rates[-1]),
                # Of the epoch's batches as they were trained on: augmented, mixed.
                **named(task, "batch", figures),
                **named(task, "test", test),
                "images_per_second": round(done * training.batch_size / seconds, 1),
                "train_seconds": round(train_seconds, 3),
            }
            on_epoch(record)
        if step in pauses:
            on_pause(step, state)
        if stopping and step < steps:
            status = "interrupted"
            break
        if step < steps and due:
            assert saves
            _save(training, saves, step, state, sums, train_seconds)

    check_agreement(placement, state)
    if saves and (status == "interrupted" or saves.keeps_last):
        _save(training, saves, step, state, sums, train_seconds, force=True)
    final = {}
    if status != "interrupted":
        train = judge("train")
        if test is None or status == "diverged":  # else the last epoch has just judged this state
            test = judge("test")
        final = {**named(task, "train", train), **named(task, "test", test)}
        bad = [one.name for one in task.judged if one.name in finite - _numbers(train)]
        if status == "done" and bad:  # the last update of all blew it up
            status, diverged = "diverged", {"step": step, "leaf": f"{bad[0]} in evaluation"}
    return Result(
        status, step, train_seconds, feed.compile_seconds, training.init_seconds, final, diverged
    )


def _is_judged(training: Training, epoch: int) -> bool:
    """Whether the test split is looked at after an epoch: as soon as as many examples were trained
    on, or a small set would spend its time in evaluation."""
    trained = training.per_epoch * training.batch_size
    return (epoch + 1) % -(-training.sizes["test"] // trained) == 0


def _numbers(figures: Mapping[str, Any]) -> set[str]:
    return {name for name, value in figures.items() if value is not None}


def named(task: Task, split: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    """`{split}_{metric}` for each metric that there is, and for its short name."""
    short = {alias: name for alias, name in task.aliases.items() if name in figures}
    names = {**short, **{metric.name: metric.name for metric in task.judged}}
    return {f"{split}_{key}": figures[name] for key, name in names.items() if name in figures}


def _begin(training: Training, saves: Saves | None) -> tuple[TrainState, Metrics, float]:
    """State in the form of the programs, the epoch's sums, seconds so far: new, or from a save."""
    task, state, seconds = training.task, training.state, 0.0
    sums = task.empty_metrics(state)
    restored = saves.restore(saved_tree(state, sums)) if saves else None
    if restored is not None:
        state, sums = restored["state"], restored["metrics"]
        seconds = float(restored["train_seconds"])
    # The programs take the packed form, so that they do not grow with depth.
    put = training.placement.put
    packed = task.pack(jax.device_get(state))
    return put(packed, "state"), put(sums, "whole"), seconds


def _save(
    training: Training,
    saves: Saves,
    step: int,
    state: TrainState,
    sums: Metrics,
    seconds: float,
    *,
    force: bool = False,
) -> None:
    check_agreement(training.placement, state)
    if not saves.in_parts:
        fetch = training.placement.fetch
        state, sums = fetch(state, "state"), fetch(sums, "whole")
    saves.save(step, saved_tree(training.task.unpack(state), sums, seconds), force=force)


def _judge(
    training: Training, state: TrainState, split: str, on_part: Callable[[float], None]
) -> dict[str, Any]:
    accumulator = training.task.accumulator()
    sums = training.feed.evaluate(state, split, on_part, accumulator)
    return figures_of(training.task, sums, accumulator)


def _padded(rates: np.ndarray, per_epoch: int) -> np.ndarray:
    """Rates of an epoch, in the length that the program takes; the last one may end early."""
    return np.pad(rates, (0, per_epoch - len(rates)))


def _shown(task: Task, figures: Mapping[str, Any]) -> str:
    """The first and the last metric in words, for progress: "top1_error 45.312, loss 1.303"."""
    names = dict.fromkeys((task.judged[0].name, task.judged[-1].name))
    # Of a batch there is none that an accumulator gives.
    values = {name: figures[name] for name in names if figures.get(name) is not None}
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def evaluate(
    task: Task,
    data: Data,
    state: TrainState,
    dataset: AnyDataset,
    split: str,
    placement: Placement | None = None,
    accumulator: Accumulator | None = None,
) -> dict[str, Any]:
    """The metrics and the number of examples of a whole split.

    Args:
      accumulator: takes the outputs; default the task's own, if it needs one.
    """
    assert split in SPLITS, split
    placement = placement or Jit()
    accumulator = accumulator or task.accumulator()
    state = placement.put(task.pack(jax.device_get(state)), "state")
    feed = evaluation_feed(task, placement, state, data, dataset, accumulator is not None)
    sums = feed.evaluate(state, split, accumulator=accumulator)
    return figures_of(task, sums, accumulator)
