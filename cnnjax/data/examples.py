"""One split of a data set: arrays in memory, or encoded images that are read by position."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Int, Shaped, UInt8

from cnnjax.core.errors import Refused


@dataclass(frozen=True)
class Field:
    """One entry of an example, as a batch holds it: its shape, without the axis of examples."""

    shape: tuple[int, ...]
    dtype: np.dtype

    def __str__(self) -> str:
        return f"{self.dtype} {'x'.join(map(str, self.shape))}".rstrip()


LABELS = Field((), np.dtype(np.int32))


@dataclass(frozen=True, eq=False)
class Examples:
    """One split in memory: arrays by name, an example a row.

    `images` are uint8 [n, h, w, c]; integer `labels` [n] are there where the set has classes. The
    arrays cannot be written: the fingerprint of a data set is taken once.
    """

    arrays: Mapping[str, Shaped[np.ndarray, "..."]]

    def __post_init__(self):
        object.__setattr__(self, "arrays", {name: _view(a) for name, a in self.arrays.items()})

    @classmethod
    def of(cls, **arrays: Shaped[np.ndarray, "..."]) -> "Examples":
        """Examples.of(images=..., labels=...)"""
        return cls(arrays)

    @property
    def images(self) -> UInt8[np.ndarray, "n h w c"]:
        return self.arrays["images"]

    @property
    def labels(self) -> Int[np.ndarray, " n"]:
        """
        Raises:
          Refused: there are none.
        """
        if "labels" not in self.arrays:
            raise Refused(
                f"the data have no labels (there is {', '.join(self.arrays)}); classes need them"
            )
        return self.arrays["labels"]

    @property
    def fields(self) -> dict[str, Field]:
        """What an example holds."""
        return {
            name: LABELS if name == "labels" else Field(array.shape[1:], array.dtype)
            for name, array in self.arrays.items()
        }

    def at(self, positions: Int[np.ndarray, " m"]) -> "Examples":
        """The examples at these positions."""
        return Examples({name: array[positions] for name, array in self.arrays.items()})

    def __len__(self) -> int:
        return len(self.arrays["images"])


@dataclass(frozen=True, eq=False)
class EncodedExamples:
    """One split of encoded images, read by position.

    Attributes:
      read: position to the encoded image and what is known of it, in the form that the set's view
        takes: a label, or `data.scene_views.Objects`; may be called from several threads.
      size: how many there are.
      where: position to words that name the image, for messages.
      labels: reads all labels; None where that would read every image, or there are none.
      object_labels: position to the labels of what is in the image; None: it has one, or none.
    """

    read: Callable[[int], tuple[bytes, Any]]
    size: int
    where: Callable[[int], str] = "example {}".format
    labels: Callable[[], Int[np.ndarray, " n"]] | None = None
    object_labels: Callable[[int], Int[np.ndarray, " k"]] | None = None

    def at(self, positions: Int[np.ndarray, " m"]) -> "EncodedExamples":
        """The examples at these positions."""
        return EncodedExamples(
            partial(_there, self.read, positions),
            len(positions),
            partial(_there, self.where, positions),
            self.labels and partial(_labels_there, self.labels, positions),
            self.object_labels and partial(_there, self.object_labels, positions),
        )

    def __len__(self) -> int:
        return self.size


def _view(array: np.ndarray) -> np.ndarray:
    view = array.view()
    view.flags.writeable = False
    return view


# Functions and not closures: a data set goes to other processes.
def _there(function: Callable[[int], Any], positions: np.ndarray, position: int) -> Any:
    return function(int(positions[position]))


def _labels_there(labels: Callable[[], np.ndarray], positions: np.ndarray) -> np.ndarray:
    return labels()[positions]
