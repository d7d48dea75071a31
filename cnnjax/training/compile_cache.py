"""jax's persistent compilation cache, each entry checked.

A damaged entry can give wrong results without a word, and jax writes entries in place. So jax is
given a cache of our own: an entry is written beside and renamed, with its SHA-256 before it, and
one whose digest does not hold is removed and compiled again. Processes share it as they go.
"""

import contextlib
import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from cnnjax.core.environment import bits
from cnnjax.core.errors import Refused
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
        folder = user_cache("compiled", name) if enabled else None
    except Refused:
        folder = None
    if folder is None:
        yield
        return
    import jax

    from cnnjax.core.jax_internals import use_compilation_cache

    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    # XLA's own caches would put this folder's path into the key of every entry.
    jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
    jax.config.update("jax_raise_persistent_cache_errors", False)
    use_compilation_cache(folder, CompileCache(folder))
    try:
        yield
    finally:
        use_compilation_cache(None)


class CompileCache:
    """The compiled programs in a folder, as jax asks for them: `get` and `put` by key.

    Whatever the disk does costs the cache and not the run.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        _sweep(folder)

    def get(self, key: str) -> bytes | None:
        """An entry that is intact; a damaged one is removed."""
        path = self._entry(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        digest, program = content[:_DIGEST], content[_DIGEST:]
        intact = hashlib.sha256(program).digest() == digest
        with contextlib.suppress(OSError):  # another process may have removed it
            if intact:
                os.utime(path)
            else:
                path.unlink()
        return program if intact else None

    def put(self, key: str, program: bytes) -> None:
        path = self._entry(key)
        beside = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        with contextlib.suppress(OSError):  # a crash may tear it: then its digest does not hold
            beside.write_bytes(hashlib.sha256(program).digest() + program)
            beside.replace(path)

    def _entry(self, key: str) -> Path:
        return self._folder / f"{key}{_SUFFIX}"


def _sweep(folder: Path) -> None:
    """Remove the oldest files over the limit."""
    files, total = [], 0
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder):
            with contextlib.suppress(OSError):  # another process may have removed it
                if entry.is_file():
                    status = entry.stat()
                    files.append((status.st_mtime, status.st_size, entry.path))
    for _, size, path in sorted(files, reverse=True):
        total += size
        if total > _LIMIT:
            with contextlib.suppress(OSError):
                os.unlink(path)
