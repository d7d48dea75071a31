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
from typing import Any, Literal

from cnnjax.interop.layout import channels_first


class Lost(Exception):
    """PyTorch's order of an array cannot be known; the text says why."""


@dataclass(frozen=True)
class Axis:
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


Axes = tuple[Axis, ...]

SAME, CONSTANT, STORED, BATCH = Axis("same"), Axis("constant"), Axis("stored"), Axis("batch")
CHANNEL, FEATURE = Axis("channel"), Axis("feature")
IMAGES: Axes = (BATCH, Axis("place", (0,)), Axis("place", (1,)), CHANNEL)

FREE = ("same", "constant", "stored")
_FLATTENED = (
    "a map was flattened in part, or in another order than height, width, channels or"
    " channels, height, width"
)


def propagate(equation: Any, inputs: Sequence[Axes]) -> list[Axes]:
    """Axes of what a primitive equation puts out, given those of its operands.

    Raises:
      Lost: they can be read in two ways.
    """
    name = equation.primitive.name
    if name in _RULES:
        return [_RULES[name](equation, inputs)] * len(equation.outvars)
    used = [axis for axes in inputs for axis in axes]
    shapes = {_shape(atom) for atom in equation.outvars}
    if all(axis.kind in FREE for axis in used) and name not in _ELEMENTWISE:
        kind = STORED if STORED in used else CONSTANT
        return [(kind,) * len(_shape(atom)) for atom in equation.outvars]
    (shape, *others) = shapes
    operands = [
        _expanded(axes, _shape(atom), shape)
        for axes, atom in zip(inputs, equation.invars, strict=True)
        if _shape(atom) != ()
    ]
    exact = name in _ELEMENTWISE or not any(axis.kind == "flat" for axis in used)
    if others or None in operands or not exact:
        raise Lost(f"what {name} does with places and channels is not known")
    return [_join_all([own for own in operands if own])] * len(equation.outvars)


def after_convolution(axes: Axes, places: int) -> Axes:
    """Axes of a convolution's map; `axes`: of its input [..., places ..., channels].

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
    return (*beside, *(Axis("place", (count + i,)) for i in range(places)), CHANNEL)


def _shape(atom: Any) -> tuple[int, ...]:
    return tuple(getattr(atom.aval, "shape", ()))


def _expanded(axes: Axes, old: tuple[int, ...], new: tuple[int, ...]) -> Axes | None:
    """Axes of an operand whose axes of one entry are repeated; None for another shape."""
    if len(old) != len(new) or any(a not in (1, b) for a, b in zip(old, new, strict=True)):
        return None
    return tuple(SAME if a != b else axis for axis, a, b in zip(axes, old, new, strict=True))


def _join(a: Axis, b: Axis) -> Axis:
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
        return Axis("place", (), whole=False)
    if kinds <= {"channel", "feature"}:
        kind = "channel" if "channel" in kinds else "feature"
        return Axis(kind, whole=a.whole and b.whole)
    raise Lost("outputs of a layer meet a flattened map, or places meet channels, entry by entry")


def _join_all(operands: Sequence[Axes]) -> Axes:
    return tuple(reduce(_join, axes) for axes in zip(*operands, strict=True))


def _touch(axes: Axes, touched: Sequence[int]) -> Axes:
    """After something that takes entries of an axis apart from each other."""
    if any(axes[axis].kind == "flat" for axis in touched):
        raise Lost("a part is taken of a flattened map, or its order is used")
    return tuple(
        CONSTANT if axis == SAME and place in touched else axis for place, axis in enumerate(axes)
    )


def _without(axes: Axes, gone: Sequence[int]) -> Axes:
    return tuple(axis for place, axis in enumerate(axes) if place not in gone)


def _reshape(equation: Any, inputs: Sequence[Axes]) -> Axes:
    axes, old, new = inputs[0], _shape(equation.invars[0]), _shape(equation.outvars[0])
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


def _merge(axes: Sequence[Axis], sizes: tuple[int, ...], others: Sequence[Axis]) -> Axis:
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
        return Axis("place", (), whole=False)
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
    return CHANNEL if axes[0] == CHANNEL else Axis("flat", rows=channels_first(sizes))


def _split(axis: Axis, index: int) -> Axis:
    """The part `index` of an axis that becomes several."""
    if axis.kind in ("flat", "stored"):
        raise Lost("a flattened map, or a variable, is reshaped into several axes")
    if axis.kind == "place":
        return replace(axis, order=(*axis.order, index))
    return replace(axis, whole=False) if axis.kind in ("channel", "feature") else axis


def _transpose(equation: Any, inputs: Sequence[Axes]) -> Axes:
    return tuple(inputs[0][axis] for axis in equation.params["permutation"])


def _broadcast(equation: Any, inputs: Sequence[Axes]) -> Axes:
    old, new = _shape(equation.invars[0]), _shape(equation.outvars[0])
    found = [SAME] * len(new)
    for axis, place in enumerate(equation.params["broadcast_dimensions"]):
        if old[axis] == new[place]:
            found[place] = inputs[0][axis]
    return tuple(found)


def _squeeze(equation: Any, inputs: Sequence[Axes]) -> Axes:
    return _without(inputs[0], equation.params["dimensions"])


def _reduce(equation: Any, inputs: Sequence[Axes]) -> Axes:
    return _without(inputs[0], equation.params["axes"])


def _arg_reduce(equation: Any, inputs: Sequence[Axes]) -> Axes:
    return _without(_touch(inputs[0], equation.params["axes"]), equation.params["axes"])


def _along(equation: Any, inputs: Sequence[Axes]) -> Axes:
    """Cumulative sums, sorting: the axis is named."""
    params = equation.params
    return _touch(inputs[0], (params["axis"] if "axis" in params else params["dimension"],))


def _resized(equation: Any, inputs: Sequence[Axes]) -> Axes:
    """Slices, splits, repeats: what changes its length is touched."""
    old, new = _shape(equation.invars[0]), _shape(equation.outvars[0])
    return _touch(inputs[0], [axis for axis in range(len(old)) if old[axis] != new[axis]])


def _reversed(equation: Any, inputs: Sequence[Axes]) -> Axes:
    return _touch(inputs[0], equation.params["dimensions"])


def _pad(equation: Any, inputs: Sequence[Axes]) -> Axes:
    config = equation.params["padding_config"]
    return _touch(inputs[0], [axis for axis, edges in enumerate(config) if any(edges)])


def _window(equation: Any, inputs: Sequence[Axes]) -> Axes:
    windows = zip(
        equation.params["window_dimensions"], equation.params["window_strides"], strict=True
    )
    return _touch(inputs[0], [axis for axis, sizes in enumerate(windows) if max(sizes) > 1])


def _concatenate(equation: Any, inputs: Sequence[Axes]) -> Axes:
    along = equation.params["dimension"]
    parts = [axes[along] for axes in inputs]
    found = list(_join_all([_without(axes, (along,)) for axes in inputs]))
    sizes = [_shape(atom)[along] for atom in equation.invars]
    kinds = {axis.kind for axis in parts}
    if "flat" in kinds:
        if kinds & {"batch", "stored"}:
            raise Lost("a flattened map stands beside what PyTorch may have in another order")
        rows, start = [], 0
        for part, size in zip(parts, sizes, strict=True):
            rows += [start + row for row in part.rows or range(size)]
            start += size
        joined = Axis("flat", rows=tuple(rows))
    elif "place" in kinds and kinds & {"channel", "feature"}:  # each in its own order
        joined = FEATURE
    else:
        joined = reduce(_join, parts)
        joined = CONSTANT if joined == SAME else joined  # entries that differ, in a given order
    return (*found[:along], joined, *found[along:])


def _stack(equation: Any, inputs: Sequence[Axes]) -> Axes:
    along, joined = equation.params["axis"], _join_all(inputs)
    return (*joined[:along], CONSTANT, *joined[along:])


def _gather(equation: Any, inputs: Sequence[Axes]) -> Axes:
    """Choosing along one axis, whose place in the output the indices take."""
    numbers = equation.params["dimension_numbers"]
    operand, indices, shape = inputs[0], inputs[1], _shape(equation.outvars[0])
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


def _product(equation: Any, inputs: Sequence[Axes]) -> Axes:
    contracted, batch = equation.params["dimension_numbers"]
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


def _convolution(equation: Any, inputs: Sequence[Axes]) -> Axes:
    """By fixed weights: a blur, patches."""
    if any(axis.kind not in FREE for axis in inputs[1]):
        raise Lost("a map is convolved with what comes from the images")
    numbers = equation.params["dimension_numbers"]
    order = (numbers.lhs_spec[0], *numbers.lhs_spec[2:], numbers.lhs_spec[1])
    axes = after_convolution(tuple(inputs[0][axis] for axis in order), len(order) - 2)
    places = (numbers.out_spec[0], *numbers.out_spec[2:], numbers.out_spec[1])
    return tuple(axis for _, axis in sorted(zip(places, axes, strict=True), key=lambda p: p[0]))


_RULES: dict[str, Callable[[Any, Sequence[Axes]], Axes]] = {
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
    *("convert_element_type", "reduce_precision", "copy", "copy_p", "stop_gradient"),
    "optimization_barrier",
}
