"""Convolution, alone or with what follows it in every family: a bias, or batch normalisation."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.core.errors import Refused
from cnnjax.layers.layer import Layer, as_dtype
from cnnjax.ops.conv import conv, conv_transpose

Normalization = Literal["batch", "none"]
AnyNormalization = Literal["batch", "none", "frozen"]


def require_images(images: Float[Array, "n h w c"], smallest: int) -> None:
    """Refuse images below `smallest` pixels on a side."""
    height, width = images.shape[1:3]
    if min(height, width) < smallest:
        raise Refused(f"images of {height}x{width}: {smallest}x{smallest} or more are needed")


class Conv(Layer):
    """Cross-correlation, by default without bias and with maps that keep their size at stride 1.

    `padding` is in pixels on every side; None: half of the kernel. `dilation` is the distance of
    neighbouring taps.
    """

    features: int
    kernel_size: int = 3
    strides: int = 1
    padding: int | None = None
    groups: int = 1
    dilation: int = 1
    use_bias: bool = False
    bias: float = 0.0  # initial

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 {self.features}"]:
        size, dtype = self.kernel_size, as_dtype(self.dtype)
        param_dtype = as_dtype(self.param_dtype)
        shape = (size, size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", self.kernel_init, shape, param_dtype)
        x = conv(
            x.astype(dtype),
            kernel.astype(dtype),
            strides=(self.strides, self.strides),
            padding=self.dilation * (size // 2) if self.padding is None else self.padding,
            dilation=(self.dilation, self.dilation),
            groups=self.groups,
        )
        if not self.use_bias:
            return x
        start = nn.initializers.constant(self.bias)
        bias = self.param("bias", start, (self.features,), param_dtype)
        return x + bias.astype(dtype)[None, None, None]


class FrozenNorm(Layer):
    """Batch normalisation whose statistics, scale and offset are given, and neither trained nor
    counted: what a backbone keeps that starts from weights (torchvision's FrozenBatchNorm2d)."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        def kept(name: str, value: float) -> Array:
            shape, dtype = (x.shape[-1],), as_dtype(self.param_dtype)
            return self.variable("frozen", name, jnp.full, shape, value, dtype).value

        slope = kept("scale", 1.0) * jax.lax.rsqrt(kept("var", 1.0) + self.epsilon)
        offset = kept("bias", 0.0) - kept("mean", 0.0) * slope
        dtype = as_dtype(self.dtype)
        return x * slope.astype(dtype)[None, None, None] + offset.astype(dtype)[None, None, None]


class ConvNorm(Layer):
    """norm(conv(x)); without normalisation the convolution has a bias instead."""

    features: int
    kernel_size: int = 3
    strides: int = 1
    epsilon: float = 1e-5
    normalization: AnyNormalization = "batch"
    dilation: int = 1

    @nn.compact
    def __call__(
        self, x: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n h2 w2 {self.features}"]:
        bare = self.normalization == "none"
        shape = (self.features, self.kernel_size, self.strides)
        conv = Conv(*shape, dilation=self.dilation, use_bias=bare, **self.numerics, name="conv")
        x = conv(x)
        if bare:
            return x
        if self.normalization == "frozen":
            return FrozenNorm(self.epsilon, **self.numerics, name="norm")(x)
        norm = self.batch_norm(epsilon=self.epsilon, name="norm")
        return norm(x, use_running_average=not train)


class ConvTranspose(Layer):
    """Transposed convolution 2x2 at stride 2, with a bias: a map becomes twice as large."""

    features: int

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 {self.features}"]:
        dtype, param_dtype = as_dtype(self.dtype), as_dtype(self.param_dtype)
        shape = (2, 2, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape, param_dtype)
        bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), param_dtype)
        x = conv_transpose(x.astype(dtype), kernel.astype(dtype), strides=(2, 2))
        return x + bias.astype(dtype)[None, None, None]
