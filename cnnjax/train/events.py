"""TensorBoard events beside the JSON lines."""

from pathlib import Path
from typing import Any

_TAGS = ("learning_rate", "batch_loss", "batch_error", "test_loss", "test_error")


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
        for tag in _TAGS:
            if record[tag] is None:  # a loss that is not finite
                continue
            self._writer.add_scalar(tag, record[tag], record["step"])
        self._writer.flush()

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
