"""How batches reach the programs: from a set on the device, or from a stream on the host.

The loop asks a feed for steps and for sums over a split; it does not know which it has.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import lru_cache, partial
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.core.distributed import waiting
from cnnjax.core.errors import Refused
from cnnjax.core.random import stream_keys
from cnnjax.core.recipe import Data, Recipe
from cnnjax.data.augment import ON_DEVICE, Augmentation
from cnnjax.data.dataset import AnyDataset, Dataset, StreamedDataset
from cnnjax.data.normalization import normalization_arrays
from cnnjax.data.order import evaluation_batches, steps_per_epoch, total_steps
from cnnjax.data.stream import evaluation_stream, training_stream
from cnnjax.data.views import AnyView, HostAugmentation
from cnnjax.tasks.state import TrainState
from cnnjax.tasks.task import Accumulator, Metrics, Task
from cnnjax.training.placement import Argument, Placement
from cnnjax.training.program import Source, evaluate_batch, train_batch, train_steps

EVALUATION_BATCH = 512  # examples in memory; no result depends on it beyond rounding
STREAMED_EVALUATION_BATCH = 64
_EVALUATION_PIXELS = 2**22  # of a batch, at most: 64 images of 256x256
_TELL_SECONDS = 1.0
OnPart = Callable[[float], None]


@runtime_checkable
class Feed(Protocol):
    """The contract."""

    @property
    def compile_seconds(self) -> float:
        """What compiling took just now; 0 where the programs were there."""
        ...

    def advance(
        self,
        state: TrainState,
        metrics: Metrics,
        epoch: int,
        first: int,
        last: int,
        rates: np.ndarray,
    ) -> tuple[TrainState, Metrics]:
        """Steps first .. last - 1 of an epoch; `rates` of all its steps."""
        ...

    def evaluate(
        self,
        state: TrainState,
        split: str,
        on_part: OnPart = lambda part: None,
        accumulator: Accumulator | None = None,
    ) -> dict[str, Any]:
        """Sums over "train" or "test", on the host; every example exactly once.

        Args:
          on_part: told about once a second which part of the split is done.
          accumulator: takes the outputs of the examples, if the program gives them.
        """
        ...

    def examples(self, count: int) -> tuple[dict[str, np.ndarray], Source]:
        """The first examples of the training set as stored, and what normalises their images."""
        ...


def augmentation_of(data: Data, dataset: AnyDataset) -> str:
    """The chosen augmentation; "default" is the data set's own.

    Raises:
      Refused: it does not go with the way in which the set is read.
    """
    chosen = dataset.augmentation if data.augmentation == "default" else data.augmentation
    if isinstance(dataset, Dataset) and (chosen not in ON_DEVICE or data.test_crops == 10):
        what = f"augmentation={chosen}" if chosen not in ON_DEVICE else "test_crops=10"
        raise Refused(
            f"data.{what}: {dataset.name} is in memory; it is for streamed images: folder:DIR,"
            " coco:DIR, masks:DIR, or a set of tensorflow-datasets with data.streaming=always"
        )
    if isinstance(dataset, StreamedDataset):
        allowed = dataset.view.augmentations
        if chosen not in ("none", *allowed):
            raise Refused(
                f"data.augmentation={chosen}: {dataset.name} is streamed; use"
                f" {' or '.join(allowed)}, or none"
            )
    smallest = min(dataset.image_shape[:2])
    if str(chosen).startswith("pad_crop") and data.crop_padding >= smallest:
        raise Refused(
            f"data.crop_padding={data.crop_padding}: a crop could miss the whole image; give less"
            f" than {smallest}, its size"
        )
    if data.crop_padding != Data.crop_padding and not str(chosen).startswith("pad_crop"):
        raise Refused(
            f"data.crop_padding={data.crop_padding} has no effect: the augmentation of"
            f" {dataset.name} is {chosen}"
        )
    return chosen


def on_device(data: Data, dataset: AnyDataset) -> Augmentation:
    """What the programs do; the host's part is done before."""
    chosen = augmentation_of(data, dataset)
    name: Any = chosen if isinstance(dataset, Dataset) else "none"
    return Augmentation(name, data.crop_padding, data.pca_colour, data.mixup, data.cutmix)


def make_source(
    data: Data, dataset: AnyDataset, placement: Placement, examples: Any | None = None
) -> Source:
    """What normalises images and, in memory, the training set, where the programs run.

    Args:
      examples: the training set, if it lies there already.
    """
    source: Source = placement.put(normalization_arrays(data, dataset), "whole")
    if isinstance(dataset, Dataset):
        found = placement.put(stored(dataset), "whole") if examples is None else examples
        source["examples"] = found
    return source


def stored(dataset: Dataset) -> dict[str, np.ndarray]:
    """The training set as the programs take it."""
    return {
        name: array.astype(dataset.fields[name].dtype, copy=False)
        for name, array in dataset.train.arrays.items()
    }


def make_feed(
    task: Task,
    placement: Placement,
    recipe: Recipe,
    dataset: AnyDataset,
    seed: int,
    source: Source | None = None,
) -> Feed:
    """The feed of a run; `source` if it exists already."""
    augmentation = on_device(recipe.data, dataset)
    source = make_source(recipe.data, dataset, placement) if source is None else source
    keys = stream_keys(seed, recipe.streams)
    batch_size = recipe.batch_size
    if isinstance(dataset, Dataset):
        arguments = (task, placement, augmentation, batch_size, _form(placement, source))
        (train, evaluate), seconds = _compiled(memory_programs, *arguments)
        size = _evaluation_batch(placement, task, False)
        return MemoryFeed(placement, train, evaluate, seconds, size, dataset, source, keys)
    arguments = (task, placement, augmentation, batch_size, _form(placement, source), dataset.view)
    (train, evaluate), seconds = _compiled(stream_programs, *arguments)
    host: Any = augmentation_of(recipe.data, dataset)
    steps = total_steps(recipe, len(dataset.train))
    size = _evaluation_batch(placement, task, True)
    return StreamFeed(
        placement, train, evaluate, seconds, size, dataset, source, keys, batch_size, host, steps
    )


class _Feed:
    """What both feeds do alike."""

    _placement: Placement
    _evaluate: Any

    def _total(
        self,
        state: TrainState,
        source: Source,
        batches: Iterator[dict[str, Any]],
        count: int,
        on_part: OnPart,
        accumulator: Accumulator | None,
    ) -> dict[str, Any]:
        """The sums of `count` batches, on the host."""
        put, fetch = self._placement.put, self._placement.fetch
        total: Metrics | None = None
        told = time.monotonic()
        for number, batch in enumerate(batches, start=1):
            laid = put(batch, "split")
            with waiting():
                sums, outputs = self._evaluate(state, laid, source)
            total = sums if total is None else jax.tree.map(jnp.add, total, sums)
            if accumulator is not None:
                which = {"mask": laid["mask"], "indices": laid["indices"]}
                which, outputs = fetch((which, outputs), "split")
                real = which["mask"] > 0
                accumulator.add(which["indices"][real], {n: v[real] for n, v in outputs.items()})
            if time.monotonic() - told > _TELL_SECONDS:
                with waiting(counted=False):
                    jax.block_until_ready(total)
                told = time.monotonic()
                on_part(number / count)
        assert total is not None, "a data set has examples"
        return fetch(total, "whole")


class MemoryFeed(_Feed):
    """The whole set is an argument of the programs; many steps are one dispatch."""

    def __init__(
        self,
        placement: Placement,
        train: Any,
        evaluate: Any,
        compile_seconds: float,
        evaluation_batch: int,
        dataset: Dataset,
        source: Source,
        keys: dict[str, Any],
    ):
        self._placement, self._train, self._evaluate = placement, train, evaluate
        self.compile_seconds, self._size = compile_seconds, evaluation_batch
        self._dataset, self._source, self._keys = dataset, source, keys
        self._scales = _scales(source)

    @property
    def train_program(self) -> Any:
        """As jax compiled it: its text, the memory that it asks for."""
        return self._train

    def advance(
        self,
        state: TrainState,
        metrics: Metrics,
        epoch: int,
        first: int,
        last: int,
        rates: np.ndarray,
    ) -> tuple[TrainState, Metrics]:
        where = [np.int32(value) for value in (epoch, first, last)]
        with waiting():
            return self._train(state, metrics, self._source, self._keys, *where, rates)

    def evaluate(
        self,
        state: TrainState,
        split: str,
        on_part: OnPart = lambda part: None,
        accumulator: Accumulator | None = None,
    ) -> dict[str, Any]:
        examples = self._dataset.train if split == "train" else self._dataset.test
        size = self._size
        batches = evaluation_batches(examples, size, self._placement.rows(size))
        count = -(-len(examples) // size)
        return self._total(state, self._scales, batches, count, on_part, accumulator)

    def examples(self, count: int) -> tuple[dict[str, np.ndarray], Source]:
        return next(evaluation_batches(self._dataset.train, count)), self._scales


class StreamFeed(_Feed):
    """Batches come from the host, read ahead by threads; one dispatch a step."""

    def __init__(
        self,
        placement: Placement,
        train: Any,
        evaluate: Any,
        compile_seconds: float,
        evaluation_batch: int,
        dataset: StreamedDataset,
        source: Source,
        keys: dict[str, Any],
        batch_size: int,
        augmentation: HostAugmentation,
        steps: int,
    ):
        self._placement, self._train, self._evaluate = placement, train, evaluate
        self.compile_seconds, self._size = compile_seconds, evaluation_batch
        self._dataset, self._source, self._keys = dataset, source, keys
        self._batch_size, self._steps = batch_size, steps
        self._augmentation: HostAugmentation = augmentation
        self._per_epoch = steps_per_epoch(len(dataset.train), batch_size)
        self._batches: Iterator[Any] = iter(())
        self._next = -1  # the step that the next batch is for

    def advance(
        self,
        state: TrainState,
        metrics: Metrics,
        epoch: int,
        first: int,
        last: int,
        rates: np.ndarray,
    ) -> tuple[TrainState, Metrics]:
        step = epoch * self._per_epoch + first
        if step != self._next:  # a run begins, or goes on from a save
            self._batches = training_stream(
                self._dataset,
                self._augmentation,
                self._keys,
                self._batch_size,
                step,
                self._steps,
                rows=self._placement.rows(self._batch_size),
            )
        for index in range(first, last):
            batch = self._placement.put(next(self._batches), "split")
            where = np.int32(epoch), np.int32(index)
            with waiting():
                state, metrics = self._train(
                    state, metrics, self._source, self._keys, *where, rates[index], batch
                )
        self._next = step + last - first
        return state, metrics

    def evaluate(
        self,
        state: TrainState,
        split: str,
        on_part: OnPart = lambda part: None,
        accumulator: Accumulator | None = None,
    ) -> dict[str, Any]:
        examples = self._dataset.train if split == "train" else self._dataset.test
        size = self._size
        rows = self._placement.rows(size)
        with closing(evaluation_stream(examples, self._dataset.view, size, rows)) as batches:
            count = -(-len(examples) // size)
            return self._total(state, self._source, batches, count, on_part, accumulator)

    def examples(self, count: int) -> tuple[dict[str, np.ndarray], Source]:
        view = self._dataset.view.training("none")  # as a step sees images, not ten crops
        with closing(evaluation_stream(self._dataset.train, view, count)) as batches:
            return next(batches), self._source


def _form(placement: Placement, source: Source) -> tuple:
    """Structure, shapes and dtypes of a source: what a program is compiled for."""
    leaves, structure = jax.tree.flatten(placement.shapes(source))
    return structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)


def _shapes(form: tuple) -> Source:
    structure, leaves = form
    return jax.tree.unflatten(structure, [jax.ShapeDtypeStruct(*leaf) for leaf in leaves])


def _scales(source: Source) -> Source:
    """Of a source what normalises images: an evaluation has its own examples."""
    return {name: value for name, value in source.items() if name != "examples"}


def _compiled(programs: Any, *arguments: Any) -> tuple[tuple[Any, Any], float]:
    """The programs, and the seconds that compiling took now."""
    misses = programs.cache_info().misses
    train, evaluate, seconds = programs(*arguments)
    return (train, evaluate), seconds if programs.cache_info().misses > misses else 0.0


@lru_cache(maxsize=4)
def memory_programs(
    task: Task, placement: Placement, augmentation: Augmentation, batch_size: int, source: tuple
) -> tuple[Any, Any, float]:
    """Compile once for each architecture and each set of shapes, from shapes alone."""
    state, metrics = jax.eval_shape(partial(_example_state, task))
    shapes = _shapes(source)
    scalar = jax.ShapeDtypeStruct((), jnp.int32)
    examples = shapes["examples"]["images"].shape[0]
    rates = jax.ShapeDtypeStruct((steps_per_epoch(examples, batch_size),), jnp.float32)
    keys = jax.eval_shape(lambda: stream_keys(0))
    train, train_seconds = placement.compile(
        partial(train_steps, task, placement, augmentation, batch_size),
        (*_carried(state, metrics, shapes), *_handed(keys, scalar, scalar, scalar, rates)),
        ("state", "whole"),
        donate=(0, 1),
    )
    evaluate, seconds = _evaluation(task, placement, state, None, _scales(shapes))
    return train, evaluate, train_seconds + seconds


@lru_cache(maxsize=4)
def stream_programs(
    task: Task,
    placement: Placement,
    augmentation: Augmentation,
    batch_size: int,
    source: tuple,
    view: AnyView,
) -> tuple[Any, Any, float]:
    """As `memory_programs`, for batches from the host."""
    state, metrics = jax.eval_shape(partial(_example_state, task))
    shapes = _shapes(source)
    scalar = jax.ShapeDtypeStruct((), jnp.int32)
    keys = jax.eval_shape(lambda: stream_keys(0))
    batch = _stored(batch_size, task)
    rate = jax.ShapeDtypeStruct((), jnp.float32)
    train, train_seconds = placement.compile(
        partial(train_batch, task, placement, augmentation),
        (
            *_carried(state, metrics, shapes),
            *_handed(keys, scalar, scalar, rate),
            Argument("split", batch),
        ),
        ("state", "whole"),
        donate=(0, 1),
    )
    evaluate, seconds = _evaluation(task, placement, state, view, shapes)
    return train, evaluate, train_seconds + seconds


def _evaluation(
    task: Task,
    placement: Placement,
    state: Any,
    view: AnyView | None,
    source: Any,
    outputs: bool | None = None,
) -> tuple[Any, float]:
    """The evaluation program for these shapes, and seconds.

    Args:
      view: of a streamed set.
      outputs: whether it gives those of each example; default: if the task needs them.
    """
    outputs = task.accumulator() is not None if outputs is None else outputs
    crops, pixels = 1, None
    if view is not None:
        crops, pixels = view.crops, view.pixels
    batch = _stored(_evaluation_batch(placement, task, view is not None), task, pixels)
    return placement.compile(
        partial(evaluate_batch, task, placement, crops, outputs),
        (Argument("state", state), Argument("split", batch), Argument("whole", source)),
        ("whole", "split"),
    )


def _carried(state: Any, metrics: Any, source: Any) -> tuple[Argument, ...]:
    return Argument("state", state), Argument("whole", metrics), Argument("whole", source)


def _handed(*values: Any) -> tuple[Argument, ...]:
    return tuple(Argument("host", value) for value in values)


def _evaluation_batch(placement: Placement, task: Task, streamed: bool) -> int:
    """Examples, of which the last batch is padded: the next number that divides over replicas.

    Of large images fewer are in memory at once, and where the task says so.
    """
    pixels = task.data.image_shape[0] * task.data.image_shape[1]
    size = STREAMED_EVALUATION_BATCH if streamed else EVALUATION_BATCH
    size = min(size, getattr(task, "evaluation_batch", None) or size)
    while size > 1 and size * pixels > _EVALUATION_PIXELS:
        size //= 2
    return -(-size // placement.replicas) * placement.replicas


def evaluation_feed(
    task: Task,
    placement: Placement,
    state: TrainState,
    data: Data,
    dataset: AnyDataset,
    outputs: bool = False,
) -> Feed:
    """A feed that evaluates and does not train; with `outputs` for an accumulator."""
    source: Source = placement.put(normalization_arrays(data, dataset), "whole")
    view = dataset.view if isinstance(dataset, StreamedDataset) else None
    shapes, scales = placement.shapes(state), placement.shapes(source)
    evaluate, _ = _evaluation(task, placement, shapes, view, scales, outputs)
    if isinstance(dataset, Dataset):
        size = _evaluation_batch(placement, task, False)
        return MemoryFeed(placement, None, evaluate, 0.0, size, dataset, source, {})
    size = _evaluation_batch(placement, task, True)
    return StreamFeed(placement, None, evaluate, 0.0, size, dataset, source, {}, 1, "none", 0)


def _example_state(task: Task) -> tuple[TrainState, Metrics]:
    state = task.init(jax.random.key(0))
    return task.pack(state), task.empty_metrics(state)


def _stored(size: int, task: Task, pixels: int | None = None) -> dict[str, jax.ShapeDtypeStruct]:
    """A stored batch, as shapes; images of so many pixels, where they are cropped on the device."""
    batch = {n: jax.ShapeDtypeStruct((size, *s), d) for n, s, d in task.data.fields}
    if pixels is not None:
        batch["images"] = jax.ShapeDtypeStruct((size, pixels, pixels, 3), jnp.uint8)
    batch["mask"] = jax.ShapeDtypeStruct((size,), jnp.float32)
    return batch | {"indices": jax.ShapeDtypeStruct((size,), jnp.int32)}
