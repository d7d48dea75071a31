"""Claim: how long a step takes beside PyTorch on this processor (docs/performance.md).

The same networks (benchmarks/pytorch_nets.py: eager, channels_last), the set in memory, in turns in
one process: a round is a few steps of the one, then of the other. A ratio above 1 is faster than
PyTorch; it is the median of the rounds' own ratios, with their range. JSON on standard output.

    python benchmarks/step_against_pytorch.py [--rounds N] [--cases MODEL:BATCH ...]
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable

from cnnjax.core.environment import (
    begin_with_huge_pages,
    bits,
    configure_xla,
    cores,
    machine,
    versions,
)

begin_with_huge_pages()
configure_xla()

CASES = ("cifar_resnet20:128", "cifar_resnet56:128")  # and resnet50:16
ROUND_SECONDS = 2.0


def ours(name: str, batch: int) -> dict[str, Callable[[int], None]]:
    """What does so many training steps, and so many forward passes."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cnnjax.bench.step import noise
    from cnnjax.core.recipe import Model
    from cnnjax.tasks.network import evaluated
    from cnnjax.training.recipes import he2015_cifar
    from cnnjax.training.setup import prepare

    size, classes = (32, 10) if name.startswith("cifar") else (224, 1000)
    recipe = he2015_cifar.replace(model=Model(name), batch_size=batch)
    recipe = recipe.replace(data=recipe.data.__class__(normalization="none"))
    training = prepare(recipe, 0, noise((size, size, 3), 4 * batch, classes))
    put, task = training.placement.put, training.task
    carried = [put(task.pack(training.state), "state"), put(task.empty_metrics(training.state),
                                                            "whole")]  # fmt: skip
    rates = np.zeros(training.per_epoch, np.float32)

    def train(count: int) -> None:
        for _ in range(count):
            carried[:] = training.feed.advance(*carried, 0, 0, 1, rates)
        jax.block_until_ready(carried)

    module = task.model
    variables = jax.device_put(evaluated(training.state))
    images = jnp.zeros((batch, size, size, 3))
    forward = jax.jit(lambda v, x: module.apply(v, x, train=False))

    def evaluate(count: int) -> None:
        for _ in range(count):
            jax.block_until_ready(forward(variables, images))

    return {"training": train, "forward": evaluate}


def theirs(name: str, batch: int) -> dict[str, Callable[[int], None]]:
    import torch
    from pytorch_nets import network, trainer

    torch.set_num_threads(cores())
    step = trainer(name, batch, "float32", "eager")
    order = torch.randperm(4 * batch)[:batch]
    model, size, _ = network(name)
    model = model.to(memory_format=torch.channels_last).eval()
    images = torch.zeros(batch, 3, size, size).contiguous(memory_format=torch.channels_last)

    def train(count: int) -> None:
        for _ in range(count):
            step(order)

    def evaluate(count: int) -> None:
        with torch.no_grad():
            for _ in range(count):
                model(images)

    return {"training": train, "forward": evaluate}


def milliseconds(call: Callable[[int], None], count: int) -> float:
    start = time.perf_counter()
    call(count)
    return 1000 * (time.perf_counter() - start) / count


def compared(name: str, batch: int, rounds: int) -> dict:
    found = {}
    both = {"cnnjax": ours(name, batch), "pytorch": theirs(name, batch)}
    for what in ("training", "forward"):
        for side in both.values():
            side[what](1)
        once = max(milliseconds(side[what], 1) for side in both.values())
        count = max(1, round(1000 * ROUND_SECONDS / once))
        took: dict[str, list[float]] = {side: [] for side in both}
        for turn in range(rounds):
            for side in sorted(both, reverse=turn % 2 == 1):
                took[side].append(milliseconds(both[side][what], count))
        ratios = [b / a for a, b in zip(took["cnnjax"], took["pytorch"], strict=True)]
        found[what] = {
            **{f"{side}_ms": round(statistics.median(all_), 1) for side, all_ in took.items()},
            "ratio": round(statistics.median(ratios), 3),
            "ratios": [round(min(ratios), 3), round(max(ratios), 3)],
        }
        print(name, batch, what, found[what], file=sys.stderr, flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--cases", nargs="+", default=CASES)
    options = parser.parse_args()
    import torch

    found = {}
    for case in options.cases:
        name, _, batch = case.partition(":")
        found[case] = compared(name, int(batch), options.rounds)
    about = {"rounds": options.rounds, "machine": machine(), "torch": torch.__version__}
    json.dump(
        {**about, "versions": versions(), "bits": bits(), "steps": found}, sys.stdout, indent=2
    )


if __name__ == "__main__":
    main()
