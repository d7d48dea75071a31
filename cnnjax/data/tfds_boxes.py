"""Photographs of tensorflow-datasets with a box and a class for each object, read while training.

Such a set has no label of the whole image and one sequence of objects (coco, voc, kitti,
open_images_v4). How many objects an image has at most decides the shape of a batch, so the boxes of
a split are read once, and kept in the user's cache folder.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from cnnjax.core.errors import Failed, Refused
from cnnjax.core.recipe import Data
from cnnjax.core.words import counted
from cnnjax.data.dataset import LeftOut, StreamedDataset, allowed_labels, uncounted
from cnnjax.data.examples import EncodedExamples
from cnnjax.data.kept import kept_arrays, kept_path
from cnnjax.data.prepared import (
    Prepared,
    Records,
    check_by_position,
    files_known,
    image_feature,
    look_at,
    splits_of,
)
from cnnjax.data.scene_views import WRONG_BOXES, Objects, SceneView
from cnnjax.data.views import IMAGE_SIZE

# Flags of an object that does not count: COCO's, VOC's, Open Images' (whose -1 is: unknown).
_UNCOUNTED = ("is_crowd", "is_difficult", "is_group_of")
_CLASS = ("label", "type")  # what an object's class is called, where it has more than one
_FORMAT = "REL_YXYX"  # of boxes; sets that were prepared by an older TFDS do not say it
_ROUNDED = 1e-6  # by which a box may leave its image
_READER = 1  # of the boxes; another one, another number
_TELL_EVERY = 10.0  # seconds


@dataclass(frozen=True)
class BoxFeatures:
    """The names of what is known of the objects in an image, and their classes."""

    objects: str
    box: str
    label: str
    uncounted: tuple[str, ...]
    label_names: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class _Boxes:
    """Of the objects of a split, image after image.

    Attributes:
      ends: of each image, the place behind its last object.
      corners: x and y of the near and of the far corner, in parts of the width and the height.
      labels: as of `Objects`.
      unread: the positions of images whose record cannot be read.
    """

    ends: Int[np.ndarray, " n"]
    corners: Float[np.ndarray, "k 4"]
    labels: Int[np.ndarray, " k"]
    unread: Int[np.ndarray, " u"]

    @property
    def digest(self) -> str:
        arrays = (self.ends, self.corners, self.labels)
        return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()

    def of(self, image: int) -> slice:
        return slice(int(self.ends[image - 1]) if image else 0, int(self.ends[image]))


@dataclass(frozen=True, eq=False)
class _Part:
    """A split, and which of its boxes can be used.

    Attributes:
      wrong: what is wrong with the others, in words.
      kept: the file in which the boxes are kept.
    """

    split: str
    records: Records
    boxes: _Boxes
    right: Bool[np.ndarray, " k"]
    wrong: list[str]
    kept: Path

    @property
    def most(self) -> int:
        before = np.concatenate([[0], np.cumsum(self.right)])[self.boxes.ends]
        return int(np.diff(before, prepend=0).max())


def box_features(prepared: Prepared) -> BoxFeatures | None:
    """What a set says of objects; None where it has a label of the whole image, or no objects.

    Raises:
      Refused: boxes in another form, or classes without number.
    """
    import tensorflow_datasets as tfds

    kinds = tfds.features
    if any(isinstance(one, kinds.ClassLabel) for one in prepared.features.values()):
        return None
    # Sorted: a description that was read from a file has them in any order.
    for objects, feature in sorted(prepared.features.items()):
        parts = feature.feature if isinstance(feature, kinds.Sequence) else None
        if not isinstance(parts, kinds.FeaturesDict):
            continue
        boxes = [name for name, one in parts.items() if isinstance(one, kinds.BBoxFeature)]
        labels = [name for name, one in sorted(parts.items()) if isinstance(one, kinds.ClassLabel)]
        if len(boxes) != 1 or not labels:
            continue
        labels = [name for name in _CLASS if name in labels][:1] or labels
        if len(labels) > 1:
            raise Refused(
                f"data set {prepared.name}: its feature {objects} has boxes with {len(labels)}"
                f" classes ({', '.join(labels)}); one is needed, named {' or '.join(_CLASS)}"
            )
        box, label = parts[boxes[0]], parts[labels[0]]
        assert isinstance(box, kinds.BBoxFeature), "seen above"
        assert isinstance(label, kinds.ClassLabel), "seen above"
        form = getattr(box.bbox_format, "value", _FORMAT)
        where = f"data set {prepared.name} in {prepared.folder}: its feature {objects}"
        if form != _FORMAT:
            raise Refused(f"{where} has boxes in the form {form}; {_FORMAT} is read")
        if not label.num_classes:
            raise Refused(
                f"{where}/{labels[0]} has no classes (a file {objects}-{labels[0]}.labels.txt would"
                " name them)"
            )
        flags = tuple(name for name in _UNCOUNTED if name in parts)
        return BoxFeatures(objects, boxes[0], labels[0], flags, tuple(label.names))
    return None


def load_boxes(
    data: Data,
    prepared: Prepared,
    features: BoxFeatures,
    say: Callable[[str], None] = lambda line: None,
) -> StreamedDataset:
    """A set with boxes, seen whole at `data.image_size`.

    Raises:
      Refused: a setting that has no meaning here, a split or a file that is not there, an image or
        an object with which something is wrong (data.unreadable=skip leaves out wrong boxes).
    """
    if data.streaming == "never":
        raise Refused(
            f"data.streaming=never: {data.name} has boxes and is always streamed; leave it out"
        )
    if data.test_crops != 1:
        raise Refused(f"data.test_crops={data.test_crops}: {data.name} is seen whole; leave it out")
    check_by_position(prepared)
    image, counts = image_feature(prepared), splits_of(data, prepared, say)
    parts = [
        _part(prepared, features, image, getattr(data, key), count, say)
        for key, count in counts.items()
    ]
    if data.unreadable == "refuse":
        for part in parts:
            _check(prepared, features, image, part)
    examples = [
        EncodedExamples(
            partial(_read, part, features, image),
            len(part.boxes.ends),
            part.records.where,
            object_labels=partial(_labels, part),
        )
        for part in parts
    ]
    most = max(1, *(part.most for part in parts))
    wrong = [words for part in parts for words in part.wrong]
    about = [_READER, features.label_names, [[part.split, part.boxes.digest] for part in parts]]
    known = json.dumps([*about, len(wrong), files_known(prepared.folder)])
    left_out = (LeftOut(len(wrong), WRONG_BOXES, wrong[0]),) if wrong else ()
    for one in left_out:
        say(f"{data.name}: left out: {one}")
    return StreamedDataset(
        name=data.name,
        label_names=features.label_names,
        max_value=255,
        augmentation="flip",
        source=f"{prepared.source}, streamed",
        train=examples[0],
        test=examples[1] if len(examples) > 1 else examples[0].at(np.arange(0)),
        view=SceneView(data.image_size or IMAGE_SIZE, most),
        fingerprint=hashlib.sha256(known.encode()).hexdigest(),
        left_out=left_out,
    )


def _part(
    prepared: Prepared,
    features: BoxFeatures,
    image: str,
    split: str,
    count: int,
    say: Callable[[str], None],
) -> _Part:
    names = (features.box, features.label, *features.uncounted)
    records = Records(prepared.folder, split, image, {features.objects: names})
    # With their times: large files are known by their sizes, which other boxes do not change.
    files = files_known(prepared.folder, times=True)
    about = json.dumps([_READER, split, features.objects, names, files])
    name = f"{prepared.folder.parent.name}-boxes-{hashlib.sha256(about.encode()).hexdigest()[:32]}"
    doing = f"{prepared.name}: reading the boxes of {split} once, of {counted(count, 'image')}"
    make = partial(_all_boxes, prepared, features, records, count, say)
    boxes = _Boxes(**kept_arrays(name, make, doing, say))
    wrong = dict(_wrong(boxes, records.where, len(features.label_names)))
    right = np.ones(len(boxes.labels), bool)
    right[list(wrong)] = False
    return _Part(split, records, boxes, right, list(wrong.values()), kept_path(name))


def _check(prepared: Prepared, features: BoxFeatures, image: str, part: _Part) -> None:
    """Refuse boxes that are wrong, records that cannot be read, some images that cannot be."""
    skip = "; mend the set, or leave such out: --set data.unreadable=skip"
    wrong = [f"{part.records.where(one)}: it cannot be read" for one in part.boxes.unread.tolist()]
    wrong += part.wrong
    if wrong:
        more = f" (and {len(wrong) - 1:,} more)" if len(wrong) > 1 else ""
        raise Refused(f"data set {prepared.name}: {wrong[0]}{more}{skip}")
    look_at(prepared, part.records, len(part.boxes.ends), partial(_read, part, features, image))


def _all_boxes(
    prepared: Prepared,
    features: BoxFeatures,
    records: Records,
    count: int,
    say: Callable[[str], None],
) -> dict[str, np.ndarray]:
    """All boxes of a split, right or wrong."""
    found, unread = [(np.zeros((0, 4), np.float32), np.zeros(0, np.int32))], []
    began = told = time.monotonic()
    for number in range(count):
        try:
            found.append(_objects(records(number), features))
        except Failed:
            unread.append(number)
            found.append(found[0])
        if (now := time.monotonic()) - told >= _TELL_EVERY:
            told, left = now, (now - began) * (count - number) / (number + 1)
            say(f"{prepared.name}: {number + 1:,} of {count:,} images, {left:.0f} s left")
    return {
        "ends": np.cumsum([len(labels) for _, labels in found[1:]], dtype=np.int64),
        "corners": np.concatenate([corners for corners, _ in found]),
        "labels": np.concatenate([labels for _, labels in found]),
        "unread": np.array(unread, np.int64),
    }


def _objects(
    record: dict[str, Any], features: BoxFeatures
) -> tuple[Float[np.ndarray, "k 4"], Int[np.ndarray, " k"]]:
    """The corners and labels of one image, as in `_Boxes`."""
    objects = record[features.objects]
    yxyx = np.asarray(objects[features.box], np.float32).reshape(-1, 4)
    classes = np.asarray(objects[features.label], np.int32).reshape(-1)
    out = np.zeros(len(classes), bool)
    for name in features.uncounted:
        out |= np.asarray(objects[name]).reshape(-1) > 0
    return yxyx[:, [1, 0, 3, 2]], np.where(out, uncounted(classes), classes)


def _wrong(
    boxes: _Boxes, where: Callable[[int], str], num_classes: int
) -> Iterator[tuple[int, str]]:
    """The row of each object with which something is wrong, and what, in words.

    Raises:
      Refused: a class that is not there.
    """
    low, high = boxes.corners[:, :2], boxes.corners[:, 2:]
    inside = np.all((low >= -_ROUNDED) & (high <= 1 + _ROUNDED), axis=1)
    extended = np.all(high > low, axis=1)
    classes = np.where(boxes.labels < 0, uncounted(boxes.labels), boxes.labels)
    strange = (classes < 0) | (classes >= num_classes)
    images = np.repeat(np.arange(len(boxes.ends)), np.diff(boxes.ends, prepend=0))
    for row in np.flatnonzero(~inside | ~extended | strange).tolist():
        at = where(int(images[row]))
        if strange[row]:
            allowed = allowed_labels(num_classes)
            raise Refused(f"{at}: label {classes[row]} is out of range; {allowed}")
        numbers = ", ".join(f"{value:g}" for value in boxes.corners[row])
        problem = "leaves its image" if extended[row] else "has no area"
        yield row, f"{at}: the box ({numbers}) {problem} (x, y, x, y in parts of the image)"


# Functions and not closures: a data set goes to other processes.
def _read(part: _Part, features: BoxFeatures, image: str, position: int) -> tuple[bytes, Objects]:
    record = part.records(position)
    corners, labels = _objects(record, features)
    rows = part.boxes.of(position)
    alike = np.array_equal(corners, part.boxes.corners[rows], equal_nan=True)
    if not (alike and np.array_equal(labels, part.boxes.labels[rows])):
        raise Failed(
            "its boxes are not those that were read before: the set was changed; remove"
            f" {part.kept}"
        )
    right = part.right[rows]
    seen = corners[right].astype(np.float64).clip(0, 1)
    return record[image], Objects(None, seen, labels[right], relative=True)


def _labels(part: _Part, position: int) -> Int[np.ndarray, " k"]:
    rows = part.boxes.of(position)
    return part.boxes.labels[rows][part.right[rows]]
