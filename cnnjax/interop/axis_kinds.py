"""What the axes of an array in a traced computation are: places of a map, its channels, or both.

Here a map is [n, h, w, c], in PyTorch [n, c, h, w]. Everything that keeps places and channels apart
means the same on both sides. Where they are put into one axis, `flatten` here gives h, w, c and
`torch.flatten` c, h, w: such an axis knows its order. What can be read in two ways is `Lost`, and
so is everything that comes from it.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import pairwise
from typing import Literal

from cnnjax.core.jax_internals import Equation, shape_of
from cnnjax.interop.layout import channels_first


class Lost(Exception):
    """PyTorch's order of an array cannot be known; the text says why."""


@dataclass(frozen=True)
class AxisKind:
    """One axis.

    same      every entry is equal (or there is one)
    constant  of numbers that do not come from the images, or of arrays that were stacked
    stored    of a variable of the network
    batch
    place     height, width, ...: of the images, or what a convolution puts out
    channel   of a map
    feature   what a dense layer puts out
    flat      a whole map, h, w, c

    Attributes:
      order: of a place: where it stands among the places of its map.
      whole: False for what was split off a channel axis, or merged of several places.
      rows: of a flat one: its entries in PyTorch's order.
    """

    kind: Literal["same", "constant", "stored", "batch", "place", "channel", "feature", "flat"]
    order: tuple[int, ...] = ()
    whole: bool = True
    rows: tuple[int, ...] | None = None


AxisKinds = tuple[AxisKind, ...]

SAME, CONSTANT, STORED, BATCH = (
    AxisKind("same"),
    AxisKind("constant"),
    AxisKind("stored"),
    AxisKind("batch"),
)
CHANNEL, FEATURE = AxisKind("channel"), AxisKind("feature")
IMAGES: AxisKinds = (BATCH, AxisKind("place", (0,)), AxisKind("place", (1,)), CHANNEL)

FREE = ("same", "constant", "stored")
_FLATTENED = (
    "a map was flattened in part, or in another order than height, width, channels or"
    " channels, height, width"
)


def propagate(equation: Equation, inputs: Sequence[AxisKinds]) -> list[AxisKinds]:
    """Kinds of the axes of what a primitive equation puts out, given those of its operands.

    Raises:
      Lost: they can be read in two ways.
    """
    name = equation.name
    if name in _RULES:
        return [_RULES[name](equation, inputs)] * len(equation.outputs)
    used = [axis for axes in inputs for axis in axes]
    shapes = {shape_of(atom) for atom in equation.outputs}
    if all(axis.kind in FREE for axis in used) and name not in _ELEMENTWISE:
        kind = STORED if STORED in used else CONSTANT
        return [(kind,) * len(shape_of(atom)) for atom in equation.outputs]
    (shape, *others) = shapes
    operands = [
        _expanded(axes, shape_of(atom), shape)
        for axes, atom in zip(inputs, equation.inputs, strict=True)
        if shape_of(atom) != ()
    ]
    exact = name in _ELEMENTWISE or not any(axis.kind == "flat" for axis in used)
    if others or None in operands or not exact:
        raise Lost(f"what {name} does with places and channels is not known")
    return [_join_all([own for own in operands if own])] * len(equation.outputs)


def after_convolution(axes: AxisKinds, places: int) -> AxisKinds:
    """Kinds of the axes of a convolution's map; `axes`: of its input [..., places ..., channels].

    Raises:
      Lost: channels became places, or a flattened map is used as one.
    """
    before, moved, channels = axes[: -1 - places], axes[-1 - places : -1], axes[-1]
    if any(a.kind == "flat" for a in axes) or channels.kind == "batch":
        raise Lost("it convolves a flattened map, whose channels PyTorch has in another order")
    for axis in moved:
        if axis.kind == "batch" or (axis.kind in ("channel", "feature") and not axis.whole):
            raise Lost(
                "the map that it sees was reshaped from a layer's outputs, in an order that"
                " PyTorch may have otherwise"
            )
    # Places beside which it is slid along others: PyTorch's map has them where its author likes.
    beside = [replace(a, whole=False) if a.kind == "place" else a for a in before]
    count = sum(axis.kind == "place" for axis in beside)
    return (*beside, *(AxisKind("place", (count + i,)) for i in range(places)), CHANNEL)


def _expanded(axes: AxisKinds, old: tuple[int, ...], new: tuple[int, ...]) -> AxisKinds | None:
    """Of an operand whose axes of one entry are repeated; None for another shape."""
    if len(old) != len(new) or any(a not in (1, b) for a, b in zip(old, new, strict=True)):
        return None
    return tuple(SAME if a != b else axis for axis, a, b in zip(axes, old, new, strict=True))


def _join(a: AxisKind, b: AxisKind) -> AxisKind:
    """Of two arrays that meet entry by entry."""
    if a == b or b.kind == "same":
        return a
    if a.kind == "same":
        return b
    if b.kind in FREE:
        a, b = b, a
    if a.kind in FREE:
        if b.kind == "flat":
            raise Lost("a flattened map meets numbers that are in our order")
        return STORED if b.kind in FREE else b
    kinds = {a.kind, b.kind}
    if kinds == {"place"}:
        return AxisKind("place", (), whole=False)
    if kinds <= {"channel", "feature"}:
        kind = "channel" if "channel" in kinds else "feature"
        return AxisKind(kind, whole=a.whole and b.whole)
    raise Lost("outputs of a layer meet a flattened map, or places meet channels, entry by entry")


def _join_all(operands: Sequence[AxisKinds]) -> AxisKinds:
    return tuple(reduce(_join, axes) for axes in zip(*operands, strict=True))


def _touch(axes: AxisKinds, touched: Sequence[int]) -> AxisKinds:
    """After something that takes entries of an axis apart from each other."""
    if any(axes[axis].kind == "flat" for axis in touched):
        raise Lost("a part is taken of a flattened map, or its order is used")
    return tuple(
        CONSTANT if axis == SAME and place in touched else axis for place, axis in enumerate(axes)
    )


def _without(axes: AxisKinds, gone: Sequence[int]) -> AxisKinds:
    return tuple(axis for place, axis in enumerate(axes) if place not in gone)


def _reshape(equation: Equation, inputs: Sequence[AxisKinds]) -> AxisKinds:
    axes, old, new = inputs[0], shape_of(equation.inputs[0]), shape_of(equation.outputs[0])
    found = [SAME] * len(new)
    for left, right in _groups(old, new):
        if len(left) == len(right) == 1:
            found[right[0]] = axes[left[0]]
            continue
        others = [axes[a] for a in range(len(old)) if a not in left and old[a] > 1]
        merged = _merge([axes[a] for a in left], tuple(old[a] for a in left), others)
        for index, axis in enumerate(right):
            found[axis] = merged if len(right) == 1 else _split(merged, index)
    return tuple(found)


def _groups(
    old: tuple[int, ...], new: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Runs of axes that a reshape makes of each other; axes of one entry are left out."""
    before = [axis for axis, size in enumerate(old) if size != 1]
    after = [axis for axis, size in enumerate(new) if size != 1]
    while before and after:
        left, right = [before.pop(0)], [after.pop(0)]
        while (a := math.prod(old[i] for i in left)) != (b := math.prod(new[i] for i in right)):
            if a < b:
                left.append(before.pop(0))
            else:
                right.append(after.pop(0))
        yield tuple(left), tuple(right)


def _merge(
    axes: Sequence[AxisKind], sizes: tuple[int, ...], others: Sequence[AxisKind]
) -> AxisKind:
    """Several axes as one; `others`: of the same array."""
    real = [axis for axis in axes if axis.kind != "same"]
    kinds = {axis.kind for axis in real}
    if len(real) == 0:
        return SAME
    if kinds <= {"constant", "stored"}:
        return STORED if "stored" in kinds else CONSTANT
    if kinds == {"batch"}:
        return BATCH
    if kinds == {"place"} and len(real) == 1:
        return real[0]
    if kinds == {"batch", "place"}:
        return AxisKind("place", (), whole=False)
    if kinds <= {"channel", "feature"}:
        return CHANNEL if "channel" in kinds else FEATURE
    places = [axis for axis in real if axis.kind == "place"]
    in_order = all(a.order < b.order for a, b in pairwise(places))
    if kinds == {"place"} and in_order:
        return replace(places[0], whole=False)
    alone = not any(axis.kind in ("place", "channel", "feature") for axis in others)
    mapped = [axis for axis in real if axis.kind != "place"] == [CHANNEL]
    whole = mapped and all(axis.whole for axis in places) and len(real) == len(axes)
    if not (in_order and alone and whole) or CHANNEL not in (axes[0], axes[-1]):
        raise Lost(_FLATTENED)
    # Channels first is torch.flatten's own order.
    return CHANNEL if axes[0] == CHANNEL else AxisKind("flat", rows=channels_first(sizes))


def _split(axis: AxisKind, index: int) -> AxisKind:
    """The part `index` of an axis that becomes several."""
    if axis.kind in ("flat", "stored"):
        raise Lost("a flattened map, or a variable, is reshaped into several axes")
    if axis.kind == "place":
        return replace(axis, order=(*axis.order, index))
    return replace(axis, whole=False) if axis.kind in ("channel", "feature") else axis


def _transpose(equation: Equation, inputs: Sequence[AxisKinds]) -> AxisKinds:
    return tuple(inputs[0][axis] for axis in equation["permutation"])


def _broadcast(equation: Equation, inputs: Sequence[AxisKinds]) -> AxisKinds:
    old, new = shape_of(equation.inputs[0]), shape_of(equation.outputs[0])
    found = [SAME] * len(new)
    for axis, place in enumerate(equation["broadcast_dimensions"]):
        if old[axis] == new[place]:
            found[place] = inputs[0][axis]
    return tuple(found)


def _squeeze(equation: Equation, inputs: Sequence[AxisKinds]) -> AxisKinds:
    return _without(inputs[0], equation["dimensions"])


def _reduce(equation: Equation, inputs: Sequence[AxisKinds]) -> AxisKinds:
    return _without(inputs[0], equation["axes"])


def _arg_reduce(equation: Equation, inputs: Sequence[AxisKinds]) -> AxisKinds:
    return _without(_touch(inputs[0], equation["axes"]), equation["axes"])


def _along(equation: Equation, inputs: Sequence[AxisKinds]) -> AxisKinds:
    """Cumulative sums, sorting: the axis is named."""
    return _touch(inputs[0], (equation["dimension" if equation.name == "sort" else "axis"],))


def _resized(equation: Equation, inputs: Sequence[AxisKinds]) -> AxisKinds:
    """Slices, splits, repeats: what changes its length is touched."""
    old, new = shape_of(equation.inputs[0]), shape_of(equation.outputs[0])
    return _touch(inputs[0], [axis for axis in range(len(old)) if old[axis] != new[axis]])


def _reversed(equation: Equation, inputs: Sequence[AxisKinds]) -> AxisKinds:
    return _touch(inputs[0], equation["dimensions"])


def _pad(equation: Equation, inputs: Sequence[AxisKinds]) -> AxisKinds:
    config = equation["padding_config"]
    return _touch(inputs[0], [axis for axis, edges in enumerate(config) if any(edges)])


def _window(equation: Equation, inputs: Sequence[AxisKinds]) -> AxisKinds:
    windows = zip(equation["window_dimensions"], equation["window_strides"], strict=True)
    return _touch(inputs[0], [axis for axis, sizes in enumerate(windows) if max(sizes) > 1])


def _concatenate(equation: Equation, inputs: Sequence[AxisKinds]) -> AxisKinds:
    along = equation["dimension"]
    parts = [axes[along] for axes in inputs]
    found = list(_join_all([_without(axes, (along,)) for axes in inputs]))
    sizes = [shape_of(atom)[along] for atom in equation.inputs]
    kinds = {axis.kind for axis in parts}
    if "flat" in kinds:
        if kinds & {"batch", "stored"}:
            raise Lost("a flattened map stands beside what PyTorch may have in another order")
        rows, start = [], 0
        for part, size in zip(parts, sizes, strict=True):
            rows += [start + row for row in part.rows or range(size)]
            start += size
        joined = AxisKind("flat", rows=tuple(rows))
    elif "place" in kinds and kinds & {"channel", "feature"}:  # each in its own order
        joined = FEATURE
    else:
        joined = reduce(_join, parts)
        joined = CONSTANT if joined == SAME else joined  # entries that differ, in a given order
    return (*found[:along], joined, *found[along:])


def _stack(equation: Equation, inputs: Sequence[AxisKinds]) -> AxisKinds:
    along, joined = equation["axis"], _join_all(inputs)
    return (*joined[:along], CONSTANT, *joined[along:])


def _gather(equation: Equation, inputs: Sequence[AxisKinds]) -> AxisKinds:
    """Choosing along one axis, whose place in the output the indices take."""
    numbers = equation["dimension_numbers"]
    operand, indices, shape = inputs[0], inputs[1], shape_of(equation.outputs[0])
    if any(axis.kind == "flat" for axis in operand):
        raise Lost("entries are chosen of a flattened map")
    dropped = [*numbers.collapsed_slice_dims, *numbers.operand_batching_dims]
    kept = [axis for axis in range(len(operand)) if axis not in dropped]
    found = dict(zip(numbers.offset_dims, (operand[axis] for axis in kept), strict=True))
    free = [axis for axis in range(len(shape)) if axis not in found]
    if all(axis.kind in FREE for axis in operand):  # a table: the indices say what it is
        return tuple(found.get(axis, CONSTANT) for axis in range(len(shape)))
    if not free and not dropped:
        return tuple(found[axis] for axis in range(len(shape)))
    if len(dropped) != 1 or len(free) > 1 or any(axis.kind not in FREE for axis in indices):
        raise Lost("what is chosen, and in which order, is not known")
    return tuple(found.get(axis) or operand[dropped[0]] for axis in range(len(shape)))


def _product(equation: Equation, inputs: Sequence[AxisKinds]) -> AxisKinds:
    contracted, batch = equation["dimension_numbers"]
    sides = list(zip(inputs, contracted, batch, strict=True))
    for pair in zip(*contracted, strict=True):
        _join(inputs[0][pair[0]], inputs[1][pair[1]])
    found = [_join(inputs[0][left], inputs[1][right]) for left, right in zip(*batch, strict=True)]
    fixed = [all(axis.kind in FREE for axis in axes) for axes in inputs]
    for side, (axes, summed, shared) in enumerate(sides):
        free = _without(axes, (*summed, *shared))
        if fixed[side] and not fixed[1 - side]:
            # A fixed matrix in place of an axis (an adaptive pooling, a resize) keeps its kind.
            seen = [inputs[1 - side][axis] for axis in contracted[1 - side]]
            if len(free) > 1 or len(seen) > 1:
                raise Lost("a map is multiplied by a fixed array of several axes")
            if seen and seen[0].kind not in ("same", "flat"):
                free = (seen[0],) * len(free)
        found += free
    return tuple(found)


def _convolution(equation: Equation, inputs: Sequence[AxisKinds]) -> AxisKinds:
    """By fixed weights: a blur, patches."""
    if any(axis.kind not in FREE for axis in inputs[1]):
        raise Lost("a map is convolved with what comes from the images")
    numbers = equation["dimension_numbers"]
    order = (numbers.lhs_spec[0], *numbers.lhs_spec[2:], numbers.lhs_spec[1])
    axes = after_convolution(tuple(inputs[0][axis] for axis in order), len(order) - 2)
    places = (numbers.out_spec[0], *numbers.out_spec[2:], numbers.out_spec[1])
    return tuple(axis for _, axis in sorted(zip(places, axes, strict=True), key=lambda p: p[0]))


_RULES: dict[str, Callable[[Equation, Sequence[AxisKinds]], AxisKinds]] = {
    "reshape": _reshape,
    "transpose": _transpose,
    "broadcast_in_dim": _broadcast,
    "squeeze": _squeeze,
    "concatenate": _concatenate,
    "stack": _stack,
    "gather": _gather,
    "dot_general": _product,
    "conv_general_dilated": _convolution,
    "pad": _pad,
    "rev": _reversed,
    **dict.fromkeys(("slice", "dynamic_slice", "split", "tile"), _resized),
    **dict.fromkeys(("sort", "cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _along),
    **dict.fromkeys(("argmax", "argmin"), _arg_reduce),
    **dict.fromkeys(
        ("reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and", "reduce_or"),
        _reduce,
    ),
    **dict.fromkeys(
        ("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"), _window
    ),
}

# Others that keep the shape are taken to, unless there is a flattened map.
_ELEMENTWISE = {
    *("abs", "neg", "sign", "floor", "ceil", "round", "clamp", "not", "is_finite", "square"),
    *("add", "add_any", "sub", "mul", "div", "rem", "max", "min", "pow", "integer_pow", "atan2"),
    *("exp", "exp2", "expm1", "log", "log1p", "sqrt", "rsqrt", "cbrt", "logistic"),
    *("sin", "cos", "tan", "sinh", "cosh", "tanh", "erf", "erfc", "erf_inv"),
    *("eq", "ne", "lt", "le", "gt", "ge", "and", "or", "xor", "select_n"),
    *("convert_element_type", "reduce_precision", "copy", "stop_gradient"),
    "optimization_barrier",
}
