"""The contract of a task: what the loop and the placements know of it."""

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Array

from cnnjax.tasks.state import TrainState

Metrics = dict[str, Array]  # mergeable sums: add two, get the sums of both
Reduce = Callable[[Any], Any]  # averages a tree over replicas; the identity on one device


@runtime_checkable
class Task(Protocol):
    """Pure functions over a training state; hashable, so that programs can be kept by task."""

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels of what the network takes."""
        ...

    def check(self, batch_size: int | None = None) -> None:
        """Refuse a network that cannot be evaluated, or trained at `batch_size`; no compute."""
        ...

    def init(self, key: Array) -> TrainState:
        """A fresh state from a key of stream "init"."""
        ...

    def pack(self, state: TrainState) -> TrainState:
        """The form for many steps; `unpack` is its inverse."""
        ...

    def unpack(self, state: TrainState) -> TrainState: ...

    def empty_metrics(self, state: TrainState) -> Metrics:
        """Sums over nothing."""
        ...

    def checked_names(self, state: TrainState) -> list[str]:
        """What a step checks for being finite, in the order of metrics["nonfinite"]."""
        ...

    def train_step(
        self, state: TrainState, batch: dict[str, Array], key: Array, reduce: Reduce
    ) -> tuple[TrainState, Metrics]: ...

    def eval_step(self, state: TrainState, batch: dict[str, Array]) -> Metrics: ...

    def summary(self, sums: Metrics) -> dict[str, float]:
        """Finish sums: means, errors in per cent, `examples`."""
        ...
