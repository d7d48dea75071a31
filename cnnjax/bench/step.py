"""What a training step takes: compiled, run in dispatches as a training runs it, timed."""

import time
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.cost import model_cost
from cnnjax.bench import device
from cnnjax.core.environment import bits, versions
from cnnjax.core.errors import Failed
from cnnjax.core.recipe import Recipe
from cnnjax.data.dataset import Dataset
from cnnjax.data.examples import Examples
from cnnjax.training.make import make_task
from cnnjax.training.placement import Jit, Placement
from cnnjax.training.setup import Training, prepare

_DISPATCH_SECONDS = 0.5
_SMALL = 64  # pixels: of images up to this size an epoch has more steps
_STEPS, _STEPS_OF_SMALL = 4, 50


@dataclass(frozen=True)
class StepFigures:
    """Of one training program on one placement.

    Attributes:
      init_seconds: of the first state, its programs' compilation included.
      compile_seconds: of the programs that train and evaluate.
      step_ms: median of one step over the rounds; `least_ms`, `most_ms` its range.
      flops_per_second: analytic: 3 x the forward pass's convolution and dense layers (backward is
        twice the forward), 2 FLOPs a MAC.
      matmul_flops: what square matrix products reach on this device in this precision.
      peak_share: flops_per_second / (matmul_flops x devices).
      peak_memory_bytes: of the first device since this process began; None where jax does not know.
    """

    model: str
    image_shape: tuple[int, int, int]
    batch_size: int
    precision: str
    placement: str
    devices: int
    device: str
    init_seconds: float
    compile_seconds: float
    step_ms: float
    least_ms: float
    most_ms: float
    rounds: int
    steps_in_a_dispatch: int
    images_per_second: float
    flops_per_second: float
    matmul_flops: float
    peak_share: float
    peak_memory_bytes: int | None
    versions: dict[str, str]
    bits: dict[str, Any]


def epoch_of(image_shape: tuple[int, int, int], batch_size: int) -> int:
    """Examples in a set that fills a dispatch and stays small."""
    return batch_size * (_STEPS_OF_SMALL if image_shape[0] <= _SMALL else _STEPS)


def noise(image_shape: tuple[int, int, int], examples: int, classes: int = 10) -> Dataset:
    """Random images with random labels: what a step takes does not depend on them."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (examples, *image_shape), dtype=np.uint8)
    arrays = {"images": images, "labels": rng.integers(0, classes, examples).astype(np.int32)}
    names = tuple(map(str, range(classes)))
    part = Examples(arrays)
    return Dataset("noise", names, 255, "none", "random numbers", train=part, test=part)


def bench_step(
    recipe: Recipe,
    dataset: Dataset,
    *,
    placement: Placement | None = None,
    rounds: int = 7,
    matmul_flops: float | None = None,
) -> StepFigures:
    """Time the training step of a recipe on a set in memory.

    Args:
      rounds: dispatches that are timed, each of about half a second, or of an epoch if that is
        less.
      matmul_flops: of the device, if it was measured already.
    """
    placement = placement or Jit()
    task = make_task(recipe, dataset)
    task.check(recipe.batch_size)
    training = prepare(recipe, 0, dataset, task=task, placement=placement)
    count = _steps(training)
    found = device.spread([1000 * took / count for took in _times(training, count, rounds)])
    memory = device.peak_memory_bytes()  # before the products below
    shape = dataset.image_shape
    macs = model_cost(task.model, shape, train=True).macs
    rate = recipe.batch_size / found["median"] * 1000
    precision = jnp.dtype(getattr(task.model, "dtype", None) or "float32").name
    best = matmul_flops or device.matmul_flops(precision)
    return StepFigures(
        model=recipe.model.name,
        image_shape=shape,
        batch_size=recipe.batch_size,
        precision=precision,
        placement=str(placement.place),
        devices=placement.devices,
        device=device.name(),
        init_seconds=training.init_seconds,
        compile_seconds=training.feed.compile_seconds,
        step_ms=found["median"],
        least_ms=found["least"],
        most_ms=found["most"],
        rounds=rounds,
        steps_in_a_dispatch=count,
        images_per_second=rate,
        flops_per_second=6 * macs * rate,
        matmul_flops=best,
        peak_share=6 * macs * rate / (best * placement.devices),
        peak_memory_bytes=memory,
        versions=versions(),
        bits=bits(placement.place),
    )


def _steps(training: Training) -> int:
    """Steps in a dispatch of about half a second, and at most an epoch."""
    took = _times(training, 1, 2)[-1]
    return max(1, min(training.per_epoch, round(_DISPATCH_SECONDS / took)))


def _times(training: Training, count: int, rounds: int) -> list[float]:
    """Seconds of each of so many dispatches of `count` steps, after one that warms up."""
    task = training.task
    sums = task.empty_metrics(training.state)
    put = training.placement.put
    state, sums = put(task.pack(training.state), "state"), put(sums, "whole")
    rates = np.zeros(training.per_epoch, np.float32)  # the same work, and nothing blows up
    found = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        state, sums = training.feed.advance(state, sums, 0, 0, count, rates)
        jax.block_until_ready(sums)
        found.append(time.perf_counter() - start)
    if training.placement.fetch(sums, "whole")["nonfinite"].any():  # then no step was made
        raise Failed("the step is not finite on random images; nothing was timed")
    return found[1:]
