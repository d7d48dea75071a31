"""Convolution, alone or with what follows it in every family: a bias, or batch normalisation."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnjax.core.errors import Refused
from cnnjax.ops.conv import conv

Initialization = Literal["he_fan_in", "he_fan_out", "glorot", "krizhevsky2012", "lecun1998"]
Dtype = Literal["float32", "bfloat16"]


def _lecun1998(key: Array, shape: tuple[int, ...], dtype: DTypeLike = jnp.float32) -> Array:
    """Uniform within +-2.4 / fan in (LeCun et al. 1998, appendix A)."""
    return jax.random.uniform(key, shape, dtype, -1, 1) * 2.4 / math.prod(shape[:-1])


_INITIALIZERS: dict[str, Any] = {
    # He et al. 2015, arXiv:1502.01852, equations 10 and 14: variance 2 / fan.
    "he_fan_in": nn.initializers.variance_scaling(2.0, "fan_in", "normal"),
    "he_fan_out": nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
    "glorot": nn.initializers.glorot_uniform(),  # Glorot & Bengio 2010, equation 16
    "krizhevsky2012": nn.initializers.normal(0.01),  # section 5
    "lecun1998": _lecun1998,
}


def initializer(initialization: Initialization) -> jax.nn.initializers.Initializer:
    """The distribution of a kernel's initial values, named after its paper."""
    return _INITIALIZERS[initialization]


def require_images(images: Float[Array, "n h w c"], smallest: int) -> None:
    """Refuse images below `smallest` pixels on a side."""
    height, width = images.shape[1:3]
    if min(height, width) < smallest:
        raise Refused(f"images of {height}x{width}: {smallest}x{smallest} or more are needed")


class Conv(nn.Module):
    """Cross-correlation, by default without bias. `padding` is in pixels on every side."""

    features: int
    kernel_size: int = 3
    strides: int = 1
    padding: int = 1
    initialization: Initialization = "he_fan_in"
    dtype: Dtype = "float32"
    param_dtype: Dtype = "float32"
    groups: int = 1
    use_bias: bool = False
    bias: float = 0.0  # initial

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 {self.features}"]:
        size, dtype = self.kernel_size, jnp.dtype(self.param_dtype)
        shape = (size, size, x.shape[-1] // self.groups, self.features)
        kernel = self.param("kernel", initializer(self.initialization), shape, dtype)
        x = conv(
            x.astype(self.dtype),
            jnp.asarray(kernel, self.dtype),
            strides=(self.strides, self.strides),
            padding=self.padding,
            groups=self.groups,
        )
        if not self.use_bias:
            return x
        start = nn.initializers.constant(self.bias)
        bias = self.param("bias", start, (self.features,), dtype)
        return x + jnp.asarray(bias, self.dtype)[None, None, None]


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
    param_dtype: Dtype = "float32"
    epsilon: float = 1e-5

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
            param_dtype=self.param_dtype,
            name="conv",
        )(x)
        norm = batch_norm(
            self.dtype, self.norm_axis, self.param_dtype, epsilon=self.epsilon, name="norm"
        )
        return norm(x, use_running_average=not train)


def dense(
    features: int,
    initialization: Initialization,
    dtype: Dtype,
    param_dtype: Dtype,
    *,
    bias: float = 0.0,
) -> nn.Dense:
    """A dense layer; `bias` is its initial value."""
    return nn.Dense(
        features,
        kernel_init=initializer(initialization),
        bias_init=nn.initializers.constant(bias),
        dtype=jnp.dtype(dtype),
        param_dtype=jnp.dtype(param_dtype),
    )


def batch_norm(
    dtype: Dtype,
    norm_axis: str | None,
    param_dtype: Dtype = "float32",
    *,
    epsilon: float = 1e-5,
    name: str | None = None,
) -> nn.BatchNorm:
    """Batch normalisation (Ioffe & Szegedy 2015) with PyTorch's constants."""
    return nn.BatchNorm(
        momentum=0.9,  # PyTorch's 0.1
        epsilon=epsilon,
        use_fast_variance=False,
        axis_name=norm_axis,
        dtype=jnp.dtype(dtype),
        param_dtype=jnp.dtype(param_dtype),
        name=name,
    )
