"""One run in one folder: trained to the end, however often it is interrupted.

run.json        recipe, seed, data, versions, machine
metrics.jsonl   one line an epoch
checkpoints/    orbax, the newest three
events/         TensorBoard
result.json     how it ended: its presence is "done"
"""

import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cnnjax.core.config import FORMAT, canonical, compact, spelled_out
from cnnjax.core.distributed import (
    Watch,
    check_alike,
    from_first,
    in_all,
    is_first,
    peers_named,
)
from cnnjax.core.environment import bits, machine, start_backend, versions
from cnnjax.core.errors import Refused, Say
from cnnjax.core.files import read_sealed, write_sealed
from cnnjax.core.folders import own_folder, unicode_path
from cnnjax.core.lock import hold
from cnnjax.core.place import JIT, Place
from cnnjax.core.random import stream_keys
from cnnjax.core.recipe import Recipe
from cnnjax.core.user_code import expanded, located
from cnnjax.core.values import differences, digest, plain
from cnnjax.data.dataset import AnyDataset
from cnnjax.data.order import check_batch, total_steps
from cnnjax.tasks.task import Accumulator
from cnnjax.training.checkpoint import OrbaxSaves, owners
from cnnjax.training.events import Events
from cnnjax.training.loop import evaluate, fit
from cnnjax.training.make import data_spec, make_task, sources_of
from cnnjax.training.metrics_log import MetricsLog
from cnnjax.training.placement import Placement, make_placement
from cnnjax.training.pretrained import check_weights, weights_digest
from cnnjax.training.progress import Progress
from cnnjax.training.restore import check_format, dataset_of, read_run, restore_run
from cnnjax.training.setup import prepare
from cnnjax.training.shared_saves import shared_saves


def train_run(
    recipe: Recipe,
    seed: int,
    dataset: AnyDataset,
    workdir: Path,
    *,
    data_dir: str | None = None,
    save_seconds: float = 60.0,
    place: Place = JIT,
    peer_seconds: float = 300.0,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    stop: Callable[[], bool] = lambda: False,
    say: Say = lambda line: None,
) -> dict:
    """Train in `workdir`, going on from what is there; the result as plain data.

    Of several processes that train together the first alone speaks and writes the results; saves
    are written by all where they share the folder, else by the first.

    Args:
      data_dir: where `dataset` lies: remembered for `evaluate_run`.
      place: on which devices; a run may go on elsewhere, to other bits.
      peer_seconds: how long to wait for a process that does not move.

    Raises:
      Refused: the folder holds a run of another recipe, seed or data, or is in use.
      PeerLost: another process of the training is gone.
    """
    start_backend()
    with peers_named(), contextlib.ExitStack() as held:
        placement = make_placement(place)
        tell = say
        if not is_first():
            say, on_progress = lambda line: None, lambda progress: None
        recipe = canonical(recipe)
        task, sources = in_all(lambda: _checked(recipe, seed, dataset, placement))
        read = {"seed": seed, "fingerprint of the data": dataset.fingerprint, "files": sources}
        check_alike({**plain(recipe), **read, "versions": versions(), **plain(place)})
        folder: _Folder | None = None

        def claim() -> dict | None:
            nonlocal folder
            unicode_path(workdir, "run folder")
            own_folder(workdir, "run folder", ("run.json", "checkpoints"))
            held.enter_context(hold(workdir, "the run"))
            identity = _claim(workdir, recipe, seed, dataset, sources, data_dir, placement, say)
            folder = held.enter_context(_Folder(workdir, identity, save_seconds, say))
            return _finished(workdir, identity, folder.saves, say)

        if result := from_first(claim):
            say(f"{workdir}: already trained; to train anew, give another --workdir")
            return result
        if placement.devices > 1:
            say(placement.place.share(recipe.batch_size))

        def start(step: int) -> None:
            if step:
                say(f"{workdir}: going on from step {step:,}")
            if folder:
                folder.log.start(step)

        training = prepare(
            recipe, seed, dataset, task=task, placement=placement, on_progress=on_progress, say=say
        )
        from_first(lambda: None)  # all have compiled: from here on they move together
        with Watch(peer_seconds, tell):
            own = folder.saves if folder else None
            saves = shared_saves(own, workdir / "checkpoints", say)
            ended = fit(
                training,
                saves=saves,
                on_start=start,
                on_progress=on_progress,
                on_epoch=folder.record if folder else lambda record: None,
                stop=stop,
            )
        result = {**ended.flat(), "bits": bits(placement.place)}
        if folder and ended.status != "interrupted":
            write_sealed(workdir / "result.json", {**result, "run": folder.identity})
        return result


def _checked(
    recipe: Recipe, seed: int, dataset: AnyDataset, placement: Placement
) -> tuple[Any, dict[str, str]]:
    """The task, and the digests of the files behind the run; refused before anything is written."""
    total_steps(recipe, len(dataset.train))
    task = make_task(recipe, dataset)
    check_batch(placement.place, recipe)
    task.check(recipe.batch_size)
    stream_keys(seed, recipe.streams)
    check_weights(task, recipe)
    return task, sources_of(recipe, task) | weights_digest(recipe)


class _Folder:
    """What is written while a run is trained, by the first process."""

    def __init__(self, workdir: Path, identity: str, save_seconds: float, say: Say):
        self.identity = identity
        self.saves = OrbaxSaves(workdir / "checkpoints", identity, say, seconds=save_seconds)
        self.log = MetricsLog(workdir / "metrics.jsonl")
        self._events = Events(workdir / "events")

    def record(self, record: dict) -> None:
        self.log.append(record)
        self._events.write(record)

    def __enter__(self) -> "_Folder":
        return self

    def __exit__(self, *error: object) -> None:
        self._events.close()


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


def evaluate_run(
    workdir: Path,
    data_dir: str | None,
    split: str,
    say: Say,
    *,
    keep: Callable[[Accumulator], None] = lambda accumulator: None,
) -> dict:
    """The task's metrics, in detail, of a run's newest intact state on "test" or "train".

    Args:
      data_dir: where its data lie; default where they lay while it trained.
      keep: is given what took the outputs of every example, if the task has such a thing.

    Raises:
      Refused: the folder holds no run, no state that is intact, or its network or its data are
        not those that were trained.
    """
    start_backend()
    described = read_run(workdir)
    recipe, task, state = restore_run(workdir, say)
    dataset = dataset_of(workdir, described, recipe, data_dir, say)
    with contextlib.suppress(FileNotFoundError, ValueError):
        if (last := read_sealed(workdir / "result.json")["steps"]) != int(state.step):
            say(
                f"{workdir}: these are the figures of step {int(state.step)}, its state at step"
                f" {last} is lost; the run's cnnjax train command makes it again"
            )
    accumulator = task.accumulator(detailed=True)
    figures = evaluate(task, recipe.data, state, dataset, split, accumulator=accumulator)
    if accumulator is not None:
        keep(accumulator)
    return {
        "task": recipe.task.name,
        "model": recipe.model.name,
        "data": dataset.name,
        "split": split,
        "step": int(state.step),
        **figures,
    }


def _claim(
    workdir: Path,
    recipe: Recipe,
    seed: int,
    dataset: AnyDataset,
    sources: dict[str, str],
    data_dir: str | None,
    placement: Placement,
    say: Say,
) -> str:
    """Write run.json, or check that the one there is of the same run; the run's identity.

    A damaged one is written anew: the checkpoints know whose they are.
    """
    identity: dict[str, Any] = {
        "format": FORMAT,
        "recipe": compact(recipe),
        "seed": seed,
        "data": {**plain(data_spec(dataset)), "fingerprint": dataset.fingerprint},
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
        about = {"versions": versions(), "machine": machine(), "bits": bits(placement.place)}
        write_sealed(workdir / "run.json", {**identity, **places, **about})
        return digest(identity)
    check_format(described, f"{workdir}")
    if {key: described.get(key) for key in identity} != identity:
        both: list[dict[str, Any]] = [{key: described.get(key) for key in identity}, identity]
        old, new = (
            {**about, "recipe": spelled_out(about["recipe"], f"{workdir}/run.json")}
            for about in both
        )
        changed = differences(old, new)
        raise Refused(f"{workdir} holds another run ({'; '.join(changed)}); give another --workdir")
    if changed := differences({"placement": "jit", **described["bits"]}, bits(placement.place)):
        say(f"not bit-identical with the run's beginning: {'; '.join(changed)}")
    if any(described.get(key) != place for key, place in places.items()):  # they have moved
        write_sealed(workdir / "run.json", {**described, **places})
    return digest(identity)
