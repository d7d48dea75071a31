"""The networks by name: `register_models` is called once in a family's file, on its class."""

import fnmatch
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from cnnjax.core.errors import Refused, unknown
from cnnjax.core.registry import Entry, Registry
from cnnjax.core.user_code import is_own, refused

T = TypeVar("T")

_NUM_CLASSES = "outputs; those of the task on the data set, unless it is given"


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
class Architecture(Entry):
    """What the registry knows about a network."""

    year: int | None = None
    paper: str = ""
    input_shape: tuple[int, int, int] | None = None  # height, width, channels
    params: int | None = None  # published
    source: str = ""
    macs: float | None = None  # published, rounded
    macs_source: str = ""
    departs: str = ""
    task: str = "classification"  # what it is for


class _Models(Registry[Architecture]):
    """Networks: named variants, and families of any depth."""

    kind, home = "model", "cnnjax.models"
    hint = "see: cnnjax models, or give FILE.py:Class"

    def __init__(self):
        super().__init__()
        self.families: dict[str, Callable[[int], Architecture]] = {}

    def own(self, name: str, thing: Any) -> Architecture:
        from flax import linen as nn

        if not isinstance(thing, type) or not issubclass(thing, nn.Module):
            raise Refused(f"{name} is no network: give a class that derives from nn.Module")
        return Architecture(name, thing, paper=name.rpartition(":")[0])

    def hidden(self, make: Callable[..., Any]) -> Iterable[str]:
        return ("parent", "name")  # flax's own

    def sentences(self, name: str) -> dict[str, str]:
        known = {} if is_own(name) else {"num_classes": _NUM_CLASSES}
        return known | super().sentences(name)

    def converted(self, name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """All settings; another kind of backbone begins without the fields of the default's."""
        found = super().converted(name, fields)
        if (
            "backbone" in fields
            and "backbone_fields" not in fields
            and not is_own(found["backbone"])
        ):
            usual = self.settings(name)["backbone"].default
            if self.find(found["backbone"]).make is not self.find(usual).make:
                found["backbone_fields"] = None
        return found

    def find(self, name: str) -> Architecture:
        if is_own(name) or name in (known := self.names()):
            return super().find(name)
        for template, architecture in self.families.items():
            match = re.fullmatch(template.replace("{depth}", r"([1-9]\d{0,3})"), name)
            if match:
                return architecture(int(match[1]))
        depth = "".join(re.findall(r"\d+", name)[-1:])
        free = [template.format(depth=depth) for template in self.families] if depth else []
        near = [one for one in dict.fromkeys([*free, *known]) if one != name]
        raise unknown("model", name, near, self.hint)


MODELS = _Models()


def register_models(
    *,
    paper: str,
    year: int,
    input_shape: tuple[int, int, int],
    variants: tuple[Variant, ...],
    depth_names: Mapping[str, Mapping[str, Any]] | None = None,
    task: str = "classification",
) -> Callable[[type[T]], type[T]]:
    """Class decorator: register a family.

    Args:
      paper: authors, year and identifier.
      year: of the paper.
      input_shape: default height, width, channels.
      variants: the named networks.
      depth_names: {"cifar_resnet{depth}": fields}: the family has any depth under such a name;
        the class itself refuses an impossible one.
      task: what the networks are for.
    """

    def decorate(model_class: type[T]) -> type[T]:
        common: dict[str, Any] = {"year": year, "paper": paper, "input_shape": input_shape}
        common["task"] = task
        for variant in variants:
            MODELS.add(
                Architecture(
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
                    task=task,
                )
            )
        for template, fields in (depth_names or {}).items():

            def entry(depth: int, template=template, fields=fields) -> Architecture:
                name = template.format(depth=depth)
                return Architecture(name, model_class, {**fields, "depth": depth}, **common)

            MODELS.families[template] = entry
        return model_class

    return decorate


def list_models(pattern: str = "*") -> list[str]:
    """Names of the registered models that match a shell pattern, in the order of their files.

    Families with a free depth are listed at the depths that their papers report.
    """
    return [name for name in MODELS.names() if fnmatch.fnmatch(name, pattern)]


def create_model(name: str, **overrides: Any) -> Any:
    """The flax module named `name`, with some fields replaced.

    >>> create_model("cifar_resnet20", num_classes=100).depth
    20

    Raises:
      Refused: no such model or field, or the network is impossible (depth 21).
    """
    fields = MODELS.converted(name, overrides)
    classes = fields.get("num_classes", 1)
    if isinstance(classes, int) and classes < 1:
        raise Refused(f"model.num_classes={classes}: must be 1 or more")
    with refused(f"{name} cannot be made"):
        return MODELS.find(name).make(**fields)
