"""What compiling costs: seconds, and the memory that the training program will ask for."""

import statistics
import time
from dataclasses import dataclass
from typing import Any

import jax

from cnnjax.analysis.cost import model_cost
from cnnjax.core.environment import bits, versions
from cnnjax.core.recipe import Recipe
from cnnjax.data.dataset import Dataset
from cnnjax.training.feed import MemoryFeed, make_feed, memory_programs
from cnnjax.training.initial import fresh_state
from cnnjax.training.make import make_task
from cnnjax.training.placement import Jit, Placement


@dataclass(frozen=True)
class CompileFigures:
    """Of one recipe, without running it. Nothing comes from the compilation cache.

    Attributes:
      params: of the network.
      init_seconds: of the first state, its programs' compilation included; of the first round, as
        later ones find them compiled.
      compile_seconds: of the programs that train and evaluate: median over the rounds;
        `least_seconds`, `most_seconds` its range.
      program_bytes: what the training program asks for beside its arguments, on each device.
    """

    model: str
    image_shape: tuple[int, int, int]
    batch_size: int
    placement: str
    params: int
    init_seconds: float
    compile_seconds: float
    least_seconds: float
    most_seconds: float
    rounds: int
    program_bytes: int
    versions: dict[str, str]
    bits: dict[str, Any]


def bench_compile(
    recipe: Recipe, dataset: Dataset, *, placement: Placement | None = None, rounds: int = 3
) -> CompileFigures:
    """Compile the programs of a recipe on a set in memory, some times over."""
    placement = placement or Jit()
    task = make_task(recipe, dataset)
    task.check(recipe.batch_size)
    start = time.perf_counter()
    jax.block_until_ready(fresh_state(task, recipe, seed=0))
    init_seconds = time.perf_counter() - start
    found, size = [], 0
    for _ in range(rounds):
        memory_programs.cache_clear()
        feed = make_feed(task, placement, recipe, dataset, seed=0)
        assert isinstance(feed, MemoryFeed), "the set is in memory"
        found.append(feed.compile_seconds)
        size = feed.train_program.memory_analysis().temp_size_in_bytes
    return CompileFigures(
        model=recipe.model.name,
        image_shape=dataset.image_shape,
        batch_size=recipe.batch_size,
        placement=str(placement.place),
        params=model_cost(task.model, dataset.image_shape).params,
        init_seconds=init_seconds,
        compile_seconds=statistics.median(found),
        least_seconds=min(found),
        most_seconds=max(found),
        rounds=rounds,
        program_bytes=size,
        versions=versions(),
        bits=bits(placement.place),
    )
