"""One process a folder, by flock: the lock goes with its holder, however that ends."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from cnnjax.core.errors import Refused


@contextlib.contextmanager
def hold(folder: Path, what: str) -> Iterator[None]:
    """Hold `folder` for the block.

    Raises:
      Refused: another process holds it; the text names that process.
    """
    from filelock import FileLock, Timeout

    holder = folder / ".lock-holder"
    lock = FileLock(folder / ".lock", timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout:
        who = "another process"
        with contextlib.suppress(OSError):  # it may have left meanwhile
            who = holder.read_text().strip() or who
        raise Refused(
            f"{what} {folder} is in use by {who}; wait for it, or give another --workdir"
        ) from None
    try:
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()
