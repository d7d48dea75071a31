"""Settings are frozen data: read, override by path, write, hash and compare them.

A setting's type is the type hint of its field; values are converted strictly (12.5 is no int).
Three kinds of object have fields: a dataclass, a `Model` (whose `fields` belong to the class that
the registry names), and nothing else.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from cnnjax.core.errors import Refused, unknown
from cnnjax.core.recipe import Model


def setting_types(config: Any) -> dict[str, Any]:
    """Name and type of each setting directly inside `config`."""
    if isinstance(config, Model):
        from cnnjax.core.registry import field_types

        return {"name": str, **field_types(config.name)}
    if is_dataclass(config):
        return get_type_hints(type(config))
    return {}


def override(config: Any, path: str, value: Any, *, inside: str = "") -> Any:
    """A copy of `config` with the setting at dotted `path` replaced.

    Args:
      config: a frozen dataclass, e.g. a `Recipe`.
      path: "optimizer.learning_rate".
      value: a plain value, converted strictly to the setting's type.
      inside: the path that leads to `config`, for error messages.

    Raises:
      Refused: there is no such setting, or the value has another type.
    """
    name, _, rest = path.partition(".")
    types = setting_types(config)
    if name not in types:
        nested = [
            f"{field}.{leaf}" for field in types for leaf in setting_types(_get(config, field))
        ]
        raise unknown("setting", inside + path, [inside + field for field in [*types, *nested]])
    if rest:
        child = override(_get(config, name), rest, value, inside=f"{inside}{name}.")
        return replace(config, **{name: child})
    if setting_types(_get(config, name)) and not isinstance(value, Mapping):
        inner = ", ".join(f"{inside}{name}.{leaf}" for leaf in setting_types(_get(config, name)))
        raise Refused(f"{inside}{name} is a group of settings; set one of {inner}")
    converted = convert(value, types[name], inside + name)
    try:
        if isinstance(config, Model):
            return config.with_field(name, converted)
        return replace(config, **{name: converted})
    except ValueError as error:
        raise Refused(f"{inside}{error}") from None


def override_text(config: Any, assignment: str) -> Any:
    """`override` from what a user types: "optimizer.learning_rate=0.05"."""
    path, separator, text = assignment.partition("=")
    if not separator or not path:
        raise Refused(f"--set {assignment}: write it as key=value, e.g. batch_size=64")
    return override(config, path.strip(), json_or_word(text.strip()))


def convert(value: Any, wanted: Any, where: str) -> Any:
    """`value` as type `wanted`, strictly; the error names the setting `where`."""
    try:
        return msgspec.convert(value, wanted, strict=True)
    except msgspec.ValidationError as error:
        shown = value if isinstance(value, str) else json.dumps(value, default=str)
        allowed = get_args(wanted) if get_origin(wanted) is Literal else ()
        reason = f"it is one of {', '.join(map(str, allowed))}" if allowed else error
        raise Refused(f"{where}={shown}: {reason}") from None


def json_or_word(text: str) -> Any:
    """`text` read as JSON where it is JSON, else as a word."""
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return text


def plain(config: Any) -> Any:
    """`config` as JSON values: dicts, lists, strings, numbers, None."""
    if is_dataclass(config) and not isinstance(config, type):
        return {f.name: plain(getattr(config, f.name)) for f in fields(config)}
    if isinstance(config, Mapping):
        return {str(key): plain(value) for key, value in config.items()}
    if isinstance(config, tuple | list):
        return [plain(value) for value in config]
    return config


def digest(value: Any) -> str:
    """SHA-256 of the canonical JSON form of `value` (hexadecimal)."""
    text = json.dumps(plain(value), sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def differences(old: Any, new: Any, path: str = "") -> list[str]:
    """Lines "path: old -> new" for each place where two plain values differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        lines = []
        for key in [*old, *(key for key in new if key not in old)]:
            inner = f"{path}.{key}" if path else str(key)
            lines += differences(old.get(key), new.get(key), inner)
        return lines
    return [] if old == new else [f"{path}: {json.dumps(old)} -> {json.dumps(new)}"]


def _get(config: Any, name: str) -> Any:
    if isinstance(config, Model) and name != "name":
        return config.fields.get(name)
    return getattr(config, name)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
