"""jax's persistent compilation cache, each entry checked.

A damaged entry can give wrong results without a word, and jax writes entries in place. So jax is
given a cache of our own: an entry is written beside and renamed, with its SHA-256 before it, and
one whose digest does not hold is removed and compiled again. Processes share it as they go.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from cnnjax.core.environment import bits
from cnnjax.core.errors import Refused
from cnnjax.core.files import atomic_write
from cnnjax.core.folders import user_cache

_LIMIT = 2**28  # bytes of all entries; those that were used longest ago go first
_SUFFIX = ".program"
_DIGEST = hashlib.sha256().digest_size


@contextlib.contextmanager
def compile_cache(enabled: bool = True) -> Iterator[None]:
    """What is compiled within is kept, and what was kept is not compiled.

    Without effect where it is not wanted, or its folder cannot be written.
    """
    name = hashlib.sha256(repr(sorted(bits().items())).encode()).hexdigest()[:16]
    try:
        cache = CompileCache(user_cache("compiled", name)) if enabled else None
    except Refused:
        cache = None
    if cache is None:
        yield
        return
    import jax

    from cnnjax.core.jax_internals import use_compilation_cache

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # XLA's own caches would put this folder's path into the key of every entry.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    jax.config.update("jax_raise_persistent_cache_errors", False)
    use_compilation_cache(cache)
    try:
        yield
    finally:
        use_compilation_cache(None)


class CompileCache:
    """The compiled programs in a folder, as jax asks for them: `get` and `put` by key.

    Whatever the disk does costs the cache and not the run.
    """

    def __init__(self, folder: Path):
        self._path = folder  # jax names it in its log
        _sweep(folder)

    def get(self, key: str) -> bytes | None:
        """An entry that is intact; a damaged one is removed."""
        path = self._entry(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        digest, program = content[:_DIGEST], content[_DIGEST:]
        with contextlib.suppress(OSError):
            if hashlib.sha256(program).digest() != digest:
                path.unlink()
                return None
            os.utime(path)
        return program

    def put(self, key: str, program: bytes) -> None:
        with contextlib.suppress(OSError):
            atomic_write(self._entry(key), hashlib.sha256(program).digest() + program)

    def _entry(self, key: str) -> Path:
        return self._path / f"{key}{_SUFFIX}"


def _sweep(folder: Path) -> None:
    """Remove the oldest files over the limit."""
    with contextlib.suppress(OSError):
        files = [(path, path.stat()) for path in folder.iterdir() if path.is_file()]
        total = 0
        for path, status in sorted(files, key=lambda one: one[1].st_mtime, reverse=True):
            total += status.st_size
            if total > _LIMIT:
                path.unlink(missing_ok=True)
