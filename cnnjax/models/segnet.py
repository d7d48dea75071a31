"""Segmentation by an encoder and its mirror image, which puts values back where maxima stood.

encoder   VGG's thirteen 3x3 convolutions, each normalised, ReLU; 2x2 max pooling behind a stage
middle    DeconvNet only: 7x7 to 4096, 1x1 to 4096, 7x7 back to 512
decoder   stage by stage in reverse: unpooling, as many 3x3 convolutions, the last to the channels
          of the stage before
head      segnet's last convolution; deconvnet's 1x1

segnet      Badrinarayanan et al. 2015, arXiv:1511.00561, figure 2
deconvnet   Noh et al. 2015, arXiv:1505.04366, table 2
"""

from typing import Literal

from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.core.architectures import Variant, register_models
from cnnjax.core.errors import Refused
from cnnjax.layers.conv_norm import Conv, require_images
from cnnjax.layers.layer import Layer
from cnnjax.ops.pool import max_pool_with_indices, max_unpool
from cnnjax.ops.resize import resize_bilinear

FEATURES = (64, 128, 256, 512, 512)
CONVOLUTIONS = (2, 2, 3, 3, 3)


@register_models(
    task="segmentation",
    paper="Badrinarayanan et al. 2015, arXiv:1511.00561",
    year=2015,
    input_shape=(360, 480, 3),
    variants=(
        Variant(
            "segnet",
            {},
            29_449_932,
            "the sum over its layers: 26 convolutions with a bias, normalised but the last",
        ),
        Variant(
            "deconvnet",
            {"num_classes": 21, "middle": 4096},
            251_805_653,
            "the sum over the layers of table 2, normalised",
            input_shape=(224, 224, 3),
            departs="transposed 3x3 convolutions at stride 1 are written as convolutions: the same"
            " functions",
            paper="Noh et al. 2015, arXiv:1505.04366",
        ),
    ),
)
class SegNet(Layer):
    """Float images [n, h, w, c] of 32x32 pixels or more to float32 logits [n, h, w, num_classes].

    features: channels of each stage of the encoder.
    convolutions: in each stage.
    middle: channels between encoder and decoder, DeconvNet's; 0: nothing stands there.
    width: multiplies the channels.
    upsampling: unpool, values go where the maxima of the poolings stood; bilinear, maps are
      resized. Neither has parameters.

    Raises:
      Refused: no stage, another number of convolutions than of stages, no channel left, or the
        images are too small.
    """

    features: tuple[int, ...] = FEATURES
    convolutions: tuple[int, ...] = CONVOLUTIONS
    middle: int = 0
    width: float = 1.0
    num_classes: int = 12
    upsampling: Literal["unpool", "bilinear"] = "unpool"

    def __post_init__(self):
        same = len(self.features) == len(self.convolutions)
        if not self.features or not same or min(self.convolutions) < 1:
            raise Refused(
                f"features={list(self.features)}, convolutions={list(self.convolutions)}: a stage"
                " has channels and a convolution"
            )
        if not all(0.5 < one * self.width < 2**20 for one in self.features) or self.middle < 0:
            raise Refused(
                f"width={self.width}, middle={self.middle}: a stage has a channel, 2^20 at most"
            )
        super().__post_init__()

    @nn.nowrap
    def decoder(self) -> dict[str, int]:
        """Channels of each convolution on the way back by name; the last has the classes."""
        rows: dict[str, int] = {}
        for stage in range(len(self.features), 0, -1):
            count = self.convolutions[stage - 1]
            for index in range(1, count + 1):
                before = index == count and stage > 1
                rows[f"up{stage}_conv{index}"] = self._channels(stage - 1 if before else stage)
        if not self.middle:
            rows[list(rows)[-1]] = self.num_classes
        return rows

    def _channels(self, stage: int) -> int:
        return round(self.features[stage - 1] * self.width)

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least; the middle needs a map of 7x7."""
        return 2 ** len(self.features) * (7 if self.middle else 1)

    def setup(self):
        for stage, count in enumerate(self.convolutions, start=1):
            for index in range(1, count + 1):
                self._add(f"down{stage}_conv{index}", self._channels(stage))
        if self.middle:
            wide = round(self.middle * self.width)
            self._add("middle1", wide, 7, padding=0)
            self._add("middle2", wide, 1)
            self._add("middle3", self._channels(len(self.features)), 7, padding=6)
        for name, features in self.decoder().items():
            last = not self.middle and name == list(self.decoder())[-1]
            self._add(name, features, normalized=not last)
        if self.middle:
            self.head = Conv(self.num_classes, 1, use_bias=True, **self.numerics)

    def _add(
        self,
        name: str,
        features: int,
        kernel_size: int = 3,
        padding: int | None = None,
        normalized: bool = True,
    ) -> None:
        conv = Conv(features, kernel_size, padding=padding, use_bias=True, **self.numerics)
        setattr(self, name, conv)
        if normalized:
            setattr(self, f"{name}_norm", self.batch_norm())

    def _step(self, name: str, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n _ _ f"]:
        x, norm = getattr(self, name)(x), getattr(self, f"{name}_norm", None)
        return x if norm is None else nn.relu(norm(x, use_running_average=not train))

    def _down(self, images: Float[Array, "n h w c"], train: bool) -> tuple[list, list, Array]:
        """The map of each stage, where its maxima stand, and the last pooling."""
        require_images(images, self.smallest_image)
        x, maps, places = images, [], []
        for stage, count in enumerate(self.convolutions, start=1):
            for index in range(1, count + 1):
                x = self._step(f"down{stage}_conv{index}", x, train)
            maps.append(x)
            x, where = max_pool_with_indices(x, 2)
            places.append(where)
        return maps, places, x

    def feature_maps(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> dict[int, Float[Array, "n _ _ _"]]:
        """The last map of each stage of the encoder by its stride: 1, 2, 4, ..."""
        return {2**level: x for level, x in enumerate(self._down(images, train)[0])}

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n h w {self.num_classes}"]:
        maps, places, x = self._down(images, train)
        if self.middle:
            for name in ("middle1", "middle2", "middle3"):
                x = self._step(name, x, train)
        for stage in range(len(self.features), 0, -1):
            size = maps[stage - 1].shape[1:3]
            if self.upsampling == "unpool":
                x = max_unpool(x, places[stage - 1], size)
            else:
                x = resize_bilinear(x, size)
            for index in range(1, self.convolutions[stage - 1] + 1):
                x = self._step(f"up{stage}_conv{index}", x, train)
        return (self.head(x) if self.middle else x).astype(float)
