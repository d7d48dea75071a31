"""The layers that only LeNet-5 has (LeCun et al. 1998, section II.B)."""

from collections.abc import Sequence
from itertools import combinations, groupby

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import DTypeLike
from jaxtyping import Array, Float

from cnnjax.layers.layer import Layer, as_dtype
from cnnjax.ops.conv import conv, in_library_form
from cnnjax.ops.pool import sum_pool

Connections = Sequence[Sequence[int]]  # for each output map, the input maps that it sees

# Table I: which of the six maps of S2 each of the 16 maps of C3 sees.
TABLE_I: Connections = (
    *((i, (i + 1) % 6, (i + 2) % 6) for i in range(6)),  # 3 contiguous
    *((i, (i + 1) % 6, (i + 2) % 6, (i + 3) % 6) for i in range(6)),  # 4 contiguous
    *((i, (i + 1) % 6, (i + 3) % 6, (i + 4) % 6) for i in range(3)),  # 4 in two pairs
    tuple(range(6)),
)


def random_table(seed: int) -> Connections:
    """Each of the 16 maps sees as many maps as in table I, by chance, and no two maps the same.

    Of the six maps some are seen more often than others: in table I each is seen ten times.
    """
    table: list[tuple[int, ...]] = []
    for count, rows in groupby(TABLE_I, key=len):
        choices = list(combinations(range(6), count))
        raw = np.random.Philox(key=[seed, count]).random_raw(len(choices))
        order = np.argsort(raw, kind="stable")
        table += [choices[index] for index in order[: len(list(rows))]]
    return tuple(table)


def _within_fan_in_of_four(key: Array, shape: tuple[int, ...], dtype: DTypeLike) -> Array:
    """Uniform within +-2.4 / 4 (appendix A; a unit sums four inputs)."""
    return jax.random.uniform(key, shape, dtype, -0.6, 0.6)


class SubSampling(Layer):
    """Coefficient x (sum over 2x2) + bias, one of each for each map; 12 parameters in S2."""

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 c"]:
        shape, dtype = (x.shape[-1],), as_dtype(self.dtype)
        param_dtype = as_dtype(self.param_dtype)
        coefficient = self.param("coefficient", _within_fan_in_of_four, shape, param_dtype)
        bias = self.param("bias", nn.initializers.zeros, shape, param_dtype)
        coefficient = coefficient.astype(dtype)[None, None, None]
        bias = bias.astype(dtype)[None, None, None]
        return coefficient * sum_pool(x.astype(dtype), 2) + bias


class PartialConv(Layer):
    """A convolution whose output maps see only some input maps.

    Output maps that see equally many inputs are one grouped convolution over gathered channels, so
    that parameters and MACs are those of the connections alone. Parameters lie by number of
    inputs: `kernel3` [kh, kw, 3, maps], `kernel4`, `kernel6`; and one `bias`. On CPU, where small
    grouped convolutions take four times as long, the same sums run as one convolution with zeros
    where there is no connection.
    """

    connections: Connections
    kernel_size: int = 5

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h2 w2 f"]:
        size, dtype = self.kernel_size, as_dtype(self.dtype)
        param_dtype = as_dtype(self.param_dtype)
        x = x.astype(dtype)
        order = sorted(range(len(self.connections)), key=lambda f: len(self.connections[f]))
        groups = []  # output maps, the inputs of each, kernel
        for count, run in groupby(order, key=lambda f: len(self.connections[f])):
            maps = list(run)
            seen = np.asarray([self.connections[f] for f in maps])
            shape = (size, size, count, len(maps))
            kernel = self.param(f"kernel{count}", self.kernel_init, shape, param_dtype)
            groups.append((maps, seen, kernel.astype(dtype)))
        bias = self.param("bias", nn.initializers.zeros, (len(order),), param_dtype)
        convolve = _grouped if in_library_form() else _with_zeros
        return convolve(x, groups) + bias.astype(dtype)[None, None, None]


def _grouped(x: Array, groups: list[tuple[list[int], np.ndarray, Array]]) -> Array:
    outputs = [
        conv(x[..., seen.ravel()], kernel, groups=len(maps)) for maps, seen, kernel in groups
    ]
    order = [f for maps, _, _ in groups for f in maps]
    return jnp.concatenate(outputs, axis=-1)[..., np.argsort(order)]


def _with_zeros(x: Array, groups: list[tuple[list[int], np.ndarray, Array]]) -> Array:
    size = groups[0][2].shape[:2]
    outputs = sum(len(maps) for maps, _, _ in groups)
    dense = jnp.zeros((*size, x.shape[-1], outputs), x.dtype)
    for maps, seen, kernel in groups:
        dense = dense.at[:, :, seen.T, np.asarray(maps)[None]].set(kernel)
    return conv(x, dense)


class RBF(nn.Module):
    """Minus half the squared distance to fixed codes of +-1: unnormalised log-likelihoods.

    LeCun et al. 1998, equation 7 and section III: the distance is the penalty of a class whose
    pixels are Gaussian around its code. `codes`: [classes, inputs], of +1 and -1. No parameters.
    """

    codes: tuple[tuple[int, ...], ...]

    @nn.compact
    def __call__(self, x: Float[Array, "n d"]) -> Float[Array, "n classes"]:
        codes = jnp.asarray(self.codes, x.dtype)
        # |x - w|^2 / 2 = |x|^2 / 2 + |w|^2 / 2 - x w, and |w|^2 is the number of inputs.
        norm = jnp.sum(x**2, axis=-1, keepdims=True) + codes.shape[1]
        return x @ codes.T - norm / 2
