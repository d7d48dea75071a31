"""Settings are frozen data: read, override by path, write, hash and compare them.

A setting's type is the type hint of its field; values are converted strictly (12.5 is no int).
Three kinds of object have fields: a dataclass, a `Model` (whose `fields` belong to the class that
the registry names), and nothing else.
"""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from cnnjax.core.errors import Refused, unknown
from cnnjax.core.recipe import Model, Recipe


@dataclass(frozen=True)
class Assignment:
    """A setting that a user gives.

    Attributes:
      path: "optimizer.learning_rate".
      value: plain.
      given: as it was typed, for messages: "--learning-rate 0.1".
    """

    path: str
    value: Any
    given: str


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
    group = setting_types(_get(config, name))
    if rest and not group:
        raise Refused(f"no setting {inside + path!r}: {inside}{name} is one value")
    if rest:
        child = override(_get(config, name), rest, value, inside=f"{inside}{name}.")
        return replace(config, **{name: child})
    if group and not isinstance(value, Mapping):
        inner = ", ".join(f"{inside}{name}.{leaf}" for leaf in group)
        raise Refused(f"{inside}{name} is a group of settings; set one of {inner}")
    if group:  # a whole one, as a study's file gives it
        known = [f.name for f in fields(_get(config, name))]
        for key in value:  # msgspec would leave it out without a word
            if key not in known:
                raise unknown(f"setting in {inside}{name}:", str(key), known)
    converted = convert(value, types[name], inside + name)
    try:
        if isinstance(config, Model):
            return config.with_field(name, converted)
        return replace(config, **{name: converted})
    except ValueError as error:
        raise Refused(f"{inside}{error}") from None


def assignment(text: str) -> Assignment:
    """What a user types after --set: "optimizer.learning_rate=0.05"."""
    path, separator, value = text.partition("=")
    if not separator or not path.strip():
        raise Refused(f"--set {text}: write it as key=value, e.g. batch_size=64")
    return Assignment(path.strip(), json_or_word(value.strip()), f"--set {text}")


def override_text(config: Any, text: str) -> Any:
    """`override` from what a user types: "optimizer.learning_rate=0.05"."""
    given = assignment(text)
    return override(config, given.path, given.value)


def override_all(recipe: Recipe, assignments: Sequence[Assignment]) -> Recipe:
    """`recipe` with all `assignments`, in whatever order they were given.

    Raises:
      Refused: an unknown setting or a wrong value, a setting given twice, or one that has no
        effect beside the others.
    """
    given: dict[str, str] = {}
    for each in assignments:
        for path, other in given.items():
            shorter, longer = sorted((f"{path}.", f"{each.path}."), key=len)
            if longer.startswith(shorter):
                raise Refused(f"{other} and {each.given} both set {each.path}; give one of them")
        given[each.path] = each.given
    # A model's name decides which fields it has, so it comes before them.
    for each in sorted(assignments, key=lambda a: (a.path.count("."), a.path != "model.name")):
        recipe = override(recipe, each.path, each.value)
    recipe, idle = canonical(recipe), recipe.idle()
    for each in assignments:
        if each.path in idle:
            raise Refused(f"{each.given} has no effect: {idle[each.path]}")
    return recipe


def canonical(recipe: Recipe) -> Recipe:
    """`recipe` with every value in its declared type: 0 and 0.0 are one setting, one hash.

    Raises:
      Refused: a value has another type or is a number that no file can hold, or there is no such
        model or field.
    """
    if not isinstance(recipe.model, Model):
        raise Refused(f"recipe: model={shown(recipe.model)} must be a Model(...)")
    types = setting_types(recipe.model)
    for name in recipe.model.fields:
        if name not in types:
            raise unknown(f"field of {recipe.model.name}", name, types)
    values = {
        name: convert(value, types[name], f"model.{name}")
        for name, value in plain(recipe.model.fields).items()
    }
    written = plain(replace(recipe, model=Model(recipe.model.name, values)))
    if path := _unfit(written):
        raise Refused(
            f"{path.replace('.fields.', '.')}: a number must be finite and within 64 bits"
        )
    return convert(written, Recipe, "recipe")


def convert(value: Any, wanted: Any, where: str) -> Any:
    """`value` as type `wanted`, strictly; the error names the setting `where`."""
    try:
        return msgspec.convert(value, wanted, strict=True)
    except msgspec.ValidationError as error:
        allowed = get_args(wanted) if get_origin(wanted) is Literal else ()
        reason = f"it is one of {', '.join(map(str, allowed))}" if allowed else error
        given = where if isinstance(value, Mapping) else f"{where}={shown(value)}"
        raise Refused(f"{given}: {reason}") from None


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


def plain(config: Any) -> Any:
    """`config` as JSON values: dicts, lists, strings, numbers, None."""
    if is_dataclass(config) and not isinstance(config, type):
        return {f.name: plain(getattr(config, f.name)) for f in fields(config)}
    if isinstance(config, Mapping):
        return {str(key): plain(value) for key, value in config.items()}
    if isinstance(config, tuple | list):
        return [plain(value) for value in config]
    return config + 0.0 if isinstance(config, float) else config  # -0.0 is 0.0


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


def _unfit(value: Any, path: str = "") -> str | None:
    """The path of a number that no file can hold: not finite, or beyond 64 bits."""
    if isinstance(value, Mapping):
        inner = [(f"{path}.{key}".removeprefix("."), child) for key, child in value.items()]
    elif isinstance(value, list):
        inner = [(path, child) for child in value]
    else:
        real = isinstance(value, float) and not math.isfinite(value)
        whole = isinstance(value, int) and abs(value) >= 2**63
        return path if real or whole else None
    return next(filter(None, (_unfit(child, where) for where, child in inner)), None)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")
