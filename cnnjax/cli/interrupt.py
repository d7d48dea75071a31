"""Ctrl-C at any moment of a command that does not listen for it itself."""

import os
import signal
import threading
from types import FrameType

from cnnjax.core.errors import EXIT_INTERRUPTED

_IMPORTING = "<frozen importlib"
_DROPPING = "_xla_gc_callback"  # of jax; Python drops what such a callback raises


def listen() -> None:
    """A KeyboardInterrupt as ever, but amid an import, where it tears compiled modules, and where
    it would be dropped: there the process leaves at once. It has begun nothing then."""
    main = threading.current_thread() is threading.main_thread()
    if main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not under nohup
        signal.signal(signal.SIGINT, _interrupted)


def _interrupted(number: int, frame: FrameType | None) -> None:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORTING) or frame.f_code.co_name == _DROPPING:
            os.write(2, b"interrupted\n")
            os._exit(EXIT_INTERRUPTED)
        frame = frame.f_back
    raise KeyboardInterrupt
