"""AlexNet's choices in a four-layer network for small images, as the paper tries them on CIFAR-10
(Krizhevsky et al. 2012: ReLU against tanh in figure 1, local response normalisation in section
3.3).

layer   output    made by
conv1   32x32x32  5x5, activation, LRN
pool1   16x16     3x3 max, stride 2
conv2   16x16x32  5x5, activation, LRN
pool2   8x8       3x3 max, stride 2
conv3   8x8x64    5x5, activation
pool3   4x4       3x3 max, stride 2
head    dense

A last window of a pooling may overhang, so that windows of 2 and of 3 give maps of one size.
"""

from typing import Literal

from jaxtyping import Array, Float

from cnnjax.core.architectures import Variant, register_models
from cnnjax.core.errors import Refused
from cnnjax.layers.conv_norm import Conv, require_images
from cnnjax.layers.layer import Layer
from cnnjax.ops.activation import ACTIVATIONS, Activation
from cnnjax.ops.norm import ALPHA, check_lrn, local_response_norm
from cnnjax.ops.pool import avg_pool, max_pool, min_pool

_POOLS = {"max": max_pool, "average": avg_pool, "min": min_pool}


@register_models(
    paper="Krizhevsky et al. 2012, NIPS 25",
    year=2012,
    input_shape=(32, 32, 3),
    variants=(
        Variant(
            "alexnet_small",
            {},
            89_578,
            "own; the sum over its layers",
            departs="the paper says of its four-layer network for CIFAR-10 no more than that;"
            " He's initialisation",
        ),
    ),
)
class AlexNetSmall(Layer):
    """Float images [n, h, w, c] of 8x8 pixels or more to float32 logits [n, num_classes].

    features: of the three convolutions.
    width: multiplies them.
    activation: behind each convolution.
    lrn: local response normalisation behind the first two.
    lrn_alpha: the paper's, for pixels from 0 to 255; where they are 0 to 1, 255^2 times it is its
      equal.
    pooling: max, average or min; "strided" has none, and convolutions of stride 2 (Springenberg et
      al. 2015, arXiv:1412.6806, section 2).
    overlapping: windows of 3 at stride 2, else of 2.

    Raises:
      Refused: a convolution is left without a channel, the images are too small, or a field has no
        effect.
    """

    features: tuple[int, int, int] = (32, 32, 64)
    width: float = 1.0
    num_classes: int = 10
    activation: Activation = "relu"
    lrn: bool = True
    lrn_alpha: float = ALPHA
    pooling: Literal["max", "average", "min", "strided"] = "max"
    overlapping: bool = True

    def __post_init__(self):
        if not all(0.5 < channels * self.width < 2**31 for channels in self.features):
            raise Refused(f"width {self.width} leaves no channel; it multiplies {self.features}")
        if self.pooling == "strided" and not self.overlapping:
            raise Refused("overlapping=false has no effect: pooling=strided has no windows")
        check_lrn(self.lrn, self.lrn_alpha)
        super().__post_init__()

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least."""
        return 8

    def setup(self):
        stride = 2 if self.pooling == "strided" else 1
        self.conv1, self.conv2, self.conv3 = (
            Conv(round(channels * self.width), 5, stride, use_bias=True, **self.numerics)
            for channels in self.features
        )
        self.head = self.dense(self.num_classes)

    def feature_maps(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> dict[int, Float[Array, "n _ _ _"]]:
        """What each pooling gives by its stride: 2, 4, 8."""
        require_images(images, self.smallest_image)
        x, maps = images, {}
        for layer in (self.conv1, self.conv2, self.conv3):
            x = ACTIVATIONS[self.activation](layer(x))
            if self.lrn and layer is not self.conv3:
                x = local_response_norm(x, alpha=self.lrn_alpha)
            x = maps[2 ** (len(maps) + 1)] = self._pool(x)
        return maps

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n {self.num_classes}"]:
        x = self.feature_maps(images, train=train)[8]
        return self.head(x.reshape(x.shape[0], -1)).astype(float)

    def _pool(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        if self.pooling == "strided":
            return x
        return _POOLS[self.pooling](x, 3 if self.overlapping else 2, 2, ceil_mode=True)
