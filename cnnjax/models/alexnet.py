"""AlexNet (Krizhevsky, Sutskever & Hinton 2012, section 3.5, figure 2).

layer   output     paper, two towers          torchvision ("one weird trick", one column)
conv1   55x55      11x11, 96, stride 4        11x11, 64, stride 4, padding 2
pool1   27x27      LRN, 3x3 max, stride 2     3x3 max, stride 2
conv2   27x27      5x5, 256, 2 groups         5x5, 192
pool2   13x13      LRN, 3x3 max, stride 2     3x3 max, stride 2
conv3   13x13      3x3, 384                   3x3, 384
conv4   13x13      3x3, 384, 2 groups         3x3, 256
conv5   13x13      3x3, 256, 2 groups         3x3, 256
pool5   6x6        3x3 max, stride 2          3x3 max, stride 2, adaptive average to 6x6
dense   4096, 4096, num_classes; dropout 0.5 behind (torchvision: before) the first two

The paper says 224; 55 needs 227 (or 224 with padding 2).
"""

from functools import partial
from typing import Literal

from jaxtyping import Array, Float

from cnnjax.core.architectures import Variant, register_models
from cnnjax.layers.conv_norm import Conv, require_images
from cnnjax.layers.dropout import Dropout
from cnnjax.layers.layer import Initialization, Layer
from cnnjax.ops.activation import ACTIVATIONS, Activation
from cnnjax.ops.norm import local_response_norm
from cnnjax.ops.pool import adaptive_avg_pool, max_pool

Features = tuple[int, int, int, int, int]

_TORCHVISION = {
    "features": (64, 192, 384, 256, 256),
    "groups": 1,
    "lrn": False,
    "padding": 2,
    "adaptive_pool": 6,
    "dropout_at": "before",
    "initialization": "he_fan_in",
}


@register_models(
    paper="Krizhevsky et al. 2012, NIPS 25",
    year=2012,
    input_shape=(227, 227, 3),
    variants=(
        Variant(
            "alexnet",
            {},
            60_965_224,
            "section 3.5, the sum over its layers (60 million)",
            departs="reads 227 pixels: the paper's 224 does not give its 55x55 maps",
        ),
        Variant(
            "alexnet_ungrouped",
            {"groups": 1},
            62_378_344,
            "the sum over the layers without groups (62M in many tables)",
            departs="one tower: every map sees all maps",
        ),
        Variant(
            "alexnet_torchvision",
            _TORCHVISION,
            61_100_840,
            "torchvision's documentation",
            macs=0.71e9,
            macs_source="torchvision's documentation",
            input_shape=(224, 224, 3),
            departs="64-192-384-256-256, one column, no LRN, padding 2; He's initialisation",
            paper="Krizhevsky 2014, arXiv:1404.5997",
            year=2014,
        ),
    ),
)
class AlexNet(Layer, kw_only=True):
    """Float images [n, h, w, c] of 67x67 pixels or more to float32 logits [n, num_classes].

    features: of the five convolutions.
    groups: 2 towers in conv2, conv4 and conv5, or 1.
    lrn: local response normalisation behind conv1 and conv2.
    pooling: windows of 3 at stride 2 overlap; "non_overlapping" has windows of 2.
    activation: of all hidden layers.
    dropout: probability at the two hidden dense layers.
    dropout_at: "behind" them or "before".
    padding: of conv1, in pixels.
    adaptive_pool: average to so many pixels before the dense layers, so that their parameters do
      not depend on the image size; 0: none.
    """

    num_classes: int = 1000
    features: Features = (96, 256, 384, 384, 256)
    groups: Literal[1, 2] = 2
    lrn: bool = True
    pooling: Literal["overlapping", "non_overlapping"] = "overlapping"
    activation: Activation = "relu"
    dropout: float = 0.5
    dropout_at: Literal["behind", "before"] = "behind"
    padding: int = 0
    adaptive_pool: int = 0
    initialization: Initialization = "krizhevsky2012"

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least."""
        return 67 - 2 * self.padding

    def setup(self):
        # Section 5: biases of 1 where a ReLU should start with positive inputs.
        one = 1.0 if self.initialization == "krizhevsky2012" else 0.0
        conv = partial(Conv, use_bias=True, **self.numerics)
        f1, f2, f3, f4, f5 = self.features
        self.conv1 = conv(f1, 11, 4, self.padding)
        self.conv2 = conv(f2, 5, groups=self.groups, bias=one)
        self.conv3 = conv(f3)
        self.conv4 = conv(f4, groups=self.groups, bias=one)
        self.conv5 = conv(f5, groups=self.groups, bias=one)
        self.dense6, self.dense7 = self.dense(4096, bias=one), self.dense(4096, bias=one)
        self.head = self.dense(self.num_classes)
        self.drop = Dropout(self.dropout)

    def feature_maps(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> dict[int, Float[Array, "n _ _ _"]]:
        """conv1, conv2, conv5 and pool5 by their stride: 4, 8, 16, 32."""
        require_images(images, self.smallest_image)
        activate = ACTIVATIONS[self.activation]
        conv1 = activate(self.conv1(images))
        conv2 = activate(self.conv2(self._pool(self._normalize(conv1))))
        conv3 = activate(self.conv3(self._pool(self._normalize(conv2))))
        conv5 = activate(self.conv5(activate(self.conv4(conv3))))
        return {4: conv1, 8: conv2, 16: conv5, 32: self._pool(conv5)}

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n {self.num_classes}"]:
        activate = ACTIVATIONS[self.activation]
        x = self.feature_maps(images, train=train)[32]
        if self.adaptive_pool:
            x = adaptive_avg_pool(x, self.adaptive_pool)
        x = x.reshape(x.shape[0], -1)
        for layer in (self.dense6, self.dense7):
            if self.dropout_at == "before":
                x = self.drop(x, deterministic=not train)
            x = activate(layer(x))
            if self.dropout_at == "behind":
                x = self.drop(x, deterministic=not train)
        return self.head(x).astype(float)

    def _normalize(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        return local_response_norm(x) if self.lrn else x

    def _pool(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        return max_pool(x, 3 if self.pooling == "overlapping" else 2, 2)
