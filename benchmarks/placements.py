"""Claim: what a placement itself costs: a step by jit, and over 1 to 8 devices of a processor.

The devices share the cores, so the work is the same and what is more is the placement's: dividing,
adding gradients, statistics of batch normalisation. In turns; medians and ranges. JSON.

    python benchmarks/placements.py [--model M] [--batch-size N] [--rounds N]
"""

import argparse
import json
import os
import statistics
import sys
import time

from cnnjax.core.environment import configure_xla, machine, versions

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "8")
configure_xla()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="cifar_resnet20")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    import jax
    import numpy as np

    from cnnjax.bench.step import noise
    from cnnjax.core.place import Place
    from cnnjax.core.recipe import Model
    from cnnjax.training.placement import make_placement
    from cnnjax.training.recipes import he2015_cifar
    from cnnjax.training.setup import prepare

    recipe = he2015_cifar.replace(model=Model(options.model), batch_size=options.batch_size)
    dataset = noise((32, 32, 3), 2 * options.batch_size)
    places = [Place(), *(Place(kind, n) for kind in ("pmap", "sharded") for n in (1, 2, 4, 8))]
    runs, carried = {}, {}
    for place in places:
        training = prepare(recipe, 0, dataset, placement=make_placement(place))
        put, task = training.placement.put, training.task
        carried[place] = (put(task.pack(training.state), "state"),
                          put(task.empty_metrics(training.state), "whole"))  # fmt: skip
        runs[place] = training
        print(place, f"compiled in {training.feed.compile_seconds:.1f} s", file=sys.stderr)
    rates = np.zeros(2, np.float32)
    took: dict[Place, list[float]] = {place: [] for place in places}
    for turn in range(options.rounds + 1):
        for place in places[turn % 2 :] + places[: turn % 2]:
            start = time.perf_counter()
            carried[place] = runs[place].feed.advance(*carried[place], 0, 0, 2, rates)
            jax.block_until_ready(carried[place])
            if turn:
                took[place].append(1000 * (time.perf_counter() - start) / 2)
    found = {
        str(place): {
            "ms": round(statistics.median(all_), 1),
            "range": [round(min(all_), 1), round(max(all_), 1)],
            "of_jit": round(
                statistics.median(a / b for a, b in zip(all_, took[places[0]], strict=True)), 3
            ),
        }
        for place, all_ in took.items()
    }
    about = {"model": options.model, "batch_size": options.batch_size, "rounds": options.rounds}
    json.dump({**about, "steps": found, "machine": machine(), "versions": versions()},
              sys.stdout, indent=2)  # fmt: skip


if __name__ == "__main__":
    main()
