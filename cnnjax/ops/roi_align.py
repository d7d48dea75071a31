"""Features of a box at a fixed size, however large the box: RoIAlign (He et al. 2017,
arXiv:1703.06870, section 3)."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt8

from cnnjax.ops.boxes import area
from cnnjax.ops.conv import in_library_form

_SMALL_MAP = 1_024  # pixels, up to which a processor is faster by matrix products


def roi_align(
    features: Float[Array, "h w c"],
    boxes: Float[Array, "k 4"],
    *,
    output_size: int,
    scale: float,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> Float[Array, "k o o c"]:
    """The mean of `sampling_ratio`^2 bilinear samples in each of output_size^2 bins of each box.

    A sample further than a pixel outside of the map is 0; within that pixel it is as at the border.

    Args:
      boxes: corners in pixels of the image.
      scale: of the map: 1 / stride.
      aligned: pixel centres lie at half pixels (detectron2's correction); else, as in the detectors
        of torchvision, at whole ones, and a box is at least a pixel of the map wide.
    """
    return pyramid_roi_align(
        [features],
        boxes,
        jnp.zeros(len(boxes), int),
        output_size=output_size,
        scales=[scale],
        sampling_ratio=sampling_ratio,
        aligned=aligned,
    )


def pyramid_roi_align(
    maps: Sequence[Float[Array, "_ _ c"]],
    boxes: Float[Array, "k 4"],
    levels: Int[Array, " k"],
    *,
    output_size: int,
    scales: Sequence[float],
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> Float[Array, "k o o c"]:
    """`roi_align`, of each box on a map of its own: `maps[levels]` with `scales[levels]`; a level
    beyond the last is the last."""
    levels = jnp.minimum(levels, len(maps) - 1)
    scale = jnp.asarray(np.asarray(scales), boxes.dtype)[levels][:, None]
    x, y = _samples(boxes, output_size, sampling_ratio, scale, aligned=aligned)
    small = max(one.shape[0] * one.shape[1] for one in maps) <= _SMALL_MAP
    if small and not in_library_form():
        found = jnp.zeros((len(boxes), output_size, output_size, maps[0].shape[-1]), maps[0].dtype)
        for level, features in enumerate(maps):
            values = _by_products(features, x, y, output_size)
            found = jnp.where((levels == level)[:, None, None, None], values, found)
        return found
    return _by_indices(maps, levels, x, y, output_size)


def align_masks(
    object_map: Int[Array, "h w"] | UInt8[Array, "h w"],
    boxes: Float[Array, "k 4"],
    numbers: Int[Array, " k"],
    *,
    output_size: int,
    sampling_ratio: int = 2,
    aligned: bool = False,
) -> Float[Array, "k o o"]:
    """`roi_align` of the mask of one object in each box, 0 to 1.

    Args:
      object_map: the number of the object that each pixel belongs to.
      boxes: corners in pixels of the map.
      numbers: of the object in each box.
    """
    x, y = _samples(boxes, output_size, sampling_ratio, 1.0, aligned=aligned)
    height, width = object_map.shape
    flat = object_map.reshape(-1).astype(int)
    values = sum(
        (flat[(row * width)[:, :, None] + column[:, None, :]] == numbers[:, None, None])
        * (a[:, :, None] * b[:, None, :])
        for row, a in _neighbours(y, height)
        for column, b in _neighbours(x, width)
    )
    return _binned(jnp.asarray(values)[..., None], output_size)[..., 0]


def pyramid_levels(
    boxes: Float[Array, "k 4"], finest: int, coarsest: int, *, size: float = 224, level: int = 4
) -> Int[Array, " k"]:
    """On which map a box is looked at, 0 the finest: of `size` pixels on that of stride 2^level, of
    half the size on the next finer one (Lin et al. 2017, arXiv:1612.03144, equation 1).

    Args:
      finest, coarsest: log2 of the strides that there are.
    """
    wanted = jnp.floor(level + jnp.log2(jnp.sqrt(jnp.maximum(area(boxes), 1e-12)) / size) + 1e-6)
    return (jnp.clip(wanted, finest, coarsest) - finest).astype(int)


def _samples(
    boxes: Float[Array, "k 4"],
    output_size: int,
    sampling_ratio: int,
    scale: Float[Array, "k 1"] | float,
    *,
    aligned: bool,
) -> tuple[Float[Array, "k s"], Float[Array, "k s"]]:
    """Where each box is looked at, on the map: x and y."""
    low, high = boxes[:, :2] * scale, boxes[:, 2:] * scale
    if aligned:
        low, high = low - 0.5, high - 0.5
    sides = high - low if aligned else jnp.maximum(high - low, 1.0)
    steps = (jnp.arange(output_size * sampling_ratio) + 0.5) / sampling_ratio
    places = low[:, None] + steps[None, :, None] * (sides / output_size)[:, None]
    return places[..., 0], places[..., 1]


def _binned(values: Float[Array, "k s s c"], output_size: int) -> Float[Array, "k o o c"]:
    """The mean of the samples of each bin."""
    k, samples, _, c = values.shape
    share = samples // output_size
    return jnp.reshape(values, (k, output_size, share, output_size, share, c)).mean((2, 4))


def _by_indices(
    maps: Sequence[Array], levels: Array, x: Array, y: Array, output_size: int
) -> Array:
    """Each sample from its four neighbours."""
    heights, widths = (np.array([array.shape[axis] for array in maps]) for axis in (0, 1))
    starts = np.concatenate([[0], np.cumsum(heights * widths)[:-1]])
    flat = jnp.concatenate([array.reshape(-1, array.shape[-1]) for array in maps])
    height, width, start = (
        jnp.asarray(of_map)[levels][:, None] for of_map in (heights, widths, starts)
    )
    values = sum(
        flat[(start + row * width)[:, :, None] + column[:, None, :]]
        * (a[:, :, None] * b[:, None, :])[..., None]
        for row, a in _neighbours(y, height)
        for column, b in _neighbours(x, width)
    )
    return _binned(jnp.asarray(values), output_size)


def _by_products(features: Array, x: Array, y: Array, output_size: int) -> Array:
    """Rows, then columns, by a matrix of weights each: on a processor 20 times as fast for 8x8
    pixels, and its gradient is a product again."""

    def weights(places: Array, size: int) -> Float[Array, "k o {size}"]:
        taken = sum(
            jax.nn.one_hot(index, size, dtype=places.dtype) * share[..., None]
            for index, share in _neighbours(places, size)
        )
        return jnp.reshape(taken, (len(places), output_size, -1, size)).mean(2)

    height, width, _ = features.shape
    by_rows = jnp.einsum("koh,hwc->kowc", weights(y, height).astype(features.dtype), features)
    return jnp.einsum("kpw,kowc->kopc", weights(x, width).astype(features.dtype), by_rows)


def _neighbours(
    places: Float[Array, "k s"], size: int | Int[Array, "k 1"]
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The two on one axis, each with its weight."""
    there = ((places >= -1) & (places <= size)).astype(places.dtype)
    inside = jnp.clip(places, 0, size - 1)
    before = jnp.minimum(jnp.floor(inside), jnp.maximum(size - 2, 0)).astype(int)
    share = inside - before
    behind = jnp.minimum(before + 1, size - 1)
    return (before, there * (1 - share)), (behind, there * share)
