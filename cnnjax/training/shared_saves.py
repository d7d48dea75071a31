"""Saves of several processes that train together.

Where all see the folder, each writes what lies on its devices; else the first gathers and writes.
Either way the first restores and tells the others, and one process reads the files as its own.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from cnnjax.core.arrays import pack, unpack
from cnnjax.core.distributed import (
    broadcast,
    everyone,
    from_all,
    from_first,
    is_first,
    process_count,
    waiting,
)
from cnnjax.core.errors import Failed, Say
from cnnjax.tasks.state import leaf_names
from cnnjax.training.checkpoint import (
    MARK,
    OrbaxSaves,
    column_digests,
    content_digest,
    digest_of_columns,
    entries,
    file_digests,
    files_below,
    manager,
    named_arrays,
    refill,
    seal,
    tidy,
    write,
    written,
)

T = TypeVar("T")


def shared_saves(saves: OrbaxSaves | None, folder: Path, say: Say) -> "OrbaxSaves | GatheredSaves":
    """The saves that all processes call together.

    Args:
      saves: in `folder`, of the first process; None in the others.
    """
    if process_count() == 1:
        assert saves
        return saves
    if is_shared(folder):
        return ShardedSaves(saves, folder)
    say(f"not every process sees and writes {folder}: process 0 gathers and saves all")
    return GatheredSaves(saves)


class GatheredSaves:
    """Saves that the first process writes for all, and reads for all.

    Args:
      saves: its own; None in the others.
    """

    keeps_last = True
    in_parts = False

    def __init__(self, saves: OrbaxSaves | None):
        self._saves = saves

    def due(self) -> bool:
        return self._saves is not None and self._saves.due()

    def save(self, step: int, tree: Any, *, force: bool = False) -> None:
        def save() -> None:
            assert self._saves
            self._saves.save(step, tree, force=force)

        from_first(save)

    def restore(self, template: Any) -> Any | None:
        found: list[Any] = []

        def restore() -> bool:
            assert self._saves
            found.append(self._saves.restore(template))
            return found[0] is not None

        if not from_first(restore):
            return None
        arrays = named_arrays(found[0] if found else template)
        mine = np.frombuffer(pack(arrays), np.uint8)
        return refill(template, unpack(broadcast(mine).tobytes()))


class ShardedSaves(GatheredSaves):
    """Saves of all processes in a folder that all see: nothing is gathered to be saved.

    Args:
      saves: the first process's own; None in the others.
      folder: of the saves.
    """

    in_parts = True

    def __init__(self, saves: OrbaxSaves | None, folder: Path):
        super().__init__(saves)
        self._folder = folder
        self._manager: Any = None

    def save(self, step: int, tree: Any, *, force: bool = False) -> None:
        """Save a tree of arrays as they lie on the devices; all processes must come.

        Args:
          force: or not, it is saved: all have agreed that it is time.

        Raises:
          Failed: this process cannot write its part, or an array is divided otherwise than along
            its last axis; the others lose a peer.
        """
        path = self._folder / str(step)
        if from_first(path.exists):  # restored from it and nothing was done since
            return
        if self._manager is None:  # after the first has restored, and set aside what is damaged
            self._manager = manager(self._folder, range(process_count()))
        arrays = {name: _global(leaf) for name, leaf in _named(tree)}
        whose = from_first(lambda: self._saves.identity if self._saves else "")
        about = {"run": whose, "leaves": _described(arrays)}
        with written(path), waiting():
            write(self._manager, step, arrays, about)
        names = from_first(lambda: [str(file) for file in files_below(path)])
        with written(path):
            digests = file_digests(path, map(Path, names[jax.process_index() :: process_count()]))
        files = dict(sorted(_merged(from_all(digests)).items()))

        def finish() -> None:
            assert self._saves
            with written(path):
                seal(self._folder, step, about, files)
            tidy(self._folder)
            self._saves.was_saved()

        from_first(finish)


def is_shared(folder: Path) -> bool:
    """Whether all processes see and write one `folder` under that name."""
    token = from_first(lambda: secrets.token_hex(8))

    def mark(process: int) -> Path:
        return folder / f"{MARK}{token}-{process}"

    everyone([_does(mark(jax.process_index()).touch)])
    others = range(process_count()) if is_first() else [0]
    seen = all(from_all(all(_does(mark(other).stat) for other in others)))
    _does(mark(jax.process_index()).unlink)
    return seen


def _does(call: Callable[[], Any]) -> bool:
    """Whether the file system does it: what it raises in one process must not keep the others."""
    try:
        call()
    except OSError:
        return False
    return True


def _named(tree: Any) -> Iterator[tuple[str, Any]]:
    return zip(leaf_names(tree), jax.tree.leaves(tree), strict=True)


def _global(leaf: Any) -> Any:
    """An array of all processes as it lies, a process's own one on its host: the first's counts."""
    return np.asarray(leaf) if leaf.is_fully_addressable else leaf


def _described(arrays: Mapping[str, Any]) -> dict[str, list]:
    """As `checkpoint.describe`; each process looks at its own share of the arrays."""
    mine: dict[str, dict[str, Any]] = {"whole": {}, "parts": {}}
    for turn, (name, array) in enumerate(arrays.items()):
        if isinstance(array, np.ndarray):
            if is_first():
                mine["whole"][name] = content_digest(array)
        elif array.is_fully_replicated:
            if turn % process_count() == jax.process_index():
                mine["whole"][name] = content_digest(np.asarray(array.addressable_data(0)))
        else:
            _check_division(name, array)
            replica = turn % _replicas(array)
            parts = (shard for shard in array.addressable_shards if shard.replica_id == replica)
            mine["parts"][name] = [
                [shard.index[-1].start or 0, column_digests(np.asarray(shard.data))]
                for shard in parts
            ]
    said = from_all(mine)
    digests = _merged(one["whole"] for one in said)
    for name in arrays:
        if name not in digests:
            parts = sorted(part for one in said for part in one["parts"][name])
            digests[name] = digest_of_columns(column for _, part in parts for column in part)
    return entries(arrays, digests)


def _replicas(array: jax.Array) -> int:
    """How many devices hold each part."""
    indices = array.sharding.devices_indices_map(array.shape).values()
    return len(indices) // len(set(map(str, indices)))


def _check_division(name: str, array: jax.Array) -> None:
    for shard in array.addressable_shards:
        if shard.data.shape[:-1] != array.shape[:-1]:
            raise Failed(f"{name} is divided along another axis than its last; nothing was saved")


def _merged(dicts: Iterable[dict[str, T]]) -> dict[str, T]:
    return {key: value for one in dicts for key, value in one.items()}
