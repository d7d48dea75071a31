"""A user's own Python file: loaded as it is now, digested as it was loaded, its errors by line.

What was loaded, what is digested and what is on disk are one thing: the file is read once, those
bytes are hashed and run, and a file that was edited since is loaded anew.
"""

import contextlib
import hashlib
import linecache
import os
import sys
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType

from cnnjax.core.errors import Failed, Refused, one_line

_folder: ContextVar[Path | None] = ContextVar("folder", default=None)
_loaded: dict[Path, ModuleType] = {}  # the newest module of each file
_DIGEST = "__source_sha256__"


@contextlib.contextmanager
def paths_from(folder: str | Path | None) -> Iterator[None]:
    """Relative paths of files and data in the block start at `folder`; None: where they did."""
    token = _folder.set(Path(folder).absolute() if folder is not None else _folder.get())
    try:
        yield
    finally:
        _folder.reset(token)


def located(path: str | Path) -> Path:
    """`path` without ~, from the folder that is in force: the current one, or `paths_from`'s."""
    return (_folder.get() or Path()) / expanded(path)


def expanded(path: str | Path) -> Path:
    """`path` with ~ as the home folder; ~NAME stays where there is no such user."""
    return Path(os.path.expanduser(path))


def load_file(path_text: str, kind: str) -> ModuleType:
    """A user's Python file as a module of its own; loaded anew where it was edited.

    Raises:
      Refused: there is no such file, or it does not import; the text names the line.
    """
    path = located(path_text).resolve()
    if not path.is_file():
        raise Refused(f"no {kind} file {path_text} ({path}); give the path of a .py file")
    try:
        source = path.read_bytes()
    except OSError as error:
        raise Refused(f"{kind} file {path_text} cannot be read ({error.strerror})") from None
    sha256 = hashlib.sha256(source).hexdigest()
    if path in _loaded and getattr(_loaded[path], _DIGEST) == sha256:
        return _loaded[path]
    where = hashlib.sha256(bytes(path)).hexdigest()
    module = ModuleType(f"cnnjax_user_{_said(path.stem)}_{where[:8]}_{sha256[:8]}")
    module.__file__ = str(path)
    setattr(module, _DIGEST, sha256)
    sys.modules[module.__name__] = module  # dataclasses and type hints look themselves up there
    previous = _loaded.get(path)
    _loaded[path] = module  # so that an error knows whose file it is in
    try:
        with refused(f"{path_text} does not import"):
            exec(compile(source, _said(path), "exec"), module.__dict__)
    except BaseException:
        del sys.modules[module.__name__]
        if previous is None:
            del _loaded[path]
        else:
            _loaded[path] = previous
        raise
    return module


def source_digest(module: ModuleType) -> str:
    """SHA-256 of the user's file that `load_file` made a module of, as it was loaded."""
    return getattr(module, _DIGEST)


@contextlib.contextmanager
def refused(what: str) -> Iterator[None]:
    """Run a user's code: whatever it raises, `SystemExit` too, is refused as `what: why`."""
    try:
        yield
    except KeyboardInterrupt:
        raise
    except Refused as error:
        if (text := explained(error)) == str(error):
            raise
        raise Refused(text) from error
    except BaseException as error:
        raise Refused(f"{what}: {explained(error)}") from error


def explained(error: BaseException) -> str:
    """Why, on one line, with file and line where a user's file is to blame."""
    frame = _user_frame(error)
    if isinstance(error, SystemExit):
        text = f"it ends the program (sys.exit({error.code!r}))"
    elif isinstance(error, Refused | Failed):
        text = str(error)
    else:
        text = one_line(error)
        if frame is not None and text == type(error).__name__:  # an assert, say, without a word
            linecache.checkcache(frame.filename)  # it may have been edited since
            line = linecache.getline(frame.filename, frame.lineno or 0)
            text += f" ({line.strip()})"
    if frame is None or isinstance(error, SyntaxError):  # that one has its line
        return text
    place = _words(frame)
    return text if place in text else f"{place}: {text}"


def user_line(error: BaseException) -> str | None:
    """ "net.py, line 7": the innermost line of a user's file among the frames of an error."""
    frame = _user_frame(error)
    return None if frame is None else _words(frame)


def _user_frame(error: BaseException) -> traceback.FrameSummary | None:
    files = {_said(path) for path in _loaded}
    seen: BaseException | None = error
    while seen is not None:
        for frame in reversed(traceback.extract_tb(seen.__traceback__)):
            if frame.filename in files:
                return frame
        seen = seen.__cause__ or seen.__context__
    return None


def _said(path: str | Path) -> str:
    """A path as Unicode, as XLA wants the files of a program: bytes that are no UTF-8 in words."""
    return str(path).encode(errors="backslashreplace").decode()


def _words(frame: traceback.FrameSummary) -> str:
    return f"{Path(frame.filename).name}, line {frame.lineno}"
