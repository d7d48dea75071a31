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

from cnnjax.core.config import canonical, convert, differences, digest, plain
from cnnjax.core.environment import bits, machine, start_backend, versions
from cnnjax.core.errors import Refused
from cnnjax.core.files import read_sealed, write_sealed
from cnnjax.core.folders import own_folder, unicode_path
from cnnjax.core.lock import hold
from cnnjax.core.random import stream_keys
from cnnjax.core.recipe import Recipe
from cnnjax.core.registry import check_sources, source_digests
from cnnjax.core.user_code import expanded, located, paths_from
from cnnjax.data.dataset import AnyDataset
from cnnjax.data.load import load_dataset
from cnnjax.data.order import total_steps
from cnnjax.tasks.classification import Classification
from cnnjax.tasks.state import TrainState
from cnnjax.train.checkpoint import OrbaxSaves, owners
from cnnjax.train.events import Events
from cnnjax.train.loop import (
    evaluate,
    fit,
    initial_state,
    make_task,
    saved_tree,
    task_for,
)
from cnnjax.train.metrics_log import MetricsLog
from cnnjax.train.placement import Jit
from cnnjax.train.progress import Progress

IDENTITY = ("recipe", "seed", "data", "sources")  # of run.json: what makes it this run
Say = Callable[[str], None]


def train_run(
    recipe: Recipe,
    seed: int,
    dataset: AnyDataset,
    workdir: Path,
    *,
    data_dir: str | None = None,
    save_seconds: float = 60.0,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
    say: Say = lambda line: None,
) -> dict:
    """Train in `workdir`, going on from what is there; the result as plain data.

    Args:
      data_dir: where `dataset` lies: remembered for `evaluate_run`.

    Raises:
      Refused: the folder holds a run of another recipe, seed or data, or is in use.
    """
    start_backend()
    recipe = canonical(recipe)
    total_steps(recipe, len(dataset.train))
    task = make_task(recipe, dataset, Jit())
    task.check(recipe.batch_size)  # refused before anything is written
    stream_keys(seed, recipe.streams)
    unicode_path(workdir, "run folder")
    own_folder(workdir, "run folder", ("run.json", "checkpoints"))
    with hold(workdir, "the run"):
        sources = source_digests([(recipe.model.name, task.model)])
        identity = _claim(workdir, recipe, seed, dataset, sources, data_dir, say)
        saves = OrbaxSaves(workdir / "checkpoints", identity, say, seconds=save_seconds)
        if result := _finished(workdir, identity, saves, say):
            say(f"{workdir}: already trained; to train anew, give another --workdir")
            return result
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
                task=task,
                placement=Jit(),
                saves=saves,
                on_start=log.start,
                on_progress=on_progress,
                on_epoch=on_epoch,
                stop=stop,
            )
        result = {**asdict(ended), "bits": bits()}
        if ended.status != "interrupted":
            write_sealed(workdir / "result.json", {**result, "run": identity})
        return result


def _finished(workdir: Path, identity: str, saves: OrbaxSaves, say: Say) -> dict | None:
    """The result of this run, if it has ended and its last state is there too."""
    try:
        result = read_sealed(workdir / "result.json")
    except FileNotFoundError:
        return None
    except ValueError as error:
        say(f"{workdir}/result.json: {error}; going on from the newest checkpoint")
        return None
    if result.get("run") != identity:
        say(f"{workdir}/result.json: of another run; going on from the newest checkpoint")
        return None
    if saves.newest_intact() == result["steps"]:
        return {key: value for key, value in result.items() if key != "run"}
    say(f"{workdir}: its last checkpoint is lost or damaged; going on from the newest intact one")
    return None


def evaluate_run(workdir: Path, data_dir: str | None, split: str, say: Say) -> dict:
    """`loss`, `top1_error` and `examples` of a run's newest intact state on "test" or "train".

    Args:
      data_dir: where its data lie; default where they lay while it trained.

    Raises:
      Refused: the folder holds no run, no state that is intact, or its network or its data are
        not those that were trained.
    """
    start_backend()
    described = read_run(workdir)
    recipe, task, state = restore_run(workdir, say)
    with paths_of(described):
        dataset = load_dataset(recipe.data, data_dir or described.get("data_dir"), say)
    if dataset.fingerprint != described["data"]["fingerprint"]:
        raise Refused(f"data set {dataset.name} is not the one that {workdir} was trained on")
    with contextlib.suppress(FileNotFoundError, ValueError):
        if (last := read_sealed(workdir / "result.json")["steps"]) != int(state.step):
            say(
                f"{workdir}: these are the figures of step {int(state.step)}, its state at step"
                f" {last} is lost; the run's cnnjax train command makes it again"
            )
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
      Refused: the folder holds no run, no state that is intact, or its network's file was edited.
    """
    described = read_run(workdir)
    recipe = convert(described["recipe"], Recipe, f"{workdir}/run.json")
    data = described["data"]
    with paths_of(described):
        task = task_for(recipe, data["name"], tuple(data["image_shape"]), data["num_classes"])
    sources = source_digests([(recipe.model.name, task.model)])
    check_sources(described["sources"], sources, f"{workdir} was trained")
    state = initial_state(task, recipe, described["seed"])
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


def paths_of(described: dict) -> contextlib.AbstractContextManager:
    """Relative paths of a run's recipe start where it was trained, if that is still there."""
    folder = described.get("folder")
    return paths_from(folder if folder and Path(folder).is_dir() else None)


def read_run(workdir: Path) -> dict:
    """What run.json says.

    Raises:
      Refused: the folder holds no run.
    """
    try:
        return read_sealed(workdir / "run.json")
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


def _claim(
    workdir: Path,
    recipe: Recipe,
    seed: int,
    dataset: AnyDataset,
    sources: dict[str, str],
    data_dir: str | None,
    say: Say,
) -> str:
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
        "sources": sources,
    }
    places = {
        "folder": str(located(".").absolute()),
        "data_dir": None if data_dir is None else str(expanded(data_dir).absolute()),
    }
    try:
        described = read_sealed(workdir / "run.json")
    except (FileNotFoundError, ValueError) as error:
        if owners(workdir / "checkpoints") - {digest(identity)}:
            raise Refused(
                f"{workdir} holds the checkpoints of another run, whose run.json is lost; type that"
                " run's own command, or give another --workdir"
            ) from None
        if isinstance(error, ValueError):
            say(f"{workdir}/run.json: {error}; written anew")
        about = {"versions": versions(), "machine": machine(), "bits": bits()}
        write_sealed(workdir / "run.json", {**identity, **places, **about})
        return digest(identity)
    changed = differences({key: described.get(key) for key in identity}, identity)
    if changed:
        raise Refused(f"{workdir} holds another run ({'; '.join(changed)}); give another --workdir")
    if changed := differences(described["bits"], bits()):
        say(f"not bit-identical with the run's beginning: {'; '.join(changed)}")
    if any(described.get(key) != place for key, place in places.items()):  # they have moved
        write_sealed(workdir / "run.json", {**described, **places})
    return digest(identity)
