"""Which detections find which objects, image by image: the rules of COCO and of VOC.

Detections of one category in one image are gone through by falling score, of equal scores in their
order. What becomes of each is kept, so that shards of a set can be joined.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Int8

from cnnjax.data.dataset import uncounted
from cnnjax.metrics.objects import Detections, Objects, Truths

TRUE, FALSE, IGNORED = 1, 0, -1  # a detection that finds an object, none, what does not count
_ALMOST_ONE = 1 - 1e-10  # of an IoU that is 1 but for rounding
_ELEMENTS = 2**22  # of the largest array that groups are matched in

Ranges = tuple[tuple[float, float], ...]  # of areas in pixels, both ends included


@dataclass(frozen=True, eq=False)
class Matches:
    """What became of each detection, a row each; of every shard of a set by the same rule.

    Attributes:
      images, categories, scores: as in `Detections`.
      ranks: how many of its category in its image come before it.
      verdicts: for each range of areas and each IoU threshold TRUE, FALSE or IGNORED.
      positives: how many objects each category has in each range of areas.
    """

    images: Int[np.ndarray, " n"]
    categories: Int[np.ndarray, " n"]
    scores: Float[np.ndarray, " n"]
    ranks: Int[np.ndarray, " n"]
    verdicts: Int8[np.ndarray, "n areas thresholds"]
    positives: Int[np.ndarray, "categories areas"]

    def merged(self, other: "Matches") -> "Matches":
        """With those of other images; no figure depends on the order of joining."""
        rows = {
            field.name: np.concatenate([getattr(self, field.name), getattr(other, field.name)])
            for field in fields(self)
            if field.name != "positives"
        }
        return Matches(**rows, positives=self.positives + other.positives)


def match_as_coco(
    truths: Truths,
    detections: Detections,
    num_categories: int,
    *,
    thresholds: Float[np.ndarray, " t"],
    ranges: Ranges,
    most: int,
) -> Matches:
    """COCO's rule: a detection takes the free object of highest IoU, the later of equal ones.

    Crowds, and objects whose area lies outside the range, are ignored: a detection takes one only
    where no other is left. It then counts neither way, as does one that finds nothing and whose own
    area lies outside. A crowd can be taken often; IoU with it is the share of the detection that
    lies in it.

    Args:
      most: detections of one category in one image that are looked at.
    """
    limits = np.minimum(thresholds, _ALMOST_ONE)
    ignored = _outside(truths.areas, ranges) | truths.crowd[:, None]
    start = np.where(_outside(detections.areas, ranges), IGNORED, FALSE).astype(np.int8)
    verdicts = np.repeat(start[:, :, None], len(limits), axis=2)
    sorting = _by_image(truths, detections, most)
    for rows, columns in _chunks(sorting, len(ranges) * len(limits)):
        there = columns >= 0
        found = _taken(
            _overlaps(detections, truths, rows, columns),
            limits,
            real=there[:, None] & ~np.moveaxis(ignored[columns], 2, 1),
            ignored=there[:, None] & np.moveaxis(ignored[columns], 2, 1),
            crowd=truths.crowd[columns],
        )
        there = rows >= 0
        found, before = found[there], verdicts[rows[there]]
        verdicts[rows[there]] = np.where(found == FALSE, before, found)
    return _matches(detections, sorting, verdicts, _positives(truths, ~ignored, num_categories))


def found_and_missed(
    truth: tuple[Float[np.ndarray, "m 4"], Int[np.ndarray, " m"]],
    detected: tuple[Float[np.ndarray, "k 4"], Int[np.ndarray, " k"]],
    threshold: float = 0.5,
) -> tuple[Bool[np.ndarray, " k"], Bool[np.ndarray, " m"], Bool[np.ndarray, " k"]]:
    """Of one image: which detections find an object of their class, which objects are missed, and
    which of the other detections lie in what does not count.

    Args:
      truth, detected: corners and labels (a data set's `box_labels`); detections by falling score,
        each of which takes the free object of highest IoU.
      threshold: IoU from which on an object is found; of what does not count, the share of the
        detection that lies in it.
    """
    free, found = truth[1] >= 0, np.zeros(len(detected[0]), bool)
    out = found.copy()
    for row, (box, label) in enumerate(zip(*detected, strict=True)):
        low = np.maximum(truth[0][:, :2], box[:2])
        high = np.minimum(truth[0][:, 2:], box[2:])
        common = np.prod(np.maximum(high - low, 0), axis=1)
        own = np.prod(box[2:] - box[:2])
        whole = own + np.prod(truth[0][:, 2:] - truth[0][:, :2], axis=1) - common
        open_to_it = free & (truth[1] == label) & (common >= threshold * whole)
        if open_to_it.any():
            best = int(np.argmax(np.where(open_to_it, common / np.maximum(whole, 1e-12), -1)))
            free[best], found[row] = False, True
        else:
            inside = (truth[1] == uncounted(label)) & (common >= threshold * own)
            out[row] = inside.any()
    return found, free, out


def match_as_voc(
    truths: Truths, detections: Detections, num_categories: int, *, threshold: float
) -> Matches:
    """VOC's rule: a detection belongs to the object of highest IoU, the first of equal ones.

    It finds it where that IoU is above the threshold and no detection before it has; with a crowd
    (VOC: a difficult object) it counts neither way. Sizes are as they are, not the devkit's + 1.
    """
    verdicts = np.full((len(detections), 1, 1), FALSE, np.int8)
    sorting = _by_image(truths, detections, None)
    for first, last, begin, end in sorting.groups:
        rows, columns = sorting.detections[first:last], sorting.truths[begin:end]
        (iou,) = _overlaps(detections, truths, rows[None], columns[None], crowds=False)
        best = iou.argmax(1)
        high = iou.max(1) > threshold
        new = np.zeros(len(rows), bool)
        new[np.unique(np.where(high, best, -1), return_index=True)[1]] = True
        crowd = truths.crowd[columns[best]]
        verdicts[rows, 0, 0] = np.where(high & crowd, IGNORED, np.where(high & new, TRUE, FALSE))
    return _matches(
        detections, sorting, verdicts, _positives(truths, ~truths.crowd[:, None], num_categories)
    )


def _taken(
    iou: Float[np.ndarray, "b d g"],
    limits: Float[np.ndarray, " t"],
    *,
    real: Bool[np.ndarray, "b areas g"],
    ignored: Bool[np.ndarray, "b areas g"],
    crowd: Bool[np.ndarray, "b g"],
) -> Int8[np.ndarray, "b d areas t"]:
    """TRUE, FALSE or IGNORED of each detection, groups beside each other, rank after rank."""
    (blocks, count, objects), areas = iou.shape, real.shape[1]
    real, ignored, crowd = real[:, :, None], ignored[:, :, None], crowd[:, None, None]
    taken = np.zeros((blocks, areas, len(limits), objects), bool)
    found = np.zeros((blocks, count, areas, len(limits)), np.int8)
    for rank in range(count):
        overlap = iou[:, rank, None, None]
        open_to_it = (overlap >= limits[:, None]) & (crowd | ~taken)
        first = open_to_it & real
        some = first.any(-1, keepdims=True)
        wanted = np.where(some, first, open_to_it & ignored)
        value = np.where(wanted, overlap, -1.0)
        best = objects - 1 - value[..., ::-1].argmax(-1, keepdims=True)
        hit = np.take_along_axis(wanted, best, -1)
        taken |= hit & (np.arange(objects) == best)
        found[:, rank] = np.where(hit, np.where(some, TRUE, IGNORED), FALSE)[..., 0]
    return found


class _Sorting(NamedTuple):
    """Rows by category and image, detections also by falling score.

    `groups` [k, 4]: of each that has both, where its detections begin and end, then its objects.
    """

    detections: Int[np.ndarray, " n"]
    ranks: Int[np.ndarray, " n"]
    truths: Int[np.ndarray, " m"]
    groups: Int[np.ndarray, "k 4"]


def _by_image(truths: Truths, detections: Detections, most: int | None) -> _Sorting:
    images = np.concatenate([detections.images, truths.images])
    known, place = np.unique(images, return_inverse=True)
    key = np.concatenate([detections.categories, truths.categories]) * len(known) + place
    ours, theirs = key[: len(detections)], key[len(detections) :]
    rows = np.lexsort((-detections.scores, ours))
    ranks = np.arange(len(rows)) - np.searchsorted(ours[rows], ours[rows])
    if most is not None:
        rows, ranks = rows[ranks < most], ranks[ranks < most]
    columns = np.argsort(theirs, kind="stable")
    ours, theirs = ours[rows], theirs[columns]
    both = np.intersect1d(ours, theirs)
    borders = [np.searchsorted(k, both, side) for k in (ours, theirs) for side in ("left", "right")]
    return _Sorting(rows, ranks, columns, np.stack(borders, axis=1))


def _chunks(sorting: _Sorting, each: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows [b, d] and columns [b, g] of groups of like sizes; -1 is padding.

    Args:
      each: numbers for each object of a group that the work on it needs.
    """
    sizes = sorting.groups[:, 1::2] - sorting.groups[:, ::2]
    padded = 2 ** np.ceil(np.log2(sizes)).astype(np.int64)
    for count, objects in np.unique(padded, axis=0).tolist():
        alike = sorting.groups[(padded == (count, objects)).all(1)]
        step = max(1, _ELEMENTS // (objects * max(each, count)))
        for begin in range(0, len(alike), step):
            part = alike[begin : begin + step]
            yield (
                _filled(sorting.detections, part[:, :2], count),
                _filled(sorting.truths, part[:, 2:], objects),
            )


def _filled(order: np.ndarray, borders: Int[np.ndarray, "b 2"], size: int) -> np.ndarray:
    places = borders[:, :1] + np.arange(size)
    there = places < borders[:, 1:]
    return np.where(there, order[np.minimum(places, len(order) - 1)], -1)


def _overlaps(
    detections: Objects,
    truths: Truths,
    rows: Int[np.ndarray, "b d"],
    columns: Int[np.ndarray, "b g"],
    crowds: bool = True,
) -> Float[np.ndarray, "b d g"]:
    """IoU; of crowds, if wanted, the share of the detection. Padding has any value.

    Areas are products of width and height, which differences of corners are not to the last bit.
    """
    if detections.masks is None:
        ours, theirs = detections.boxes[rows][:, :, None], truths.boxes[columns][:, None]
        common = np.ones(np.broadcast_shapes(ours.shape, theirs.shape)[:-1])
        for axis in (0, 1):
            ends = np.minimum(*(box[..., axis] + box[..., axis + 2] for box in (ours, theirs)))
            common *= np.maximum(ends - np.maximum(ours[..., axis], theirs[..., axis]), 0.0)
        own, area = (box[..., 2] * box[..., 3] for box in (ours, theirs))
    else:
        common = np.stack(
            [detections.common_pixels(*pair, truths) for pair in zip(rows, columns, strict=True)]
        )
        own, area = detections.pixels[rows][:, :, None], truths.pixels[columns][:, None]
    whole = own + area - common
    if crowds:
        whole = np.where(truths.crowd[columns][:, None], own, whole)
    return np.divide(common, whole, out=np.zeros(common.shape), where=common > 0)


def _outside(areas: Float[np.ndarray, " n"], ranges: Ranges) -> Bool[np.ndarray, "n areas"]:
    low, high = np.array(ranges).T
    return (areas[:, None] < low) | (areas[:, None] > high)


def _positives(
    truths: Truths, counted: Bool[np.ndarray, "m areas"], num_categories: int
) -> Int[np.ndarray, "categories areas"]:
    found = np.zeros((num_categories, counted.shape[1]), np.int64)
    np.add.at(found, truths.categories, counted)
    return found


def _matches(
    detections: Detections, sorting: _Sorting, verdicts: np.ndarray, positives: np.ndarray
) -> Matches:
    rows = sorting.detections
    arrays = detections.images[rows], detections.categories[rows], detections.scores[rows]
    return Matches(*arrays, sorting.ranks, verdicts[rows], positives)
