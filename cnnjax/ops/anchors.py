"""The boxes from which detectors start, of fixed sizes at every place of their maps."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import Float

from cnnjax.core.errors import Refused

Anchors = Float[np.ndarray, "n 4"]  # corners, in the order of rows, columns, shapes
Variant = Literal["paper", "torchvision"]

SSD300_SCALES = (21.0, 45.0, 99.0, 153.0, 207.0, 261.0, 315.0)  # pixels, of COCO; the last is next
_SSD300_MAPS = (38, 19, 10, 5, 3, 1)
_SSD300_STEPS = (8.0, 16.0, 32.0, 64.0, 100.0, 300.0)
_SSD300_RATIOS = ((2,), (2, 3), (2, 3), (2, 3), (2,), (2,))


def grid_anchors(
    size: tuple[int, int],
    stride: float,
    shapes: Sequence[tuple[float, float]],
    *,
    offset: float = 0.5,
) -> Anchors:
    """One anchor of each shape (width, height) at each place of a map.

    Args:
      size: of the map, height and width.
      stride: pixels between two places.
      offset: of the first place, in strides.
    """
    sides = np.asarray(shapes, np.float64) / 2
    return _placed(size, (stride, stride), np.concatenate([-sides, sides], axis=1), offset)


def ratio_shapes(sizes: Sequence[float], ratios: Sequence[float]) -> list[tuple[float, float]]:
    """Widths and heights of an area of size^2 and a ratio of height to width; ratios in turn."""
    return [(s / math.sqrt(r), s * math.sqrt(r)) for r in ratios for s in sizes]


def check_shapes(sizes: Sequence[Sequence[float]], ratios: Sequence[float]) -> None:
    """Refuse sides and ratios that are not above 0, and none."""
    if not ratios or min(*ratios, *(side for of_map in sizes for side in of_map)) <= 0:
        raise Refused(f"sizes={list(map(list, sizes))}, ratios={list(ratios)}: above 0")


def ssd300_anchors() -> Anchors:
    """8,732 (Liu et al. 2016, section 2.2): on each map a square of its scale, one of the geometric
    mean with the next scale, and per ratio a wide and a high one; sides are 300 px at most."""
    found = []
    for index, side in enumerate(_SSD300_MAPS):
        scale, following = SSD300_SCALES[index : index + 2]
        shapes = [(scale, scale), (math.sqrt(scale * following),) * 2]
        for ratio in _SSD300_RATIOS[index]:
            wide = scale * math.sqrt(ratio), scale / math.sqrt(ratio)
            shapes += [wide, wide[::-1]]
        limited = [(min(width, 300.0), min(height, 300.0)) for width, height in shapes]
        found.append(grid_anchors((side, side), _SSD300_STEPS[index], limited))
    return np.concatenate(found)


def retinanet_anchors(height: int, width: int, variant: Variant = "paper") -> Anchors:
    """Nine a place on P3 to P7 (Lin et al. 2017, section 4): areas of 32^2 to 512^2 and of 2^(1/3)
    and 2^(2/3) times the side, ratios of height to width 1/2, 1, 2.

    torchvision cuts sizes to whole pixels, rounds half sides, has its first centre in the corner,
    and steps by the image's side over the map's in whole pixels.
    """
    sizes = [[4 * 2**level * 2 ** (k / 3) for k in range(3)] for level in range(3, 8)]
    strides = [2**level for level in range(3, 8)]
    return pyramid_anchors(height, width, strides, sizes, (0.5, 1.0, 2.0), variant)


def rpn_anchors(height: int, width: int, variant: Variant = "paper") -> Anchors:
    """Three a place on P2 to P6, of 32^2 to 512^2 (Lin et al. 2017, arXiv:1612.03144, 4.1)."""
    strides, sizes = (4, 8, 16, 32, 64), [[8.0 * 2**level] for level in range(2, 7)]
    return pyramid_anchors(height, width, strides, sizes, (0.5, 1.0, 2.0), variant)


def pyramid_anchors(
    height: int,
    width: int,
    strides: Sequence[int],
    sizes: Sequence[Sequence[float]],
    ratios: Sequence[float],
    variant: Variant = "paper",
) -> Anchors:
    """Of an image, map by map: every size and ratio at each place of a map that covers it."""
    found = []
    for stride, of_map in zip(strides, sizes, strict=True):
        places = math.ceil(height / stride), math.ceil(width / stride)
        if variant == "paper":
            found.append(grid_anchors(places, float(stride), ratio_shapes(of_map, ratios)))
            continue
        shapes = np.array(ratio_shapes([float(math.floor(s)) for s in of_map], ratios)) / 2
        corners = np.round(np.concatenate([-shapes, shapes], axis=1))
        steps = float(height // places[0]), float(width // places[1])
        found.append(_placed(places, steps, corners, 0.0))
    return np.concatenate(found)


def _placed(
    size: tuple[int, int],
    steps: tuple[float, float],
    corners: Float[np.ndarray, "k 4"],
    offset: float,
) -> Anchors:
    """`corners` around each place; `steps` between two: down and to the right, pixels."""
    rows, columns = (
        (np.arange(length) + offset) * step for length, step in zip(size, steps, strict=True)
    )
    y, x = np.meshgrid(rows, columns, indexing="ij")
    centres = np.stack([x, y, x, y], axis=-1).reshape(-1, 1, 4)
    return (centres + corners).reshape(-1, 4)
