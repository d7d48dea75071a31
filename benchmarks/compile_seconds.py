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
from cnnjax.train.loop import compiled_programs, make_task  # noqa: E402
from cnnjax.train.placement import Jit  # noqa: E402

ROUNDS = 3


def main() -> None:
    digits = load_dataset("digits")
    seconds = defaultdict(list)
    for _ in range(ROUNDS):
        for shortcut in ("none", "A"):
            for depth in (20, 56, 110):
                recipe = override(small_images, "model.depth", depth)
                task = make_task(override(recipe, "model.shortcut", shortcut), digits)
                compiled_programs.cache_clear()
                programs = compiled_programs(task, Jit(), "none", 96, len(digits.train))
                seconds[f"{shortcut}-{depth}"].append(programs.seconds)
    medians = {name: round(statistics.median(values), 2) for name, values in seconds.items()}
    result = {"median_seconds": medians, "rounds": ROUNDS, **machine(), "versions": versions()}
    json.dump(result, sys.stdout, indent=2)


if __name__ == "__main__":
    main()
