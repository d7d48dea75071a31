"""Cells of a study trained again, and compared bit by bit with what lies in its folder."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cnnjax.core.errors import Refused, Say, unknown
from cnnjax.core.registry import check_sources
from cnnjax.core.user_code import located, paths_of
from cnnjax.data.load import reading
from cnnjax.study.cells import Cell
from cnnjax.study.run import check_variants, describe_data, load_datasets
from cnnjax.study.store import CellFiles, Store, place_of
from cnnjax.study.worker import Datasets, Shared, train_cell
from cnnjax.tasks.task import figures_in
from cnnjax.training.run import train_run


@dataclass(frozen=True)
class Repetition:
    """A cell trained again.

    Attributes:
      again: its new result.
      earlier: that of the study; None: there is none that is intact.
    """

    cell: str
    again: dict[str, Any]
    earlier: dict[str, Any] | None

    @property
    def compared(self) -> tuple[str, ...]:
        """What is compared: all that training decides; `record`: of every epoch and probe."""
        record = ("record",) if "record" in self.again else ()
        return ("status", "steps", *figures_in(self.again), *record)

    @property
    def differing(self) -> list[str]:
        """What is not the same, to the last bit."""
        if self.earlier is None:
            return []
        return [key for key in self.compared if self.earlier.get(key) != self.again[key]]

    @property
    def verdict(self) -> str:
        """same bits | differs | no earlier result."""
        if self.earlier is None:
            return "no earlier result"
        return "differs" if self.differing else "same bits"


def find_cell(store: Store, name: str) -> Cell:
    """
    Raises:
      Refused: there is no such cell, or no study.
    """
    plan, _ = store.read()
    cells = {cell.name: cell for cell in plan.cells}
    if name not in cells:
        raise unknown("cell", name, cells, f"see: cnnjax study status {store.folder}")
    return cells[name]


def done_cells(store: Store, say: Say) -> list[Cell]:
    """The cells that have a result to compare with."""
    plan, document = store.read()
    results = store.results(plan, document["identity"], say)
    return [cell for cell in plan.cells if (cell.variant.name, cell.seed) in results]


def repeat_cell(
    store: Store, cell: Cell, data_dir: str | None, say: Say, workdir: Path | None = None
) -> Repetition:
    """Train a cell of a study again, beside its folder.

    Args:
      data_dir: where prepared data sets lie; None: where the study had them.
      workdir: where the network is kept, as the folder of a run; a run does not probe, so of a
        study with probes its figures alone are compared.

    Raises:
      Refused: the data, or a user's files, are not those of the study, or `workdir` holds another
        run or one that has ended.
    """
    if workdir is not None and (workdir / "result.json").exists():
        raise Refused(f"{workdir}: a run has ended there; give another --workdir")
    plan, document = store.read()
    try:
        old = store.files(cell).read(document["identity"])
        old = old and {**old, "record": store.files(cell).record()}
    except ValueError as error:
        say(f"{error}; there is nothing to compare with")
        old = None
    with paths_of(document), tempfile.TemporaryDirectory() as folder:
        datasets = load_datasets(plan, data_dir or document["data_dir"], say)
        if describe_data(datasets) != document["data"]:
            raise Refused(
                f"the data are not those of {store.folder}; give their folder: --data-dir"
            )
        _, sources = check_variants(plan, datasets)
        check_sources(document["sources"], sources, f"{store.folder} was run")
        place = place_of(old or document)
        read = {reading(data): dataset for data, dataset in datasets.items()}
        if workdir is not None:
            recipe = cell.variant.recipe
            where = data_dir or document["data_dir"]
            again = train_run(
                recipe, cell.seed, read[reading(recipe.data)], workdir,
                data_dir=where, place=place, say=say,
            )  # fmt: skip
            if not plan.probes:
                again = {**again, "record": CellFiles(workdir).record()}
        else:
            files = CellFiles(Path(folder))
            files.begin(cell, document["identity"])
            shared = Shared(
                document["identity"],
                {},
                None,
                sources,
                located("."),
                cached=False,
                place=place,
                probes=plan.probes,
            )
            again = train_cell(cell, files, shared, Datasets(shared, read))
            again = {**again, "record": files.record()}
    return Repetition(cell.name, again, old)
