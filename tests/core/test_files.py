import contextlib
import errno
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.core.arrays import pack, unpack
from cnnjax.core.errors import Refused
from cnnjax.core.files import append_line, atomic_write, read_lines, read_sealed, write_sealed
from cnnjax.core.folders import writable_folder

pytestmark = pytest.mark.core  # also on every other Python: make test-core

CALLS = ("open", "write", "fsync", "replace")


def fail_nth(monkeypatch, n):
    """Let the n-th call among CALLS fail as on a full disk; returns the counter."""
    count = [0]

    def wrap(real):
        def call(*args, **kwargs):
            count[0] += 1
            if count[0] == n:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*args, **kwargs)

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, wrap(getattr(os, name)))
    return count


def test_a_write_that_fails_anywhere_leaves_the_old_file_or_the_new_one(tmp_path):
    path = tmp_path / "file"
    atomic_write(path, b"old")
    with pytest.MonkeyPatch.context() as patch:
        total = fail_nth(patch, 0)
        atomic_write(path, b"new")
    assert total[0] >= 4
    for n in range(1, total[0] + 1):
        atomic_write(path, b"old")
        with pytest.MonkeyPatch.context() as patch:
            fail_nth(patch, n)
            try:
                atomic_write(path, b"new")
                failed = False
            except OSError:
                failed = True
        assert path.read_bytes() == (b"old" if failed and n <= 4 else b"new")
        assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_every_flipped_bit_of_a_sealed_file_is_noticed(tmp_path):
    path = tmp_path / "sealed.json"
    value = {"error": 1.25, "name": "plain-56", "none": None}
    write_sealed(path, value)
    whole = path.read_bytes()
    assert read_sealed(path) == value
    for index in range(len(whole)):
        for bit in (0, 3, 5):
            damaged = bytearray(whole)
            damaged[index] ^= 1 << bit
            path.write_bytes(damaged)
            with contextlib.suppress(ValueError):  # white space may change unnoticed
                assert read_sealed(path) == value


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff", b"[" * 100_000, b"null"])
def test_what_is_no_sealed_object_is_damaged(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(ValueError, match="damaged"):
        read_sealed(tmp_path / "x")


def test_a_torn_line_costs_itself_only(tmp_path):
    path = tmp_path / "lines"
    append_line(path, {"step": 1})
    with path.open("ab") as file:
        file.write(b'{"step": 2, "lo')
    append_line(path, {"step": 3})
    assert [record["step"] for record in read_lines(path)] == [1, 3]


def test_nan_is_never_written(tmp_path):
    with pytest.raises(ValueError, match="JSON compliant"):
        append_line(tmp_path / "lines", {"loss": float("nan")})
    assert not (tmp_path / "lines").exists()


arrays = st.dictionaries(
    st.text("abc.", min_size=1, max_size=6),
    st.sampled_from(
        [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((), np.int32), np.ones(0, bool)]
    ),
    max_size=4,
)


@given(arrays)
def test_arrays_come_back_as_they_were(named):
    again = unpack(pack(named))
    assert again.keys() == named.keys()
    for name, array in named.items():
        assert again[name].dtype == array.dtype
        np.testing.assert_array_equal(again[name], array)


def test_every_damaged_byte_of_packed_arrays_is_noticed():
    whole = pack({"a": np.arange(5, dtype=np.float32), "b": np.zeros((2, 2), np.uint8)})
    for index in range(len(whole)):
        damaged = bytearray(whole)
        damaged[index] ^= 4
        with pytest.raises(ValueError):
            unpack(bytes(damaged))
    for length in range(len(whole)):
        with pytest.raises(ValueError):
            unpack(whole[:length])


def test_a_folder_under_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match="cannot be written"):
        writable_folder(tmp_path / "file" / "run", "run folder", "give another --workdir")
