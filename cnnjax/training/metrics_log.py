"""metrics.jsonl: one line an epoch, also over interruptions."""

from pathlib import Path

import msgspec

from cnnjax.core.files import append_line, atomic_write, read_lines


class MetricsLog:
    """Appends records to `path`."""

    def __init__(self, path: Path):
        self.path = path

    def start(self, step: int) -> None:
        """Drop what lies beyond `step`, from which the run goes on: those lines come again."""
        kept = [old for old in read_lines(self.path) if old.get("step", 0) <= step]
        atomic_write(self.path, b"".join(msgspec.json.encode(old) + b"\n" for old in kept))

    def append(self, record: dict) -> None:
        append_line(self.path, record)
