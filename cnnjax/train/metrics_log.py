"""metrics.jsonl: one line an epoch, also over interruptions."""

from pathlib import Path

import msgspec

from cnnjax.core.files import append_line, atomic_write, read_lines


class MetricsLog:
    """Appends records to `path`; the first one drops what lies at or beyond its step.

    An interrupted run has written such lines after its last save, and writes them again.
    """

    def __init__(self, path: Path):
        self.path = path
        self._begun = False

    def append(self, record: dict) -> None:
        if not self._begun:
            kept = [old for old in read_lines(self.path) if old.get("step", 0) < record["step"]]
            lines = b"".join(msgspec.json.encode(old) + b"\n" for old in kept)
            atomic_write(self.path, lines)
            self._begun = True
        append_line(self.path, record)
