"""Saved states: orbax for runs, one light file for the cells of a study.

Both keep a SHA-256 for every leaf, compare names, shapes and dtypes before anything is restored
(orbax casts silently and does not notice flipped bits), and walk back to the newest intact save.
"""

import hashlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.core.arrays import pack, unpack
from cnnjax.core.environment import quiet_absl
from cnnjax.core.errors import Refused, one_line
from cnnjax.core.files import atomic_write
from cnnjax.tasks.state import leaf_names

Say = Callable[[str], None]


class OrbaxSaves:
    """Numbered saves in a folder by orbax's CheckpointManager; the newest three are kept.

    Args:
      folder: of the saves, made if absent.
      identity: of the run (recipe, seed, data): another run's saves are refused.
      say: is told in one line of each save that is damaged.
      seconds: least time between two saves; a forced save always happens.
      read_only: touch nothing: another process may be writing.
    """

    keeps_last = True

    def __init__(
        self,
        folder: Path,
        identity: str,
        say: Say,
        *,
        seconds: float = 60.0,
        read_only: bool = False,
    ):
        import orbax.checkpoint as ocp

        quiet_absl()
        self.folder, self.identity, self.say = folder, identity, say
        self.seconds, self.read_only = seconds, read_only
        self._ocp = ocp
        self._last = time.monotonic()
        # A deletion of orbax is not atomic; renamed away first, a half-deleted step is no step.
        writing = {"max_to_keep": 3, "todelete_subdir": "deleted", "cleanup_tmp_directories": True}
        self._manager = ocp.CheckpointManager(
            folder.absolute(),
            options=ocp.CheckpointManagerOptions(
                read_only=read_only,
                create=not read_only,
                enable_async_checkpointing=False,
                **({} if read_only else writing),
            ),
        )

    def due(self) -> bool:
        return time.monotonic() - self._last >= self.seconds

    def save(self, step: int, tree: Any, *, force: bool = False) -> None:
        if not force and not self.due():
            return
        if step in self._manager.all_steps():  # restored from it and nothing was done since
            return
        arrays = named_arrays(tree)
        args = self._ocp.args
        about = {"run": self.identity, "leaves": describe(arrays)}
        self._manager.save(
            step,
            args=args.Composite(state=args.StandardSave(arrays), about=args.JsonSave(about)),
            force=True,
        )
        self._manager.wait_until_finished()
        shutil.rmtree(self.folder / "deleted", ignore_errors=True)
        self._last = time.monotonic()

    def restore(self, template: Any) -> Any | None:
        """The newest intact save in the form of `template`, or None if there is none.

        Raises:
          Refused: the saves are another run's.
        """
        wanted = named_arrays(template)
        for step in sorted(self._manager.all_steps(), reverse=True):
            try:
                return refill(template, self._read(step, wanted))
            except Refused:
                raise
            except Exception as error:  # orbax raises many kinds on damage
                self.say(f"{self.folder / str(step)}: {one_line(error)}; the save before is used")
                if not self.read_only:
                    self._set_aside(step)
        return None

    def _set_aside(self, step: int) -> None:
        """Rename a damaged save out of the way, so that its step can be saved again."""
        aside = self.folder / f"damaged-{step}-{time.time_ns()}"
        (self.folder / str(step)).rename(aside)
        self._manager.reload()

    def _read(self, step: int, wanted: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        args = self._ocp.args
        read = self._manager.restore(step, args=args.Composite(about=args.JsonRestore()))
        about = read["about"]
        if about["run"] != self.identity:
            raise Refused(f"{self.folder} holds the checkpoints of another run; move them away")
        try:
            check_form(about["leaves"], wanted)
        except ValueError as error:
            raise Refused(f"{self.folder / str(step)}: {error}") from None
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
      say: is told in one line if it is damaged.
      seconds: least time between two saves; a run shorter than that leaves none.
    """

    keeps_last = False

    def __init__(self, path: Path, say: Say, seconds: float = 30.0):
        self.path, self.say, self.seconds = path, say, seconds
        self._last = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._last >= self.seconds

    def save(self, step: int, tree: Any, *, force: bool = False) -> None:
        if not force and not self.due():
            return
        atomic_write(self.path, pack(named_arrays(tree)))
        self._last = time.monotonic()

    def restore(self, template: Any) -> Any | None:
        """The saved tree in the form of `template`, or None if there is none or it is damaged."""
        try:
            arrays = unpack(self.path.read_bytes())
            check_form(describe(arrays), named_arrays(template))
            return refill(template, arrays)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self.say(f"{self.path}: {error}; the run starts again")
            return None


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
    return {
        name: [
            array.dtype.name,
            list(array.shape),
            hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest(),
        ]
        for name, array in arrays.items()
    }


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
    for name, (_, _, digest) in describe(arrays).items():
        if digest != expected[name][2]:
            raise ValueError(f"{name} is damaged")
