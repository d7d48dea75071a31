"""Objects of many images as flat arrays: what is there, and what a detector found."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from cnnjax.data.coco_json import Detection, Instances, mask_of
from cnnjax.ops.rle import RunLengths

IouType = Literal["bbox", "segm"]


@dataclass(frozen=True, eq=False)
class Objects:
    """An object a row.

    Attributes:
      images: the id of its image; in the order of ids images are gone through.
      categories: 0 to the number of categories - 1.
      boxes: x, y, width, height.
      areas: in pixels, which decides whether it is small, medium or large.
      masks: by which objects are compared in place of boxes.
    """

    images: Int[np.ndarray, " n"]
    categories: Int[np.ndarray, " n"]
    boxes: Float[np.ndarray, "n 4"]
    areas: Float[np.ndarray, " n"]
    masks: Sequence[RunLengths] | None = None

    def __len__(self) -> int:
        return len(self.images)

    @cached_property
    def pixels(self) -> Float[np.ndarray, " n"]:
        """Of each mask."""
        return np.array([mask.area for mask in self.masks or ()], np.float64)

    def common_pixels(
        self, rows: Int[np.ndarray, " d"], columns: Int[np.ndarray, " g"], others: "Objects"
    ) -> Float[np.ndarray, "d g"]:
        """Of masks; those whose boxes do not meet have none. A row of -1 is padding."""
        assert self.masks is not None, "a mask each"
        assert others.masks is not None, "a mask each"
        found = np.zeros((len(rows), len(columns)))
        for place, row in enumerate(rows):
            if row < 0:
                break
            x, y, width, height = self.boxes[row]
            left, top, wide, high = others.boxes[columns].T
            meets = (left < x + width) & (x < left + wide) & (top < y + height) & (y < top + high)
            there = np.flatnonzero(meets & (columns >= 0))
            theirs = [others.masks[column] for column in columns[there]]
            found[place, there] = self.masks[row].intersections(theirs)
        return found


@dataclass(frozen=True, eq=False, kw_only=True)
class Truths(Objects):
    """What is there.

    Attributes:
      crowd: a region of many: how often it is found does not matter.
    """

    crowd: Bool[np.ndarray, " n"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Detections(Objects):
    """What was found; `scores` say how sure the detector is."""

    scores: Float[np.ndarray, " n"]


def truths_of(instances: Instances, iou_type: IouType, *, difficult: bool = False) -> Truths:
    """The objects of a file.

    Args:
      difficult: what is marked so counts as a crowd does.

    Raises:
      Refused: masks are wanted and one is missing.
    """
    found = instances.annotations
    masks, boxes = _shapes(found, instances, iou_type, lambda one, _: f"annotation {one.id}")
    areas = [
        one.area if one.area is not None else mask.area if mask else box[2] * box[3]
        for one, mask, box in zip(found, masks or [None] * len(found), boxes, strict=True)
    ]
    crowd = [bool(one.iscrowd or (difficult and one.difficult)) for one in found]
    return Truths(
        *_where(found, instances),
        np.reshape(np.array(boxes, np.float64), (-1, 4)),
        np.array(areas, np.float64),
        masks,
        crowd=np.array(crowd, bool),
    )


def detections_of(
    found: Sequence[Detection], instances: Instances, iou_type: IouType
) -> Detections:
    """The detections of a file; with masks their area is the mask's.

    Raises:
      Refused: masks are wanted and one is missing.
    """
    masks, boxes = _shapes(found, instances, iou_type, lambda _, number: f"detection {number}")
    sizes = np.reshape(np.array(boxes, np.float64), (-1, 4))
    areas = sizes[:, 2] * sizes[:, 3] if masks is None else np.array([m.area for m in masks], float)
    return Detections(
        *_where(found, instances),
        sizes,
        areas,
        masks,
        scores=np.array([one.score for one in found], np.float64),
    )


def _where(found: Sequence[Any], instances: Instances) -> tuple[np.ndarray, np.ndarray]:
    places = {one: place for place, one in enumerate(sorted(c.id for c in instances.categories))}
    return (
        np.array([one.image_id for one in found], np.int64),
        np.array([places[one.category_id] for one in found], np.int64),
    )


def _shapes(
    found: Sequence[Any], instances: Instances, iou_type: IouType, words: Callable[[Any, int], str]
) -> tuple[list[RunLengths] | None, list[tuple[float, ...]]]:
    images = {image.id: image for image in instances.images}

    def mask(one: Any, number: int) -> RunLengths:
        return mask_of(one, images[one.image_id], words(one, number))

    masks = [mask(*pair[::-1]) for pair in enumerate(found)] if iou_type == "segm" else None
    if masks is not None:
        return masks, [one.box for one in masks]
    return None, [
        one.bbox if one.bbox is not None else mask(one, number).box
        for number, one in enumerate(found)
    ]
