"""Files that are whole or absent, and JSON lines that survive a kill.

Write beside, flush to disk, rename: a reader sees the old file or the new one, never half of one.
"""

import contextlib
import errno
import fcntl
import json
import os
from pathlib import Path
from typing import Any

from cnnjax.core.values import digest


def atomic_write(path: Path, data: bytes) -> None:
    """Put `data` at `path` whole, durable when this returns; on an error the old file stays.

    Raises:
      OSError: a full disk, no permission; it names `path`.
    """
    temporary = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    with contextlib.suppress(OSError):  # some file systems cannot flush a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON, whole or not at all. NaN is refused."""
    text = json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False)
    try:
        data = text.encode()
    except UnicodeEncodeError:  # a path whose bytes are no UTF-8
        data = json.dumps(value, indent=2, allow_nan=False).encode()
    atomic_write(path, data + b"\n")


def write_sealed(path: Path, value: dict) -> None:
    """`write_json` with the SHA-256 of the content under "digest": a flipped bit is noticed."""
    write_json(path, {**value, "digest": digest(value)})


def read_sealed(path: Path) -> dict:
    """What `write_sealed` wrote.

    Raises:
      FileNotFoundError: there is none.
      ValueError: the file is damaged.
      OSError: it cannot be read now, which says nothing about what is in it.
    """
    try:
        value = json.loads(path.read_bytes())
        if not isinstance(value, dict):
            raise ValueError("not an object")
        sealed = value.pop("digest", None)
        if sealed != digest(value):
            raise ValueError("its digest does not match")
    except (ValueError, RecursionError) as error:
        raise ValueError(f"damaged ({error})") from None
    return value


def append_line(path: Path, record: dict) -> None:
    """Append one JSON line, whole or not at all; a torn last line is closed off first.

    Raises:
      OSError: a full disk, no permission; it names `path`.
    """
    line = json.dumps(record, allow_nan=False).encode() + b"\n"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            size = os.fstat(descriptor).st_size
            if size and os.pread(descriptor, 1, size - 1) != b"\n":
                line = b"\n" + line
            if os.write(descriptor, line) != len(line):
                os.ftruncate(descriptor, size)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def read_lines(path: Path) -> list[dict]:
    """The JSON objects in `path`, one a line; lines that a kill has torn are left out."""
    records = []
    if path.exists():
        for line in path.read_bytes().splitlines():
            with contextlib.suppress(ValueError):
                record = json.loads(line)
                if isinstance(record, dict):
                    records.append(record)
    return records
