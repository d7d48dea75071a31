"""The Inception module: four branches side by side (Szegedy et al. 2014, figure 2b)."""

from typing import Literal, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.layers.conv_norm import Conv
from cnnjax.layers.layer import Layer
from cnnjax.ops.pool import max_pool


class Widths(NamedTuple):
    """A row of the paper's table 1."""

    conv1: int
    reduce3: int
    conv3: int
    reduce5: int
    conv5: int
    project: int


class ConvRelu(Layer):
    """relu(conv(x) + bias), or relu(batch_norm(conv(x))) with epsilon 1e-3 (torchvision's)."""

    features: int
    kernel_size: int = 1
    strides: int = 1
    norm: Literal["lrn", "batch"] = "lrn"

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n h2 w2 {self.features}"]:
        batch = self.norm == "batch"
        x = Conv(
            self.features,
            self.kernel_size,
            self.strides,
            use_bias=not batch,
            **self.numerics,
            name="conv",
        )(x)
        if batch:
            norm = self.batch_norm(epsilon=1e-3, name="norm")
            x = norm(x, use_running_average=not train)
        return nn.relu(x)


class Inception(Layer):
    """1x1; 1x1 and 3x3; 1x1 and 5x5; 3x3 max pooling and 1x1: concatenated along channels.

    `kernel5`: 5 as the paper has it; 3 in torchvision.
    """

    widths: Widths
    kernel5: Literal[3, 5] = 5
    norm: Literal["lrn", "batch"] = "lrn"

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n h w features"]:
        def unit(features: int, kernel_size: int, name: str) -> ConvRelu:
            return ConvRelu(features, kernel_size, 1, self.norm, **self.numerics, name=name)

        w = self.widths
        one = unit(w.conv1, 1, "conv1")(x, train=train)
        three = unit(w.reduce3, 1, "reduce3")(x, train=train)
        three = unit(w.conv3, 3, "conv3")(three, train=train)
        five = unit(w.reduce5, 1, "reduce5")(x, train=train)
        five = unit(w.conv5, self.kernel5, "conv5")(five, train=train)
        pooled = max_pool(x, 3, 1, padding=1)
        pooled = unit(w.project, 1, "project")(pooled, train=train)
        return jnp.concatenate([one, three, five, pooled], axis=-1)
