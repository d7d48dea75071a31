"""Features of a box at a fixed size, however large the box: RoIAlign (He et al. 2017,
arXiv:1703.06870, section 3)."""

import jax.numpy as jnp
from jaxtyping import Array, Float


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
    height, width, _ = features.shape
    low, high = boxes[:, :2] * scale, boxes[:, 2:] * scale
    if aligned:
        low, high = low - 0.5, high - 0.5
    sides = high - low if aligned else jnp.maximum(high - low, 1.0)
    steps = (jnp.arange(output_size * sampling_ratio) + 0.5) / sampling_ratio
    places = low[:, None] + steps[None, :, None] * (sides / output_size)[:, None]
    x, y = places[..., 0], places[..., 1]
    rows, columns = _along(y, height), _along(x, width)
    values = sum(
        features[row[:, :, None], column[:, None, :]] * (a[:, :, None] * b[:, None, :])[..., None]
        for row, a in rows
        for column, b in columns
    )
    k, _, _, c = jnp.shape(values)
    split = (k, output_size, sampling_ratio, output_size, sampling_ratio, c)
    return jnp.reshape(values, split).mean((2, 4))


def _along(
    places: Float[Array, "k s"], size: int
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The two neighbours on one axis, each with its weight."""
    there = ((places >= -1) & (places <= size)).astype(places.dtype)
    inside = jnp.clip(places, 0, size - 1)
    before = jnp.minimum(jnp.floor(inside), max(size - 2, 0)).astype(int)
    share = inside - before
    behind = jnp.minimum(before + 1, size - 1)
    return (before, there * (1 - share)), (behind, there * share)
