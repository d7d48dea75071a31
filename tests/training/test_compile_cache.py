"""Each entry is checked; a damaged one is compiled again, never used."""

import os
import subprocess
import sys

import pytest

from cnnjax.training.compile_cache import CompileCache

pytestmark = pytest.mark.core  # also on every other Python: make test-core

PROGRAM = """
import jax
from cnnjax.training.compile_cache import compile_cache
hits = []
jax.monitoring.register_event_listener(lambda name, **kw: hits.append(name))
with compile_cache():
    print(jax.jit(lambda x: jax.numpy.sin(x) * 3)(jax.numpy.arange(4.0)).tolist())
jax.jit(lambda x: jax.numpy.cos(x) * 5)(jax.numpy.arange(4.0))
print(*(sum(name.endswith(f"cache_{kind}") for name in hits) for kind in ("hits", "misses")))
"""


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
    entries = sorted(common.iterdir())
    assert len(entries) == misses
    damaged = bytearray(entries[0].read_bytes())
    damaged[len(damaged) // 2] ^= 1
    entries[0].write_bytes(damaged)
    entries[1].write_bytes(entries[1].read_bytes()[:40])  # torn
    again, hits, missed = run(tmp_path)
    assert again == values
    assert (hits, missed) == (misses - 2, 2)
    assert run(tmp_path) == (values, misses, 0)


def test_what_was_used_longest_ago_goes_first(tmp_path, monkeypatch):
    monkeypatch.setattr("cnnjax.training.compile_cache._LIMIT", 3 * 132)
    cache = CompileCache(tmp_path)
    for place, key in enumerate("abcd"):
        cache.put(key, bytes(100))
        os.utime(tmp_path / f"{key}.program", (place, place))
    assert cache.get("a") == bytes(100)
    assert cache.get("nothing") is None
    CompileCache(tmp_path)
    assert sorted(path.stem for path in tmp_path.iterdir()) == ["a", "c", "d"]


@pytest.mark.parametrize("error", [FileNotFoundError, PermissionError])
def test_a_damaged_program_is_never_given_whoever_removes_it(tmp_path, monkeypatch, error):
    cache = CompileCache(tmp_path)
    cache.put("a", b"a program")
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(entry.read_bytes()[:-1])

    def unlink(path, missing_ok=False):
        raise error

    monkeypatch.setattr("pathlib.Path.unlink", unlink)
    assert cache.get("a") is None


def test_a_folder_that_cannot_be_written_costs_the_cache_alone(tmp_path):
    (tmp_path / "cnnjax").write_text("a file")
    values, hits, misses = run(tmp_path)
    assert (values, hits, misses) == (run(tmp_path / "other")[0], 0, 0)
    gone = CompileCache(tmp_path / "never-made")
    gone.put("a", b"1")
    assert gone.get("a") is None
