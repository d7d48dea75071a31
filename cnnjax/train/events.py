"""TensorBoard events beside the JSON lines."""

from pathlib import Path
from types import TracebackType

_TAGS = ("learning_rate", "train_loss", "train_error", "test_loss", "test_error")


class Events:
    """Writes the figures of each epoch to `folder`; use as a context."""

    def __init__(self, folder: Path, purge_step: int | None = None):
        from tensorboardX import SummaryWriter

        # purge_step hides what an interrupted run wrote beyond the state it goes on from.
        self._writer = SummaryWriter(str(folder), purge_step=purge_step)

    def __enter__(self) -> "Events":
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.close()

    def write(self, record: dict) -> None:
        for tag in _TAGS:
            self._writer.add_scalar(tag, record[tag], record["step"])
        self._writer.flush()
