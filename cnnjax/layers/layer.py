"""What every layer and network has: how its kernels start, and in which types it computes."""

import math
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array

Initialization = Literal["he_fan_in", "he_fan_out", "glorot", "krizhevsky2012", "lecun1998"]
Dtype = Literal["float32", "bfloat16"]


def as_dtype(name: Dtype) -> np.dtype:
    """A type by its name; "float32" is float64 in jax's 64-bit mode, in which only tests run."""
    return jnp.dtype(name) if name == "bfloat16" else jnp.dtype(jnp.result_type(float))


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


class Layer(nn.Module, kw_only=True):
    """A layer, or a network as the outermost one. Its parts compute as it does:
    `Conv(64, **self.numerics)`, `self.dense(10)`, `self.batch_norm()`. A subclass has another
    default initialisation by declaring the field anew (`class Net(Layer, kw_only=True)`).

    Attributes:
      initialization: of kernels, by its paper
      dtype: of the computation
      param_dtype: in which parameters are kept
    """

    initialization: Initialization = "he_fan_in"
    dtype: Dtype = "float32"
    param_dtype: Dtype = "float32"

    @property
    def numerics(self) -> dict[str, Any]:
        """The fields above, for a part."""
        return {
            "initialization": self.initialization,
            "dtype": self.dtype,
            "param_dtype": self.param_dtype,
        }

    @property
    def kernel_init(self) -> jax.nn.initializers.Initializer:
        """The distribution of a kernel's initial values."""
        return _INITIALIZERS[self.initialization]

    @nn.nowrap
    def dense(self, features: int, *, bias: float = 0.0, dtype: Dtype | None = None) -> nn.Dense:
        """A dense layer; `bias` is its initial value."""
        return nn.Dense(
            features,
            kernel_init=self.kernel_init,
            bias_init=nn.initializers.constant(bias),
            dtype=as_dtype(dtype or self.dtype),
            param_dtype=as_dtype(self.param_dtype),
        )

    @nn.nowrap
    def batch_norm(self, *, epsilon: float = 1e-5, name: str | None = None) -> nn.BatchNorm:
        """Batch normalisation (Ioffe & Szegedy 2015) with PyTorch's constants.

        Batch statistics in float32 by two passes: E[x^2] - E[x]^2 cancels. Over which examples:
        see `layers.batch_statistics`.
        """
        return nn.BatchNorm(
            momentum=0.9,  # PyTorch's 0.1
            epsilon=epsilon,
            use_fast_variance=False,
            force_float32_reductions=as_dtype("float32") == jnp.float32,
            dtype=as_dtype(self.dtype),
            param_dtype=as_dtype(self.param_dtype),
            name=name,
        )
