"""SIGINT and SIGTERM ask a run to save and leave; a second one leaves at once."""

import os
import signal
import threading
import time
from typing import Any

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequest:
    """Call it to ask whether to stop; `exit_code` is 128 + the signal.

    Listens from `listen` on, and until the end of a `with` block, which gives the signals back to
    whoever had them. Python hears signals in its main thread only: elsewhere there is nothing to
    hear.
    """

    def __init__(self, *, leaves: bool = True, apart: float = 0.0) -> None:
        """With `leaves` a second signal ends the process; else it raises KeyboardInterrupt.

        Args:
          apart: seconds within which two are one: a signal to a whole job may come by two ways.
        """
        self.received: int | None = None
        self._at = 0.0
        self._leaves, self._apart = leaves, apart
        self._previous: dict[int, Any] = {}

    def listen(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread() and not self._previous:
            self._previous = {one: signal.signal(one, self._note) for one in _SIGNALS}
        return self

    def __enter__(self) -> "StopRequest":
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def __call__(self) -> bool:
        return self.received is not None

    @property
    def exit_code(self) -> int:
        return 128 + (self.received or signal.SIGTERM)  # of another process of the training

    def _note(self, number: int, frame: Any) -> None:
        if self.received == number and time.monotonic() - self._at < self._apart:
            return
        if self.received is not None:
            if self._leaves:
                os._exit(128 + number)
            raise KeyboardInterrupt
        self.received, self._at = number, time.monotonic()
