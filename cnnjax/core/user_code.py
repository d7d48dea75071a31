"""A user's own code: loaded as it is now, digested as it was loaded, its errors by line.

What was loaded, what is digested and what is on disk are one thing: a file and what it imports from
its folder are read once, those bytes are hashed and run, and what was edited since is loaded anew.
"""

import contextlib
import hashlib
import importlib
import importlib.util
import linecache
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from types import ModuleType
from typing import Any

from cnnjax.core.errors import Failed, Refused, one_line, unknown
from cnnjax.core.siblings import (
    LOCK,
    Source,
    digest_of,
    digest_of_files,
    importable,
    is_served,
    is_stale,
    python_files,
    read_source,
    said,
    sibling_files,
    siblings_of,
)

_STARTED = time.time()
_folder: ContextVar[Path | None] = ContextVar("folder", default=None)
_loaded: dict[Path, ModuleType] = {}  # the newest module of each file
_digests: dict[str, str] = {}  # of package.module, as it was first loaded
_packages: set[str] = set()  # files and folders/ of package.module: whose errors are the user's
_DIGEST = "__source_sha256__"


@contextlib.contextmanager
def paths_from(folder: str | Path | None) -> Iterator[None]:
    """Relative paths of files and data in the block start at `folder`; None: where they did."""
    token = _folder.set(Path(folder).absolute() if folder is not None else _folder.get())
    try:
        yield
    finally:
        _folder.reset(token)


def paths_of(described: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
    """Relative paths of a run or of weights start where those were made, if that is still there.

    Args:
      described: what run.json or weights.json says.
    """
    folder = described.get("folder")
    return paths_from(folder if folder and Path(folder).is_dir() else None)


def located(path: str | Path) -> Path:
    """`path` without ~, from the folder that is in force: the current one, or `paths_from`'s."""
    return (_folder.get() or Path()) / expanded(path)


def expanded(path: str | Path) -> Path:
    """`path` with ~ as the home folder; ~NAME stays where there is no such user."""
    return Path(os.path.expanduser(path))


def is_own(name: str) -> bool:
    """Whether a name is FILE.py:NAME or package.module:NAME (folder:DIR looks like that, too)."""
    module, _, attribute = name.partition(":")
    return ".py:" in name or (_is_dotted(module) and attribute.isidentifier())


def load_object(name: str, kind: str) -> tuple[Any, str]:
    """What a user's own name means, and the SHA-256 of its sources as they were loaded.

    Args:
      name: FILE.py:NAME, a path as `located` reads it, or package.module:NAME, as Python imports.
      kind: what it is to be, for messages: "model", "task", ...; its type is not checked.

    Raises:
      Refused: there is no such file, module or NAME, or it does not import.
    """
    where, _, attribute = name.rpartition(":")
    if not attribute.isidentifier() or not (where.endswith(".py") or _is_dotted(where)):
        raise Refused(
            f"{kind} {name!r}: give FILE.py:NAME or package.module:NAME, NAME being one word of"
            " Python"
        )
    if where.endswith(".py"):
        module = load_file(where, kind)
        sha256 = source_digest(module)
    else:
        module, sha256 = _load_module(where, attribute, kind)
    with refused(f"{name} cannot be read"):
        try:
            return getattr(module, attribute), sha256
        except AttributeError:
            raise unknown(f"{kind} in {where}:", attribute, _public(module)) from None


def load_file(path_text: str, kind: str) -> ModuleType:
    """A user's Python file as a module of its own; loaded anew where it or a sibling was edited.

    Raises:
      Refused: there is no such file, or it does not import; the text names the line.
    """
    path = located(path_text).resolve()
    if not path.is_file():
        raise Refused(f"no {kind} file {path_text} ({path}); give the path of a .py file")
    with LOCK:
        try:
            file = read_source(path.stem, path)
        except OSError as error:
            raise Refused(f"{kind} file {path_text} cannot be read ({error.strerror})") from None
        found = siblings_of(file)
        loaded = _loaded.get(path)
        if (
            loaded is None
            or not is_served(found)
            or digest_of(file, found) != source_digest(loaded)
        ):
            return _run(file, found, path_text)
        return loaded


def _run(file: Source, found: dict[str, Source], path_text: str) -> ModuleType:
    where = hashlib.sha256(bytes(file.path)).hexdigest()[:8]
    version = digest_of(file, found)[:8]
    module = ModuleType(f"cnnjax_user_{said(file.path.stem)}_{where}_{version}")
    module.__file__ = str(file.path)
    before, previous = sys.modules.get(module.__name__), _loaded.get(file.path)
    sys.modules[module.__name__] = module  # dataclasses and type hints look themselves up there
    _loaded[file.path] = module  # so that an error knows whose file it is in
    try:
        with importable(file, module, found), refused(f"{path_text} does not import"):
            exec(compile(file.data, said(file.path), "exec", dont_inherit=True), module.__dict__)
    except BaseException:
        _put_back(sys.modules, module.__name__, before)
        _put_back(_loaded, file.path, previous)
        raise
    setattr(module, _DIGEST, digest_of(file, found))  # with what a computed name has imported
    return module


def _put_back(table: dict, key: Any, before: ModuleType | None) -> None:
    if before is None:
        table.pop(key, None)
    else:
        table[key] = before


def _load_module(name: str, attribute: str, kind: str) -> tuple[ModuleType, str]:
    """An importable module and the digest of the folder that holds it, as it was first loaded."""
    _packages.update(_places(name.partition(".")[0]))
    there = set(sys.modules)
    try:
        with refused(f"{name} does not import"):
            module = importlib.import_module(name)
    except Refused as error:
        missing = error.__cause__
        if isinstance(missing, ModuleNotFoundError) and f"{name}.".startswith(f"{missing.name}."):
            raise Refused(
                f"no {kind} module {name!r}; install it, or give FILE.py:{attribute}"
            ) from None
        raise
    if name not in _digests:
        _digests[name] = _module_digest(module, there)
    return module, _digests[name]


def _module_digest(module: ModuleType, there: set[str]) -> str:
    """Of the files that were loaded; `there` are modules that were before.

    Raises:
      Refused: one was edited since.
    """
    text = getattr(module, "__file__", None)
    if text is None:
        raise Refused(f"{module.__name__} has no file; give a module that has one, or FILE.py:NAME")
    path = Path(text)
    alone = "." not in module.__name__ and not hasattr(module, "__path__")
    try:
        if alone:
            file = read_source(module.__name__, path)
            found = {} if file.path.stem in sys.stdlib_module_names else siblings_of(file)
            _check_fresh({module.__name__, *found} & there)
            return digest_of(file, found)
        root = path.parent
        while (root / "__init__.py").is_file() and (root.parent / "__init__.py").is_file():
            root = root.parent
        package = module.__name__.partition(".")[0]
        _check_fresh({name for name in there if f"{name}.".startswith(f"{package}.")})
        return digest_of_files(
            root, {file: read_source(file.stem, file).sha256 for file in python_files(root)}
        )
    except OSError as error:
        raise Refused(f"{error.filename} cannot be read ({error.strerror})") from None


def _check_fresh(names: set[str]) -> None:
    for name in sorted(names):
        module = sys.modules[name]
        file = getattr(module, "__file__", None)
        if file is None or Path(file).stat().st_mtime < _STARTED:
            continue  # whoever imported it has met it as it is
        if is_stale(module, Path(file)):
            raise Refused(f"{file} was edited since {name} was imported; start Python anew")


def _places(top: str) -> list[str]:
    """File or folders/ of a top-level module; nothing is imported. Our own errors stay ours."""
    try:
        spec = None if top == "cnnjax" else importlib.util.find_spec(top)
    except (ImportError, ValueError):  # __main__, say
        return []
    if spec is None:
        return []
    if spec.submodule_search_locations is not None:
        return [os.path.join(place, "") for place in spec.submodule_search_locations]
    return [spec.origin] if spec.has_location and spec.origin else []


def _is_dotted(name: str) -> bool:
    return all(part.isidentifier() for part in name.split("."))


def _public(module: ModuleType) -> list[str]:
    """Names that a module defines itself."""
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and not isinstance(value, ModuleType)
        and (not hasattr(value, "__qualname__") or value.__module__ == module.__name__)
    ]


def source_digest(module: ModuleType) -> str:
    """SHA-256 of the file that `load_file` made a module of, and its siblings, as loaded."""
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
    files = {said(path) for path in _loaded} | sibling_files()
    packages = tuple(_packages)
    seen: BaseException | None = error
    while seen is not None:
        for frame in reversed(traceback.extract_tb(seen.__traceback__)):
            if frame.filename in files or frame.filename.startswith(packages):
                return frame
        seen = seen.__cause__ or seen.__context__
    return None


def _words(frame: traceback.FrameSummary) -> str:
    path = Path(frame.filename)
    name = path.name if path.name != "__init__.py" else f"{path.parent.name}/{path.name}"
    return f"{name}, line {frame.lineno}"
