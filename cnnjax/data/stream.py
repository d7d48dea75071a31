"""Encoded images, read by Grain in the order that our own streams decide.

Grain is given the numbers of a run's batches, 0, 1, 2, ... Which examples those are, and how each
is augmented, are pure functions of (seed, epoch, index): Grain's sampler and its seeds are not used
(seed + index collides), there is no iterator state to save, and a run goes on from any step by
arithmetic. Its threads each prepare a batch while the device computes; the decoders let go of the
interpreter while they work.
"""

from collections.abc import Callable, Generator
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from cnnjax.core.environment import threads_here
from cnnjax.core.errors import Failed
from cnnjax.data.dataset import EncodedExamples, StreamedDataset
from cnnjax.data.order import epoch_order, steps_per_epoch
from cnnjax.data.views import AnyView, HostAugmentation, example_generator

Batch = dict[str, Any]  # arrays


def training_stream(
    dataset: StreamedDataset,
    augmentation: HostAugmentation,
    keys: dict[str, Any],
    batch_size: int,
    first: int,
    last: int,
    *,
    rows: slice = slice(None),
    threads: int | None = None,
) -> Generator[Batch]:
    """Batches of steps first .. last - 1 of a run: the fields of the set, indices, mask.

    Args:
      rows: of each batch, those that are read.
      keys: of the run's streams; "order" and "augment" are used.
      threads: that each prepare a batch; default: as many as XLA may use here.
    """
    examples = dataset.train
    per_epoch = steps_per_epoch(len(examples), batch_size)
    view = dataset.view.training(augmentation)
    words = np.asarray(jax.random.key_data(keys["augment"])).ravel()
    key = (int(words[0]), int(words[1]))

    @lru_cache(maxsize=2)  # permuting a large set takes a moment; threads may straddle two epochs
    def order(epoch: int) -> np.ndarray:
        return np.asarray(epoch_order(keys["order"], epoch, len(examples)))

    def batch(number: int) -> Batch:
        epoch, place = divmod(number, per_epoch)
        whole = order(epoch)[place * batch_size : (place + 1) * batch_size]
        indices = whole[rows].astype(np.int32)

        def look(index: int, encoded: bytes, known: Any) -> dict[str, np.ndarray]:
            if augmentation == "none":
                return view.fixed(encoded, known)
            return view.random(encoded, known, example_generator(key, epoch, index))

        mask = np.ones(len(indices), np.float32)
        return {
            **_load(examples, indices, len(indices), view, look),
            "indices": indices,
            "mask": mask,
        }

    yield from _read(batch, range(first, last), threads)


def evaluation_stream(
    examples: EncodedExamples,
    view: AnyView,
    batch_size: int,
    rows: slice = slice(None),
    *,
    threads: int | None = None,
) -> Generator[Batch]:
    """Every example exactly once, in batches of one shape: the fields, mask, indices.

    `mask` and `indices` (the places in the split) are 0 on the padding.

    Args:
      rows: of each batch, those that are read.
    """

    def batch(number: int) -> Batch:
        whole = np.arange(number * batch_size, (number + 1) * batch_size, dtype=np.int32)[rows]
        indices = whole[whole < len(examples)]
        mask = (whole < len(examples)).astype(np.float32)
        look = lambda index, encoded, known: view.fixed(encoded, known)  # noqa: E731
        stored = _load(examples, indices, len(whole), view, look)
        padded = np.pad(indices, (0, len(whole) - len(indices)))
        return {**stored, "mask": mask, "indices": padded}

    yield from _read(batch, range(-(-len(examples) // batch_size)), threads)


def _load(
    examples: EncodedExamples,
    indices: np.ndarray,
    batch_size: int,
    view: AnyView,
    look: Callable[[int, bytes, Any], dict[str, np.ndarray]],
) -> Batch:
    """The fields of the examples at `indices`; zeros behind them, also where there is none."""
    stored = {
        name: np.zeros((batch_size, *field.shape), field.dtype)
        for name, field in view.fields.items()
    }
    stored["images"] = np.zeros((batch_size, view.pixels, view.pixels, 3), np.uint8)
    for place, index in enumerate(indices):
        try:
            found = look(int(index), *examples.read(int(index)))
        except Failed as error:
            raise Failed(f"{examples.where(int(index))}: {error}") from error
        for name, value in found.items():
            stored[name][place] = value
    return stored


def _read(batch: Callable[[int], Batch], numbers: range, threads: int | None) -> Generator[Batch]:
    import cv2
    import grain

    cv2.setNumThreads(1)  # a batch is one thread's work
    threads = threads or threads_here()
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=threads + 1)
    yield from grain.MapDataset.source(numbers).map(batch).to_iter_dataset(options)
