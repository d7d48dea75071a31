"""A worker: a spawned process with one thread that trains cells until there are none.

Nothing here imports jax before the worker's own process has its environment.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cnnjax.core.config import digest, plain
from cnnjax.core.environment import bits, start_backend, versions
from cnnjax.core.errors import Refused
from cnnjax.core.recipe import Data
from cnnjax.core.registry import check_sources, source_digests
from cnnjax.core.user_code import explained, paths_from
from cnnjax.data.dataset import AnyDataset
from cnnjax.study.cells import Cell
from cnnjax.study.store import CellFiles

SAVE_SECONDS = 30.0  # a cell shorter than this keeps no checkpoint: a rerun is cheaper and exact


@dataclass(frozen=True)
class Shared:
    """What all cells of a study share.

    Attributes:
      identity: of the study.
      datasets: by the recipes' `data`.
      sources: digests of the users' files behind its networks.
      folder: where relative paths in recipes start.
      cached: use the persistent compilation cache.
    """

    identity: str
    datasets: Mapping[Data, AnyDataset]
    sources: Mapping[str, str]
    folder: Path
    cached: bool


def work(connection: Connection, lifeline: Connection, shared: Shared) -> None:
    """Train each (cell, folder) that arrives; None ends the worker.

    Sends ("progress", Progress), ("done", None), ("failed", one line), or ("unusable", one line)
    where no cell can run here.

    Args:
      connection: to the runner.
      lifeline: closed when the runner's process ends, however it ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner hears the terminal and ends us
    threading.Thread(target=_die_with_parent, args=(lifeline,), daemon=True).start()
    sys.stdout = sys.stderr  # what a network prints is no result

    from cnnjax.train.compile_cache import open_cache

    cache = open_cache(shared.cached)
    try:
        start_backend()
    except Refused as error:
        connection.send(("unusable", str(error)))
        return
    on_device: dict[Data, Any] = {}
    while (job := connection.recv()) is not None:
        cell, folder = job
        files = CellFiles(folder)
        if cache:
            cache.take()
        try:
            files.begin(cell, shared.identity)
            with paths_from(shared.folder):
                train_cell(
                    cell, files, shared, on_device, lambda p: connection.send(("progress", p))
                )
            connection.send(("done", None))
        except Exception as error:  # whatever it is, it is this cell's alone
            files.fail(explained(error))
            connection.send(("failed", explained(error)))
        if cache:
            cache.publish()
    if cache:
        cache.close()


def train_cell(
    cell: Cell,
    files: CellFiles,
    shared: Shared,
    on_device: dict[Data, Any],
    on_progress: Callable[[Any], None] = lambda progress: None,
) -> dict:
    """Train one cell, whose folder has been begun, and put its result in place.

    Args:
      on_device: training sets that are on the device already; this one is added.

    Raises:
      Refused: its network's file was edited since the study began.
    """
    from cnnjax.train.checkpoint import LightSaves
    from cnnjax.train.feed import make_source
    from cnnjax.train.loop import fit, make_task
    from cnnjax.train.metrics_log import MetricsLog
    from cnnjax.train.placement import Jit

    recipe = cell.variant.recipe
    dataset = shared.datasets[recipe.data]
    task = make_task(recipe, dataset, Jit())
    sources = source_digests([(recipe.model.name, task.model)])
    began = {file: shared.sources.get(file, "") for file in sources}
    check_sources(began, sources, "the study began")
    if recipe.data not in on_device:
        on_device[recipe.data] = make_source(recipe.data, dataset, Jit())
    log = MetricsLog(files.metrics)
    identity = digest([shared.identity, plain(recipe), cell.seed])
    ended = fit(
        recipe,
        cell.seed,
        dataset,
        task=task,
        source=on_device[recipe.data],
        saves=LightSaves(files.checkpoint, identity, _complain, SAVE_SECONDS),
        on_start=log.start,
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
