"""What a whole study takes, from an empty compilation cache and with a full one."""

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnjax.core.environment import bits, machine, versions
from cnnjax.core.errors import Failed
from cnnjax.study.cells import Plan
from cnnjax.study.run import run_study
from cnnjax.study.runner import Status
from cnnjax.study.store import Store


@dataclass(frozen=True)
class StudyFigures:
    """Of one run of a study in a folder of its own.

    Attributes:
      cache: of compiled programs: cold (an empty one) or warm (what a cold run has left).
      seconds: from the first check to the last cell, workers' start and evaluations included.
      train_seconds, compile_seconds, init_seconds: summed over the cells.
      cpu_seconds: of all workers.
      cores_busy: share of the workers' cores, 0 to 1.
    """

    study: str
    preset: str
    cells: int
    cache: str
    seconds: float
    train_seconds: float
    compile_seconds: float
    init_seconds: float
    cpu_seconds: float
    cores_busy: float
    workers: int
    machine: dict[str, Any]
    versions: dict[str, str]
    bits: dict[str, Any]


def bench_study(
    plan: Plan,
    *,
    data_dir: str | None = None,
    workers: int | None = None,
    workers_per_device: int = 1,
    on_status: Callable[[str, Status], None] = lambda cache, status: None,
) -> list[StudyFigures]:
    """Run all cells of a study twice, in folders that are removed: cold, then warm.

    Args:
      plan: the resolved study.
      data_dir, workers, workers_per_device: see `run_study`.
      on_status: told which run it is, and what of it is done.

    Raises:
      Refused: something is wrong with the study.
      Failed: a cell failed.
    """
    found = []
    with tempfile.TemporaryDirectory() as folder, _cache_in(Path(folder) / "cache"):
        for cache in ("cold", "warm"):
            store, said = Store(Path(folder) / cache), []
            start = time.perf_counter()
            session = run_study(
                plan,
                store.folder,
                command="",
                data_dir=data_dir,
                workers=workers,
                workers_per_device=workers_per_device,
                say=said.append,
                on_status=lambda status, cache=cache: on_status(cache, status),
            )
            seconds = time.perf_counter() - start
            plan_there, document = store.read()
            results = store.results(plan_there, document["identity"], lambda line: None)
            if len(results) < len(plan.cells) or session is None:
                why = next((line for line in said if " failed: " in line), "it was interrupted")
                raise Failed(
                    f"{len(plan.cells) - len(results)} cells of {plan.study} have no result: {why}"
                )
            sums = {
                name: sum(result[name] for result in results.values())
                for name in ("train_seconds", "compile_seconds", "init_seconds")
            }
            found.append(
                StudyFigures(
                    study=plan.study,
                    preset=plan.preset,
                    cells=len(results),
                    cache=cache,
                    seconds=seconds,
                    **sums,
                    cpu_seconds=session.cpu_seconds,
                    cores_busy=session.cores_busy,
                    workers=session.workers,
                    machine=dict(machine()),
                    versions=versions(),
                    bits=bits(threads=1),
                )
            )
    return found


@contextmanager
def _cache_in(folder: Path) -> Iterator[None]:
    """Workers that start in the block keep their compiled programs there."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["XDG_CACHE_HOME"]
        else:
            os.environ["XDG_CACHE_HOME"] = before
