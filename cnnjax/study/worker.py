"""A worker: a spawned process with one thread that trains cells until there are none.

Nothing here imports jax before the worker's own process has its environment.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from multiprocessing.connection import Connection
from typing import Any

from cnnjax.core.environment import bits, versions
from cnnjax.core.errors import one_line
from cnnjax.core.recipe import Data
from cnnjax.data.dataset import AnyDataset
from cnnjax.study.cells import Cell
from cnnjax.study.store import CellFiles

SAVE_SECONDS = 30.0  # a cell shorter than this keeps no checkpoint: a rerun is cheaper and exact


def work(
    connection: Connection, lifeline: Connection, datasets: Mapping[Data, AnyDataset], cached: bool
) -> None:
    """Train each (cell, folder, study's identity) that arrives; None ends the worker.

    Sends ("progress", Progress), ("done", None) or ("failed", one line).

    Args:
      connection: to the runner.
      lifeline: closed when the runner's process ends, however it ends.
      datasets: by the recipes' `data`.
      cached: use the persistent compilation cache.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner hears the terminal and ends us
    threading.Thread(target=_die_with_parent, args=(lifeline,), daemon=True).start()

    from cnnjax.train.compile_cache import open_cache

    cache = open_cache(cached)
    sources: dict[Data, Any] = {}
    while (job := connection.recv()) is not None:
        cell, folder, identity = job
        files = CellFiles(folder)
        if cache:
            cache.take()
        try:
            dataset = datasets[cell.variant.recipe.data]
            files.begin(cell, identity)
            train_cell(cell, files, dataset, sources, lambda p: connection.send(("progress", p)))
            connection.send(("done", None))
        except Exception as error:  # whatever it is, it is this cell's alone
            files.fail(one_line(error))
            connection.send(("failed", one_line(error)))
        if cache:
            cache.publish()
    if cache:
        cache.close()


def train_cell(
    cell: Cell,
    files: CellFiles,
    dataset: AnyDataset,
    sources: dict[Data, Any],
    on_progress: Callable[[Any], None] = lambda progress: None,
) -> dict:
    """Train one cell, whose folder has been begun, and put its result in place.

    Args:
      sources: training sets that are on the device already; this one is added.
    """
    from cnnjax.train.checkpoint import LightSaves
    from cnnjax.train.feed import make_source
    from cnnjax.train.loop import fit
    from cnnjax.train.metrics_log import MetricsLog
    from cnnjax.train.placement import Jit

    recipe = cell.variant.recipe
    if recipe.data not in sources:
        sources[recipe.data] = make_source(recipe.data, dataset, Jit())
    log = MetricsLog(files.metrics)
    ended = fit(
        recipe,
        cell.seed,
        dataset,
        source=sources[recipe.data],
        saves=LightSaves(files.checkpoint, _complain, SAVE_SECONDS),
        on_progress=on_progress,
        on_epoch=log.append,
    )
    result = {
        "variant": dict(cell.variant.levels),
        "seed": cell.seed,
        **asdict(ended),
        "versions": versions(),
        "bits": bits(),
    }
    files.finish(result)
    return result


def _complain(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _die_with_parent(lifeline: Connection) -> None:
    try:
        lifeline.recv()
    except (EOFError, OSError):
        os._exit(1)
