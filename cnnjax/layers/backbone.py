"""A network that stands on another one: its maps, by stride, instead of its classes."""

from collections.abc import Mapping
from typing import Any

from flax import linen as nn
from flax.core import FrozenDict
from jaxtyping import Array, Float

from cnnjax.core.architectures import MODELS, create_model
from cnnjax.core.errors import Refused, unknown
from cnnjax.core.user_code import is_own
from cnnjax.layers.layer import Layer
from cnnjax.layers.scan import Runs


class OnBackbone(Layer, kw_only=True):
    """Has the parameters of its backbone, but those of its classes, as `body`.

    Attributes:
      backbone: one of the networks that ship and have feature maps.
      backbone_fields: of it, e.g. {"units": 1}; {}: as it is, and so for another kind of backbone
        than the network's own.
      width: multiplies the channels of a backbone that has such a field.

    Raises:
      Refused: the backbone is no classifier that ships, or has no such field.
    """

    backbone: str
    backbone_fields: Any = None
    width: float = 1.0

    def __post_init__(self):
        if is_own(self.backbone):
            raise Refused(f"backbone={self.backbone}: give a network that ships (cnnjax models)")
        if not isinstance(self.backbone_fields, Mapping | None):
            raise Refused(f'backbone_fields={self.backbone_fields}: fields by name, {{"units": 1}}')
        what = MODELS.find(self.backbone).task
        if what != "classification":
            raise Refused(f"backbone={self.backbone} is for {what}: give one for classification")
        object.__setattr__(self, "backbone_fields", _hashable(self.backbone_fields))
        super().__post_init__()

    @nn.nowrap
    def make_body(self, **changes: Any) -> Any:
        """The backbone, unbound; for `setup`. `changes`: of its fields."""
        fields: dict[str, Any] = {"dtype": self.dtype, "param_dtype": self.param_dtype}
        if self.width != 1:
            fields["width"] = self.width
        fields |= {**(self.backbone_fields or {}), **changes}
        known = MODELS.settings(self.backbone)
        for name in fields:  # before Python takes one for an argument of its own
            if name not in known:
                raise unknown(f"field of backbone {self.backbone}", name, known)
        try:
            body = create_model(self.backbone, **fields)
        except Refused as error:
            raise Refused(f"backbone {self.backbone}: {error}") from None
        if not hasattr(body, "feature_maps"):
            raise Refused(f"backbone={self.backbone} has no feature maps")
        return body

    @nn.nowrap
    def equal_blocks(self) -> Runs:
        """Those of the backbone."""
        names = getattr(self.make_body(), "equal_blocks", None)
        return names() if names else ()

    def feature_maps(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> dict[int, Float[Array, "n _ _ _"]]:
        """Those of the backbone, by stride."""
        return self.body.feature_maps(images, train=train)

    @nn.nowrap
    def check_strides(self, maps: Mapping[int, Array], strides: tuple[int, ...]) -> None:
        """Refuse strides that the backbone does not have."""
        if missing := [stride for stride in strides if stride not in maps]:
            raise Refused(
                f"strides={list(strides)}: {self.backbone} has no map of stride {missing[0]};"
                f" it has {', '.join(map(str, maps))}"
            )

    @nn.nowrap
    def check_covered(
        self, images: Float[Array, "n h w c"], maps: Mapping[int, Array], strides: tuple[int, ...]
    ) -> None:
        """Refuse images that the maps do not cover: anchors would lie beside their places."""
        _, height, width, _ = images.shape
        for stride in strides:
            found = maps[stride].shape[1:3]
            if found != places(height, width, stride):
                raise Refused(
                    f"images of {height}x{width}: {self.backbone} has a map of {found[0]}x"
                    f"{found[1]} at stride {stride}, which does not cover them; give sides that"
                    f" {max(strides)} divides"
                )


def places(height: int, width: int, stride: int) -> tuple[int, int]:
    """The size of a map that covers an image."""
    return -(-height // stride), -(-width // stride)


def _hashable(value: Any) -> Any:
    """Lists, as a file has them, as tuples: programs are kept by network."""
    if isinstance(value, Mapping):
        return FrozenDict({name: _hashable(one) for name, one in value.items()})
    return tuple(map(_hashable, value)) if isinstance(value, list | tuple) else value
