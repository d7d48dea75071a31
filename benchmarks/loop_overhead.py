"""Claim: what the loop with its logging, evaluation apart, and saves costs over bare steps.

Two runs of the same steps in turns: `fit` from its first step on, with a metrics log, progress and
an orbax save every ten seconds, and the compiled training program alone, an epoch at a time. JSON.

    python benchmarks/loop_overhead.py [--rounds N] [--epochs N]
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

from cnnjax.core.environment import begin_with_huge_pages, configure_xla, machine, versions

begin_with_huge_pages()
configure_xla()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    options = parser.parse_args()
    import jax
    import numpy as np

    from cnnjax.bench.step import noise
    from cnnjax.training.checkpoint import OrbaxSaves
    from cnnjax.training.loop import fit
    from cnnjax.training.metrics_log import MetricsLog
    from cnnjax.training.recipes import he2015_cifar
    from cnnjax.training.setup import prepare

    recipe = he2015_cifar.replace(batch_size=128, epochs=options.epochs)
    dataset = noise((32, 32, 3), 128 * 20)
    training = prepare(recipe, 0, dataset)
    put, task = training.placement.put, training.task

    def bare() -> float:
        state = put(task.pack(training.state), "state")
        sums = put(task.empty_metrics(training.state), "whole")
        start = time.perf_counter()
        for epoch in range(options.epochs):
            rates = np.full(training.per_epoch, 0.01, np.float32)
            state, sums = training.feed.advance(state, sums, epoch, 0, training.per_epoch, rates)
        jax.block_until_ready(state)
        return time.perf_counter() - start

    def loop() -> tuple[float, float]:
        """Seconds without the evaluations, which are no overhead; and a save's."""
        judging, saving = [0.0], []

        class Timed(OrbaxSaves):
            def save(self, *arguments, **named):
                start = time.perf_counter()
                super().save(*arguments, **named)
                saving.append(time.perf_counter() - start)

        evaluate = training.feed.evaluate

        def timed(*arguments, **named):
            start = time.perf_counter()
            found = evaluate(*arguments, **named)
            judging[0] += time.perf_counter() - start
            return found

        training.feed.evaluate = timed  # type: ignore[method-assign]
        with tempfile.TemporaryDirectory() as folder:
            log = MetricsLog(Path(folder) / "metrics.jsonl")
            saves = Timed(Path(folder) / "saves", "bench", print, seconds=10.0)
            began = []

            def begin(step: int) -> None:
                log.start(step)
                began.append(time.perf_counter())

            fit(training, saves=saves, on_start=begin, on_epoch=log.append)
            whole = time.perf_counter() - began[0]
        training.feed.evaluate = evaluate  # type: ignore[method-assign]
        return whole - judging[0], statistics.mean(saving)

    bare(), loop()
    took: dict[str, list[float]] = {"bare": [], "loop": [], "save": []}
    for _ in range(options.rounds):
        took["bare"].append(bare())
        seconds, save = loop()
        took["loop"].append(seconds)
        took["save"].append(save)
        print(took, file=sys.stderr, flush=True)
    more = [a / b - 1 for a, b in zip(took["loop"], took["bare"], strict=True)]
    found = {"seconds": took, "overhead": statistics.median(more), "range": [min(more), max(more)]}
    steps = options.epochs * training.per_epoch
    json.dump({**found, "steps": steps, "machine": machine(), "versions": versions()},
              sys.stdout, indent=2)  # fmt: skip


if __name__ == "__main__":
    main()
