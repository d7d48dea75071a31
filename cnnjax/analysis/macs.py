"""Multiply-accumulates of an equation, and which of them are a layer's.

A convolution or a product is a layer where its weights are trained or come from the images
(attention), or where fixed weights mix features (LeNet-5's output codes). What fixed weights do
along the map alone moves data, however it is written: resizing, cutting patches, blurring, pooling,
a choice by one-hot vectors. It counts nothing.
"""

import math
from collections.abc import Sequence

import numpy as np

from cnnjax.analysis.axes import Axis, moves, regular
from cnnjax.analysis.intervals import Seen
from cnnjax.analysis.values import Value
from cnnjax.core.jax_internals import Equation, shape_of


def layer_macs(equation: Equation, operands: Sequence[Value]) -> int:
    """Of one convolution or product that is a layer; 0 for anything else."""
    if equation.name not in ("dot_general", "conv_general_dilated"):
        return 0
    return multiply_accumulates(equation) if _is_layer(equation, operands) else 0


def _is_layer(equation: Equation, operands: Sequence[Value]) -> bool:
    left, right = operands[:2]
    if left.is_data and right.is_data:
        return True
    if not left.is_data and not right.is_data:
        return False
    data, fixed = (left, right) if left.is_data else (right, left)
    if data.sight is None:
        return True  # trained weights
    if not isinstance(data.sight, Seen):
        return _sums_channels(equation, 0 if data is left else 1)
    if equation.name == "dot_general":
        return _product_mixes(equation, data.sight, fixed, 0 if data is left else 1)
    return data is right or _convolution_mixes(equation, data.sight, fixed)


def _sums_channels(equation: Equation, side: int) -> bool:
    """Where the map is not known any more: channels lie last, as everywhere here."""
    params = equation["dimension_numbers"]
    if equation.name == "dot_general":
        return list(params[0][side]) == [len(shape_of(equation.inputs[side])) - 1]
    return side == 1 or shape_of(equation.inputs[1])[params.rhs_spec[1]] > 1


def _product_mixes(equation: Equation, data: Seen, fixed: Value, side: int) -> bool:
    """Whether fixed weights sum features of one place."""
    gone, _ = equation["dimension_numbers"]
    places = _places(data, gone[side])
    if len(np.unique(places)) == places.size:
        return False
    weights = fixed.elements
    if weights is None:
        return True
    summed = gone[1 - side]
    kept = [axis for axis in range(weights.ndim) if axis not in summed]
    outputs, terms = np.nonzero(weights.transpose([*kept, *summed]).reshape(-1, places.size))
    return _repeats(outputs * places.size + places.ravel()[terms])


def _convolution_mixes(equation: Equation, data: Seen, fixed: Value) -> bool:
    """Whether fixed weights sum channels of one place, or along an axis that is none of the map."""
    numbers = equation["dimension_numbers"]
    groups = equation["feature_group_count"]
    kernel = [shape_of(equation.inputs[1])[axis] for axis in numbers.rhs_spec]
    on_map = [moves(data.axes[axis]) for axis in numbers.lhs_spec[2:]]
    channels = _places(data, numbers.lhs_spec[1:2]).reshape(groups, -1)
    alone = all(len(np.unique(group)) == group.size for group in channels)
    if alone and all(there or size == 1 for there, size in zip(on_map, kernel[2:], strict=True)):
        return False
    weights = fixed.elements
    if weights is None:
        return True
    output, channel, *taps = np.nonzero(weights.transpose(numbers.rhs_spec))
    place = channels[output // (kernel[0] // groups), channel]
    key = output * data.shape[numbers.lhs_spec[1]] + place
    for tap, there, size in zip(taps, on_map, kernel[2:], strict=True):
        key = key * size + (tap if there else 0)
    return _repeats(key)


def _repeats(keys: np.ndarray) -> bool:
    return len(np.unique(keys)) < keys.size


def _places(data: Seen, axes: Sequence[int]) -> np.ndarray:
    """A number for each place in the map along `axes`; features of one place share it."""
    found = np.zeros((), int)
    for axis in axes:
        along = _along(data, axis)
        found = found[..., None] * data.shape[axis] + along
    return found


def _along(data: Seen, axis: int) -> np.ndarray:
    size = data.shape[axis]
    if regular((data.axes[axis],), 0) and regular((data.axes[axis],), 1):
        return _positions(data.axes[axis])
    # Nothing tells how it moves: what sees the same pixels is at one place.
    ends = [
        np.broadcast_to(np.moveaxis(end, axis, -1).reshape(-1, end.shape[axis])[0], size)
        for span in data.spans
        for end in (span.low, span.high)
    ]
    return np.unique(np.stack(ends), axis=1, return_inverse=True)[1].reshape(-1)


def _positions(axis: Axis) -> np.ndarray:
    found = np.zeros((), int)
    for index in axis:
        step = np.zeros(index.size, int) if index.fixed else np.arange(index.size)
        found = found[..., None] * index.size + step
    return found.ravel()


def multiply_accumulates(equation: Equation) -> int:
    """Of one convolution or product.

    Taps on zeros that a transposed convolution puts between pixels do not count.
    """
    if equation.name == "dot_general":
        (contracted, _), _ = equation["dimension_numbers"]
        shape = shape_of(equation.inputs[0])
        return math.prod(shape_of(equation.outputs[0])) * math.prod(shape[i] for i in contracted)
    numbers = equation["dimension_numbers"]
    images, kernel = (shape_of(atom) for atom in equation.inputs)
    output = shape_of(equation.outputs[0])
    total = math.prod(output[axis] for axis in numbers.out_spec[:2]) * kernel[numbers.rhs_spec[1]]
    for i, (axis, tap, out) in enumerate(
        zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)
    ):
        spread = equation["lhs_dilation"][i]
        if spread == 1:
            total *= output[out] * kernel[tap]
            continue
        starts = np.arange(output[out]) * equation["window_strides"][i]
        taps = np.arange(kernel[tap]) * equation["rhs_dilation"][i]
        places = starts[:, None] + taps - equation["padding"][i][0]
        inside = (places >= 0) & (places <= (images[axis] - 1) * spread)
        total *= int(np.sum(inside & (places % spread == 0)))
    return total
