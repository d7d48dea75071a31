"""Every setting of a recipe, with what its type and its docstring say of it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from cnnjax.core.config import setting_types
from cnnjax.core.errors import unknown
from cnnjax.core.recipe import Named, Recipe, registry_of
from cnnjax.core.registry import REQUIRED
from cnnjax.core.sentences import allowed_values, field_sentences, type_in_words
from cnnjax.core.values import plain

_FIXED = ("source",)  # of a recipe: says where it is from, changes nothing


@dataclass(frozen=True)
class Described:
    """One setting.

    Attributes:
      path: as `--set` takes it.
      type: in words.
      default: of the recipe; `REQUIRED`: there is none.
      allowed: the values, if they can be named; None: there are others.
      sentence: what it does; "" where nothing says it.
    """

    path: str
    type: str
    default: Any
    allowed: list[Any] | None
    sentence: str


def list_settings(recipe: Recipe, prefix: str = "") -> list[Described]:
    """The settings of `recipe` whose paths begin with `prefix`, in the order of its parts.

    Only what the prefix asks for is looked up: a list of optimisers imports jax, one of data sets
    does not.

    Raises:
      Refused: there is none.
    """
    found: list[Described] = []
    top = field_sentences(type(recipe).__doc__, [f.name for f in fields(recipe)])
    types = setting_types(recipe)
    for part in fields(recipe):
        value = getattr(recipe, part.name)
        inside = f"{part.name}."
        if part.name in _FIXED or not (inside.startswith(prefix) or prefix.startswith(inside)):
            continue
        if isinstance(value, Named) or hasattr(value, "__dataclass_fields__"):
            found += _inside(value, inside)
        else:
            found.append(_described(part.name, types[part.name], value, top))
    found = [one for one in found if one.path.startswith(prefix)]
    if not found:
        raise unknown("setting", prefix, _paths(recipe))
    return found


def _paths(recipe: Recipe) -> list[str]:
    groups = [f.name for f in fields(recipe) if f.name not in _FIXED]
    leaves = [f"{g}.{leaf}" for g in groups for leaf in setting_types(getattr(recipe, g))]
    return [*groups, *leaves]


def _inside(part: Any, inside: str) -> list[Described]:
    types = setting_types(part)
    sentences = field_sentences(type(part).__doc__, types)
    values = {name: getattr(part, name) for name in types if not isinstance(part, Named)}
    if isinstance(part, Named):
        registry = registry_of(part)
        sentences = registry.sentences(part.name) | sentences
        own = {key: setting.default for key, setting in registry.settings(part.name).items()}
        values = {"name": part.name, **own, **part.fields}
    found = []
    for name in types:
        if is_dataclass(values[name]):
            found += _inside(values[name], f"{inside}{name}.")
        else:
            found.append(_described(name, types[name], values[name], sentences, inside))
    return found


def _described(
    name: str, hint: Any, value: Any, sentences: Mapping[str, str], inside: str = ""
) -> Described:
    return Described(
        path=inside + name,
        type=type_in_words(hint),
        default=value if value is REQUIRED else plain(value),
        allowed=allowed_values(hint),
        sentence=sentences.get(name, ""),
    )
