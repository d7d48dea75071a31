"""U-Net (Ronneberger et al. 2015, arXiv:1505.04597, figure 1), with its parts as switches.

down    2 convolutions 3x3, ReLU      max pooling 2x2        channels 64, 128, 256, 512
bottom  2 convolutions 3x3, ReLU                             1024
up      "up-convolution" 2x2, halves  the map from below and 512, 256, 128, 64
        the channels                  the one from beside,
                                      2 convolutions 3x3
head    convolution 1x1                                      classes
"""

import itertools
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.core.architectures import Variant, register_models
from cnnjax.core.errors import Refused
from cnnjax.layers.conv_norm import Conv, ConvTranspose, Normalization
from cnnjax.layers.layer import Layer
from cnnjax.ops.pool import max_pool, max_pool_with_indices, max_unpool
from cnnjax.ops.resize import resize_bilinear

Upsampling = Literal["transposed", "bilinear", "unpool"]
Skip = Literal["concat", "sum", "none"]

_DEEPEST = 8  # poolings


@register_models(
    task="segmentation",
    paper="Ronneberger et al. 2015, arXiv:1505.04597",
    year=2015,
    input_shape=(64, 64, 1),
    variants=(
        Variant(
            "unet",
            {},
            31_030_658,
            "sum over the layers of figure 1: 1 channel, 2 classes",
            input_shape=(572, 572, 1),
        ),
        Variant(
            "unet_small",
            {"features": 8, "depth": 3, "padded": True, "normalization": "batch"},
            121_042,
            "own; the sum over its layers",
            departs="8 channels at first, three poolings, padded convolutions, batch normalisation",
        ),
    ),
)
class UNet(Layer):
    """Float images [n, h, w, c] to float32 logits [n, h2, w2, num_classes].

    features: channels at full size; twice as many behind each pooling.
    depth: poolings.
    width: multiplies the channels.
    padded: convolutions keep the size of their maps; else, as in the paper, each one takes a pixel
      on every side, and the map from beside is cropped to its middle.
    normalization: "batch" behind each 3x3 convolution, or "none": they have a bias.
    upsampling: on the way up, each with as many parameters: transposed, a transposed convolution
      2x2; bilinear, resized and then a convolution 2x2; unpool, a convolution 2x2 whose values
      go where the pooling's maxima stood.
    skip: how the map from beside joins: concat, sum, or none.

    Raises:
      Refused: there is no channel or no pooling left, or the images do not fit the poolings.
    """

    features: int = 64
    depth: int = 4
    width: float = 1.0
    num_classes: int = 2
    padded: bool = False
    normalization: Normalization = "none"
    upsampling: Upsampling = "transposed"
    skip: Skip = "concat"

    def __post_init__(self):
        if not 1 <= self.depth <= _DEEPEST or not 0.5 < self.features * self.width < 2**14:
            raise Refused(
                f"features={self.features}, depth={self.depth}, width={self.width}: a U-Net has a"
                f" pooling, {_DEEPEST} at most, and a channel at full size"
            )
        super().__post_init__()

    @property
    def channels(self) -> tuple[int, ...]:
        """At full size and behind each pooling."""
        first = self.features * self.width
        return tuple(round(first * 2**level) for level in range(self.depth + 1))

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least."""
        return next(size for size in itertools.count(1) if self._fits(size))

    @nn.nowrap
    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Of the logits: unpadded convolutions take from the border."""
        taken = 0 if self.padded else 4
        around = taken * (2**self.depth + 2 * (2**self.depth - 1))
        return height - around, width - around

    def setup(self):
        for level, features in enumerate(self.channels):
            self._pair(f"down{level}" if level < self.depth else "bottom", features)
        for level in reversed(range(self.depth)):
            features = self.channels[level]
            if self.upsampling == "transposed":
                up = ConvTranspose(features, **self.numerics)
            else:
                up = Conv(features, 2, padding=0, use_bias=True, **self.numerics)
            setattr(self, f"up{level}", up)
            self._pair(f"up{level}", features)
        self.head = Conv(self.num_classes, 1, use_bias=True, **self.numerics)

    def _pair(self, name: str, features: int) -> None:
        """Two 3x3 convolutions and what follows each."""
        bare, padding = self.normalization == "none", int(self.padded)
        for index in (1, 2):
            conv = Conv(features, 3, padding=padding, use_bias=bare, **self.numerics)
            setattr(self, f"{name}_conv{index}", conv)
            if not bare:
                setattr(self, f"{name}_norm{index}", self.batch_norm())

    def _twice(self, name: str, x: Float[Array, "n h w c"], train: bool) -> Float[Array, "n _ _ f"]:
        for index in (1, 2):
            x = getattr(self, f"{name}_conv{index}")(x)
            if self.normalization == "batch":
                x = getattr(self, f"{name}_norm{index}")(x, use_running_average=not train)
            x = nn.relu(x)
        return x

    def _down(self, images: Float[Array, "n h w c"], train: bool) -> tuple[list, list]:
        """The map of each level, and of each pooling where its maxima stood."""
        self._check_size(*images.shape[1:3])
        x, maps, places = images, [], []
        for level in range(self.depth):
            maps.append(self._twice(f"down{level}", x, train))
            if self.upsampling == "unpool":
                x, where = max_pool_with_indices(maps[-1], 2)
                places.append(where)
            else:
                x = max_pool(maps[-1], 2)
        return [*maps, self._twice("bottom", x, train)], places

    def feature_maps(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> dict[int, Float[Array, "n _ _ _"]]:
        """The last map of each level on the way down by its stride: 1, 2, 4, ..."""
        return {2**level: x for level, x in enumerate(self._down(images, train)[0])}

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n h2 w2 {self.num_classes}"]:
        maps, places = self._down(images, train)
        x = maps.pop()
        for level in reversed(range(self.depth)):
            up, size = getattr(self, f"up{level}"), (2 * x.shape[1], 2 * x.shape[2])
            if self.upsampling == "transposed":
                x = up(x)
            elif self.upsampling == "bilinear":
                x = up(_one_more(resize_bilinear(x, size)))
            else:
                x = up(_one_more(x))
                whole = max_unpool(x, _middle(places[level], x.shape[1:3]), maps[level].shape[1:3])
                x = _middle(whole, size)
            x = self._joined(x, maps[level])
            x = self._twice(f"up{level}", x, train)
        return self.head(x).astype(float)

    def _joined(
        self, x: Float[Array, "n h w c"], beside: Float[Array, "n h2 w2 c"]
    ) -> Float[Array, "n h w d"]:
        if self.skip == "none":
            return x
        beside = _middle(beside, x.shape[1:3])
        return x + beside if self.skip == "sum" else jnp.concatenate([beside, x], axis=-1)

    def _check_size(self, height: int, width: int) -> None:
        fit = self._fits(height), self._fits(width)
        if all(fit):
            return
        wrong = (height, width)[fit.index(False)]
        near = [next(size for size in itertools.count(wrong) if self._fits(size))]
        near = [size for size in range(wrong, 0, -1) if self._fits(size)][:1] + near
        raise Refused(
            f"images of {height}x{width}: through {self.depth} poolings by 2"
            f" {'' if self.padded else 'and unpadded convolutions '}go sides of"
            f" {' or '.join(map(str, near))} px, not {wrong}"
        )

    def _fits(self, size: int) -> bool:
        taken = 0 if self.padded else 4
        for _ in range(self.depth):
            size -= taken
            if size < 2 or size % 2:
                return False
            size //= 2
        size -= taken
        for _ in range(self.depth):
            size = 2 * size - taken
        return size > 0


def _one_more(x: Array) -> Array:
    """A row below and a column on the right: a 2x2 convolution keeps the size."""
    return jnp.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))


def _middle(x: Array, size: tuple[int, ...]) -> Array:
    """The middle of a map."""
    top, left = ((x.shape[axis] - size[axis - 1]) // 2 for axis in (1, 2))
    return x[:, top : top + size[0], left : left + size[1]]
