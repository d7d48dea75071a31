"""What lies in a run's folder: its description, its data, its newest intact state."""

from pathlib import Path
from typing import Any

from cnnjax.core.config import FORMAT, full
from cnnjax.core.errors import Refused, Say
from cnnjax.core.files import read_sealed
from cnnjax.core.recipe import Recipe
from cnnjax.core.registry import check_sources
from cnnjax.core.user_code import paths_of
from cnnjax.core.values import convert, digest
from cnnjax.data.dataset import AnyDataset
from cnnjax.data.load import load_dataset
from cnnjax.tasks.network import NetworkTask
from cnnjax.tasks.state import TrainState
from cnnjax.tasks.task import DataSpec
from cnnjax.training.checkpoint import OrbaxSaves
from cnnjax.training.initial import fresh_state, saved_tree
from cnnjax.training.make import sources_of, task_for

IDENTITY = ("format", "recipe", "seed", "data", "sources")  # of run.json: what makes it this run


def restore_run(workdir: Path, say: Say) -> tuple[Recipe, NetworkTask, TrainState]:
    """A run's recipe, its task and its newest intact state; the data are not needed.

    Raises:
      Refused: the folder holds no run, no state that is intact, or its network's file was edited.
    """
    described = read_run(workdir)
    recipe = full(described["recipe"], f"{workdir}/run.json")
    data = {key: value for key, value in described["data"].items() if key != "fingerprint"}
    with paths_of(described):
        task = task_for(recipe, convert(data, DataSpec, f"{workdir}/run.json"))
        state = fresh_state(task, recipe, described["seed"])
    sources = sources_of(recipe, task)
    stored = {key: sha for key, sha in described["sources"].items() if key != recipe.init.weights}
    check_sources(stored, sources, f"{workdir} was trained")
    template = saved_tree(state, task.empty_metrics(state))
    identity = digest({key: described[key] for key in IDENTITY})
    restored = None
    if (workdir / "checkpoints").is_dir():
        saves = OrbaxSaves(workdir / "checkpoints", identity, say, read_only=True)
        restored = saves.restore(template)
    if restored is None:
        raise Refused(
            f"{workdir} has no intact checkpoint; type the run's cnnjax train command: it goes on"
        )
    return recipe, task, restored["state"]


def read_run(workdir: Path) -> dict:
    """What run.json says.

    Raises:
      Refused: the folder holds no run.
    """
    try:
        described = read_sealed(workdir / "run.json")
    except (FileNotFoundError, NotADirectoryError):
        if (workdir / "checkpoints").is_dir():
            raise Refused(
                f"{workdir} has lost its run.json; type the run's cnnjax train command to write it"
                " anew"
            ) from None
        raise Refused(
            f"{workdir} is no run (there is no run.json); give the --workdir of cnnjax train"
        ) from None
    except ValueError as error:
        raise Refused(
            f"{workdir}/run.json: {error}; type the run's cnnjax train command to write it anew"
        ) from None
    check_format(described, f"{workdir}")
    return described


def check_format(described: dict[str, Any], where: str) -> None:
    """Refuse what another version wrote in another form."""
    if (found := described.get("format", 1)) != FORMAT:
        version = described.get("bits", {}).get("cnnjax", "0.1.0")
        raise Refused(
            f"{where} was written by cnnjax {version} in format {found}, and this version reads"
            f" format {FORMAT}; read it with that version, or give another folder"
        )


def read_result(workdir: Path) -> dict[str, Any]:
    """How the run in a folder ended.

    Raises:
      Refused: the folder holds no run, or one that has not ended.
    """
    read_run(workdir)
    try:
        result = read_sealed(workdir / "result.json")
    except FileNotFoundError:
        raise Refused(f"{workdir}: the run has not ended; train it to its end") from None
    except ValueError as error:
        raise Refused(f"{workdir}/result.json: {error}; train it again to write it anew") from None
    return {key: value for key, value in result.items() if key != "run"}


def dataset_of(
    workdir: Path, described: dict, recipe: Recipe, data_dir: str | None, say: Say
) -> AnyDataset:
    """The data that a run was trained on.

    Args:
      described: what its run.json says.
      data_dir: where they lie; default where they lay while it trained.

    Raises:
      Refused: they are not there, or are others now.
    """
    with paths_of(described):
        dataset = load_dataset(recipe.data, data_dir or described.get("data_dir"), say)
    check_dataset(workdir, described, dataset)
    return dataset


def check_dataset(workdir: Path, described: dict, dataset: AnyDataset) -> None:
    """Refuse data that are not those of a run."""
    if dataset.fingerprint != described["data"]["fingerprint"]:
        raise Refused(
            f"data set {dataset.name} is not the one that {workdir} was trained on; one that was"
            f" given in Python is given again: cnnjax.load_run({str(workdir)!r}, dataset=...)"
        )
