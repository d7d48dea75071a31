"""Settings are frozen data: overridden by path, and written without what is a default.

A setting's type is the type hint of its field; values are converted strictly (12.5 is no int).
Two kinds of object have fields: a dataclass, and a `Named` (whose `fields` belong to the thing
that its registry knows by that name).
"""

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, get_type_hints

from cnnjax.core.errors import Refused, refused_at, unknown
from cnnjax.core.recipe import Model, Named, Optimizer, Recipe, Task, registry_of
from cnnjax.core.values import convert, json_or_word, plain, shown

FORMAT = 2  # of a recipe in run.json, study.json and config.json
_NAMED = {"task": Task, "model": Model, "optimizer": Optimizer}  # parts of a recipe


@dataclass(frozen=True)
class Assignment:
    """A setting that a user gives.

    Attributes:
      path: "optimizer.learning_rate".
      value: plain.
      given: as it was typed, for messages: "--learning-rate 0.1".
      where: it stands, if that is no command line: "variant plain-9".
    """

    path: str
    value: Any
    given: str
    where: str = ""


def setting_types(config: Any) -> dict[str, Any]:
    """Name and type of each setting directly inside `config`."""
    if isinstance(config, Named):
        settings = registry_of(config).settings(config.name)
        return {"name": str, **{key: setting.type for key, setting in settings.items()}}
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
        if isinstance(config, Named):
            _refuse_named(config, name, list(types), inside)
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
    part = _get(config, name)
    if isinstance(part, Named):  # its settings, as a study's file gives them; a name comes first
        for key in sorted(value, key=lambda key: key != "name"):
            part = override(part, key, value[key], inside=f"{inside}{name}.")
        return replace(config, **{name: part})
    if group:  # a whole one
        known = [f.name for f in fields(_get(config, name))]
        for key in value:  # msgspec would leave it out without a word
            if key not in known:
                raise unknown(f"setting in {inside}{name}:", str(key), known)
    converted = convert(value, types[name], inside + name)
    try:
        if isinstance(config, Named):
            if name == "name":
                registry_of(config).find(converted)
            else:
                registry_of(config).verify(config.name, {name: converted})
            return config.with_field(name, converted)
        return replace(config, **{name: converted})
    except ValueError as error:
        raise Refused(f"{inside}{error}") from None


def _refuse_named(config: Named, name: str, known: list[str], inside: str) -> None:
    """What a model, a task or an optimiser has, where nothing of it is nearly `name`."""
    if not difflib.get_close_matches(name, known, cutoff=0.6):
        has = ", ".join(one for one in known if one != "name") or "none"
        raise Refused(f"no setting {inside + name!r}: {config.name} has {has}")


def assignment(text: str) -> Assignment:
    """What a user types after --set: "optimizer.learning_rate=0.05"."""
    path, separator, value = text.partition("=")
    if not separator or not path.strip():
        raise Refused(f"--set {text}: write it as key=value, e.g. batch_size=64")
    return Assignment(path.strip(), json_or_word(value.strip()), f"--set {text}")


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

    # A name decides which settings there are, so it comes before them.
    def place(each: Assignment) -> tuple[int, bool]:
        return each.path.count("."), not each.path.endswith(".name")

    for each in sorted(assignments, key=place):
        with refused_at(each.where):
            recipe = override(recipe, each.path, each.value)
    recipe = canonical(recipe)
    idle = idle_settings(recipe)
    for each in assignments:
        if each.path in idle:
            raise Refused(f"{each.given} has no effect: {idle[each.path]}")
    return recipe


def idle_settings(recipe: Recipe) -> dict[str, str]:
    """Settings that have no effect beside the others, by path, and why."""
    return {
        **recipe.idle(),
        **registry_of(recipe.task).find(recipe.task.name).make.idle(recipe.task.name),
    }


def canonical(recipe: Recipe) -> Recipe:
    """`recipe` with every value in its declared type, and of named parts without defaults.

    0 and 0.0 are one setting, and so are a default and its absence.

    Raises:
      Refused: a value has another type or is a number that no file can hold, or there is no such
        name or setting.
    """
    for part, kind in _NAMED.items():
        given = getattr(recipe, part)
        if not isinstance(given, kind):
            raise Refused(f"recipe: {part}={shown(given)} must be a {kind.__name__}(...)")
        registry = registry_of(given)
        known, values = registry.settings(given.name), {}
        for name, value in plain(given.fields).items():
            if name not in known:
                raise unknown(f"setting of {part} {given.name}:", name, known)
            values[name] = convert(value, known[name].type, f"{part}.{name}")
        try:
            registry.verify(given.name, values)
        except ValueError as error:
            raise Refused(f"{part}.{error}") from None
        kept = {n: v for n, v in values.items() if plain(v) != plain(known[n].default)}
        recipe = replace(recipe, **{part: type(given)(given.name, plain(kept))})
    written = plain(recipe)
    if path := _unfit(written):
        raise Refused(
            f"{path.replace('.fields.', '.')}: a number must be finite and within 64 bits"
        )
    return convert(written, Recipe, "recipe")


def compact(config: Any) -> Any:
    """`config` as plain values without what is a default: what is hashed and written.

    A new setting with a default leaves the identity of every older recipe as it was.
    """
    if isinstance(config, Named):
        return plain({"name": config.name, **({"fields": config.fields} if config.fields else {})})
    if not is_dataclass(config):
        return plain(config)
    default = type(config)()
    return {
        f.name: compact(value)
        for f in fields(config)
        if (value := getattr(config, f.name)) != getattr(default, f.name)
    }


def effective(recipe: Recipe) -> dict[str, Any]:
    """Every setting by its path, as `--set` takes it; those of a name that it has by default only
    where they are numbers or words."""
    found: dict[str, Any] = {}
    for field in fields(recipe):
        part = getattr(recipe, field.name)
        if isinstance(part, Named):
            values = registry_of(part).settings(part.name)
            own = {key: part.fields.get(key, setting.default) for key, setting in values.items()}
            own = {key: value for key, value in own.items() if _is_plain(value)}
            found |= {f"{field.name}.name": part.name}
        elif is_dataclass(part):
            own = _leaves(part)
        else:
            found[field.name] = plain(part)
            continue
        found |= {f"{field.name}.{key}": plain(value) for key, value in own.items()}
    return found


def _leaves(part: Any) -> dict[str, Any]:
    """Every setting inside a dataclass by its path."""
    found: dict[str, Any] = {}
    for f in fields(part):
        value = getattr(part, f.name)
        inner = _leaves(value) if is_dataclass(value) else {"": value}
        found |= {f"{f.name}.{name}".removesuffix("."): leaf for name, leaf in inner.items()}
    return found


def _is_plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def spelled_out(written: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Every setting of what `compact` wrote, by its path: to say in what two recipes differ."""
    return effective(full(written, where))


def full(written: Mapping[str, Any], where: str) -> Recipe:
    """The recipe of which `compact` is `written`.

    Raises:
      Refused: it has a setting that is not known here, from another version say.
    """
    _check_known(Recipe(), written, where)
    return convert(written, Recipe, where)


def _check_known(part: Any, written: Mapping[str, Any], where: str, inside: str = "") -> None:
    known = [field.name for field in fields(part)]
    for name, value in written.items():
        if name not in known:
            raise unknown("setting", inside + name, [inside + one for one in known], f"see {where}")
        inner = getattr(part, name)
        if isinstance(value, Mapping) and is_dataclass(inner):
            _check_known(inner, value, where, f"{inside}{name}.")


def _get(config: Any, name: str) -> Any:
    if isinstance(config, Named) and name != "name":
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
