"""The mask of a box, small and square, laid into the image (He et al. 2017, section 3.1)."""

import math

import numpy as np
from jaxtyping import Bool, Float


def paste_mask(
    mask: Float[np.ndarray, "s s"], box: Float[np.ndarray, " 4"], size: tuple[int, int]
) -> Bool[np.ndarray, "h w"]:
    """Which pixels are of the object: bilinear at the middle of each, .5 and more; outside of the
    box none. Up to the box's border the mask is continued.

    Args:
      mask: probabilities in the box.
      box: corners in pixels.
      size: height and width of the image.
    """
    found = np.zeros(size, bool)
    (rows, by_rows), (columns, by_columns) = (
        _weights(float(box[axis]), float(box[axis + 2]), len(mask), size[1 - axis])
        for axis in (1, 0)
    )
    found[rows, columns] = by_rows @ mask.astype(np.float32) @ by_columns.T >= 0.5
    return found


def _weights(
    low: float, high: float, taps: int, pixels: int
) -> tuple[slice, Float[np.ndarray, "p t"]]:
    """The pixels of one axis whose middles lie in the box, and what each tap gives to each."""
    first = min(max(math.ceil(low - 0.5), 0), pixels)
    behind = max(min(math.floor(high - 0.5) + 1, pixels), first)
    places = (np.arange(first, behind) + 0.5 - low) / max(high - low, 1e-6) * taps - 0.5
    near = np.clip(places, 0, taps - 1)
    weights = np.maximum(0.0, 1 - abs(near[:, None] - np.arange(taps)))
    return slice(first, behind), weights.astype(np.float32)
