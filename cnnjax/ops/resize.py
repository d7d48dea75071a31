"""Maps at another size, as PyTorch's `interpolate` has them."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from cnnjax.core.errors import Refused

Size = tuple[int, int]  # height, width


def resize_bilinear(maps: Float[Array, "n h w c"], size: Size) -> Float[Array, "n h2 w2 c"]:
    """Between the centres of the four nearest pixels; beyond the border as at it.

    PyTorch's mode="bilinear", align_corners=False, without antialias: a smaller map leaves pixels
    out.
    """
    _check(size)
    for axis, length in zip((1, 2), size, strict=True):
        old = maps.shape[axis]
        if old == length:
            continue
        place = np.clip((np.arange(length) + 0.5) * old / length - 0.5, 0, old - 1)
        low = np.floor(place).astype(int)
        share = np.asarray(place - low)
        shape = [1] * 4
        shape[axis] = length
        weight = jnp.asarray(share.reshape(shape), maps.dtype)
        before = jnp.take(maps, low, axis=axis)
        behind = jnp.take(maps, np.minimum(low + 1, old - 1), axis=axis)
        maps = before * (1 - weight) + behind * weight
    return maps


def resize_nearest(maps: Shaped[Array, "n h w c"], size: Size) -> Shaped[Array, "n h2 w2 c"]:
    """The pixel at floor(i x old / new): PyTorch's mode="nearest"; of any dtype."""
    _check(size)
    for axis, length in zip((1, 2), size, strict=True):
        old = maps.shape[axis]
        maps = jnp.take(maps, np.arange(length) * old // length, axis=axis)
    return maps


def _check(size: Size) -> None:
    if min(size) < 1:
        raise Refused(f"size {size[0]}x{size[1]}: 1 or more pixels a side")
