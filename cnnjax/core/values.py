"""Plain values: converted strictly to a type, shown in a message, hashed, compared."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Literal, get_args, get_origin

import msgspec

from cnnjax.core.errors import Refused

_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": 'a list, e.g. ["stem"]',
    "null": "null",
    "object": "a group of settings",
}


def convert(value: Any, wanted: Any, where: str) -> Any:
    """`value` as type `wanted`, strictly (12.5 is no int); the error names the setting `where`."""
    try:
        return msgspec.convert(value, wanted, strict=True)
    except msgspec.ValidationError as error:
        allowed = get_args(wanted) if get_origin(wanted) is Literal else ()
        reason = f"it is one of {', '.join(map(str, allowed))}" if allowed else _in_words(error)
        given = where if isinstance(value, Mapping) else f"{where}={shown(value)}"
        raise Refused(f"{given}: {reason}") from None


def _in_words(error: msgspec.ValidationError) -> str:
    """ "Expected `int | null`, got `str`" as "give a whole number or null, not text"."""
    met = re.fullmatch(r"Expected `([^`]*)`, got `([^`]*)`(.*)", str(error), re.DOTALL)
    if met is None:
        return str(error)
    wanted, found = (
        [_WORDS.get(kind, f"`{kind}`") for kind in part.split(" | ")] for part in met.group(1, 2)
    )
    return f"give {' or '.join(wanted)}, not {' or '.join(found)}{met[3]}"


def shown(value: Any) -> str:
    """A value in a message, as a user would type it."""
    try:
        return value if isinstance(value, str) else json.dumps(value, default=str)
    except (TypeError, ValueError):  # names that are no words, a number of thousands of digits
        return "..."


def json_or_word(text: str) -> Any:
    """`text` read as JSON where it is JSON, else as a word."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def plain(value: Any) -> Any:
    """`value` as JSON values: dicts, lists, strings, numbers, None."""
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, tuple | list):
        return [plain(inner) for inner in value]
    return value + 0.0 if isinstance(value, float) else value  # -0.0 is 0.0


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON form of `value` (hexadecimal)."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Lines "path: old -> new" for each place where two plain values differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines = []
        for key in [*old, *(key for key in new if key not in old)]:
            # The settings of a named part stand directly under it, as in --set.
            inner = path if key == "fields" else f"{path}.{key}" if path else str(key)
            lines += differences(old.get(key), new.get(key), inner)
        return lines
    return [] if old == new else [f"{path}: {json.dumps(old)} -> {json.dumps(new)}"]


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
