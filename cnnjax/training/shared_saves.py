"""Saves of several processes that train together.

Where all see the folder, each writes what lies on its devices; else the first gathers and writes.
Either way the first restores and tells the others, and one process reads the files as its own.
"""

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np

from cnnjax.core.arrays import pack, unpack
from cnnjax.core.distributed import (
    broadcast,
    from_all,
    from_first,
    is_first,
    process_count,
    waiting,
)
from cnnjax.tasks.state import leaf_names
from cnnjax.training.checkpoint import (
    OrbaxSaves,
    column_digests,
    content_digest,
    digest_of_columns,
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


def shared_saves(saves: OrbaxSaves | None, folder: Path) -> "OrbaxSaves | FirstSaves":
    """The saves that all processes call together.

    Args:
      saves: in `folder`, of the first process; None in the others.
    """
    if process_count() == 1:
        assert saves
        return saves
    return AllSave(saves, folder) if seen_by_all(folder) else FirstSaves(saves)


class FirstSaves:
    """Saves of the first process, for all that train together: only it sees the folder.

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


class AllSave(FirstSaves):
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

        Raises:
          Failed: this process cannot write its part; the others lose a peer.
        """
        path = self._folder / str(step)
        if from_first(path.exists):  # restored from it and nothing was done since
            return
        if self._manager is None:  # after the first has restored, and set aside what is damaged
            self._manager, _ = manager(self._folder, range(process_count()))
        arrays = {name: _global(leaf) for name, leaf in _named(tree)}
        whose = from_first(lambda: self._saves.identity if self._saves else "")
        about = {"run": whose, "leaves": _described(arrays)}
        with written(path), waiting():
            write(self._manager, step, arrays, about)
        names = from_first(lambda: [str(file) for file in files_below(path)])
        digests = file_digests(path, map(Path, names[jax.process_index() :: process_count()]))
        files = dict(sorted(_merged(from_all(digests)).items()))

        def finish() -> None:
            assert self._saves
            with written(path):
                seal(self._folder, step, about, files)
            tidy(self._folder)
            self._saves.was_saved()

        from_first(finish)


def seen_by_all(folder: Path) -> bool:
    """Whether the first process's `folder` is the one that every other has under that name."""
    name = from_first(lambda: _marked(folder))
    try:
        return all(from_all((folder / name).exists()))
    finally:
        from_first(lambda: (folder / name).unlink(missing_ok=True))


def _marked(folder: Path) -> str:
    """The name of a new file in `folder`, which no other has."""
    descriptor, path = tempfile.mkstemp(prefix=".seen-", dir=folder)
    os.close(descriptor)
    return Path(path).name


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
            parts = (shard for shard in array.addressable_shards if shard.replica_id == 0)
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
    return {
        name: [array.dtype.name, list(array.shape), digests[name]] for name, array in arrays.items()
    }


def _merged(dicts: Iterable[dict[str, T]]) -> dict[str, T]:
    return {key: value for one in dicts for key, value in one.items()}
