"""One run in one folder: trained to the end, however often it is interrupted.

run.json        recipe, seed, data, versions, machine
metrics.jsonl   one line an epoch
checkpoints/    orbax, the newest three
events/         TensorBoard
result.json     how it ended: its presence is "done"
"""

import contextlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cnnjax.core.config import convert, differences, digest, plain
from cnnjax.core.environment import bits, machine, versions
from cnnjax.core.errors import Refused
from cnnjax.core.files import read_sealed, write_sealed
from cnnjax.core.folders import own_folder
from cnnjax.core.lock import hold
from cnnjax.core.recipe import Recipe
from cnnjax.core.registry import source_digests
from cnnjax.data.dataset import AnyDataset
from cnnjax.data.load import load_dataset
from cnnjax.data.order import steps_per_epoch
from cnnjax.tasks.classification import Classification
from cnnjax.tasks.state import TrainState
from cnnjax.train.checkpoint import OrbaxSaves
from cnnjax.train.events import Events
from cnnjax.train.loop import (
    Progress,
    evaluate,
    fit,
    initial_state,
    make_task,
    saved_tree,
    task_for,
)
from cnnjax.train.metrics_log import MetricsLog
from cnnjax.train.placement import Jit

IDENTITY = ("recipe", "seed", "data", "sources")  # of run.json: what makes it this run
Say = Callable[[str], None]


def train_run(
    recipe: Recipe,
    seed: int,
    dataset: AnyDataset,
    workdir: Path,
    *,
    save_seconds: float = 60.0,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
    say: Say = lambda line: None,
) -> dict:
    """Train in `workdir`, going on from what is there; the result as plain data.

    Raises:
      Refused: the folder holds a run of another recipe, seed or data, or is in use.
    """
    make_task(recipe, dataset).check()  # refused before anything is written
    steps_per_epoch(len(dataset.train), recipe.batch_size)
    own_folder(workdir, "run folder", ("run.json", "checkpoints"))
    with hold(workdir, "the run"):
        identity = _claim(workdir, recipe, seed, dataset, say)
        try:
            result = read_sealed(workdir / "result.json")
            say(f"{workdir}: already trained; to train anew, give another --workdir")
            return result
        except FileNotFoundError:
            pass
        except ValueError as error:
            say(f"{workdir}/result.json: {error}; going on from the newest checkpoint")

        saves = OrbaxSaves(workdir / "checkpoints", identity, say, seconds=save_seconds)
        log = MetricsLog(workdir / "metrics.jsonl")
        events = Events(workdir / "events")

        def on_epoch(record: dict) -> None:
            log.append(record)
            events.write(record)

        with contextlib.closing(events):
            ended = fit(
                recipe,
                seed,
                dataset,
                placement=Jit(),
                saves=saves,
                on_progress=on_progress,
                on_epoch=on_epoch,
                stop=stop,
            )
        result = {**asdict(ended), "bits": bits()}
        if ended.status != "interrupted":
            write_sealed(workdir / "result.json", result)
        return result


def evaluate_run(workdir: Path, data_dir: str | None, split: str, say: Say) -> dict:
    """`loss`, `top1_error` and `examples` of a run's newest intact state on "test" or "train".

    Raises:
      Refused: the folder holds no run, or no state that is intact.
    """
    described = read_run(workdir)
    recipe, task, state = restore_run(workdir, say)
    dataset = load_dataset(recipe.data, data_dir, say)
    if dataset.fingerprint != described["data"]["fingerprint"]:
        raise Refused(f"data set {dataset.name} is not the one that {workdir} was trained on")
    figures = evaluate(task, recipe, state, dataset, split)
    return {
        "model": recipe.model.name,
        "data": dataset.name,
        "split": split,
        "step": int(state.step),
        **figures,
    }


def restore_run(workdir: Path, say: Say) -> tuple[Recipe, Classification, TrainState]:
    """A run's recipe, its task and its newest intact state; the data are not needed.

    Raises:
      Refused: the folder holds no run, or no state that is intact.
    """
    described = read_run(workdir)
    recipe = convert(described["recipe"], Recipe, f"{workdir}/run.json")
    data = described["data"]
    task = task_for(recipe, data["name"], tuple(data["image_shape"]), data["num_classes"])
    state = initial_state(task, recipe, described["seed"])
    template = saved_tree(state, task.empty_metrics(state))
    identity = digest({key: described[key] for key in IDENTITY})
    restored = None
    if (workdir / "checkpoints").is_dir():
        saves = OrbaxSaves(workdir / "checkpoints", identity, say, read_only=True)
        restored = saves.restore(template)
    if restored is None:
        raise Refused(f"{workdir} has no intact checkpoint yet; train first: cnnjax train")
    return recipe, task, restored["state"]


def read_run(workdir: Path) -> dict:
    """What run.json says.

    Raises:
      Refused: the folder holds no run.
    """
    try:
        return read_sealed(workdir / "run.json")
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(
            f"{workdir} is no run (there is no run.json); give the --workdir of cnnjax train"
        ) from None
    except ValueError as error:
        raise Refused(
            f"{workdir}/run.json: {error}; type the run's cnnjax train command to write it anew"
        ) from None


def _claim(workdir: Path, recipe: Recipe, seed: int, dataset: AnyDataset, say: Say) -> str:
    """Write run.json, or check that the one there is of the same run; the run's identity.

    A damaged one is written anew: the checkpoints know whose they are.
    """
    identity: dict[str, Any] = {
        "recipe": plain(recipe),
        "seed": seed,
        "data": {
            "name": dataset.name,
            "fingerprint": dataset.fingerprint,
            "image_shape": list(dataset.image_shape),
            "num_classes": dataset.num_classes,
        },
        "sources": source_digests([recipe.model.name]),
    }
    about = {"versions": versions(), "machine": machine(), "bits": bits()}
    try:
        described = read_sealed(workdir / "run.json")
    except (FileNotFoundError, ValueError) as error:
        if isinstance(error, ValueError):
            say(f"{workdir}/run.json: {error}; written anew")
        write_sealed(workdir / "run.json", {**identity, **about})
        return digest(identity)
    changed = differences({key: described[key] for key in identity}, identity)
    if changed:
        raise Refused(f"{workdir} holds another run ({'; '.join(changed)}); give another --workdir")
    if changed := differences(described["bits"], bits()):
        say(f"not bit-identical with the run's beginning: {'; '.join(changed)}")
    return digest(identity)
