"""How PyTorch lays out an array of ours, and back."""

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Layout:
    """Rows in another order, then axes turned round, then axes in another order.

    Attributes:
      axes: PyTorch's axes, by their number here.
      flipped: axes here along which PyTorch counts backwards.
      rows: along our first axis, our rows in PyTorch's order; None: the same order.
    """

    axes: tuple[int, ...]
    flipped: tuple[int, ...] = ()
    rows: tuple[int, ...] | None = None

    def export(self, array: np.ndarray) -> np.ndarray:
        """Our array in PyTorch's layout; a copy."""
        if self.rows is not None:
            array = array[list(self.rows)]
        return np.array(np.flip(array, self.flipped).transpose(self.axes), order="C")

    def take(self, array: np.ndarray) -> np.ndarray:
        """PyTorch's array in our layout; a copy."""
        array = np.flip(array.transpose(np.argsort(self.axes)), self.flipped)
        if self.rows is not None:
            array = array[np.argsort(self.rows)]
        return np.array(array, order="C")

    def torch_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of our array in PyTorch's layout."""
        return tuple(shape[axis] for axis in self.axes)


@dataclass(frozen=True)
class Torch:
    """An array as PyTorch has it: its key in a state dict, and its layout."""

    name: str
    layout: Layout


def as_it_is(ndim: int) -> Layout:
    """The same order on both sides."""
    return Layout(tuple(range(ndim)))


def vector(rows: tuple[int, ...] | None = None) -> Layout:
    """One number a channel."""
    return Layout((0,), rows=rows)


def dense(rows: tuple[int, ...] | None = None) -> Layout:
    """[in, out] here, [out, in] there."""
    return Layout((1, 0), rows=rows)


def convolution(places: int) -> Layout:
    """[places ..., in, out] here, [out, in, places ...] there."""
    return Layout((places + 1, places, *range(places)))


def transposed_convolution(places: int) -> Layout:
    """[places ..., in, out] here, [in, out, places ...] there: both the adjoint of a convolution
    (`ops.conv.conv_transpose`)."""
    return Layout((places, places + 1, *range(places)))


def flax_transposed_convolution(places: int, *, transpose_kernel: bool) -> Layout:
    """As `transposed_convolution`, of Flax's layer.

    Flax's is the adjoint with `transpose_kernel`, where the kernel is [places ..., out, in]; else
    it slides [places ..., in, out] without turning it round.
    """
    if transpose_kernel:
        return Layout((places + 1, places, *range(places)))
    return replace(transposed_convolution(places), flipped=tuple(range(places)))


def channels_first(sizes: tuple[int, ...]) -> tuple[int, ...]:
    """Rows of a flattened map in PyTorch's order.

    Args:
      sizes: of the map, channels last, e.g. (height, width, channels).
    """
    rows = np.arange(int(np.prod(sizes))).reshape(-1, sizes[-1])
    return tuple(rows.T.ravel().tolist())
