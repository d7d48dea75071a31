"""A worker: a process of its own with one thread that trains cells until there are none.

It is started as a program, `python -m cnnjax.study.worker`, and so never imports what its parent
runs: a study may stand in a notebook, or in a script without a guard. Nothing here imports jax
before the worker's environment is set.
"""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from cnnjax.core.config import compact
from cnnjax.core.environment import bits, configure_xla, start_backend, versions
from cnnjax.core.errors import Refused
from cnnjax.core.files import read_lines
from cnnjax.core.place import JIT, Place
from cnnjax.core.recipe import Data
from cnnjax.core.registry import check_sources
from cnnjax.core.user_code import explained, paths_from
from cnnjax.core.values import digest, plain
from cnnjax.data.dataset import AnyDataset
from cnnjax.data.load import load_dataset, reading
from cnnjax.data.shared import read_shared
from cnnjax.study.cells import Cell
from cnnjax.study.spec import Probe
from cnnjax.study.store import CellFiles

SAVE_SECONDS = 30.0  # a cell shorter than this keeps no checkpoint: a rerun is cheaper and exact


@dataclass(frozen=True)
class Shared:
    """What all cells of a study share, in words: a worker reads the data for itself.

    Attributes:
      identity: of the study.
      data: by `reading(recipe.data)`, the fingerprint of each data set and the folder where
        `write_shared` put it; None: it is read by its name.
      data_dir: where prepared data sets lie.
      sources: digests of the users' files behind its recipes.
      folder: where relative paths in recipes start.
      cached: use the persistent compilation cache.
      place: on which devices a cell is trained.
      probes: what is looked at inside its networks.
    """

    identity: str
    data: Mapping[Data, tuple[str, Path | None]]
    data_dir: str | None
    sources: Mapping[str, str]
    folder: Path
    cached: bool
    place: Place = JIT
    probes: tuple[Probe, ...] = ()


@dataclass
class Datasets:
    """The data sets of a study in this process, read when they are first asked for.

    Attributes:
      whole: by `reading(data)`, what was read so far.
      on_device: training sets that lie on the device: one copy for all augmentations.
    """

    shared: Shared
    whole: dict[Data, AnyDataset] = field(default_factory=dict)
    on_device: dict[Data, Any] = field(default_factory=dict)

    def read(self, data: Data) -> AnyDataset:
        """
        Raises:
          Refused: the data are not those with which the study began.
        """
        key = reading(data)
        if key not in self.whole:
            fingerprint, folder = self.shared.data[key]
            read = load_dataset(key, self.shared.data_dir) if folder is None else None
            found = read if read is not None else read_shared(folder)  # type: ignore[arg-type]
            if found.fingerprint != fingerprint:
                raise Refused(f"data set {found.name} is not the one with which the study began")
            self.whole[key] = found
        return self.whole[key]

    def source(self, data: Data) -> Any:
        """What the programs take: the training set on the device, and what normalises it."""
        from cnnjax.data.dataset import Dataset
        from cnnjax.training.feed import make_source, stored
        from cnnjax.training.placement import make_placement

        placement = make_placement(self.shared.place)
        key, dataset = reading(data), self.read(data)
        if isinstance(dataset, Dataset) and key not in self.on_device:
            self.on_device[key] = placement.put(stored(dataset), "whole")
        return make_source(data, dataset, placement, self.on_device.get(key))


def work(connection: Connection) -> None:
    """Train each (cell, folder) that arrives after a `Shared`; None ends the worker.

    Sends ("progress", Progress), ("done", None), ("failed", one line), or ("unusable", one line)
    where no cell can run here.
    """
    from cnnjax.training.compile_cache import compile_cache

    shared: Shared = connection.recv()
    try:
        start_backend()
    except Refused as error:
        connection.send(("unusable", str(error)))
        return
    with compile_cache(shared.cached):
        _train(connection, shared)


def _train(connection: Connection, shared: Shared) -> None:
    datasets = Datasets(shared)
    for cell, folder in _jobs(connection):
        files = CellFiles(folder)
        try:
            files.begin(cell, shared.identity)
            with paths_from(shared.folder):
                train_cell(
                    cell, files, shared, datasets, lambda p: connection.send(("progress", p))
                )
            connection.send(("done", None))
        except Exception as error:  # whatever it is, it is this cell's alone
            files.fail(explained(error))
            connection.send(("failed", explained(error)))


def _jobs(connection: Connection) -> Iterator[tuple[Cell, Path]]:
    while (job := connection.recv()) is not None:
        yield job


def train_cell(
    cell: Cell,
    files: CellFiles,
    shared: Shared,
    datasets: Datasets,
    on_progress: Callable[[Any], None] = lambda progress: None,
) -> dict:
    """Train one cell, whose folder has been begun, and put its result in place.

    Raises:
      Refused: a user's file behind it was edited since the study began.
    """
    from cnnjax.data.order import check_batch
    from cnnjax.training.checkpoint import LightSaves
    from cnnjax.training.loop import fit
    from cnnjax.training.make import make_task, sources_of
    from cnnjax.training.metrics_log import MetricsLog
    from cnnjax.training.placement import make_placement
    from cnnjax.training.pretrained import weights_digest
    from cnnjax.training.probing import Probing
    from cnnjax.training.setup import prepare

    recipe = cell.variant.recipe
    placement = make_placement(shared.place)
    check_batch(placement.place, recipe)
    dataset = datasets.read(recipe.data)
    task = make_task(recipe, dataset)
    sources = sources_of(recipe, task) | weights_digest(recipe) | probe_sources(shared.probes)
    began = {file: shared.sources.get(file, "") for file in sources}
    check_sources(began, sources, "the study began")
    log = MetricsLog(files.metrics)
    identity = digest([shared.identity, compact(recipe), cell.seed])
    training = prepare(
        recipe,
        cell.seed,
        dataset,
        task=task,
        placement=placement,
        source=datasets.source(recipe.data),
        on_progress=on_progress,
    )
    wanted = {probe.label: (probe.name, probe.at) for probe in shared.probes}
    probing = Probing(training, wanted, log.append)
    ended = fit(
        training,
        saves=LightSaves(files.checkpoint, identity, _complain, SAVE_SECONDS),
        on_start=log.start,
        on_progress=on_progress,
        on_epoch=log.append,
        pauses=probing.steps,
        on_pause=probing,
    )
    result = {
        "variant": dict(cell.variant.levels),
        "seed": cell.seed,
        **ended.flat(),
        **(_looked(files.metrics) if shared.probes else {}),
        "versions": versions(),
        "bits": bits(placement.place),
        "place": plain(placement.place),
    }
    files.finish(result)
    return result


def probe_sources(probes: Iterable[Probe]) -> dict[str, str]:
    """Digests of the users' files behind probes."""
    from cnnjax.core.registry import source_digests
    from cnnjax.probes.registry import PROBES

    return source_digests((probe.name, PROBES.find(probe.name).make) for probe in probes)


def _looked(path: Path) -> dict[str, Any]:
    """What probes saw of a cell, and the seconds that it took, over interruptions too."""
    lines = [line for line in read_lines(path) if "probes" in line]
    seen = {moment: value for line in lines for moment, value in line["probes"].items()}
    return {"probes": seen, "probe_seconds": sum(line["probe_seconds"] for line in lines)}


def _complain(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _die_with_parent(lifeline: Connection) -> None:
    try:
        lifeline.recv()
    except (EOFError, OSError):
        os._exit(1)


def main(descriptors: list[str]) -> None:
    """The program of a worker.

    Args:
      descriptors: of the connection to the runner, and of the lifeline, which is closed when the
        runner's process ends, however it ends.
    """
    # The runner hears the terminal, and the warnings of a cluster, and ends us.
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    configure_xla(threads=1)
    connection, lifeline = (Connection(int(number)) for number in descriptors)
    threading.Thread(target=_die_with_parent, args=(lifeline,), daemon=True).start()
    sys.stdout = sys.stderr  # what a network prints is no result
    work(connection)


if __name__ == "__main__":
    from cnnjax.study import worker  # under its own name, as what arrives is pickled

    worker.main(sys.argv[1:])
