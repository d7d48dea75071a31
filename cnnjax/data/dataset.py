"""The contract of a data set: images, integer labels, and what is known about them.

A small set lies in memory as uint8 (`Dataset`); photographs are read encoded while training
(`StreamedDataset`). Both say the same about themselves.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int, UInt8

from cnnjax.core.errors import Refused
from cnnjax.data.views import View


@dataclass(frozen=True, eq=False)
class Examples:
    """One split in memory."""

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class EncodedExamples:
    """One split of encoded images, read by position.

    Attributes:
      read: position to (encoded image, label); may be called from several threads.
      size: how many there are.
      where: position to words that name the image, for messages.
      labels: reads all labels; None where that would read every image.
    """

    read: Callable[[int], tuple[bytes, int]]
    size: int
    where: Callable[[int], str] = "example {}".format
    labels: Callable[[], Int[np.ndarray, " n"]] | None = None

    def __len__(self) -> int:
        return self.size


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
      label_names: one name a class.
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
    """A data set in memory."""

    train: Examples
    test: Examples

    def __post_init__(self):
        for split, examples in (("training", self.train), ("test", self.test)):
            self._check(split, examples)
        if self.train.images.shape[1:] != self.test.images.shape[1:]:
            raise Refused(
                f"data set {self.name}: training images are {_size(self.train)}, test images"
                f" {_size(self.test)}; one size is needed"
            )

    def _check(self, split: str, examples: Examples) -> None:
        images, labels = examples.images, examples.labels
        where = f"data set {self.name}: the {split} split"
        if not len(examples):
            raise Refused(f"{where} is empty")
        if images.dtype != np.uint8 or images.ndim != 4 or labels.shape != images.shape[:1]:
            raise Refused(
                f"{where} has images {images.dtype}{list(images.shape)} and labels"
                f" {list(labels.shape)}; it is uint8 [n, h, w, c] and [n]"
            )
        if not 0 < self.max_value <= 255:
            raise Refused(f"{where}: max_value={self.max_value}: 1 to 255")
        if self.max_value < 255 and images.max() > self.max_value:
            raise Refused(f"{where} has pixels of {images.max()}, above max_value={self.max_value}")
        if not np.issubdtype(labels.dtype, np.integer):
            raise Refused(f"{where} has labels of {labels.dtype}; they are integers")
        outside = (labels < 0) | (labels >= self.num_classes)
        if outside.any():
            raise Refused(
                f"data set {self.name}: {int(outside.sum())} labels of the {split} split are"
                f" out of range (first: {int(labels[outside][0])});"
                f" {allowed_labels(self.num_classes)}"
            )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.train.images.shape[1:]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over both splits' shapes, images and labels, and what gives them a meaning.

        Labels are the same set in whatever integer type.
        """
        about = [self.label_names, self.max_value]
        digest = hashlib.sha256(json.dumps(about).encode())
        for examples in (self.train, self.test):
            digest.update(f"{examples.images.dtype}{list(examples.images.shape)}".encode())
            digest.update(np.ascontiguousarray(examples.images).data)
            digest.update(np.ascontiguousarray(examples.labels, np.int32).data)
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
    view: View
    fingerprint: str

    def __post_init__(self):
        for split, examples in (("training", self.train), ("test", self.test)):
            if not len(examples):
                raise Refused(f"data set {self.name}: the {split} split is empty")

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.view.size, self.view.size, 3


def images_per_class(
    examples: Examples | EncodedExamples, num_classes: int
) -> Int[np.ndarray, " k"] | None:
    """How many images of each class a split holds; None where that would read every image."""
    if isinstance(examples, Examples):
        labels = examples.labels
    elif examples.labels is None:
        return None
    else:
        labels = examples.labels()
    return np.bincount(labels, minlength=num_classes)


def allowed_labels(num_classes: int) -> str:
    """In words."""
    return f"{num_classes} classes allow 0 to {num_classes - 1}"


def _size(examples: Examples) -> str:
    return "x".join(map(str, examples.images.shape[1:]))


AnyDataset = Dataset | StreamedDataset
