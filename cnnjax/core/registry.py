"""Everything that has a name: networks, tasks, optimisers. One registry for each kind.

A thing that ships registers itself in its own file. A user's own needs no registration:
FILE.py:name and package.module:name work wherever a name does.
"""

import importlib
import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field, is_dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, Generic, TypeVar, get_type_hints

from cnnjax.core.errors import Refused, unknown
from cnnjax.core.sentences import field_sentences
from cnnjax.core.user_code import is_own, load_object, refused
from cnnjax.core.values import convert

REQUIRED = MISSING  # the default of a setting that has none


@dataclass(frozen=True)
class Setting:
    """One setting of a named thing: its type and its default (`REQUIRED`: it has none)."""

    type: Any
    default: Any


@dataclass(frozen=True)
class Entry:
    """What a registry knows about a name.

    Attributes:
      make: a class or a function.
      fields: the settings that the name fixes.
    """

    name: str
    make: Callable[..., Any]
    fields: Mapping[str, Any] = field(default_factory=dict)


_Entry = TypeVar("_Entry", bound=Entry)

# Of users' files: a name and what it gave, which may be defined in another module.
_digests: dict[tuple[str, Any], str] = {}


class Registry(ABC, Generic[_Entry]):
    """The things of one kind; a subclass says what its kind is."""

    kind: str  # in messages, and the group of settings in a recipe: "model"
    home: str  # the package whose files register what ships; imported at the first look
    hint: str  # what to type to see all names

    def __init__(self):
        self._entries: dict[str, _Entry] = {}

    @abstractmethod
    def own(self, name: str, thing: Any) -> _Entry:
        """The entry of a user's own thing.

        Raises:
          Refused: it is not of this kind.
        """

    def hidden(self, make: Callable[..., Any]) -> Iterable[str]:
        """Fields or parameters that are no settings."""
        return ()

    def verify(self, name: str, values: Mapping[str, Any]) -> None:
        """Raises ValueError ("momentum=1: must be below 1") for values that are impossible."""

    def add(self, entry: _Entry) -> None:
        """Register what ships.

        Raises:
          Refused: the name is taken.
        """
        old = self._entries.get(entry.name)
        if old is not None and old.make is not entry.make:
            raise Refused(f"two {self.kind}s are named {entry.name!r}")
        self._entries[entry.name] = entry

    def names(self) -> list[str]:
        """Those that ship, in the order of their files."""
        importlib.import_module(self.home)
        return list(self._entries)

    def find(self, name: str) -> _Entry:
        """The entry of a registered name or of a user's own.

        Raises:
          Refused: there is none.
        """
        if is_own(name):
            thing, digest = load_object(name, self.kind)
            entry = self.own(name, thing)
            _digests[name, thing] = digest
            return entry
        known = self.names()
        if name not in self._entries:
            raise unknown(self.kind, name, known, self.hint)
        return self._entries[name]

    def settings(self, name: str) -> dict[str, Setting]:
        """What a user may set of the thing `name`, with the defaults that the name has."""
        entry = self.find(name)
        with refused(f"the types of {name}'s settings cannot be read"):
            own = _parameters(entry.make)
        hidden = set(self.hidden(entry.make))
        return {
            key: Setting(setting.type, entry.fields.get(key, setting.default))
            for key, setting in own.items()
            if key not in hidden
        }

    def sentences(self, name: str) -> dict[str, str]:
        """What is said of each setting of `name`: in the docstring of its function, or of its class
        and of those from which that derives."""
        make, known, found = self.find(name).make, self.settings(name), {}
        for one in reversed(getattr(make, "__mro__", (make,))):
            found |= field_sentences(one.__doc__, known)
        return found

    def converted(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """All settings of `name`, those of `fields` in place of the defaults.

        Raises:
          Refused: there is no such setting, it has another type, or one is missing.
        """
        known = self.settings(name)
        values = {key: setting.default for key, setting in known.items()}
        for key, value in fields.items():
            if key not in known:
                raise unknown(f"field of {name}", key, known)
            values[key] = convert(value, known[key].type, f"{self.kind}.{key}")
        if missing := [key for key, value in values.items() if value is REQUIRED]:
            raise Refused(
                f"{name} has no default for {', '.join(missing)}; set it, e.g."
                f" --set {self.kind}.{missing[0]}=VALUE"
            )
        return values


def source_digests(things: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """SHA-256 of the sources behind users' own things: as they were loaded.

    Args:
      things: names, and the classes or functions that they gave.

    Raises:
      Refused: a file was edited between two loads.
    """
    found: dict[str, str] = {}
    for name, thing in things:
        digest = _digests.get((name, thing))
        if digest is None:
            continue
        file = name.rpartition(":")[0]
        if found.setdefault(file, digest) != digest:
            raise Refused(f"{file} was edited while it was read; type the command again")
    return dict(sorted(found.items()))


def check_sources(stored: Mapping[str, str], now: Mapping[str, str], of: str) -> None:
    """Refuse to go on with what another version of a user's file made.

    Args:
      stored, now: `source_digests`, then and now.
      of: what was made, e.g. "runs/first was trained".
    """
    changed = [file for file in {**stored, **now} if stored.get(file) != now.get(file)]
    if changed:
        raise Refused(
            f"{', '.join(changed)} was edited since {of}; bring the file back as it was, or make"
            " the result anew in another folder"
        )


def _parameters(make: Callable[..., Any]) -> dict[str, Setting]:
    """The fields of a dataclass, or the parameters of a function."""
    if isinstance(make, type) and is_dataclass(make):
        hints = get_type_hints(make)
        return {
            f.name: Setting(hints[f.name], _default(f))
            for f in dataclass_fields(make)
            if f.init and f.name in hints
        }
    hints = get_type_hints(make)
    return {
        key: Setting(
            hints.get(key, Any), REQUIRED if p.default is inspect.Parameter.empty else p.default
        )
        for key, p in inspect.signature(make).parameters.items()
        if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    }


def _default(spec: Any) -> Any:
    return spec.default_factory() if spec.default_factory is not MISSING else spec.default
