"""Every model under the name that its users know.

A family's file calls `register_models` once on its class. A user's own class needs no
registration: FILE.py:Class works wherever a name does.
"""

import fnmatch
import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, field
from typing import Any, get_type_hints

from cnnjax.core.errors import Refused, unknown
from cnnjax.core.user_code import load_file, refused, source_digest

ARCHITECTURES = "cnnjax.models"  # imported on first use; each of its files registers its family
_LINEN_FIELDS = {"parent", "name"}  # flax's own


@dataclass(frozen=True)
class Variant:
    """One named network of a family.

    Attributes:
      fields: the fields of the class that make this variant.
      params: the published number of trained parameters at the default input, if there is one.
      source: where that figure stands.
      macs: published multiply-accumulates, as rounded there.
      macs_source: where that figure stands.
      input_shape: default height, width, channels, where it is not the family's.
      departs: in what it is not the paper's network.
      paper, year: where they are not the family's.
    """

    name: str
    fields: Mapping[str, Any]
    params: int | None = None
    source: str = ""
    macs: float | None = None
    macs_source: str = ""
    input_shape: tuple[int, int, int] | None = None
    departs: str = ""
    paper: str = ""
    year: int | None = None


@dataclass(frozen=True)
class Entry:
    """What the registry knows about a name."""

    name: str
    model_class: type
    fields: Mapping[str, Any] = field(default_factory=dict)
    year: int | None = None
    paper: str = ""
    input_shape: tuple[int, int, int] | None = None  # height, width, channels
    params: int | None = None  # published
    source: str = ""
    macs: float | None = None  # published, rounded
    macs_source: str = ""
    departs: str = ""


_entries: dict[str, Entry] = {}
# Of users' files: a name and the class that it gave, which may be defined in another module.
_digests: dict[tuple[str, type], str] = {}
_patterns: dict[str, Callable[[int], Entry]] = {}


def register_models(
    *,
    paper: str,
    year: int,
    input_shape: tuple[int, int, int],
    variants: tuple[Variant, ...],
    depth_names: Mapping[str, Mapping[str, Any]] | None = None,
) -> Callable[[type], type]:
    """Class decorator: register a family.

    Args:
      paper: authors, year and identifier.
      year: of the paper.
      input_shape: default height, width, channels.
      variants: the named networks.
      depth_names: {"cifar_resnet{depth}": fields}: the family has any depth under such a name;
        the class itself refuses an impossible one.
    """

    def decorate(model_class: type) -> type:
        common: dict[str, Any] = {"year": year, "paper": paper, "input_shape": input_shape}
        for variant in variants:
            if variant.name in _entries and _entries[variant.name].model_class is not model_class:
                raise Refused(f"two models are named {variant.name!r}")
            _entries[variant.name] = Entry(
                variant.name,
                model_class,
                dict(variant.fields),
                params=variant.params,
                source=variant.source,
                macs=variant.macs,
                macs_source=variant.macs_source,
                departs=variant.departs,
                year=variant.year or year,
                paper=variant.paper or paper,
                input_shape=variant.input_shape or input_shape,
            )
        for template, fields in (depth_names or {}).items():

            def entry(depth: int, template=template, fields=fields) -> Entry:
                name = template.format(depth=depth)
                return Entry(name, model_class, {**fields, "depth": depth}, **common)

            _patterns[template] = entry
        return model_class

    return decorate


def find(name: str) -> Entry:
    """The entry of a registered name, of a depth of a family, or of FILE.py:Class.

    Raises:
      Refused: there is no such model.
    """
    if ".py:" in name:
        return _from_file(name)
    importlib.import_module(ARCHITECTURES)
    if name in _entries:
        return _entries[name]
    for template, entry in _patterns.items():
        match = re.fullmatch(template.replace("{depth}", r"([1-9]\d{0,3})"), name)
        if match:
            return entry(int(match[1]))
    depth = "".join(re.findall(r"\d+", name)[-1:])
    free = [template.format(depth=depth) for template in _patterns] if depth else []
    known = [one for one in dict.fromkeys([*free, *_entries]) if one != name]
    raise unknown("model", name, known, "see: cnnjax models, or give FILE.py:Class")


def list_models(pattern: str = "*") -> list[str]:
    """Names of the registered models that match a shell pattern, in the order of their files.

    Families with a free depth are listed at the depths that their papers report.
    """
    importlib.import_module(ARCHITECTURES)
    return [name for name in _entries if fnmatch.fnmatch(name, pattern)]


def create_model(name: str, **overrides: Any) -> Any:
    """The flax module named `name`, with some fields replaced.

    >>> create_model("cifar_resnet20", num_classes=100).depth
    20

    Raises:
      Refused: no such model or field, or the network is impossible (depth 21).
    """
    from cnnjax.core.config import convert

    entry = find(name)
    types = field_types(name)
    fields = dict(entry.fields)
    for key, value in overrides.items():
        if key not in types:
            raise unknown(f"field of {name}", key, types)
        fields[key] = convert(value, types[key], f"model.{key}")
    classes = fields.get("num_classes", 1)
    if isinstance(classes, int) and classes < 1:
        raise Refused(f"model.num_classes={classes}: must be 1 or more")
    missing = [key for key in _required(entry.model_class) if key in types and key not in fields]
    if missing:
        raise Refused(
            f"{name} has no default for {', '.join(missing)}; set it, e.g."
            f" --set model.{missing[0]}=VALUE"
        )
    with refused(f"{name} cannot be made"):
        return entry.model_class(**fields)


def field_types(name: str) -> dict[str, Any]:
    """Name and type of each field of the model `name`, without flax's own."""
    model_class = find(name).model_class
    with refused(f"the types of {name}'s fields cannot be read"):
        hints = get_type_hints(model_class)
    own = getattr(model_class, "__dataclass_fields__", {})
    return {key: hints[key] for key in own if key not in _LINEN_FIELDS and key in hints}


def source_digests(models: Iterable[tuple[str, Any]]) -> dict[str, str]:
    """SHA-256 of each user's file behind models: as it was loaded for them.

    Args:
      models: names, and the modules that they gave.

    Raises:
      Refused: a file was edited between two loads.
    """
    found: dict[str, str] = {}
    for name, model in models:
        digest = _digests.get((name, type(model)))
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


def _required(model_class: type) -> list[str]:
    """Names of the fields that have no default."""
    own = getattr(model_class, "__dataclass_fields__", {})
    return [
        key
        for key, spec in own.items()
        if spec.init and spec.default is MISSING and spec.default_factory is MISSING
    ]


def _from_file(name: str) -> Entry:
    path, _, class_name = name.rpartition(":")
    from flax import linen as nn

    module = load_file(path, "model")
    model_class = getattr(module, class_name, None)
    if not isinstance(model_class, type) or not issubclass(model_class, nn.Module):
        classes = [
            key
            for key, value in vars(module).items()
            if isinstance(value, type)
            and issubclass(value, nn.Module)
            and value.__module__ == module.__name__
        ]
        if hasattr(module, class_name):
            named = f" ({', '.join(classes)})" if classes else ""
            raise Refused(f"{name} is no network: give a class that derives from nn.Module{named}")
        raise unknown(f"network in {path}:", class_name, classes)
    _digests[name, model_class] = source_digest(module)
    return Entry(name, model_class, paper=path)
