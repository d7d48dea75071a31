"""The receptive field of every array in a traced computation, axis by axis.

r += (k - 1) j, o += ((k - 1) / 2 - p) j, j *= s over kernel k, stride s and padding p, from
r = 1, o = 0, j = 1 at the image (Dumoulin & Visin 2016; Araujo et al. 2019, Distill). Where paths
meet, the widest counts. Axes whose place in the image is lost (by a reshape, a sum over the map)
have no field.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Field:
    """Along one axis of the image, in pixels.

    Attributes:
      size: how many pixels a unit can see.
      stride: distance between what neighbouring units see.
      offset: centre of what the first unit sees, where the first pixel is 0.
    """

    size: float | int = 1
    stride: float | int = 1
    offset: float = 0.0

    def window(self, kernel: int, strides: int, padding: int, dilation: int = 1) -> "Field":
        """After a window of `kernel` taps."""
        reach = (kernel - 1) * dilation
        return Field(
            self.size + reach * self.stride,
            self.stride * strides,
            self.offset + (reach / 2 - padding) * self.stride,
        )

    def spread(self, factor: int) -> "Field":
        """After `factor` - 1 zeros were put between neighbours."""
        return self if factor == 1 else Field(self.size, self.stride / factor, self.offset)


Fields = Mapping[int, Field]  # by axis


def propagate(equation: Any, inputs: Sequence[Fields]) -> Fields:
    """Fields of the first output of a primitive equation, given those of its operands."""
    rule = _RULES.get(equation.primitive.name)
    if rule is not None:
        return rule(equation, inputs)
    shape = getattr(equation.outvars[0].aval, "shape", ())
    same = [
        fields
        for fields, operand in zip(inputs, equation.invars, strict=True)
        if getattr(operand.aval, "shape", ()) == shape
    ]
    return widest(same)


def widest(candidates: Sequence[Fields]) -> Fields:
    """Axis by axis the field that sees most."""
    found: dict[int, Field] = {}
    for fields in candidates:
        for axis, field in fields.items():
            if axis not in found or field.size > found[axis].size:
                found[axis] = field
    return found


def _convolution(equation: Any, inputs: Sequence[Fields]) -> Fields:
    params = equation.params
    numbers, kernel = params["dimension_numbers"], equation.invars[1].aval.shape
    fields = {}
    for i, (axis, out) in enumerate(zip(numbers.lhs_spec[2:], numbers.out_spec[2:], strict=True)):
        if axis in inputs[0]:
            fields[out] = (
                inputs[0][axis]
                .spread(params["lhs_dilation"][i])
                .window(
                    kernel[numbers.rhs_spec[2 + i]],
                    params["window_strides"][i],
                    params["padding"][i][0],
                    params["rhs_dilation"][i],
                )
            )
    return fields


def _window(equation: Any, inputs: Sequence[Fields]) -> Fields:
    p = equation.params
    return {
        axis: field.window(
            p["window_dimensions"][axis], p["window_strides"][axis], p["padding"][axis][0]
        )
        for axis, field in inputs[0].items()
    }


def _pad(equation: Any, inputs: Sequence[Fields]) -> Fields:
    config = equation.params["padding_config"]
    return {
        axis: field.spread(int(config[axis][2]) + 1).window(1, 1, int(config[axis][0]))
        for axis, field in inputs[0].items()
    }


def _slice(equation: Any, inputs: Sequence[Fields]) -> Fields:
    starts = equation.params["start_indices"]
    strides = equation.params["strides"] or (1,) * len(starts)
    return {
        axis: field.window(1, strides[axis], -starts[axis]) for axis, field in inputs[0].items()
    }


def _transpose(equation: Any, inputs: Sequence[Fields]) -> Fields:
    order = list(equation.params["permutation"])
    return {order.index(axis): field for axis, field in inputs[0].items()}


def _broadcast(equation: Any, inputs: Sequence[Fields]) -> Fields:
    places = equation.params["broadcast_dimensions"]
    old, new = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    return {
        places[axis]: field for axis, field in inputs[0].items() if old[axis] == new[places[axis]]
    }


def _reduce(equation: Any, inputs: Sequence[Fields]) -> Fields:
    params = equation.params
    gone = set(params["dimensions"] if "dimensions" in params else params["axes"])
    return {
        axis - sum(a < axis for a in gone): field
        for axis, field in inputs[0].items()
        if axis not in gone
    }


def _gather(equation: Any, inputs: Sequence[Fields]) -> Fields:
    """Axes that are taken whole keep their fields: a choice of channels, not of places."""
    numbers = equation.params["dimension_numbers"]
    sizes, shape = equation.params["slice_sizes"], equation.invars[0].aval.shape
    dropped = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    sliced = [axis for axis in range(len(shape)) if axis not in dropped]
    return {
        place: inputs[0][axis]
        for axis, place in zip(sliced, numbers.offset_dims, strict=True)
        if axis in inputs[0] and sizes[axis] == shape[axis]
    }


def _nothing(equation: Any, inputs: Sequence[Fields]) -> Fields:
    return {}


def _reshape(equation: Any, inputs: Sequence[Fields]) -> Fields:
    """Axes before the first change keep their place."""
    old, new = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    kept = 0
    while kept < min(len(old), len(new)) and old[kept] == new[kept]:
        kept += 1
    return {axis: field for axis, field in inputs[0].items() if axis < kept}


def _concatenate(equation: Any, inputs: Sequence[Fields]) -> Fields:
    """Along the map the longest part counts, where it stands: so border pixels may be repeated."""
    along = equation.params["dimension"]
    fields = {axis: field for axis, field in widest(inputs).items() if axis != along}
    lengths = [atom.aval.shape[along] for atom in equation.invars]
    longest = lengths.index(max(lengths))
    if along in inputs[longest]:
        fields[along] = inputs[longest][along].window(1, 1, sum(lengths[:longest]))
    return fields


def _product(equation: Any, inputs: Sequence[Fields]) -> Fields:
    (left, right), (left_batch, right_batch) = equation.params["dimension_numbers"]
    fields = {}
    at = len(left_batch)
    for side, contracted, batch in ((0, left, left_batch), (1, right, right_batch)):
        for place, axis in enumerate(batch):
            if axis in inputs[side]:
                fields[place] = inputs[side][axis]
        for axis in range(len(equation.invars[side].aval.shape)):
            if axis not in contracted and axis not in batch:
                if axis in inputs[side]:
                    fields[at] = inputs[side][axis]
                at += 1
    return fields


_RULES: dict[str, Callable[[Any, Sequence[Fields]], Fields]] = {
    "conv_general_dilated": _convolution,
    "dot_general": _product,
    "pad": _pad,
    "slice": _slice,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "reshape": _reshape,
    "concatenate": _concatenate,
    "squeeze": _reduce,
    "gather": _gather,
    "rev": _nothing,
    **dict.fromkeys(
        ("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"), _window
    ),
    **dict.fromkeys(
        ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "argmax", "argmin"), _reduce
    ),
}
