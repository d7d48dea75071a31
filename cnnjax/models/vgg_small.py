"""VGG's comparison of small and large kernels (Simonyan & Zisserman 2014, section 2.3), for small
images: stages of units of one receptive field, a 2x2 max pooling between.

unit           convolutions        sees   weights    ReLUs
one5x5         5x5                 5x5    25 C^2     1
two3x3         3x3, 3x3            5x5    18 C^2     2
two3x3linear   3x3, 3x3            5x5    18 C^2     1, behind the unit
one7x7         7x7                 7x7    49 C^2     1
three3x3       3x3, 3x3, 3x3       7x7    27 C^2     3
"""

from typing import Literal

from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.core.architectures import Variant, register_models
from cnnjax.core.errors import Refused
from cnnjax.layers.conv_norm import Conv, Normalization, require_images
from cnnjax.layers.layer import Layer
from cnnjax.ops.norm import ALPHA, check_lrn, local_response_norm
from cnnjax.ops.pool import global_avg_pool, max_pool

Unit = Literal["one5x5", "two3x3", "two3x3linear", "one7x7", "three3x3"]

_KERNELS: dict[str, tuple[int, ...]] = {
    "one5x5": (5,),
    "two3x3": (3, 3),
    "two3x3linear": (3, 3),
    "one7x7": (7,),
    "three3x3": (3, 3, 3),
}


@register_models(
    paper="Simonyan & Zisserman 2014, arXiv:1409.1556",
    year=2014,
    input_shape=(32, 32, 3),
    variants=(
        Variant(
            "vgg_small",
            {},
            40_122,
            "own; the sum over its layers",
            departs="small images, batch normalisation behind each unit, no hidden dense layers;"
            " the paper's own comparison is vgg13 with vgg13_5x5",
        ),
    ),
)
class VGGSmall(Layer):
    """Float images [n, h, w, c] to float32 logits [n, num_classes].

    unit: one5x5, two3x3, two3x3linear (no ReLU between), one7x7, three3x3.
    features: channels of each stage.
    units: in each stage.
    width: multiplies the channels.
    normalization: behind the last convolution of each unit, so that units differ in nothing else;
      "none": every convolution has a bias instead.
    lrn: local response normalisation behind the first unit; the paper's net A-LRN has it behind the
      first convolution.
    lrn_alpha: the paper's, for pixels from 0 to 255; where they are 0 to 1, 255^2 times it is its
      equal.

    Raises:
      Refused: a stage is left without a channel, or the images are too small.
    """

    unit: Unit = "two3x3"
    features: tuple[int, ...] = (16, 32)
    units: int = 2
    width: float = 1.0
    num_classes: int = 10
    normalization: Normalization = "batch"
    lrn: bool = False
    lrn_alpha: float = ALPHA

    def __post_init__(self):
        if not self.features or self.units < 1:
            raise Refused(f"features={self.features}, units={self.units}: a network needs a unit")
        if not all(0.5 < channels * self.width < 2**31 for channels in self.features):
            raise Refused(f"width {self.width} leaves no channel; it multiplies {self.features}")
        check_lrn(self.lrn, self.lrn_alpha)
        super().__post_init__()

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least."""
        return 2 ** (len(self.features) - 1)

    def setup(self):
        bare = self.normalization == "none"
        for stage, channels in enumerate(self.features, start=1):
            for unit in range(1, self.units + 1):
                name, features = f"stage{stage}_unit{unit}", round(channels * self.width)
                for index, size in enumerate(_KERNELS[self.unit], start=1):
                    conv = Conv(features, size, use_bias=bare, **self.numerics)
                    setattr(self, f"{name}_conv{index}", conv)
                if not bare:
                    setattr(self, f"{name}_norm", self.batch_norm())
        self.head = self.dense(self.num_classes, dtype="float32")

    def feature_maps(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> dict[int, Float[Array, "n _ _ _"]]:
        """The last map of each stage by its stride: 1, 2, 4, ..."""
        require_images(images, self.smallest_image)
        x, maps = images, {}
        for stage in range(1, len(self.features) + 1):
            if stage > 1:
                x = max_pool(x, 2)
            for unit in range(1, self.units + 1):
                x = nn.relu(self._unit(f"stage{stage}_unit{unit}", x, train))
                if self.lrn and (stage, unit) == (1, 1):
                    x = local_response_norm(x, alpha=self.lrn_alpha)
            maps[2 ** (stage - 1)] = x
        return maps

    def _unit(self, name: str, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n h w f"]:
        for index in range(1, len(_KERNELS[self.unit]) + 1):
            if index > 1 and self.unit != "two3x3linear":
                x = nn.relu(x)
            x = getattr(self, f"{name}_conv{index}")(x)
        if self.normalization == "none":
            return x
        return getattr(self, f"{name}_norm")(x, use_running_average=not train)

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n {self.num_classes}"]:
        maps = self.feature_maps(images, train=train)
        return self.head(global_avg_pool(maps[max(maps)]).astype(float))
