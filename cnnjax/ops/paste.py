"""The mask of a box, small and square, laid into the image (He et al. 2017, section 3.1)."""

import numpy as np
from jaxtyping import Bool, Float


def paste_mask(
    mask: Float[np.ndarray, "s s"], box: Float[np.ndarray, " 4"], size: tuple[int, int]
) -> Bool[np.ndarray, "h w"]:
    """Which pixels are of the object: bilinear at the middle of each, .5 and more; outside of the
    box none.

    Args:
      mask: probabilities in the box.
      box: corners in pixels.
      size: height and width of the image.
    """
    rows, columns = (
        _weights(float(box[axis]), float(box[axis + 2]), len(mask), size[1 - axis])
        for axis in (1, 0)
    )
    return rows @ mask.astype(np.float64) @ columns.T >= 0.5


def _weights(low: float, high: float, taps: int, pixels: int) -> Float[np.ndarray, "p t"]:
    """What each tap of the mask gives to each pixel on one axis."""
    middles = np.arange(pixels) + 0.5
    places = (middles - low) / max(high - low, 1e-6) * taps - 0.5
    near = np.clip(places, 0, taps - 1)
    inside = (middles >= low) & (middles <= high)
    return np.maximum(0.0, 1 - abs(near[:, None] - np.arange(taps))) * inside[:, None]
