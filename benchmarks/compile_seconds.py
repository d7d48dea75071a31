"""Claim: compilation does not grow with depth (docs/studies/degradation.md).

Compiles the training and evaluation programs of the study's networks in alternation and prints
one JSON object: median seconds by depth and kind. Run: python benchmarks/compile_seconds.py
"""

import json
import statistics
import sys
from collections import defaultdict

from cnnjax.core.environment import configure_xla, machine, versions

configure_xla(threads=1)

from cnnjax import load_dataset, small_images  # noqa: E402
from cnnjax.core.config import override  # noqa: E402
from cnnjax.training.feed import make_feed, memory_programs  # noqa: E402
from cnnjax.training.make import make_task  # noqa: E402
from cnnjax.training.placement import Jit  # noqa: E402

ROUNDS = 3


def main() -> None:
    digits = load_dataset("digits")
    seconds = defaultdict(list)
    for _ in range(ROUNDS):
        for shortcut in ("none", "A"):
            for depth in (20, 56, 110):
                recipe = override(small_images, "model.depth", depth)
                recipe = override(recipe, "model.shortcut", shortcut)
                memory_programs.cache_clear()
                feed = make_feed(make_task(recipe, digits), Jit(), recipe, digits, seed=0)
                seconds[f"{shortcut}-{depth}"].append(feed.compile_seconds)
    medians = {name: round(statistics.median(values), 2) for name, values in seconds.items()}
    result = {"median_seconds": medians, "rounds": ROUNDS, **machine(), "versions": versions()}
    json.dump(result, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
