"""From a recipe to a training: everything that a run needs, resolved once."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from cnnjax.core.recipe import Recipe
from cnnjax.data.dataset import AnyDataset
from cnnjax.data.order import steps_per_epoch, total_steps
from cnnjax.tasks.optimizers import hyperparams_of
from cnnjax.tasks.state import TrainState
from cnnjax.tasks.task import Task
from cnnjax.training.feed import Feed, make_feed
from cnnjax.training.make import make_task
from cnnjax.training.placement import Jit, Placement
from cnnjax.training.pretrained import first_state
from cnnjax.training.program import Source
from cnnjax.training.progress import Progress
from cnnjax.training.schedules import learning_rates


@dataclass(frozen=True, eq=False)
class Training:
    """A run with everything resolved: what the loop needs, and nothing of where it came from.

    Attributes:
      rates: the learning rate at each step.
      per_epoch: steps in an epoch.
      state: the first one, on the host, with a name for each block.
      sizes: examples in "train" and "test".
      init_seconds: that the first state took.
    """

    task: Task
    placement: Placement
    feed: Feed
    rates: Float[np.ndarray, " steps"]
    per_epoch: int
    batch_size: int
    state: TrainState
    sizes: dict[str, int]
    init_seconds: float


def prepare(
    recipe: Recipe,
    seed: int,
    dataset: AnyDataset,
    *,
    task: Any = None,
    placement: Placement | None = None,
    source: Source | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    say: Callable[[str], None] = lambda line: None,
) -> Training:
    """Resolve a run; its programs are compiled.

    Args:
      recipe: how to train.
      seed: of every random stream that the recipe does not seed by itself.
      dataset: on what.
      task: `make_task(recipe, dataset)`, if it was made already.
      placement: where; default `Jit()`.
      source: `make_source(recipe.data, dataset, placement)`, if it exists already.
      on_progress: told that programs are being compiled.
      say: told what of `init.weights` was left out.
    """
    placement = placement or Jit()
    task = make_task(recipe, dataset) if task is None else task
    steps = total_steps(recipe, len(dataset.train))
    on_progress(Progress("compiling", 0, steps, 0))
    peak = hyperparams_of(recipe.optimizer)["learning_rate"]
    start = time.perf_counter()
    state = jax.device_get(first_state(task, recipe, seed, say))
    init_seconds = time.perf_counter() - start
    return Training(
        task=task,
        placement=placement,
        feed=make_feed(task, placement, recipe, dataset, seed, source),
        rates=learning_rates(recipe.schedule, peak, steps),
        per_epoch=steps_per_epoch(len(dataset.train), recipe.batch_size),
        batch_size=recipe.batch_size,
        state=state,
        sizes={"train": len(dataset.train), "test": len(dataset.test)},
        init_seconds=init_seconds,
    )
