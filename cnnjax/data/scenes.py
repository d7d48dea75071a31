"""scattered_digits: scenes whose boxes and masks are known exactly, to learn to detect and to
segment on a laptop.

A scene is a pure function of (seed, split, index): its bits are drawn from a counter, and images
are resized in whole numbers, so that no version of numpy and no processor changes a pixel.
"""

import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from cnnjax.core.errors import Refused
from cnnjax.core.recipe import Data, Scenes
from cnnjax.data.dataset import Dataset, Examples

NAME = "scattered_digits"
_INK = 80  # a pixel above it is of the digit
_GROUND = 60  # the brightest of the ground
_GRID = 4  # values along each side from which the ground is made
_MOST_BYTES = 2**33
_MOST_CLASSES = 254  # beside 0, the ground, and 255, in a byte
_TRIES = 30  # places that are tried for a digit
_BYTE_DEVIATION = np.sqrt(4 * (256**2 - 1) / 12)  # of the sum of four bytes


def load_scenes(data: Data, load: Callable[[str], Any]) -> Dataset:
    """Scenes of the images of another set.

    An example: images uint8 [h, w, 1]; boxes float32 [most, 4], x and y of the near and of the far
    corner in pixels; box_labels int32 [most], -1 where there is none; class_map uint8 [h, w], 0 on
    the ground and 1 + the class on a digit; object_map uint8 [h, w], 1 + the object's place.

    Args:
      load: the data set of a name.

    Raises:
      Refused: the images have colour or no classes, or a least is more than a most.
    """
    scenes = data.scenes
    for low, high in (("fewest", "most"), ("smallest", "largest"), ("largest", "size")):
        if getattr(scenes, low) > getattr(scenes, high):
            raise Refused(
                f"data.scenes.{low}={getattr(scenes, low)}: more than data.scenes.{high}="
                f"{getattr(scenes, high)}"
            )
    needed = 3 * (scenes.train + scenes.test) * scenes.size**2  # bytes: pixels and two maps
    if needed > _MOST_BYTES:
        raise Refused(
            f"data.scenes.train={scenes.train}, size={scenes.size}: scenes of {needed / 2**30:,.0f}"
            f" GiB; {_MOST_BYTES // 2**30} at most"
        )
    if scenes.source == NAME:
        raise Refused(f"data.scenes.source={NAME}: give the set whose images are scattered, digits")
    source = load(scenes.source)
    if not isinstance(source, Dataset) or source.image_shape[2] != 1 or not source.label_names:
        raise Refused(
            f"data.scenes.source={scenes.source}: grey images with classes, in memory, are needed"
        )
    if source.num_classes > _MOST_CLASSES or not len(source.test):
        raise Refused(
            f"data.scenes.source={scenes.source}: {source.num_classes} classes and"
            f" {len(source.test):,} test images; {_MOST_CLASSES} classes at most, and a test image,"
            " are needed"
        )
    return Dataset(
        name=NAME if scenes.source == Scenes.source else f"{NAME} ({scenes.source})",
        label_names=source.label_names,
        max_value=255,
        augmentation="none",
        source=f"made of {source.name} ({source.source})",
        train=_examples(scenes, source, source.train, "train"),
        test=_examples(scenes, source, source.test, "test"),
    )


def _examples(scenes: Scenes, source: Dataset, examples: Examples, split: str) -> Examples:
    scale = 255 / source.max_value
    images = np.rint(examples.images[..., 0] * scale).astype(np.uint8)
    count = scenes.train if split == "train" else scenes.test
    made = [
        _scene(scenes, images, examples.labels, _Draws(scenes.seed, split, index))
        for index in range(count)
    ]
    return Examples({name: np.stack([one[name] for one in made]) for name in made[0]})


class _Draws:
    """Random numbers of one scene, whose bits only the counter decides."""

    def __init__(self, seed: int, split: str, index: int):
        key = [seed, zlib.crc32(split.encode())]
        self._bits = np.random.Philox(key=key, counter=[0, 0, 0, index])

    def whole(self, low: int, high: int, count: int | None = None) -> Any:
        """Whole numbers from `low` to `high`, both included."""
        found = self._bits.random_raw(count or 1) % np.uint64(high - low + 1)
        found = found.astype(np.int64) + low
        return found if count else int(found[0])

    def normal(self, *shape: int) -> Float[np.ndarray, "..."]:
        """About normal numbers of deviation 1: sums of four bytes."""
        count = int(np.prod(shape))
        sums = self._bits.random_raw(-(-count // 2)).view(np.uint8).reshape(-1, 4).sum(1, np.int64)
        return ((sums[:count] - 510) / _BYTE_DEVIATION).reshape(shape)


def _scene(
    scenes: Scenes,
    images: UInt8[np.ndarray, "n h w"],
    labels: Int[np.ndarray, " n"],
    draws: _Draws,
) -> dict[str, np.ndarray]:
    size = scenes.size
    ground = draws.whole(0, _GROUND, _GRID**2).astype(np.uint8).reshape(_GRID, _GRID)
    canvas = _resized(ground, size)
    for _ in range(scenes.clutter):
        ink = _ink(scenes, images, draws)[1]
        part = ink[: ink.shape[0] // 2, : ink.shape[1] // 2]
        top, left = (draws.whole(0, size - side) for side in part.shape)
        _paint(canvas[top : top + part.shape[0], left : left + part.shape[1]], part)
    object_map, class_map = np.zeros((2, size, size), np.uint8)
    placed: list[tuple[int, np.ndarray]] = []
    for _ in range(draws.whole(scenes.fewest, scenes.most)):
        which, ink = _ink(scenes, images, draws)
        corner = _free_place(ink.shape, [box for _, box in placed], scenes, draws)
        if corner is None or not ink.any():
            continue
        top, left = corner
        height, width = ink.shape
        placed.append((int(labels[which]), np.array([left, top, left + width, top + height])))
        inside = slice(top, top + height), slice(left, left + width)
        _paint(canvas[inside], ink)
        object_map[inside][ink > _INK] = len(placed)
        class_map[inside][ink > _INK] = 1 + labels[which]
    noisy = canvas + scenes.noise * draws.normal(size, size)
    return {
        "images": np.clip(np.rint(noisy), 0, 255).astype(np.uint8)[..., None],
        **_boxes(object_map, [label for label, _ in placed], scenes.most),
        "class_map": class_map,
        "object_map": object_map,
    }


def _ink(
    scenes: Scenes, images: UInt8[np.ndarray, "n h w"], draws: _Draws
) -> tuple[int, UInt8[np.ndarray, "a b"]]:
    """One image at a random size, cut to its ink."""
    which = draws.whole(0, len(images) - 1)
    large = _resized(images[which], draws.whole(scenes.smallest, scenes.largest))
    mask = large > _INK
    if not mask.any():
        return which, large[:0, :0]
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return which, large[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _free_place(
    sides: tuple[int, ...], placed: list[np.ndarray], scenes: Scenes, draws: _Draws
) -> tuple[int, int] | None:
    """Top and left of a box that meets no other one by more than is allowed."""
    height, width = sides
    others = np.array(placed).reshape(-1, 4)
    areas = np.prod(others[:, 2:] - others[:, :2], axis=1)
    for _ in range(_TRIES):
        top, left = draws.whole(0, scenes.size - height), draws.whole(0, scenes.size - width)
        low = np.maximum(others[:, :2], (left, top))
        high = np.minimum(others[:, 2:], (left + width, top + height))
        common = np.prod(np.maximum(high - low, 0), axis=1)
        if (common <= scenes.overlap * np.minimum(areas, height * width)).all():
            return top, left
    return None


def _boxes(
    object_map: UInt8[np.ndarray, "h w"], labels: list[int], most: int
) -> dict[str, np.ndarray]:
    """The extent of what is seen of each object; one that is covered whole is none."""
    boxes, found = np.zeros((most, 4), np.float32), np.full(most, -1, np.int32)
    for place, label in enumerate(labels):
        rows, columns = (np.flatnonzero((object_map == place + 1).any(axis)) for axis in (1, 0))
        if len(rows):
            boxes[place] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
            found[place] = label
    return {"boxes": boxes, "box_labels": found}


def _paint(canvas: UInt8[np.ndarray, "a b"], ink: UInt8[np.ndarray, "a b"]) -> None:
    """Ink covers what is below it; what is no ink lightens it."""
    over: Bool[np.ndarray, "a b"] = ink > _INK
    canvas[:] = np.where(over, ink, np.maximum(canvas, ink))


def _resized(image: UInt8[np.ndarray, "h w"], side: int) -> UInt8[np.ndarray, "side side"]:
    """Bilinear in whole numbers: the same pixels on every processor."""
    import cv2

    return cv2.resize(image, (side, side), interpolation=cv2.INTER_LINEAR_EXACT)
