"""TensorBoard events beside the JSON lines."""

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_TAGS = ("learning_rate", "batch_", "test_")  # how what is drawn begins


@contextlib.contextmanager
def _hidden(name: str) -> Iterator[None]:
    """A module that was not imported cannot be, in here: not by other threads either."""
    hide = name not in sys.modules
    if hide:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hide:
            sys.modules.pop(name, None)


class Events:
    """Writes the figures of each epoch to `folder`; the file is opened at the first one."""

    def __init__(self, folder: Path):
        with _hidden("torch"):  # which it imports for a type hint: a second, where it is there
            from tensorboardX import SummaryWriter
        self.folder, self._make = folder, SummaryWriter
        self._writer: Any = None

    def write(self, record: dict) -> None:
        if self._writer is None:
            # purge_step hides what an interrupted run wrote from this step on.
            self._writer = self._make(str(self.folder), purge_step=record["step"])
        for tag, value in record.items():
            if tag.startswith(_TAGS) and value is not None:  # None: not finite, or not measured
                self._writer.add_scalar(tag, value, record["step"])
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
