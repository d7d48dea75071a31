"""Claim: the level at which XLA compiles training programs (`environment.compiler_options`).

Compiles and runs the training program at levels 1, 2 and 3 in alternation, on one thread, and
prints one JSON object: medians of the processor's milliseconds for one step and seconds for
compilation of training and evaluation, and whether the state after some steps has the bits of
level 1. Run: python benchmarks/optimisation_level.py [cifar|digits] [ROUNDS]
"""

import hashlib
import json
import statistics
import sys
import time
from collections import defaultdict

from cnnjax.core import environment

environment.configure_xla(threads=1)

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from cnnjax import load_dataset, small_images  # noqa: E402
from cnnjax.data.dataset import Dataset, Examples  # noqa: E402
from cnnjax.training.feed import make_feed, memory_programs  # noqa: E402
from cnnjax.training.initial import fresh_state  # noqa: E402
from cnnjax.training.make import make_task  # noqa: E402
from cnnjax.training.placement import Jit  # noqa: E402
from cnnjax.training.recipes import he2015_cifar  # noqa: E402

LEVELS = ("1", "2", "3")
COMPILATIONS = 3


def noise() -> Dataset:
    """Images of CIFAR-10's shape."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (1024, 32, 32, 3), dtype=np.uint8)
    examples = Examples(images, rng.integers(0, 10, 1024))
    return Dataset("noise", tuple("abcdefghij"), 255, "none", "random", examples, examples)


PROGRAMS = {
    "cifar": (he2015_cifar, noise, 3),
    "digits": (small_images, lambda: load_dataset("digits"), 12),
}


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else "digits"
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    recipe, load, steps = PROGRAMS[name]
    dataset = load()
    task = make_task(recipe, dataset)
    rates = np.full(len(dataset.train) // recipe.batch_size, 0.05, np.float32)
    compiling, step, digests = defaultdict(list), defaultdict(list), defaultdict(set)
    feeds = {}
    for _ in range(COMPILATIONS):
        for level in LEVELS:
            options = {"xla_backend_optimization_level": level}
            environment.compiler_options = lambda options=options: options
            memory_programs.cache_clear()
            before = time.process_time()
            feeds[level] = make_feed(task, Jit(), recipe, dataset, seed=0)
            compiling[level].append(time.process_time() - before)
    for turn in range(rounds):
        for level in LEVELS[turn % 3 :] + LEVELS[: turn % 3]:
            advance = feeds[level].advance
            state = fresh_state(task, recipe, seed=0)
            sums = jax.tree.map(jnp.array, task.empty_metrics(state))
            state, sums = jax.block_until_ready(advance(task.pack(state), sums, 0, 0, 1, rates))
            before = time.process_time()
            state, sums = jax.block_until_ready(advance(state, sums, 0, 1, 1 + steps, rates))
            step[level].append(1000 * (time.process_time() - before) / steps)
            leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves((state, sums))]
            digests[level].add(hashlib.sha256(b"".join(leaves)).hexdigest())
    result = {
        "program": name,
        "rounds": rounds,
        "step_ms": {k: round(statistics.median(v), 2) for k, v in step.items()},
        "step_range": {k: [round(min(v), 2), round(max(v), 2)] for k, v in step.items()},
        "compile_seconds": {k: round(statistics.median(v), 2) for k, v in compiling.items()},
        "bits_of_level_1": {k: v == digests["1"] for k, v in digests.items()},
        "machine": environment.machine(),
        "versions": environment.versions(),
    }
    json.dump(result, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
