"""Convolution without bias, then batch normalisation: the unit of every residual network."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.ops.conv import conv

Initialization = Literal["he_fan_in", "he_fan_out"]
Dtype = Literal["float32", "bfloat16"]

_INITIALIZERS = {
    "he_fan_in": nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
    "he_fan_out": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
}


def he_normal(initialization: Initialization) -> jax.nn.initializers.Initializer:
    """Normal with variance 2 / fan (He et al. 2015, arXiv:1502.01852, equations 10 and 14)."""
    return _INITIALIZERS[initialization]


class Conv(nn.Module):
    """Cross-correlation without bias. `padding` is in pixels on every side."""

    features: int
    kernel_size: int = 3
    strides: int = 1
    padding: int = 1
    initialization: Initialization = "he_fan_in"
    dtype: Dtype = "float32"

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 {self.features}"]:
        size = self.kernel_size
        shape = (size, size, x.shape[-1], self.features)
        kernel = self.param("kernel", he_normal(self.initialization), shape)
        return conv(
            x.astype(self.dtype),
            jnp.asarray(kernel, self.dtype),
            strides=(self.strides, self.strides),
            padding=((self.padding, self.padding), (self.padding, self.padding)),
        )


class ConvNorm(nn.Module):
    """norm(conv(x)). Batch statistics in float32 by two passes: E[x^2] - E[x]^2 cancels.

    `norm_axis` names the axis over which replicas share statistics; the placement fills it.
    """

    features: int
    kernel_size: int = 3
    strides: int = 1
    initialization: Initialization = "he_fan_in"
    dtype: Dtype = "float32"
    norm_axis: str | None = None

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n h2 w2 {self.features}"]:
        x = Conv(
            self.features,
            self.kernel_size,
            self.strides,
            padding=self.kernel_size // 2,
            initialization=self.initialization,
            dtype=self.dtype,
            name="conv",
        )(x)
        return nn.BatchNorm(
            use_running_average=not train,
            momentum=0.9,  # PyTorch's 0.1
            epsilon=1e-5,
            use_fast_variance=False,
            axis_name=self.norm_axis,
            dtype=jnp.dtype(self.dtype),
            name="norm",
        )(x)
