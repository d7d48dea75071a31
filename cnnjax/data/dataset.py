"""The contract of a data set: images, integer labels, and what is known about them.

A small set lies in memory as uint8 (`Dataset`); photographs are read encoded while training
(`StreamedDataset`). Both say the same about themselves.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

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
    """

    read: Callable[[int], tuple[bytes, int]]
    size: int
    where: Callable[[int], str] = "example {}".format

    def __len__(self) -> int:
        return self.size


@dataclass(frozen=True, eq=False)
class Described:
    """What both kinds of data set say of themselves.

    Attributes:
      name: what `--data` calls it.
      label_names: one name a class.
      max_value: the value of a fully bright pixel (255; 16 for digits).
      augmentation: the default while training.
      source: where the images come from.
    """

    name: str
    label_names: tuple[str, ...]
    max_value: int
    augmentation: str
    source: str

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
            if not len(examples):
                raise Refused(f"data set {self.name}: the {split} split is empty")
            outside = (examples.labels < 0) | (examples.labels >= self.num_classes)
            if outside.any():
                raise Refused(
                    f"data set {self.name}: {int(outside.sum())} labels of the {split} split are"
                    f" out of range (first: {int(examples.labels[outside][0])});"
                    f" {self.num_classes} classes allow 0 to {self.num_classes - 1}"
                )

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        return self.train.images.shape[1:]

    @property
    def fingerprint(self) -> str:
        """SHA-256 over both splits' shapes, images and labels."""
        digest = hashlib.sha256()
        for examples in (self.train, self.test):
            digest.update(repr(examples.images.shape).encode())
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


AnyDataset = Dataset | StreamedDataset
