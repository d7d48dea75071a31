"""SIGINT and SIGTERM ask a run to save and leave; a second one leaves at once."""

import os
import signal
from typing import Any


class StopRequest:
    """Call it to ask whether to stop; `exit_code` is 128 + the signal."""

    def __init__(self) -> None:
        self.received: int | None = None

    def listen(self) -> "StopRequest":
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)
        return self

    def __call__(self) -> bool:
        return self.received is not None

    @property
    def exit_code(self) -> int:
        return 128 + (self.received or 0)

    def _note(self, number: int, frame: Any) -> None:
        if self.received is not None:
            os._exit(128 + number)
        self.received = number
