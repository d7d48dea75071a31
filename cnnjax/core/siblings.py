"""What a user's file imports from its own folder: read once, hashed, and run from those bytes.

`import blocks` in my_net.py finds blocks.py or blocks/__init__.py beside it. Which names a file
imports is read off its text, function bodies too, so that what runs later is hashed now. A finder
serves them under their plain names; while a file is loaded it sees the other siblings as not yet
imported, so that what it is found to import does not depend on what was loaded before it.
"""

import contextlib
import hashlib
import importlib
import os
import sys
import threading
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType

from cnnjax.core.errors import Refused

LOCK = threading.RLock()  # one file is loaded at a time
_OURS = "cnnjax"  # a clone's root holds it beside a user's file; it is no part of that
_INSTALLED = ("site-packages", "dist-packages")


@dataclass(frozen=True)
class Source:
    """One file: the name that it is imported by, and its bytes as they were read."""

    name: str
    path: Path
    data: bytes = field(repr=False)
    sha256: str


@dataclass
class _Loading:
    """A file that is being run, and what it has been found to import from its folder."""

    file: Source
    module: ModuleType
    found: dict[str, Source]
    replaced: set[str] = field(default_factory=set)  # names whose older module is not to return


_sources: dict[str, Source] = {}  # of the whole process, by name: what an import gives
_modules: dict[str, ModuleType] = {}  # those of them that were run
_hidden: dict[str, ModuleType] = {}  # out of sys.modules while a file is loaded
# What bytes were seen to import by a name that is not in their text (importlib.import_module).
_computed: defaultdict[tuple[Path, str], set[str]] = defaultdict(set)
_loading: ContextVar[_Loading | None] = ContextVar("loading", default=None)


def read_source(name: str, path: Path) -> Source:
    """The file at `path`, under the name that it is imported by.

    Raises:
      OSError: it cannot be read.
    """
    data = path.read_bytes()
    return Source(name, path, data, hashlib.sha256(data).hexdigest())


def siblings_of(file: Source, also: Iterable[str] = ()) -> dict[str, Source]:
    """By name: what `file` imports from its folder, and what that imports; a package as a whole.

    Args:
      also: names to begin with; default: those that the file imports.

    Raises:
      Refused: a sibling has the name of another module, or cannot be read.
    """
    found: dict[str, Source] = {}
    names = set(also) or _imported(file)
    while names:
        new = [source for name in sorted(names) for source in _sibling(name, file)]
        found.update((source.name, source) for source in new)
        names = set().union(*(_imported(source) for source in new)) - set(found)
    return found


def digest_of(file: Source, found: Mapping[str, Source]) -> str:
    """SHA-256 of a file alone, or of it with its siblings; the place of the folder is not in it."""
    files = {source.path: source.sha256 for source in [file, *found.values()]}
    return file.sha256 if len(files) == 1 else digest_of_files(file.path.parent, files)


def digest_of_files(folder: Path, files: Mapping[Path, str]) -> str:
    """SHA-256 over the paths below `folder` and their SHA-256, in the order of the paths."""
    rows = sorted(
        os.fsencode(path.relative_to(folder)) + b"\0" + sha256.encode() + b"\n"
        for path, sha256 in files.items()
    )
    return hashlib.sha256(b"".join(rows)).hexdigest()


def python_files(folder: Path) -> list[Path]:
    """The .py files below a folder, without those in folders that no import reaches (.venv)."""
    found = []
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name.isidentifier() and name != "__pycache__"]
        names = [name for name in files if name.endswith(".py") and not name.startswith(".")]
        found += [Path(place, name) for name in names]
    return sorted(found)


def is_served(found: Mapping[str, Source]) -> bool:
    """Whether these bytes are what an import gives now."""
    return all(_sources.get(name) == source for name, source in found.items())


def sibling_files() -> set[str]:
    """The names that frames have of the siblings that are served."""
    return {said(source.path) for source in _sources.values()}


def said(path: str | Path) -> str:
    """A path as Unicode, as XLA wants the files of a program: bytes that are no UTF-8 in words."""
    return str(path).encode(errors="backslashreplace").decode()


@contextlib.contextmanager
def importable(file: Source, module: ModuleType, found: dict[str, Source]) -> Iterator[None]:
    """Run `file` as `module` in the block: its siblings are served; after an error none is left.

    Args:
      found: of `siblings_of`; what is imported by a computed name is added to it.
    """
    if _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
    before = dict(_sources), dict(_modules), dict(_hidden)
    names = {*_sources, *_imported_from(file.path.parent)}
    hidden = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    _hidden.update(hidden)
    loading = _Loading(file, module, found)
    token = _loading.set(loading)
    try:
        _serve(loading, found)
        yield
    except BaseException:
        for name in found:
            sys.modules.pop(name, None)
        _reset(_sources, before[0])
        _reset(_modules, before[1])
        sys.modules.update(hidden)
        raise
    else:
        for name, old in hidden.items():
            if name not in loading.replaced:
                sys.modules.setdefault(name, old)
    finally:
        _reset(_hidden, before[2])
        _loading.reset(token)


def _reset(table: dict, before: dict) -> None:
    table.update(before)  # first, so that a thread that imports meanwhile misses nothing
    for name in set(table) - set(before):
        del table[name]


def _serve(loading: _Loading, new: Mapping[str, Source]) -> None:
    """Let imports give `new`. Where one of them was edited all are run anew: they share classes."""
    tops = {_top(name) for name in new}
    gone = [name for name in _sources if _top(name) in tops and name not in new]
    first = {name: source for name, source in new.items() if name not in _sources}
    pythons = {  # imported by Python itself, as for `python my_study.py`
        name: _hidden[name]
        for name, source in first.items()
        if name in _hidden and _is_of(_hidden[name], source.path)
    }
    edited = (
        bool(gone)
        or any(_sources.get(name, source) != source for name, source in new.items())
        or any(is_stale(module, first[name].path) for name, module in pythons.items())
    )
    for name in gone:
        del _sources[name]
    if edited:
        loading.replaced.update(gone, new)
        for name in (*gone, *new):
            _modules.pop(name, None)
    else:
        _modules.update(pythons)
    _sources.update(new)
    own = loading.file.path.stem
    if own in new and new[own].path == loading.file.path:  # it imports itself: it is not run twice
        _modules.setdefault(own, loading.module)


def _imported(source: Source) -> set[str]:
    return {*_imported_names(source.data), *_computed.get((source.path, source.sha256), ())}


@lru_cache(maxsize=256)
def _imported_names(data: bytes) -> frozenset[str]:
    """The first parts of the names that a file imports, in functions too; relative ones aside."""
    import ast  # 3 ms that `cnnjax --help` need not wait for

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they come when it is compiled
            nodes = list(ast.walk(ast.parse(data)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # said when it is compiled
        return frozenset()
    names = []
    for node in nodes:
        match node:
            case ast.Import():
                names += [alias.name for alias in node.names]
            case ast.ImportFrom(level=0, module=str(name)):
                names.append(name)
            case ast.Call(
                func=ast.Name("import_module" | "__import__") | ast.Attribute(attr="import_module"),
                args=[ast.Constant(str(name)), *_],
            ):
                names.append(name)
    return frozenset(_top(name) for name in names if not name.startswith("."))


def _sibling(name: str, file: Source) -> list[Source]:
    """The module `name` beside `file`, if there is one: a file, or all files of a package."""
    folder = file.path.parent
    path = _beside(folder, name)
    if path is None or name == _OURS or folder.name in _INSTALLED:
        return []
    other = _sources.get(name)
    if other is not None and _folder(other) != folder:
        raise Refused(
            f"two files are imported as {name}: {other.path} and {path}; rename one of them"
        )
    if path == file.path:  # itself; flax.py that imports flax means the installed one
        return [] if other is None and _taken(name, path) else [replace(file, name=name)]
    if other is None and (taken := _taken(name, path)):
        raise Refused(
            f"{file.path.name} imports {name}, and {path} has the name of {taken}; rename that"
            f" file, e.g. to my_{path.relative_to(folder).parts[0]}"
        )
    try:
        return _package(name, path) if path.name == "__init__.py" else [read_source(name, path)]
    except OSError as error:
        raise Refused(f"{error.filename} cannot be read ({error.strerror})") from None


def _beside(folder: Path, name: str) -> Path | None:
    for path in (folder / name / "__init__.py", folder / f"{name}.py"):
        if path.is_file():
            return path
    return None


def _folder(source: Source) -> Path:
    """Where a module lies that is no part of a package."""
    package = source.path.name == "__init__.py"
    return source.path.parent.parent if package else source.path.parent


def _package(name: str, path: Path) -> list[Source]:
    found: dict[str, Source] = {}
    for file in python_files(path.parent):
        parts = file.relative_to(path.parent).with_suffix("").parts
        for depth in range(len(parts)):  # a folder may lack its __init__.py
            inside = ".".join((name, *parts[:depth]))
            init = path.parent.joinpath(*parts[:depth], "__init__.py")
            found.setdefault(inside, Source(inside, init, b"", hashlib.sha256().hexdigest()))
        module = ".".join((name, *(parts[:-1] if parts[-1] == "__init__" else parts)))
        found[module] = read_source(module, file)
    return list(found.values())


def _taken(name: str, path: Path) -> str | None:
    """Whose name a file would take, in words; None if nobody's, or if it is that module."""
    module = sys.modules.get(name) or _hidden.get(name)
    if module is not None and _is_of(module, path):
        return None
    if name in sys.stdlib_module_names:
        return f"Python's own module {name}"
    if module is not None:
        return f"a module that is imported ({getattr(module, '__file__', None) or 'no file'})"
    for finder in sys.meta_path:
        spec = None if finder is _FINDER else finder.find_spec(name, None)
        if spec is not None and spec.origin is not None:  # None: a folder, which a file precedes
            return None if _same(spec.origin, path) else f"an installed module ({spec.origin})"
    return None


def _is_of(module: ModuleType, path: Path) -> bool:
    return _same(getattr(module, "__file__", None), path)


def _same(file: object, path: Path) -> bool:
    return isinstance(file, str) and os.path.realpath(file) == os.path.realpath(path)


def is_stale(module: ModuleType, path: Path) -> bool:
    """Whether Python's note on the file that it imported (.pyc) is of another version."""
    try:
        note, now = Path(module.__spec__.cached).read_bytes()[4:16], path.stat()  # type: ignore
    except (AttributeError, TypeError, OSError):
        return False
    seen = [int.from_bytes(note[at : at + 4], "little") for at in (0, 4, 8)]
    if seen[0]:  # the note is of the content, and says nothing of time
        return False
    return seen != [0, int(now.st_mtime) & 0xFFFFFFFF, now.st_size & 0xFFFFFFFF]


def _imported_from(folder: Path) -> list[str]:
    """Names in sys.modules of what Python itself imported from a folder."""
    if folder.name in _INSTALLED:
        return []
    try:
        names = {Path(name).stem for name in os.listdir(folder)} & set(sys.modules) - {_OURS}
    except OSError:  # a folder may be searched but not listed
        return []
    tops = {
        name
        for name in names
        if (path := _beside(folder, name)) is not None and _is_of(sys.modules[name], path)
    }
    return [name for name in list(sys.modules) if _top(name) in tops]


def _top(name: str) -> str:
    return name.partition(".")[0]


class _Loader(SourceFileLoader):
    """Runs the bytes that were hashed (no .pyc), or gives the module that they were run as."""

    def __init__(self, name: str, path: str, source: Source | None, module: ModuleType | None):
        super().__init__(name, path)
        self._source, self._module = source, module
        self._spec = getattr(module, "__spec__", None)

    def path_stats(self, path):
        raise OSError("there is no .pyc of these bytes")

    def get_data(self, path):
        if self._source is not None and path == str(self._source.path):
            return self._source.data
        return super().get_data(path)

    def source_to_code(self, data, path, **options):
        return compile(data, said(path), "exec", dont_inherit=True)

    def create_module(self, spec):
        return self._module

    def exec_module(self, module):
        if self._module is not None:
            module.__spec__ = self._spec  # importing gave it another
            return
        _modules[self.name] = module  # a nested load, or a circle, is to find it
        try:
            super().exec_module(module)
        except BaseException:
            _modules.pop(self.name, None)
            raise
        _modules[self.name] = sys.modules.get(self.name, module)  # it may have put another there


class _Finder:
    """First on sys.meta_path: serves siblings by name."""

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        loading = _loading.get()
        if loading is not None and name not in loading.found:
            importer = _importer(loading)
            if importer is None:
                return _spec(name, None, _hidden.get(name))
            if "." not in name and (new := siblings_of(loading.file, [name])):
                _computed[importer.path, importer.sha256].add(name)
                new = {key: new[key] for key in new if key not in loading.found}
                loading.found.update(new)
                _serve(loading, new)
        if loading is None or name in loading.found:
            source = _sources.get(name)
            module = _hidden.get(name) if source is None else _modules.get(name)
            if source is not None or module is not None:
                return _spec(name, source, module)
        parent, _, child = name.rpartition(".")
        if parent in _sources and _beside(_sources[parent].path.parent, child):
            raise ModuleNotFoundError(f"{name} is newer than {parent} as it was loaded", name=name)
        return None


_FINDER = _Finder()


def _spec(name: str, source: Source | None, module: ModuleType | None) -> ModuleSpec | None:
    if source is None and module is None:
        return None
    path = str(source.path if source is not None else getattr(module, "__file__", name))
    package = hasattr(module, "__path__") if source is None else path.endswith("__init__.py")
    spec = ModuleSpec(name, _Loader(name, path, source, module), origin=path, is_package=package)
    spec.has_location = True
    if spec.submodule_search_locations is not None:
        spec.submodule_search_locations.append(os.path.dirname(path))
    return spec


def _importer(loading: _Loading) -> Source | None:
    """The user's file that imports now; None: another module does, which siblings do not concern.

    So a folder's tools.py is not what an installed package finds as `tools`.
    """
    files = {said(source.path): source for source in [loading.file, *loading.found.values()]}
    machinery = ("<frozen importlib", importlib.__file__)
    frame = sys._getframe()
    for inside in (False, True):  # out of this finder, then out of what called it
        while frame is not None and frame.f_code.co_filename.startswith(machinery) is inside:
            frame = frame.f_back
    return None if frame is None else files.get(frame.f_code.co_filename)
