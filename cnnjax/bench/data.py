"""How fast training examples come: from a stream of encoded images, or from the device's memory."""

import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.bench import device
from cnnjax.core.environment import bits, cores, versions
from cnnjax.core.random import stream_keys
from cnnjax.core.recipe import Data
from cnnjax.data.augment import Augmentation, augment, mix, normalize
from cnnjax.data.dataset import AnyDataset, Dataset, StreamedDataset
from cnnjax.data.order import epoch_order, steps_per_epoch
from cnnjax.data.stream import training_stream
from cnnjax.training.feed import augmentation_of, make_source, on_device
from cnnjax.training.placement import Jit
from cnnjax.training.program import Source

_ROUND_SECONDS = 2.0


@dataclass(frozen=True)
class DataFigures:
    """Of the training examples of a data set, as a training sees them, in a random order.

    Attributes:
      streamed: images are decoded and cropped on the host, batch by batch; else they lie decoded
        on the device, and what is timed is taking, normalising, augmenting and mixing them there.
      images_per_second: median over the rounds; `least`, `most` its range.
      images_per_core_second: of processor time, of a stream.
      bytes_on_device: of a set in memory.
    """

    data: str
    image_shape: tuple[int, int, int]
    examples: int
    augmentation: str
    batch_size: int
    streamed: bool
    images_per_second: float
    least: float
    most: float
    images_per_core_second: float | None
    bytes_on_device: int | None
    rounds: int
    cores: int
    device: str
    versions: dict[str, str]
    bits: dict[str, Any]


def bench_data(
    data: Data, dataset: AnyDataset, *, batch_size: int = 128, rounds: int = 5
) -> DataFigures:
    """Read, or take, training batches.

    Args:
      rounds: that are timed, each of about two seconds or an epoch, after one that warms up.

    Raises:
      Refused: a batch is larger than the training set, or the augmentation does not fit it.
    """
    steps_per_epoch(len(dataset.train), batch_size)
    host, held = augmentation_of(data, dataset), None
    if isinstance(dataset, StreamedDataset):
        rates, by_core = _of_stream(dataset, host, batch_size, rounds)
    else:
        source = make_source(data, dataset, Jit())
        held = sum(leaf.nbytes for leaf in jax.tree.leaves(source))
        rates, by_core = _in_memory(data, dataset, source, batch_size, rounds), []
    found = device.spread(rates)
    return DataFigures(
        data=dataset.name,
        image_shape=dataset.image_shape,
        examples=len(dataset.train),
        augmentation=host,
        batch_size=batch_size,
        streamed=isinstance(dataset, StreamedDataset),
        images_per_second=found["median"],
        least=found["least"],
        most=found["most"],
        images_per_core_second=device.spread(by_core)["median"] if by_core else None,
        bytes_on_device=held,
        rounds=rounds,
        cores=cores(),
        device=device.name(),
        versions=versions(),
        bits=bits(),
    )


def _of_stream(
    dataset: StreamedDataset, augmentation: Any, batch_size: int, rounds: int
) -> tuple[list[float], list[float]]:
    """Images a second, and a second of processor time, of each round."""
    keys, step, count = stream_keys(0), 0, 1
    rates, by_core = [], []
    for number in range(rounds + 2):
        start, busy = time.perf_counter(), time.process_time()
        last = step + count
        for _ in training_stream(dataset, augmentation, keys, batch_size, step, last):
            pass
        seconds, spent = time.perf_counter() - start, time.process_time() - busy
        step = last
        if number == 0:  # as many batches as fill a round
            per_epoch = steps_per_epoch(len(dataset.train), batch_size)
            count = max(1, min(per_epoch, round(_ROUND_SECONDS / seconds)))
        elif number > 1:
            rates.append(count * batch_size / seconds)
            by_core.append(count * batch_size / spent)
    return rates, by_core


def _in_memory(
    data: Data, dataset: Dataset, source: Source, batch_size: int, rounds: int
) -> list[float]:
    """Images a second of each round: an epoch's batches, as the training program makes them."""
    steps = steps_per_epoch(len(dataset.train), batch_size)
    program = jax.jit(partial(_epoch, on_device(data, dataset), batch_size, steps))
    keys, epoch = stream_keys(0), iter(range(10**9))
    took = device.seconds(lambda: program(source, keys, np.int32(next(epoch))), 1)[-1]
    count = max(1, round(_ROUND_SECONDS / took))

    def epochs() -> Any:
        return [program(source, keys, np.int32(next(epoch))) for _ in range(count)]

    return [count * steps * batch_size / s for s in device.seconds(epochs, rounds)]


def _epoch(
    how: Augmentation, batch_size: int, steps: int, source: Source, keys: Any, epoch: Any
) -> Any:
    """A sum over all pixels, so that none is left out."""
    order = epoch_order(keys["order"], epoch, len(source["examples"]["images"]))

    def add(total: Any, indices: Any) -> tuple[Any, None]:
        batch = {name: array[indices] for name, array in source["examples"].items()}
        scales = source["mean"], source["max_value"], source.get("deviation")
        batch |= {"images": normalize(batch["images"], *scales), "indices": indices}
        batch = augment(how, batch, keys["augment"], epoch, source.get("colours"))
        batch = mix(how, batch, keys["augment"], epoch)
        return total + batch["images"].sum(), None

    whole = order[: steps * batch_size].reshape(steps, batch_size)
    return jax.lax.scan(add, jnp.zeros(()), whole)[0]
