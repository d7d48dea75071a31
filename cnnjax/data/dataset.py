"""The contract of a data set: images as uint8, integer labels, and what is known about them."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from cnnjax.core.errors import Refused


@dataclass(frozen=True, eq=False)
class Examples:
    """One split."""

    images: UInt8[np.ndarray, "n h w c"]
    labels: Int[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory.

    Attributes:
      name: what `--data` calls it.
      label_names: one name a class.
      max_value: the value of a fully bright pixel (255; 16 for digits).
      augmentation: the default while training: "none" or "pad_crop_flip".
      source: where the images come from.
    """

    name: str
    train: Examples
    test: Examples
    label_names: tuple[str, ...]
    max_value: int
    augmentation: str
    source: str

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
    def num_classes(self) -> int:
        return len(self.label_names)

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
