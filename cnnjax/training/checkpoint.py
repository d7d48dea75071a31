"""Saved states: orbax for runs, one light file for the cells of a study.

Both know whose they are and keep a SHA-256 for every leaf; names, shapes and dtypes are compared
before anything is restored (orbax casts silently and does not notice flipped bits). What is damaged
is walked back from; what is whole and cannot be read now is left alone and said.
"""

import contextlib
import hashlib
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.core.arrays import pack, unpack
from cnnjax.core.distributed import is_peer_fault, process_count
from cnnjax.core.environment import quiet_absl
from cnnjax.core.errors import Failed, Refused, Say, one_line
from cnnjax.core.files import atomic_write, read_sealed, write_sealed
from cnnjax.tasks.state import leaf_names


class OrbaxSaves:
    """Numbered saves in a folder by orbax's CheckpointManager; the newest three are kept.

    Beside save N lies N.json, sealed: whose it is, its leaves, and the SHA-256 of each of its
    files. Damage is what differs from that, whatever orbax makes of it.

    Args:
      folder: of the saves, made if absent.
      identity: of the run (recipe, seed, data): another run's saves are refused.
      say: is told in one line of each save that is damaged.
      seconds: least time between two saves; a forced save always happens.
      read_only: touch nothing: another process may be writing.
    """

    keeps_last = True
    in_parts = False

    def __init__(
        self,
        folder: Path,
        identity: str,
        say: Say,
        *,
        seconds: float = 60.0,
        read_only: bool = False,
    ):
        self.folder, self.identity, self.say = folder, identity, say
        self.seconds, self.read_only = seconds, read_only
        self._last = time.monotonic()
        if not read_only:
            folder.mkdir(parents=True, exist_ok=True)
        # Of several processes the one that has this alone takes part; see `shared_saves`.
        self._manager = manager(folder, [0], read_only=read_only)

    def due(self) -> bool:
        return time.monotonic() - self._last >= self.seconds

    def save(self, step: int, tree: Any, *, force: bool = False) -> None:
        """Save `tree` at `step`.

        Raises:
          Failed: it cannot be written, e.g. the disk is full; the saves before stay.
        """
        if not force and not self.due():
            return
        if step in self._manager.all_steps():  # restored from it and nothing was done since
            return
        arrays = named_arrays(tree)
        about = {"run": self.identity, "leaves": describe(arrays)}
        with written(self.folder / str(step)):
            write(self._manager, step, arrays, about)
            self._write_seal(step, about)
        tidy(self.folder)
        self.was_saved()

    def was_saved(self) -> None:
        """From now on the time to the next save is counted."""
        self._last = time.monotonic()

    def restore(self, template: Any) -> Any | None:
        """The newest intact save in the form of `template`, or None if there is none.

        Raises:
          Refused: the saves are another run's, or of another form.
          Failed: a save is whole and cannot be read.
        """
        wanted = named_arrays(template)
        for step in self._steps():
            unsealed = not self._seal(step).exists() and self._read_unsealed(step, wanted)
            if unsealed:
                return refill(template, unsealed)
            if damage := self._damage(step):
                self.say(f"{self.folder / str(step)}: {damage}; an older save is looked for")
                if not self.read_only:
                    self._set_aside(step)
                continue
            return refill(template, self._read(step, wanted))
        return None

    def newest_intact(self) -> int | None:
        """The step of the newest save without damage."""
        return next((step for step in self._steps() if not self._damage(step)), None)

    def _steps(self) -> list[int]:
        return sorted(self._manager.all_steps(), reverse=True)

    def _seal(self, step: int) -> Path:
        return self.folder / f"{step}.json"

    def _write_seal(self, step: int, about: dict[str, Any]) -> None:
        seal(self.folder, step, about, file_digests(self.folder / str(step)))

    def _read_unsealed(
        self, step: int, wanted: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray] | None:
        """A save whose process was killed before it was sealed; None if it is not whole."""
        from orbax.checkpoint import args

        try:
            read = self._manager.restore(step, args=args.Composite(about=args.JsonRestore()))
            about = read["about"]
            arrays = self._checked(step, about, wanted)
        except Refused:
            raise
        except Exception:  # without a seal whatever is wrong with it is damage
            return None
        if not self.read_only:
            self._write_seal(step, about)
        return arrays

    def _damage(self, step: int) -> str | None:
        """In what the files of a save are not those that were written."""
        try:
            expected = read_sealed(self._seal(step))["files"]
            found = file_digests(self.folder / str(step))
        except FileNotFoundError:
            return f"{step}.json is missing"
        except ValueError as error:
            return f"{step}.json: {error}"
        except OSError as error:
            raise Failed(f"{self.folder} cannot be read: {one_line(error)}") from error
        bad = [name for name, sha256 in expected.items() if found.get(name) != sha256]
        return f"{bad[0]} is damaged or missing" if bad else None

    def _set_aside(self, step: int) -> None:
        """Rename a damaged save out of the way, so that its step can be saved again."""
        aside = self.folder / f"damaged-{step}-{time.time_ns()}"
        (self.folder / str(step)).rename(aside)
        self._seal(step).unlink(missing_ok=True)
        self._manager.reload()

    def _read(self, step: int, wanted: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        try:
            return self._checked(step, read_sealed(self._seal(step)), wanted)
        except Refused:
            raise
        except Exception as error:  # e.g. another version of orbax
            raise Failed(
                f"{self.folder / str(step)} is whole, but orbax cannot read it"
                f" ({one_line(error)}); nothing was changed; the versions that wrote it are in"
                " run.json"
            ) from error

    def _checked(
        self, step: int, about: dict[str, Any], wanted: dict[str, np.ndarray]
    ) -> dict[str, np.ndarray]:
        """The arrays of a save, which are this run's, of the wanted form, and as described."""
        if about["run"] != self.identity:
            raise Refused(f"{self.folder} holds the checkpoints of another run; move them away")
        try:
            check_form(about["leaves"], wanted)
        except ValueError as error:
            raise Refused(f"{self.folder / str(step)}: {error}") from None
        from orbax.checkpoint import args

        restored = self._manager.restore(
            step, args=args.Composite(state=args.StandardRestore(wanted))
        )
        arrays = {name: np.asarray(value) for name, value in restored["state"].items()}
        check_digests(about["leaves"], arrays)
        return arrays


class LightSaves:
    """One file, replaced at each save: for runs where orbax's 150 ms and 15 files cost too much.

    Args:
      path: of the file.
      identity: of the run, a SHA-256: another run's file is not gone on from.
      say: is told in one line if it is damaged or another run's.
      seconds: least time between two saves; a run shorter than that leaves none.
    """

    keeps_last = False
    in_parts = False

    def __init__(self, path: Path, identity: str, say: Say, seconds: float = 30.0):
        self.path, self.say, self.seconds = path, say, seconds
        self._run = np.frombuffer(identity.encode(), np.uint8)
        self._last = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._last >= self.seconds

    def save(self, step: int, tree: Any, *, force: bool = False) -> None:
        if not force and not self.due():
            return
        atomic_write(self.path, pack({_RUN: self._run, **named_arrays(tree)}))
        self._last = time.monotonic()

    def restore(self, template: Any) -> Any | None:
        """The saved tree in the form of `template`; None: there is none, damaged or another's."""
        try:
            arrays = unpack(self.path.read_bytes())
            if arrays.pop(_RUN, self._run[:0]).tobytes() != self._run.tobytes():
                raise ValueError("it is of another run")
            check_form(describe(arrays), named_arrays(template))
            return refill(template, arrays)
        except FileNotFoundError:
            return None
        except ValueError as error:
            self.say(f"{self.path}: {error}; the run starts again")
            return None


def manager(folder: Path, processes: Sequence[int], *, read_only: bool = False) -> Any:
    """orbax's CheckpointManager of a folder.

    Args:
      processes: those that make and use it, all of them at the same times; alone there is but 0.
    """
    import orbax.checkpoint as ocp

    quiet_absl()
    apart = {}
    if process_count() > 1:
        mine = ocp.options.MultiprocessingOptions(
            primary_host=processes[0],
            active_processes=set(processes),
            barrier_sync_key_prefix=f"saves_of_{len(processes)}",
        )
        apart = {"multiprocessing_options": mine}
    # A deletion of orbax is not atomic; renamed away first, a half-deleted step is no step.
    writing = {"max_to_keep": 3, "todelete_subdir": _DELETED, "cleanup_tmp_directories": True}
    options = ocp.CheckpointManagerOptions(
        read_only=read_only,
        create=not read_only and not apart,  # orbax makes it with all of them or not
        **apart,
        enable_async_checkpointing=False,
        **({} if read_only else writing),
    )
    return ocp.CheckpointManager(folder.absolute(), options=options)


def write(manager: Any, step: int, arrays: Mapping[str, Any], about: dict[str, Any]) -> None:
    """Save arrays, and of what they are, at `step`."""
    from orbax.checkpoint import args

    saved = args.Composite(state=args.StandardSave(arrays), about=args.JsonSave(about))
    manager.save(step, args=saved, force=True)
    manager.wait_until_finished()


@contextlib.contextmanager
def written(path: Path) -> Iterator[None]:
    """Around the writing of a save: what fails is `Failed`, but for a peer that is gone."""
    try:
        yield
    except Exception as error:  # orbax wraps what the disk says in kinds of its own
        if isinstance(error, jax.errors.JaxRuntimeError) and is_peer_fault(error):
            raise
        raise Failed(f"{path} cannot be written: {one_line(error)}") from error


def seal(folder: Path, step: int, about: dict[str, Any], files: dict[str, str]) -> None:
    """Say of what save `step` is, and the SHA-256 of each of its files: from here on it is one."""
    write_sealed(folder / f"{step}.json", {**about, "files": files})


def tidy(folder: Path) -> None:
    """Remove what the saves that are not kept have left."""
    shutil.rmtree(folder / _DELETED, ignore_errors=True)
    for path in folder.glob("*.json"):
        if not (folder / path.stem).is_dir():
            path.unlink(missing_ok=True)
    for path in folder.glob(f"{MARK}*"):  # of processes that were killed
        path.unlink(missing_ok=True)


def owners(folder: Path) -> set[str]:
    """The identities of the runs whose sealed saves lie in `folder`."""
    found = set()
    for path in folder.glob("*.json"):
        with contextlib.suppress(ValueError, KeyError):
            found.add(read_sealed(path)["run"])
    return found


MARK = ".seen-"  # of the files by which processes see that they share the folder
_COLUMNS = "columns:"  # before the digest of an array that was saved in parts
_DELETED = "deleted"  # orbax's saves on their way out
_RUN = "run"  # the name of the identity among the arrays


def file_digests(folder: Path, names: Iterable[Path] | None = None) -> dict[str, str]:
    """SHA-256 of each file below `folder`, or of those named, by its path relative to it."""
    found = {}
    for name in files_below(folder) if names is None else names:
        with (folder / name).open("rb") as file:
            found[str(name)] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def files_below(folder: Path) -> list[Path]:
    """Paths relative to `folder`."""
    return [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]


def named_arrays(tree: Any) -> dict[str, np.ndarray]:
    """Each leaf as a numpy array under its path."""
    leaves = jax.tree.leaves(tree)
    return dict(zip(leaf_names(tree), (np.asarray(leaf) for leaf in leaves), strict=True))


def refill(template: Any, arrays: dict[str, np.ndarray]) -> Any:
    """`template` with each leaf taken from `arrays`."""
    leaves = [jnp.asarray(arrays[name]) for name in leaf_names(template)]
    return jax.tree.unflatten(jax.tree.structure(template), leaves)


def describe(arrays: dict[str, np.ndarray]) -> dict[str, list]:
    """Dtype, shape and SHA-256 of each array."""
    return entries(arrays, {name: content_digest(array) for name, array in arrays.items()})


def entries(arrays: Mapping[str, Any], digests: Mapping[str, str]) -> dict[str, list]:
    """Dtype, shape and digest of each array, whole or divided."""
    return {
        name: [array.dtype.name, list(array.shape), digests[name]] for name, array in arrays.items()
    }


def content_digest(array: np.ndarray) -> str:
    """SHA-256 of its numbers in C order."""
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()


def column_digests(array: np.ndarray) -> list[str]:
    """SHA-256 of what each index of the last axis has: of an array that is divided along it, the
    digests of the whole are those of its parts, one after the other."""
    columns = np.ascontiguousarray(np.moveaxis(array, -1, 0))
    return [hashlib.sha256(column.tobytes()).hexdigest() for column in columns]


def digest_of_columns(digests: Iterable[str]) -> str:
    """What stands for an array that was saved in parts, whatever the parts were."""
    return _COLUMNS + hashlib.sha256("".join(digests).encode()).hexdigest()


def check_form(found: dict[str, list], wanted: dict[str, np.ndarray]) -> None:
    """Raises ValueError unless names, dtypes and shapes are the same."""
    if missing := sorted(wanted.keys() ^ found.keys()):
        raise ValueError(f"saved from another network: {missing[0]} is only on one side")
    for name, array in wanted.items():
        dtype, shape, _ = found[name]
        if (dtype, list(shape)) != (array.dtype.name, list(array.shape)):
            raise ValueError(
                f"saved from another network: {name} is {dtype}{list(shape)}, not"
                f" {array.dtype.name}{list(array.shape)}"
            )


def check_digests(expected: dict[str, list], arrays: dict[str, np.ndarray]) -> None:
    """Raises ValueError if the content of an array is not what was saved."""
    for name, array in arrays.items():
        of_columns = expected[name][2].startswith(_COLUMNS)
        found = digest_of_columns(column_digests(array)) if of_columns else content_digest(array)
        if found != expected[name][2]:
            raise ValueError(f"{name} is damaged")
