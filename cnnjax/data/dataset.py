"""The contract of a data set: images, labels, further fields, and what is known about them.

A small set lies in memory as uint8 (`Dataset`); photographs are read encoded while training
(`StreamedDataset`). Both say the same about themselves.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from cnnjax.core.errors import Refused
from cnnjax.core.words import counted
from cnnjax.data.conversion import as_arrays, class_names
from cnnjax.data.examples import EncodedExamples, Examples, Field
from cnnjax.data.views import AnyView

UNNAMED = "arrays"  # a set of a user's own that was given no name
# Fields that hold classes: the number of the first class, and what is none besides.
CLASSES = {"labels": (0, None), "box_labels": (0, -1), "class_map": (1, 255)}

PLACED = ("boxes", "class_map", "object_map")  # that go where the pixels go
_AUGMENTATIONS = ("none", "pad_crop_flip")  # of a set in memory, on the device
# Names of a batch and of what normalises it.
RESERVED = ("mask", "indices", "other_labels", "other_share", "mean", "deviation", "max_value",
            "colours")  # fmt: skip


@dataclass(frozen=True)
class LeftOut:
    """Files or folders that a data set does not hold: how many, why, and the first of them."""

    count: int
    reason: str
    first: str

    def __str__(self) -> str:
        return f"{self.count:,} {self.reason} ({self.first}{', ...' if self.count > 1 else ''})"


@dataclass(frozen=True, eq=False)
class Described:
    """What both kinds of data set say of themselves.

    Attributes:
      name: what `--data` calls it.
      label_names: one name a class; none where no field holds classes.
      max_value: the value of a fully bright pixel (255; 16 for digits).
      augmentation: the default while training.
      source: where the images come from.
      left_out: what lies beside the images and is not read.
    """

    name: str
    label_names: tuple[str, ...]
    max_value: int
    augmentation: str
    source: str
    left_out: tuple[LeftOut, ...] = field(default=(), kw_only=True)

    @property
    def num_classes(self) -> int:
        return len(self.label_names)


@dataclass(frozen=True, eq=False)
class Dataset(Described):
    """A data set in memory.

    The test split may be empty until a share of the training set is held out (`data.split`).
    """

    train: Examples
    test: Examples

    @classmethod
    def from_arrays(
        cls,
        train: Mapping[str, Any],
        test: Mapping[str, Any] | None = None,
        *,
        name: str = UNNAMED,
        label_names: Iterable[str] | None = None,
        max_value: int = 255,
        augmentation: str = "none",
    ) -> "Dataset":
        """A data set of one's own.

        Args:
          train: "images", whole numbers [n, h, w] or [n, h, w, c]; "labels", whole numbers [n],
            which a task without classes does not need; further arrays of the same length.
          test: the same fields; None: there is no test part yet, `data.test_share` holds one out.
          label_names: one a class; default "0", "1", ... up to the largest training label.
          max_value: the value of a fully bright pixel, 1 to 255.
          augmentation: the default while training, none or pad_crop_flip.

        Raises:
          Refused: an array that is no such thing; the text says which and how to convert it.
        """
        if augmentation not in _AUGMENTATIONS:
            raise Refused(
                f"data set {name}: augmentation={augmentation!r}: it is one of"
                f" {', '.join(_AUGMENTATIONS)}"
            )
        where = f"data set {name}: "
        parts = [as_arrays(train, where + "train", max_value)]
        if test is None:
            parts.append({field: array[:0] for field, array in parts[0].items()})
        else:
            parts.append(as_arrays(test, where + "test", max_value))
        other = any(name in parts[0] for name in CLASSES if name != "labels")
        names = class_names(label_names, parts[0].get("labels"), where, other=other)
        first, second = map(Examples, parts)
        return cls(name, names, max_value, augmentation, "arrays", train=first, test=second)

    def __post_init__(self):
        _check_max_value(self)
        for split, examples in (("training", self.train), ("test", self.test)):
            self._check(split, examples)
        train, test = self.train.fields, self.test.fields
        if train["images"].shape != test["images"].shape:
            raise Refused(
                f"data set {self.name}: training images are {_size(self.train)}, test images"
                f" {_size(self.test)}; one size is needed"
            )
        if differ := [name for name in {**train, **test} if train.get(name) != test.get(name)]:
            raise Refused(
                f"data set {self.name}: {differ[0]} is {train.get(differ[0], 'not there')} in the"
                f" training split and {test.get(differ[0], 'not there')} in the test split; both"
                " need the same fields"
            )

    def _check(self, split: str, examples: Examples) -> None:
        where, arrays = f"data set {self.name}: the {split} split", examples.arrays
        if "images" not in arrays:
            raise Refused(f"{where} has no images (there is {', '.join(arrays) or 'nothing'})")
        images = arrays["images"]
        if images.dtype != np.uint8 or images.ndim != 4:
            raise Refused(
                f"{where} has images {images.dtype}{list(images.shape)}; they are uint8"
                " [n, h, w, c]"
            )
        if not len(examples) and split == "training":
            raise Refused(f"{where} is empty")
        for name, array in arrays.items():
            self._check_field(where, name, array, len(images))
        if self.max_value < 255 and images.size and images.max() > self.max_value:
            raise Refused(f"{where} has pixels of {images.max()}, above max_value={self.max_value}")
        classed = [name for name in CLASSES if name in arrays]
        if bool(classed) != bool(self.label_names):
            there = f"{classed[0]}, but no classes" if classed else "classes, but no labels"
            raise Refused(
                f"{where} has {there}; give {' or '.join(CLASSES)} and label_names, or neither"
            )
        for name in classed:
            self._check_classes(split, name, arrays[name])
        if "class_map" in arrays and arrays["class_map"].shape != images.shape[:3]:
            raise Refused(
                f"{where} has class maps {list(arrays['class_map'].shape)} of images"
                f" {list(images.shape)}; a map has its image's height and width"
            )
        if "boxes" in arrays and "box_labels" in arrays:
            self._check_boxes(split, arrays["boxes"], arrays["box_labels"])

    def _check_field(self, where: str, name: str, array: np.ndarray, examples: int) -> None:
        if not name.isidentifier() or name in RESERVED:
            raise Refused(
                f"{where} has a field {name!r}; a field is named by a word, and not"
                f" {', '.join(RESERVED)}"
            )
        if not array.ndim or len(array) != examples:
            raise Refused(
                f"{where} has {examples:,} images and {name} {list(array.shape)}; each array has a"
                " row for every image"
            )
        if 0 in array.shape[1:]:
            raise Refused(f"{where} has {name} of size {_by(array.shape[1:])}, which is nothing")
        if name == "labels":
            if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
                raise Refused(
                    f"{where} has labels {array.dtype}{list(array.shape)}; they are integers [n]"
                )
        elif array.dtype.kind not in "biuf" or array.dtype.itemsize > 4:
            raise Refused(f"{where} has {name} of {array.dtype}; numbers of up to 32 bits are read")

    def _check_classes(self, split: str, field: str, values: np.ndarray) -> None:
        values = values.astype(np.int64)  # of an unsigned type -2 is none
        first, none = CLASSES[field]
        outside = (values < 0) | (values >= first + self.num_classes)
        if none is not None:
            outside &= values != none
        if field == "box_labels":
            outside &= (uncounted(values) < 0) | (uncounted(values) >= self.num_classes)
        if outside.any():
            besides = {
                255: ", 0 the ground, 255 what is not counted",
                -1: ", -1 no box, -2 - class an object that does not count",
            }
            raise Refused(
                f"data set {self.name}: {int(outside.sum())} {field.replace('_', ' ')} of the"
                f" {split} split are out of range (first: {int(values[outside][0])});"
                f" {allowed_labels(self.num_classes, first)}{besides.get(none or 0, '')}"
            )

    def _check_boxes(self, split: str, boxes: np.ndarray, labels: np.ndarray) -> None:
        """Boxes of no area, or that leave their image; those of no object are not looked at."""
        if boxes.shape != (*labels.shape, 4):
            raise Refused(
                f"data set {self.name}: boxes of the {split} split are {list(boxes.shape)}, their"
                f" box labels {list(labels.shape)}; they are [n, most, 4] and [n, most]"
            )
        height, width = self.image_shape[:2]
        low, high = boxes[..., :2], boxes[..., 2:]
        for bad, what in (
            (~(high > low).all(-1), "has no area"),
            ((low < 0).any(-1) | (high > (width, height)).any(-1), "leaves its image"),
        ):
            bad &= labels != -1
            if bad.any():
                image, place = (int(one) for one in np.argwhere(bad)[0])
                numbers = ", ".join(f"{value:g}" for value in boxes[image, place])
                raise Refused(
                    f"data set {self.name}: {counted(int(bad.sum()), 'box', 'boxes')} of the"
                    f" {split} split:"
                    f" ({numbers}) of image {image} {what}; they are x, y of the near and of the"
                    f" far corner, in an image of {width}x{height}"
                )

    @property
    def fields(self) -> dict[str, Field]:
        """What an example holds."""
        return self.train.fields

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.train.images.shape[1:]

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over both splits' shapes, images and labels, and what gives them a meaning.

        Labels are the same set in whatever integer type. Further fields follow with their names.
        """
        about = [self.label_names, self.max_value]
        digest = hashlib.sha256(json.dumps(about).encode())
        for examples in (self.train, self.test):
            digest.update(f"{examples.images.dtype}{list(examples.images.shape)}".encode())
            digest.update(np.ascontiguousarray(examples.images).data)
            if "labels" in examples.arrays:
                digest.update(np.ascontiguousarray(examples.labels, np.int32).data)
            for name in sorted(examples.arrays.keys() - {"images", "labels"}):
                array = examples.arrays[name]
                head = [name, str(array.dtype), list(array.shape)]
                digest.update(json.dumps(head).encode())
                digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()

    def pixel_mean(self) -> Float[np.ndarray, "h w c"]:
        """Mean training image, per pixel, where a fully bright pixel is 1."""
        total = self.train.images.sum(axis=0, dtype=np.int64)
        return (total / (len(self.train) * self.max_value)).astype(np.float32)

    def colour_covariance(self) -> Float[np.ndarray, "c c"]:
        """Covariance of the channels over all training pixels, where a bright pixel is 1."""
        channels = self.image_shape[2]
        total, products, pixels = np.zeros(channels), np.zeros((channels, channels)), 0
        for start in range(0, len(self.train), 1000):
            part = self.train.images[start : start + 1000].reshape(-1, channels)
            part = part.astype(np.float64) / self.max_value
            total, products = total + part.sum(0), products + part.T @ part
            pixels += len(part)
        mean = total / pixels
        return products / pixels - np.outer(mean, mean)


@dataclass(frozen=True, eq=False)
class StreamedDataset(Described):
    """A data set of encoded images that are read while training.

    Attributes:
      view: how a test image is brought to its size; training adds the augmentation.
      fingerprint: SHA-256 of what identifies the content.
    """

    train: EncodedExamples
    test: EncodedExamples
    view: AnyView
    fingerprint: str

    def __post_init__(self):
        if not len(self.train):
            raise Refused(f"data set {self.name}: the training split is empty")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.view.size, self.view.size, 3

    @property
    def fields(self) -> dict[str, Field]:
        """What an example holds."""
        return self.view.fields


def images_per_class(
    examples: Examples | EncodedExamples, num_classes: int
) -> Int[np.ndarray, " k"] | None:
    """How many images of each class a split holds; of a set with boxes, how many objects.

    None where there are neither, or where that would read every image.
    """
    labels = _all_labels(examples)
    return None if labels is None else np.bincount(labels[labels >= 0], minlength=num_classes)


def uncounted(labels: Any) -> Any:
    """The box labels of objects of these classes that do not count; and back again: -2 - class.

    While a detector is trained they are ground, and when it is judged, to find one or not is
    neither right nor wrong: a crowd, an object that is hard to see.
    """
    return -2 - labels


def uncounted_objects(examples: Examples | EncodedExamples) -> int:
    """How many objects of a split do not count."""
    labels = _all_labels(examples)
    return 0 if labels is None else int((labels < -1).sum())


def _all_labels(examples: Examples | EncodedExamples) -> np.ndarray | None:
    if isinstance(examples, Examples):
        return examples.arrays.get("labels", examples.arrays.get("box_labels"))
    if examples.object_labels is not None:
        each = [examples.object_labels(position) for position in range(len(examples))]
        return np.concatenate(each) if each else np.zeros(0, np.int32)
    return examples.labels and examples.labels()


def allowed_labels(num_classes: int, first: int = 0) -> str:
    """In words."""
    return f"{num_classes} classes allow {first} to {first + num_classes - 1}"


def _check_max_value(dataset: Dataset) -> None:
    if not 0 < dataset.max_value <= 255:
        raise Refused(f"data set {dataset.name}: max_value={dataset.max_value}: 1 to 255")


def _size(examples: Examples) -> str:
    return _by(examples.images.shape[1:])


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


AnyDataset = Dataset | StreamedDataset
