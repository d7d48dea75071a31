"""Claim: how long the quick degradation study takes beside the same grid in PyTorch.

64 trainings: cnnjax by `bench study` (an empty cache of compiled programs, then a full one),
PyTorch by one process of one thread for each core (benchmarks/pytorch_nets.py --grid), which share
the eight seeds. In turns; seconds of the whole, with everything that is not training. JSON.

    python benchmarks/study_against_pytorch.py [--rounds N]
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from cnnjax.core.environment import cores, machine, versions

GRID = Path(__file__).with_name("pytorch_nets.py")
SEEDS = 8


def ours() -> dict[str, float]:
    words = ("bench", "study", "degradation", "--json")
    ran = subprocess.run(
        [sys.executable, "-c", "from cnnjax.cli.main import main; main()", *words],
        stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    return {one["cache"]: one["seconds"] for one in json.loads(ran.stdout)["runs"]}


def theirs() -> float:
    """The seeds one after the other, on each core."""
    threads = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = time.perf_counter()
    each = -(-SEEDS // cores())
    processes = [
        subprocess.Popen(
            [sys.executable, GRID, "--grid", str(min(each, SEEDS - first))],
            env=threads, stdout=subprocess.DEVNULL,
        )
        for first in range(0, SEEDS, each)
    ]  # fmt: skip
    assert [process.wait() for process in processes] == [0] * len(processes)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    rounds = parser.parse_args().rounds
    seconds: dict[str, list[float]] = {"pytorch": [], "cold": [], "warm": []}
    for _ in range(rounds):
        seconds["pytorch"].append(theirs())
        for cache, took in ours().items():
            seconds[cache].append(took)
        print(seconds, file=sys.stderr, flush=True)
    medians = {name: statistics.median(all_) for name, all_ in seconds.items()}
    ratios = {cache: round(medians["pytorch"] / medians[cache], 3) for cache in ("cold", "warm")}
    json.dump({"seconds": seconds, "ratios": ratios, "machine": machine(), "versions": versions()},
              sys.stdout, indent=2)  # fmt: skip


if __name__ == "__main__":
    main()
