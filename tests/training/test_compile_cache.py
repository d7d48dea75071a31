"""Each entry is checked; a damaged one is compiled again, never used."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.core  # also on every other Python: make test-core

PROGRAM = """
import jax, sys
from cnnjax.training.compile_cache import CompileCache
cache = CompileCache()
cache.start()
hits = []
jax.monitoring.register_event_listener(lambda name, **kw: hits.append(name))
print(jax.jit(lambda x: jax.numpy.sin(x) * 3)(jax.numpy.arange(4.0)).tolist())
cache.close()
print(sum(name.endswith("cache_hits") for name in hits), sum(name.endswith("cache_misses") for name in hits))
"""  # noqa: E501


def run(cache):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "XDG_CACHE_HOME": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    values, counts = done.stdout.splitlines()
    hits, misses = map(int, counts.split())
    return values, hits, misses


def test_entries_are_shared_and_damaged_ones_dropped(tmp_path):
    values, hits, misses = run(tmp_path)
    assert hits == 0
    assert misses > 0
    assert run(tmp_path) == (values, misses, 0)

    (common,) = (tmp_path / "cnnjax" / "compiled").iterdir()
    entries = sorted(common.glob("*-cache"))
    assert len(entries) == misses
    assert not list(common.glob("private-*")), "the private folder is removed"
    damaged = bytearray(entries[0].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    entries[0].write_bytes(damaged)
    entries[1].with_name(f"{entries[1].name}.sha256").unlink()  # torn: never sealed
    again, hits, misses = run(tmp_path)
    assert again == values
    assert misses == 2


def test_private_folders_of_dead_processes_are_swept(tmp_path, monkeypatch):
    import socket

    from cnnjax.training.compile_cache import CompileCache

    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    stale = tmp_path / f"private-{socket.gethostname()}-{dead.pid}-x"
    stale.mkdir()
    cache = CompileCache(tmp_path)
    assert not stale.exists()
    assert cache.private.exists()
    cache.close()
