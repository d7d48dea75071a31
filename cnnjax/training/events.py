"""TensorBoard events beside the JSON lines."""

from pathlib import Path
from typing import Any

_TAGS = ("learning_rate", "batch_", "test_")  # how what is drawn begins


class Events:
    """Writes the figures of each epoch to `folder`; the file is opened at the first one."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._writer: Any = None

    def write(self, record: dict) -> None:
        if self._writer is None:
            from tensorboardX import SummaryWriter

            # purge_step hides what an interrupted run wrote from this step on.
            self._writer = SummaryWriter(str(self.folder), purge_step=record["step"])
        for tag, value in record.items():
            if tag.startswith(_TAGS) and value is not None:  # None: it is not finite
                self._writer.add_scalar(tag, value, record["step"])
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
