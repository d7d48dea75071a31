"""LeNet-5 (LeCun, Bottou, Bengio & Haffner 1998, section II.B).

layer   output    paper                                        modern
C1      28x28x6   5x5                                          5x5
S2      14x14x6   2x2 sum, coefficient and bias for each map   2x2 average
C3      10x10x16  5x5, each map sees 3 to 6 of the 6 (table I) 5x5, all of the 6
S4      5x5x16    as S2                                        2x2 average
C5      1x1x120   5x5                                          5x5
F6      84        dense                                        dense
output  10        distance to fixed 7x12 bitmaps               dense

What libraries call LeNet is the modern one.
"""

from functools import partial
from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.core.architectures import Variant, register_models
from cnnjax.core.errors import Refused
from cnnjax.layers.conv_norm import Conv
from cnnjax.layers.layer import Initialization, Layer
from cnnjax.layers.lenet import RBF, TABLE_I, PartialConv, SubSampling, random_table
from cnnjax.models.lenet_bitmaps import BITMAPS
from cnnjax.ops.activation import ACTIVATIONS
from cnnjax.ops.pool import avg_pool, max_pool

_MODERN = {
    "connections": "full",
    "pooling": "average",
    "activation": "tanh",
    "output": "dense",
    "initialization": "glorot",
}
_POOLING = {"average": avg_pool, "max": max_pool}


@register_models(
    paper="LeCun et al. 1998, Proc. IEEE 86(11)",
    year=1998,
    input_shape=(32, 32, 1),
    variants=(
        Variant(
            "lenet5",
            {},
            60_000,
            "section II.B, the sum over its layers",
            departs="the bitmaps of the output are drawings of our own; trained by SGD",
        ),
        Variant(
            "lenet5_modern",
            _MODERN,
            61_706,
            "the sum over its layers",
            departs="full C3, plain average pooling, tanh, dense output, Glorot's initialisation",
        ),
    ),
)
class LeNet5(Layer, kw_only=True):
    """Images [n, h, w, c] of 32x32, 28x28 (padded) or 8x8 (enlarged) to logits [n, num_classes].

    28x28 is padded by 2 with its border, 8x8 enlarged four times, each pixel repeated. The logits
    of the RBF output are minus half the squared distance, so that softmax is over likelihoods.

    connections: which maps C3 sees: those of table I, all, or as many as in table I at random.
    connection_seed: of the random ones.
    pooling: "subsampling" has a coefficient and a bias for each map.
    activation: of all hidden layers; scaled_tanh is 1.7159 tanh(2/3 x).
    output: distances to bitmaps, or a dense layer.

    Raises:
      Refused: another image size, or classes other than ten with the RBF output.
    """

    num_classes: int = 10
    connections: Literal["table_i", "full", "random"] = "table_i"
    connection_seed: int = 0
    pooling: Literal["subsampling", "average", "max"] = "subsampling"
    activation: Literal["scaled_tanh", "tanh", "relu"] = "scaled_tanh"
    output: Literal["rbf", "dense"] = "rbf"
    initialization: Initialization = "lecun1998"

    def __post_init__(self):
        if self.output == "rbf" and self.num_classes != len(BITMAPS):
            raise Refused(
                f"num_classes={self.num_classes}: the RBF output has bitmaps of ten digits only;"
                ' set model.output="dense"'
            )
        if self.connection_seed and self.connections != "random":
            raise Refused(
                f"connection_seed={self.connection_seed} has no effect: connections are"
                f" {self.connections}"
            )
        super().__post_init__()

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least."""
        return 8

    def setup(self):
        conv = partial(Conv, kernel_size=5, padding=0, use_bias=True, **self.numerics)
        self.c1 = conv(6)
        if self.pooling == "subsampling":
            self.s2, self.s4 = SubSampling(**self.numerics), SubSampling(**self.numerics)
        if self.connections == "full":
            self.c3 = conv(16)
        else:
            random = self.connections == "random"
            seen = random_table(self.connection_seed) if random else TABLE_I
            self.c3 = PartialConv(seen, 5, **self.numerics)
        self.c5 = conv(120)
        self.f6 = self.dense(84)
        self.head = RBF(BITMAPS) if self.output == "rbf" else self.dense(self.num_classes)

    def feature_maps(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> dict[int, Float[Array, "n _ _ _"]]:
        """C1, C3 and C5, activated, by their stride: 1, 2, 4."""
        squash = ACTIVATIONS[self.activation]
        c1 = squash(self.c1(_to_32(images)))
        c3 = squash(self.c3(self._pool(c1, "s2")))
        c5 = squash(self.c5(self._pool(c3, "s4")))
        return {1: c1, 2: c3, 4: c5}

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n {self.num_classes}"]:
        c5 = self.feature_maps(images, train=train)[4]
        f6 = ACTIVATIONS[self.activation](self.f6(c5.reshape(c5.shape[0], -1)))
        return self.head(f6.astype(float)).astype(float)

    def _pool(self, x: Float[Array, "n h w c"], name: str) -> Float[Array, "n h2 w2 c"]:
        if self.pooling == "subsampling":
            return ACTIVATIONS[self.activation](getattr(self, name)(x))
        return _POOLING[self.pooling](x, 2)


def _to_32(images: Float[Array, "n h w c"]) -> Float[Array, "n 32 32 c"]:
    size = images.shape[1:3]
    if size == (32, 32):
        return images
    if size == (28, 28):
        return jnp.pad(images, ((0, 0), (2, 2), (2, 2), (0, 0)), mode="edge")
    if size == (8, 8):
        return jnp.repeat(jnp.repeat(images, 4, axis=1), 4, axis=2)
    raise Refused(
        f"images of {size[0]}x{size[1]}: LeNet-5 takes 32x32, 28x28 (padded) or 8x8 (enlarged)"
    )
