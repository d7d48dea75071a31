"""Every model under the name that its users know.

A family's file calls `register_models` once on its class. A user's own class needs no
registration: FILE.py:Class works wherever a name does.
"""

import fnmatch
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_type_hints

from cnnjax.core.errors import Refused, unknown

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
        match = re.fullmatch(template.replace("{depth}", r"(\d{1,5})"), name)
        if match:
            return entry(int(match[1]))
    depth = "".join(re.findall(r"\d+", name)[-1:])
    free = [template.format(depth=depth) for template in _patterns] if depth else []
    known = list(dict.fromkeys([*free, *_entries]))
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
    return entry.model_class(**fields)


def field_types(name: str) -> dict[str, Any]:
    """Name and type of each field of the model `name`, without flax's own."""
    model_class = find(name).model_class
    hints = get_type_hints(model_class)
    own = getattr(model_class, "__dataclass_fields__", {})
    return {key: hints[key] for key in own if key not in _LINEN_FIELDS and key in hints}


def source_digests(names: Iterable[str]) -> dict[str, str]:
    """SHA-256 of each user's file among model names: an edited network is another network."""
    files = {name.rpartition(":")[0] for name in names if ".py:" in name}
    return {
        file: hashlib.sha256(Path(file).expanduser().read_bytes()).hexdigest()
        for file in sorted(files)
    }


def load_file(path_text: str, kind: str) -> Any:
    """Import a user's Python file as a module of its own.

    Raises:
      Refused: there is no such file, or it does not import.
    """
    path = Path(path_text).expanduser().resolve()
    if not path.is_file():
        raise Refused(f"no {kind} file {path_text}; give the path of a .py file that exists")
    name = f"cnnjax_user_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise Refused(f"{path_text} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Refused:
        del sys.modules[name]
        raise
    except Exception as error:
        del sys.modules[name]
        raise Refused(f"{path_text} does not import: {type(error).__name__}: {error}") from error
    return module


def _from_file(name: str) -> Entry:
    path, _, class_name = name.rpartition(":")
    module = load_file(path, "model")
    model_class = getattr(module, class_name, None)
    if not isinstance(model_class, type) or not hasattr(model_class, "apply"):
        classes = [
            key
            for key, value in vars(module).items()
            if isinstance(value, type)
            and hasattr(value, "apply")
            and value.__module__ == module.__name__
        ]
        raise unknown(f"flax module in {path}:", class_name, classes)
    return Entry(name, model_class, paper=path)
