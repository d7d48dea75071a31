"""jax's persistent compilation cache, each entry checked.

A damaged entry can give wrong results without a word, and jax writes entries in place. So each
process compiles into a private folder; a finished entry is published by rename into a common
folder with its SHA-256 beside it, and only entries whose digest holds are taken from there. A
process that is killed leaves its private folder, which the next one removes.
"""

import contextlib
import hashlib
import os
import shutil
import socket
import tempfile
from pathlib import Path

from cnnjax.core.environment import bits
from cnnjax.core.errors import Refused
from cnnjax.core.files import atomic_write
from cnnjax.core.folders import user_cache

_LIMIT = 2**28  # bytes in the common folder; the oldest entries go first
_SUFFIX = "-cache"  # of jax's entries


def open_cache(enabled: bool = True) -> "CompileCache | None":
    """A started cache, or None if it is not wanted or there is no room for one."""
    if not enabled:
        return None
    try:
        cache = CompileCache()
    except (OSError, Refused):
        return None
    cache.start()
    return cache


class CompileCache:
    """Use: before jax starts `cache = CompileCache()`, after each compilation `cache.publish()`.

    `take()` fetches what other processes have published since.
    """

    def __init__(self, common: Path | None = None):
        name = hashlib.sha256(repr(sorted(bits().items())).encode()).hexdigest()[:16]
        self.common = common or user_cache("compiled", name)
        _sweep(self.common)
        prefix = f"private-{socket.gethostname()}-{os.getpid()}-"
        self.private = Path(tempfile.mkdtemp(prefix=prefix, dir=self.common))
        self._published: set[str] = set()
        self._started = False
        self.take()

    def start(self) -> None:
        """Point jax at the private folder."""
        import jax

        self._started = True
        _point_jax_to(self.private)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
        # XLA's own caches would put this folder's path into the key of every entry.
        jax.config.update("jax_persistent_cache_enable_xla_caches", "none")
        jax.config.update("jax_raise_persistent_cache_errors", False)

    def take(self) -> None:
        """Copy intact published entries into the private folder; drop damaged ones.

        What was checked is what jax reads. A full disk costs the cache, not the run.
        """
        for seal in self.common.glob(f"*{_SUFFIX}.sha256"):
            entry = seal.with_suffix("")
            if entry.name in self._published:
                continue
            try:
                data = entry.read_bytes()
                expected = seal.read_text()
            except OSError:
                data, expected = b"", ""
            if hashlib.sha256(data).hexdigest() != expected:
                entry.unlink(missing_ok=True)
                seal.unlink(missing_ok=True)
                continue
            with contextlib.suppress(OSError):
                atomic_write(self.private / entry.name, data)
            self._published.add(entry.name)

    def publish(self) -> None:
        """Hand this process's finished entries to the others."""
        for entry in self.private.glob(f"*{_SUFFIX}"):
            if entry.name in self._published:
                continue
            with contextlib.suppress(OSError):
                data = entry.read_bytes()
                atomic_write(self.common / entry.name, data)
                seal = hashlib.sha256(data).hexdigest().encode()
                atomic_write(self.common / f"{entry.name}.sha256", seal)
            self._published.add(entry.name)

    def close(self) -> None:
        """Publish the last entries, point jax away and remove the private folder."""
        self.publish()
        if self._started:
            _point_jax_to(None)
        shutil.rmtree(self.private, ignore_errors=True)


def _point_jax_to(folder: Path | None) -> None:
    import jax

    from cnnjax.core.jax_internals import forget_compilation_cache

    jax.config.update("jax_compilation_cache_dir", folder and str(folder))
    forget_compilation_cache()


def _sweep(common: Path) -> None:
    """Remove private folders of processes that are gone, and the oldest entries over the limit."""
    host = socket.gethostname()
    for folder in common.glob(f"private-{host}-*"):
        process = folder.name.removeprefix(f"private-{host}-").partition("-")[0]
        if process.isdigit() and not _alive(int(process)):
            shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        entries = sorted(common.glob(f"*{_SUFFIX}"), key=lambda p: p.stat().st_mtime, reverse=True)
        total = 0
        for entry in entries:
            total += entry.stat().st_size
            if total > _LIMIT:
                entry.unlink(missing_ok=True)
                entry.with_name(f"{entry.name}.sha256").unlink(missing_ok=True)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
