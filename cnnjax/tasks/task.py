"""The contract of a task: what the loop, the placements, the studies and the reports know of it."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jax import Array
from jaxtyping import Int

from cnnjax.core.errors import Failed, Refused
from cnnjax.tasks.state import TrainState

Metrics = dict[str, Array]  # mergeable sums: add two, get the sums of both
Batch = Mapping[str, Array]  # the fields of the examples, `mask` (0 on padding) and `indices`
SPLITS = ("train", "test")


@dataclass(frozen=True)
class Metric:
    """A figure by which a network is judged.

    Attributes:
      name: a word: "top1_error".
      unit: "%", "nats", or "" for a plain number.
      better: which direction is.
      sentence: what it is.
      worst: what a diverged run counts as; None: a contrast is not judged where a run diverged.
      decisions: whether it is the share of examples of which one decision is wrong. Of such a
        share on a test set it can be told how far runs scatter (`study.statistics.expected_sd`).
    """

    name: str
    unit: str
    better: Literal["lower", "higher"]
    sentence: str
    worst: float | None = None
    decisions: bool = False

    def __post_init__(self):
        if self.better not in ("lower", "higher"):
            raise Refused(
                f"Metric({self.name!r}, better={self.better!r}): say which direction is better,"
                ' "lower" or "higher"'
            )


@dataclass(frozen=True)
class DataSpec:
    """What a task knows of a data set; enough to build its network without the data.

    Attributes:
      name: what `--data` calls it.
      fields: of one example: name, shape and dtype as it is stored.
      num_classes: of its labels; 0: it has none.
    """

    name: str
    fields: tuple[tuple[str, tuple[int, ...], str], ...]
    num_classes: int = 0

    @classmethod
    def of_images(
        cls, image_shape: tuple[int, int, int], num_classes: int, name: str = "images"
    ) -> "DataSpec":
        """Images with a label each."""
        return cls(name, (("images", image_shape, "uint8"), ("labels", (), "int32")), num_classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return next(shape for name, shape, _ in self.fields if name == "images")  # type: ignore


@runtime_checkable
class Collectives(Protocol):
    """How replicas that each hold a part of a batch act as one; on one device the identity."""

    @property
    def axis(self) -> str | None:
        """The axis over which batch normalisation shares its statistics, or None."""
        ...

    @property
    def shards(self) -> int:
        """Over how many devices the compiler divides the batch that a program sees."""
        ...

    def sum(self, tree: Any) -> Any:
        """Each leaf added over the replicas: metric sums, counts, gradients of sums."""
        ...

    def mean(self, tree: Any) -> Any:
        """Each leaf averaged over the replicas: running statistics."""
        ...


@runtime_checkable
class Accumulator(Protocol):
    """On the host, what cannot be a sum of float32: predictions, matches, counts beyond 2^24."""

    def add(self, indices: Int[np.ndarray, " n"], outputs: Mapping[str, np.ndarray]) -> None:
        """Take the outputs of examples; each index comes once."""
        ...

    def merge(self, other: Any) -> None:
        """Take what another one has of other examples."""
        ...

    def finish(self) -> dict[str, Any]:
        """Figures, by the names of declared metrics or others; None or NaN: not measured."""
        ...


@runtime_checkable
class Task(Protocol):
    """Pure functions over a training state; hashable, so that programs can be kept by task."""

    @property
    def judged(self) -> tuple[Metric, ...]:
        """The metrics that `summary` gives on these data, the most telling first."""
        ...

    aliases: ClassVar[Mapping[str, str]]  # short names of metrics: {"error": "top1_error"}

    @property
    def data(self) -> DataSpec: ...

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
        self, state: TrainState, batch: Batch, key: Array, collectives: Collectives
    ) -> tuple[TrainState, Metrics]:
        """One update on this replica's part of a batch; the sums are of that part."""
        ...

    def eval_step(
        self, state: TrainState, batch: Batch, outputs: bool = False
    ) -> tuple[Metrics, dict[str, Array]]:
        """Sums over one batch and, if wanted, outputs of each example."""
        ...

    def accumulator(self, detailed: bool = False) -> Accumulator | None:
        """What takes the outputs of an evaluation; None: the sums are all.

        Args:
          detailed: for a look at one network, not while training.
        """
        ...

    def summary(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """The metrics, and `examples`, from sums."""
        ...


def figures_of(
    task: Task, sums: Mapping[str, Any], accumulator: Accumulator | None = None
) -> dict[str, Any]:
    """A split's figures; one that is not finite, as of what is not measured, is None: JSON has no
    number for it."""
    figures = task.summary(sums)
    if accumulator is not None:
        figures = {**figures, **accumulator.finish()}
        if missing := [metric.name for metric in task.judged if metric.name not in figures]:
            raise Failed(
                f"task {type(task).__name__} declares the metric {missing[0]}, which neither"
                " summary() nor its accumulator's finish() gives"
            )
    return {key: _finite(value) for key, value in figures.items()}


def _finite(value: Any) -> Any:
    """A number as Python's own, None if it is not finite; anything else as it is."""
    if isinstance(value, np.ndarray | np.generic | Array) and np.ndim(value) == 0:
        value = np.asarray(value).item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def figures_in(result: Mapping[str, Any]) -> list[str]:
    """Names of the metrics that the result of a run has."""
    splits = tuple(f"{split}_" for split in SPLITS)
    return [key for key in result if key.startswith(splits) and key != "train_seconds"]


def aliased(aliases: Mapping[str, str], metric: str) -> str:
    """The metric that a study's "train_error" stands for: "train_top1_error"."""
    split, _, name = metric.partition("_")
    return f"{split}_{aliases.get(name, name)}"
