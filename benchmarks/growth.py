"""How compilation, time and memory of a training step grow with depth and batch: JSON and a plot.

Run: python benchmarks/growth.py [--out FILE.json] [--plot FILE.png] [--depths N...]

Memory is what the compiled training program asks for beside its arguments (activations kept for the
gradients, mostly); it is known without running it. Time is the median of five dispatches of some
steps, where a step is short enough.
"""

import argparse
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

MOST_FLOPS = 6e11  # of a step that is run, not only compiled


def measured(depth: int, batch: int, remat: bool, dispatches: int = 5) -> dict[str, Any]:
    """Figures of one training program of cifar_resnet{depth}."""
    import jax
    import numpy as np

    from cnnjax.analysis.cost import model_cost
    from cnnjax.bench.step import noise
    from cnnjax.core.config import override
    from cnnjax.core.recipe import Model
    from cnnjax.training.recipes import he2015_cifar
    from cnnjax.training.setup import prepare

    recipe = he2015_cifar.replace(model=Model(f"cifar_resnet{depth}"), batch_size=batch)
    recipe = override(recipe, "compute.remat", remat)
    training = prepare(recipe, 0, noise((32, 32, 3), 2 * batch))
    program = training.feed.train_program  # type: ignore[attr-defined]
    found: dict[str, Any] = {
        "depth": depth,
        "batch": batch,
        "remat": remat,
        "compile_seconds": round(training.feed.compile_seconds, 2),
        "program_bytes": program.memory_analysis().temp_size_in_bytes,
    }
    flops = 6 * batch * model_cost(training.task.model, (32, 32, 3)).macs
    if flops <= MOST_FLOPS:
        put, task = training.placement.put, training.task
        state = put(task.pack(training.state), "state")
        sums = put(task.empty_metrics(training.state), "whole")
        rates, seconds = np.full(training.per_epoch, 0.01, np.float32), []
        for _ in range(dispatches + 1):  # the first warms up
            start = time.perf_counter()
            state, sums = training.feed.advance(state, sums, 0, 0, 2, rates)
            jax.block_until_ready(state)
            seconds.append((time.perf_counter() - start) / 2)
        found["step_ms"] = round(1000 * statistics.median(seconds[1:]), 1)
    print(found, file=sys.stderr, flush=True)
    return found


def plot(rows: list[dict[str, Any]], file: Path) -> None:
    """Three panels: compilation and memory against depth, time and memory against batch."""
    from matplotlib.figure import Figure

    figure = Figure((10, 3.4), layout="constrained")
    compiled, memory, batches = figure.subplots(1, 3)
    batch = max(row["batch"] for row in rows if row["depth"] == max(r["depth"] for r in rows))
    for remat, colour in ((False, "#0060a8"), (True, "#c05000")):
        deep = [row for row in rows if row["remat"] == remat and row["batch"] == batch]
        depths = [row["depth"] for row in deep]
        name = "remat" if remat else "kept"
        compiled.plot(depths, [r["compile_seconds"] for r in deep], "o-", color=colour, label=name)
        memory.plot(depths, [r["program_bytes"] / 2**30 for r in deep], "o-", color=colour,
                    label=name)  # fmt: skip
        wide = [row for row in rows if row["remat"] == remat and row["depth"] == 20]
        batches.plot([r["batch"] for r in wide], [r["program_bytes"] / 2**30 for r in wide], "o-",
                     color=colour, label=name)  # fmt: skip
    for axes, title, label, unit in (
        (compiled, f"Compilation, batch {batch}", "depth", "s"),
        (memory, f"Memory of the program, batch {batch}", "depth", "GiB"),
        (batches, "Memory of the program, depth 20", "batch", "GiB"),
    ):
        axes.set(title=title, xlabel=label, ylabel=unit, xscale="log")
        axes.set_ylim(bottom=0) if axes is compiled else axes.set_yscale("log")
        values = sorted({row["batch" if axes is batches else "depth"] for row in rows})
        axes.set_xticks(values, [str(value) for value in values])
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:g}")
        axes.legend(frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("growth.json"))
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--depths", type=int, nargs="+", default=[20, 56, 110, 1202])
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128, 512])
    options = parser.parse_args()
    from cnnjax.core.environment import bits, configure_xla

    configure_xla()
    pairs = [(depth, 128) for depth in options.depths]
    pairs += [(20, batch) for batch in options.batches if batch != 128]
    rows = [measured(*pair, remat) for remat in (False, True) for pair in sorted(pairs)]
    found = {"bits": bits(), "rows": rows}
    options.out.write_text(json.dumps(found, indent=2) + "\n")
    if options.plot:
        plot(rows, options.plot)


if __name__ == "__main__":
    main()
