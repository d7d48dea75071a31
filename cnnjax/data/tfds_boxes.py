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
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cnnjax.core.arrays import pack, unpack
from cnnjax.core.errors import Failed, Refused
from cnnjax.core.files import atomic_write
from cnnjax.core.folders import user_cache
from cnnjax.core.recipe import Data
from cnnjax.data.dataset import LeftOut, StreamedDataset, allowed_labels, uncounted
from cnnjax.data.examples import EncodedExamples
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

# Flags of an object that does not count: COCO's, VOC's, Open Images'.
_UNCOUNTED = ("is_crowd", "is_difficult", "is_group_of")
_FORMAT = "REL_YXYX"  # of boxes; sets that were prepared by an older TFDS do not say it
_ROUNDED = 1e-6  # by which a box may leave its image
_READER = 1  # of the boxes in the cache; another one, another number
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
    """

    ends: Int[np.ndarray, " n"]
    corners: Float[np.ndarray, "k 4"]
    labels: Int[np.ndarray, " k"]

    def of(self, image: int) -> slice:
        return slice(int(self.ends[image - 1]) if image else 0, int(self.ends[image]))

    @property
    def counts(self) -> Int[np.ndarray, " n"]:
        return np.diff(self.ends, prepend=0)

    def kept(self, rows: np.ndarray) -> "_Boxes":
        """Those of the objects for which `rows` is true."""
        before = np.concatenate([[0], np.cumsum(rows)])
        return _Boxes(before[self.ends], self.corners[rows], self.labels[rows])


def box_features(prepared: Prepared) -> BoxFeatures | None:
    """What a set says of objects; None where it has a label of the whole image, or no objects.

    Raises:
      Refused: boxes in another form, or classes without number.
    """
    import tensorflow_datasets as tfds

    kinds = tfds.features
    if any(isinstance(one, kinds.ClassLabel) for one in prepared.features.values()):
        return None
    for objects, feature in prepared.features.items():
        parts = feature.feature if isinstance(feature, kinds.Sequence) else None
        if not isinstance(parts, kinds.FeaturesDict):
            continue
        boxes = [name for name, one in parts.items() if isinstance(one, kinds.BBoxFeature)]
        labels = [name for name, one in parts.items() if isinstance(one, kinds.ClassLabel)]
        labels = ["label"] if "label" in labels else labels
        if len(boxes) != 1 or len(labels) != 1:
            continue
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
        raise Refused(f"data.streaming=never: {data.name} has boxes and is always streamed")
    if data.test_crops != 1:
        raise Refused(f"data.test_crops={data.test_crops}: {data.name} is seen whole; leave it out")
    check_by_position(prepared)
    parts, wrong = [], []
    for key, count in splits_of(data, prepared).items():
        boxes, words = _right_boxes(prepared, features, getattr(data, key), count, say)
        parts.append((getattr(data, key), boxes))
        wrong += words
    if wrong and data.unreadable == "refuse":
        more = f" (and {len(wrong) - 1:,} more)" if len(wrong) > 1 else ""
        raise Refused(
            f"data set {data.name}: {wrong[0]}{more}; leave such boxes out: --set"
            " data.unreadable=skip"
        )
    examples = [_examples(prepared, *part, look=data.unreadable == "refuse") for part in parts]
    most = max(1, *(int(boxes.counts.max()) for _, boxes in parts))
    about = [features.label_names, most, [split for split, _ in parts], len(wrong)]
    known = json.dumps([*about, files_known(prepared.folder)])
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


def _examples(prepared: Prepared, split: str, boxes: _Boxes, *, look: bool) -> EncodedExamples:
    image, count = image_feature(prepared), len(boxes.ends)
    records = Records(prepared.folder, split, image)
    read = partial(_read, records, image, boxes)
    if look:
        look_at(prepared, records, count, read)
    return EncodedExamples(read, count, records.where, object_labels=partial(_labels, boxes))


def _right_boxes(
    prepared: Prepared, features: BoxFeatures, split: str, count: int, say: Callable[[str], None]
) -> tuple[_Boxes, list[str]]:
    """The boxes of a split that can be used, and what is wrong with the others."""
    records = Records(prepared.folder, split, image_feature(prepared))
    boxes = _stored(prepared, features, records, split, count, say)
    wrong = dict(_wrong(boxes, records.where, len(features.label_names)))
    right = np.ones(len(boxes.labels), bool)
    right[list(wrong)] = False
    return boxes.kept(right), list(wrong.values())


def _stored(
    prepared: Prepared,
    features: BoxFeatures,
    records: Records,
    split: str,
    count: int,
    say: Callable[[str], None],
) -> _Boxes:
    """All boxes of a split, right or wrong."""
    names = (features.objects, features.box, features.label, features.uncounted)
    about = json.dumps([_READER, split, names, files_known(prepared.folder)])
    digest = hashlib.sha256(about.encode()).hexdigest()[:32]
    path = user_cache("data") / f"{prepared.folder.parent.name}-boxes-{digest}.arrays"
    try:
        return _Boxes(**unpack(path.read_bytes()))
    except FileNotFoundError:
        say(f"{prepared.name}: reading the boxes of {count:,} examples of {split} once")
    except (OSError, ValueError, TypeError) as error:
        say(f"{path}: {error}; reading them again")
    counts, corners, labels = [], [np.zeros((0, 4), np.float32)], [np.zeros(0, np.int32)]
    began = told = time.monotonic()
    for number in range(count):
        try:
            objects = records(number)[features.objects]
        except Failed as error:
            raise Refused(f"data set {prepared.name}: {records.where(number)}: {error}") from error
        yxyx = np.asarray(objects[features.box], np.float32).reshape(-1, 4)
        classes = np.asarray(objects[features.label], np.int32)
        flags = [np.asarray(objects[name], bool) for name in features.uncounted]
        out = np.any([np.zeros(len(classes), bool), *flags], axis=0)
        counts.append(len(yxyx))
        corners.append(yxyx[:, [1, 0, 3, 2]])
        labels.append(np.where(out, uncounted(classes), classes))
        if (now := time.monotonic()) - told >= _TELL_EVERY:
            told, left = now, (now - began) * (count - number) / (number + 1)
            say(f"{prepared.name}: {number + 1:,} of {count:,} examples, {left:.0f} s left")
    found = {
        "ends": np.cumsum(counts, dtype=np.int64),
        "corners": np.concatenate(corners),
        "labels": np.concatenate(labels),
    }
    try:
        atomic_write(path, pack(found))
    except OSError as error:  # a full disk costs the cache, not the run
        say(f"{path}: {error.strerror}; they will be read again next time")
    return _Boxes(**found)


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
    images = np.repeat(np.arange(len(boxes.ends)), boxes.counts)
    for row in np.flatnonzero(~inside | ~extended | strange).tolist():
        numbers = ", ".join(f"{value:g}" for value in boxes.corners[row])
        problem = f"the box ({numbers}) {'leaves its image' if extended[row] else 'has no area'}"
        if strange[row]:
            raise Refused(
                f"{where(int(images[row]))}: label {classes[row]} is out of range;"
                f" {allowed_labels(num_classes)}"
            )
        yield row, f"{where(int(images[row]))}: {problem} (x, y, x, y in parts of the image)"


# Functions and not closures: a data set goes to other processes.
def _read(records: Records, image: str, boxes: _Boxes, position: int) -> tuple[bytes, Objects]:
    encoded: Any = records(position)[image]
    rows = boxes.of(position)
    corners = boxes.corners[rows].astype(np.float64).clip(0, 1)
    return encoded, Objects(None, corners, boxes.labels[rows], relative=True)


def _labels(boxes: _Boxes, position: int) -> Int[np.ndarray, " k"]:
    return boxes.labels[boxes.of(position)]
