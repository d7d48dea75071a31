"""Pooling over windows: maximum, average, minimum; adaptive and global; with indices and back.

Padding is in pixels on every side. With `ceil_mode` a last window that overhangs the padded map
counts too, unless it starts in the padding behind the map: PyTorch's rule.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from cnnjax.core.errors import Refused
from cnnjax.ops.conv import output_size

Size = int | tuple[int, int]


def pooled_size(size: int, window: int, strides: int, padding: int, ceil_mode: bool = False) -> int:
    """Output length of a pooling along one axis, in pixels.

    Raises:
      Refused: the window does not fit, or more than half of it may be padding.
    """
    if 2 * padding > window:
        raise Refused(f"padding {padding} exceeds half of a pooling window of {window} px")
    if not ceil_mode:
        return output_size(size, window, strides, (padding, padding))
    # A window may overhang by less than its stride, so what it needs is that much less.
    needed = max(window - strides + 1, 1)
    length = output_size(size, needed, strides, (padding, padding))
    return length - ((length - 1) * strides >= size + padding)


def max_pool(
    images: Float[Array, "n h w c"],
    window: Size,
    strides: Size | None = None,
    padding: Size = 0,
    *,
    ceil_mode: bool = False,
) -> Float[Array, "n h2 w2 c"]:
    """The largest value in each window; padding never wins. `strides`: the window's by default."""
    return _over_windows(images, -jnp.inf, lax.max, window, strides, padding, ceil_mode)


def min_pool(
    images: Float[Array, "n h w c"],
    window: Size,
    strides: Size | None = None,
    padding: Size = 0,
    *,
    ceil_mode: bool = False,
) -> Float[Array, "n h2 w2 c"]:
    """The smallest value in each window; padding never wins."""
    return -max_pool(-images, window, strides, padding, ceil_mode=ceil_mode)


def avg_pool(
    images: Float[Array, "n h w c"],
    window: Size,
    strides: Size | None = None,
    padding: Size = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Float[Array, "n h2 w2 c"]:
    """The mean of each window.

    `count_include_pad`: the zeros of the padding count as values; what overhangs the padded map
    in ceil mode never does.
    """
    total = sum_pool(images, window, strides, padding, ceil_mode=ceil_mode)
    window, strides, _ = _geometry(images, window, strides, padding, ceil_mode)
    counts = []
    for axis, pad in enumerate(_pair(padding)):
        size, k, s = images.shape[1 + axis], window[axis], strides[axis]
        starts = np.arange(total.shape[1 + axis]) * s - pad
        low, high = (-pad, size + pad) if count_include_pad else (0, size)
        counts.append(np.minimum(starts + k, high) - np.maximum(starts, low))
    divisor = jnp.asarray(counts[0][:, None] * counts[1], total.dtype)
    return total / divisor[None, :, :, None]


def sum_pool(
    images: Float[Array, "n h w c"],
    window: Size,
    strides: Size | None = None,
    padding: Size = 0,
    *,
    ceil_mode: bool = False,
) -> Float[Array, "n h2 w2 c"]:
    """The sum of each window."""
    return _over_windows(images, 0.0, lax.add, window, strides, padding, ceil_mode)


def adaptive_avg_pool(images: Float[Array, "n h w c"], size: Size) -> Float[Array, "n h2 w2 c"]:
    """Mean over windows that divide the map into `size` parts, as PyTorch does.

    Part i of m along an axis of n pixels reaches from floor(i n / m) to ceil((i + 1) n / m): parts
    overlap where m does not divide n, and repeat pixels where m exceeds n.
    """
    for axis, parts in zip((1, 2), _pair(size), strict=True):
        if parts < 1:
            raise Refused(f"a map cannot be divided into {parts} parts")
        n = images.shape[axis]
        edges = [(i * n // parts, -(-(i + 1) * n // parts)) for i in range(parts)]
        means = [
            lax.slice_in_dim(images, low, high, axis=axis).mean(axis, keepdims=True)
            for low, high in edges
        ]
        images = jnp.concatenate(means, axis=axis)
    return images


def max_pool_with_indices(
    images: Float[Array, "n h w c"],
    window: Size,
    strides: Size | None = None,
    padding: Size = 0,
    *,
    ceil_mode: bool = False,
) -> tuple[Float[Array, "n h2 w2 c"], Int[Array, "n h2 w2 c"]]:
    """`max_pool`, and where in the map each maximum stands: row x width + column.

    Of equal values the first in reading order counts.
    """
    height, width = images.shape[1:3]
    window, strides, pads = _geometry(images, window, strides, padding, ceil_mode)
    padded = jnp.pad(images, ((0, 0), *pads, (0, 0)), constant_values=-jnp.inf)
    places = jnp.arange(height * width).reshape(1, height, width, 1)
    places = jnp.pad(places, ((0, 0), *pads, (0, 0)), constant_values=-1)
    ends = [
        padded.shape[1 + axis] - window[axis] - (padded.shape[1 + axis] - window[axis]) % s + 1
        for axis, s in enumerate(strides)
    ]

    def windows(array: Array) -> Array:
        taps = [
            array[:, i : i + ends[0] : strides[0], j : j + ends[1] : strides[1]]
            for i in range(window[0])
            for j in range(window[1])
        ]
        return jnp.stack(taps)

    values = windows(padded)
    best = jnp.argmax(values, axis=0)[None]
    where = jnp.broadcast_to(windows(places), values.shape)
    return (
        jnp.take_along_axis(values, best, axis=0)[0],
        jnp.take_along_axis(where, best, axis=0)[0],
    )


def max_unpool(
    values: Float[Array, "n h w c"], indices: Int[Array, "n h w c"], size: tuple[int, int]
) -> Float[Array, "n h2 w2 c"]:
    """Each value at its index in an empty map of `size` (height, width); zeros elsewhere."""
    n, _, _, c = values.shape
    flat = jnp.zeros((n, size[0] * size[1], c), values.dtype)
    rows, columns = jnp.arange(n)[:, None, None], jnp.arange(c)[None, None, :]
    flat = flat.at[rows, indices.reshape(n, -1, c), columns].set(values.reshape(n, -1, c))
    return flat.reshape(n, *size, c)


def global_avg_pool(images: Float[Array, "n h w c"]) -> Float[Array, "n c"]:
    """The mean of each map."""
    return images.mean((1, 2))


def global_max_pool(images: Float[Array, "n h w c"]) -> Float[Array, "n c"]:
    """The largest value of each map."""
    return images.max((1, 2))


def _pair(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _over_windows(
    images: Array,
    start: float,
    combine: Callable[[Any, Any], Any],
    window: Size,
    strides: Size | None,
    padding: Size,
    ceil_mode: bool,
) -> Array:
    window, strides, pads = _geometry(images, window, strides, padding, ceil_mode)
    return lax.reduce_window(
        images, start, combine, (1, *window, 1), (1, *strides, 1), ((0, 0), *pads, (0, 0))
    )


def _geometry(
    images: Array, window: Size, strides: Size | None, padding: Size, ceil_mode: bool
) -> tuple[tuple[int, int], tuple[int, int], tuple[tuple[int, int], tuple[int, int]]]:
    """Window, strides and padding by axis; ceil mode is padding behind the map."""
    window = _pair(window)
    strides = window if strides is None else _pair(strides)
    pads = []
    for axis, before in enumerate(_pair(padding)):
        size, k, s = images.shape[1 + axis], window[axis], strides[axis]
        length = pooled_size(size, k, s, before, ceil_mode)
        pads.append((before, max((length - 1) * s + k - size - before, before)))
    return window, strides, (pads[0], pads[1])
