"""The receptive field of every array in a traced computation: a rule for each primitive.

What an operation without a rule puts out is unknown, and so is all that depends on it: gathers with
indices that the images decide, sorting, Fourier transforms. Only where all operands see the same
pixels everywhere (behind the classifier, say) no rule is needed.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import Any, Final

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.analysis.axes import Axis, Index, features, moves, stepped, stride
from cnnjax.analysis.intervals import (
    PIXELS,
    Seen,
    Span,
    concatenate,
    found_axis,
    hull,
    nothing,
)
from cnnjax.core.jax_internals import Equation, shape_of


@dataclass(frozen=True)
class Field:
    """Along the height of the image, in pixels.

    Attributes:
      size: from the first to the last pixel that a unit sees, of the unit that sees most; None
        where it is unknown.
      stride: distance between what neighbouring units see; None where it is not the same
        everywhere, or no axis follows the height any more.
      offset: centre of what the first unit sees, where the first pixel is 0.
    """

    size: int | None
    stride: float | int | None = None
    offset: float | None = None


UNKNOWN_FIELD: Final = Field(None)


def field_record(field: Field | None) -> dict[str, Any]:
    """As plain data: None where there is no map, "unknown" where the size is."""
    if field is None:
        return {"receptive_field": None, "stride": None, "offset": None}
    size = "unknown" if field.size is None else field.size
    return {"receptive_field": size, "stride": field.stride, "offset": field.offset}


class Unknown:
    """What depends on the images in a way that no rule describes."""


UNKNOWN: Final = Unknown()
Sight = Seen | Unknown | None  # None: does not depend on the images


@lru_cache(16)
def field_of(sight: Sight) -> Field | None:
    """Of a map; None for what is none."""
    if isinstance(sight, Unknown):
        return UNKNOWN_FIELD
    if sight is None or not sight.is_map:
        return None
    height = sight.counted[0]
    size = (height.high - height.low).max() + 1
    if not np.isfinite(size):
        return Field(0)
    strides = [stride(axis, 0) for axis in sight.axes if moves(axis, 0)]
    known = [abs(s) for s in strides if s is not None]
    first = np.flatnonzero(height.low <= height.high)[0]  # the first unit that sees something
    low, high = height.low.flat[first], height.high.flat[first]
    return Field(int(size), _number(max(known)) if known else None, float(low + high) / 2)


def _number(value: float) -> int | float:
    return int(value) if value == int(value) else value


@dataclass(frozen=True)
class Operation:
    """A primitive equation, what its operands see, and the values of those that are constant."""

    equation: Equation
    sights: Sequence[Sight]
    constant: Callable[[int], np.ndarray | None]

    def __getitem__(self, name: str) -> Any:
        """A parameter; integers are Python's."""
        return _plain(self.equation[name])

    @property
    def shape(self) -> tuple[int, ...]:
        return shape_of(self.equation.outputs[0])

    def operand_shape(self, index: int) -> tuple[int, ...]:
        return shape_of(self.equation.inputs[index])

    @property
    def seen(self) -> list[Seen | None]:
        return [sight if isinstance(sight, Seen) else None for sight in self.sights]

    def beside(self) -> Seen:
        """One that depends on the images."""
        return next(seen for seen in self.seen if seen is not None)


def _plain(value: Any) -> Any:
    if isinstance(value, np.integer):
        return int(value)
    return tuple(map(_plain, value)) if type(value) in (tuple, list) else value


Rule = Callable[[Operation], Sight | list[Sight]]


def propagate(
    equation: Equation, sights: Sequence[Sight], constant: Callable[[int], np.ndarray | None]
) -> list[Sight]:
    """What the outputs of a primitive equation see.

    Args:
      sights: of its operands; at least one depends on the images.
      constant: the value of operand i, if it is a constant.
    """
    outputs = equation.outputs
    if UNKNOWN in sights:
        return [UNKNOWN] * len(outputs)
    name = equation.name
    if name in _ELEMENTWISE:
        return [_elementwise(shape_of(outputs[0]), sights)]
    operation = Operation(equation, sights, constant)
    rule = _RULES.get(name, _without_rule)
    found = nothing(operation.shape) if 0 in operation.shape else rule(operation)
    return found if isinstance(found, list) else [found] * len(outputs)


def everywhere(operands: Sequence[Seen]) -> Seen | Unknown:
    """What is seen by something that depends on all of these, as a scalar; unknown if maps."""
    if any(moves(axis) for seen in operands for axis in seen.axes):
        return UNKNOWN
    return hull([seen.over(range(len(seen.shape))) for seen in operands])


def _without_rule(op: Operation) -> list[Sight]:
    """Known only where it does not matter which elements are combined."""
    operands = [seen for seen in op.seen if seen is not None]
    same = not any(seen.spread(axis) for seen in operands for axis in range(len(seen.shape)))
    scalar = everywhere(operands) if same else UNKNOWN
    return [
        scalar.broadcast(shape_of(var), ()) if isinstance(scalar, Seen) else scalar
        for var in op.equation.outputs
    ]


def _elementwise(shape: tuple[int, ...], sights: Sequence[Sight]) -> Seen:
    """Operands of the output's shape, with ones in it, or scalars."""
    return hull([
        seen if seen.shape == shape else seen.broadcast(shape, range(len(seen.shape)))
        for seen in sights if isinstance(seen, Seen)
    ])  # fmt: skip


def _each(op: Operation) -> list[Sight]:
    """Output i is operand i."""
    return list(op.seen)


def _select(op: Operation) -> Sight:
    """A constant choice hides what it does not take."""
    which, *cases = op.seen
    mask = op.constant(0) if which is None and op.operand_shape(0) == op.shape else None
    if mask is None:
        return _elementwise(op.shape, op.sights)
    taken = mask.astype(int)
    return hull([_kept(case, taken == i) for i, case in enumerate(cases) if case is not None])


def _transpose(op: Operation) -> Sight:
    return op.beside().transpose(op["permutation"])


def _reshape(op: Operation) -> Sight:
    return op.beside().reshape(op.shape)


def _squeeze(op: Operation) -> Sight:
    return op.beside().squeeze(op["dimensions"])


def _broadcast(op: Operation) -> Sight:
    return op.beside().broadcast(op.shape, op["broadcast_dimensions"])


def _slice(op: Operation) -> Sight:
    found = op.beside()
    strides = op["strides"] or (1,) * len(op.shape)
    for axis, start in enumerate(op["start_indices"]):
        found = found.windows(axis, op.shape[axis], strides=strides[axis], start=start)
    return found


def _split(op: Operation) -> list[Sight]:
    found, start = [], 0
    for size in op["sizes"]:
        found.append(op.beside().windows(op["axis"], size, start=start))
        start += size
    return found


def _unstack(op: Operation) -> list[Sight]:
    axis, seen = op["axis"], op.beside()
    return [seen.windows(axis, 1, start=i).squeeze((axis,)) for i in range(seen.shape[axis])]


def _reverse(op: Operation) -> Sight:
    found = op.beside()
    for axis in op["dimensions"]:
        size = op.shape[axis]
        found = found.windows(axis, size, strides=-1, start=size - 1)
    return found


def _pad(op: Operation) -> Sight:
    array, value = op.seen
    if array is None:
        assert value is not None
        return value.broadcast(op.shape, ())
    for axis, (low, _, interior) in enumerate(op["padding_config"]):
        array = array.windows(axis, op.shape[axis], start=-low, dilation=interior + 1)
    return array if value is None else hull([array, value.broadcast(op.shape, ())])


def _concatenate(op: Operation) -> Sight:
    axis = op["dimension"]
    sizes = [op.operand_shape(i)[axis] for i in range(len(op.sights))]
    parts = [(seen, size) for seen, size in zip(op.seen, sizes, strict=True) if size]
    return concatenate([seen for seen, _ in parts], [size for _, size in parts], axis)


def _stack(op: Operation) -> Sight:
    axis = op["axis"]
    return stack(op.seen, axis, op.shape)


def stack(parts: Sequence[Seen | None], axis: int, shape: tuple[int, ...]) -> Seen:
    """Along a new axis; `shape` is that of the stack."""
    places = [i for i in range(len(shape)) if i != axis]
    one = (*shape[:axis], 1, *shape[axis + 1 :])
    lifted = [None if part is None else part.broadcast(one, places) for part in parts]
    whole = concatenate(lifted, [1] * len(parts), axis)
    along = found_axis(whole.counted, axis, shape[axis])
    return replace(whole, axes=(*whole.axes[:axis], along, *whole.axes[axis + 1 :]))


def _tile(op: Operation) -> Sight:
    found = op.beside()
    for axis, repeats in enumerate(op["reps"]):
        if repeats > 1:
            found = concatenate([found] * repeats, [found.shape[axis]] * repeats, axis)
    return found


def _reduce(op: Operation) -> Sight:
    gone = tuple(op["dimensions" if op.equation.name == "reduce" else "axes"])
    count = len(op.equation.outputs)  # of a general reduction: operands, then their first values
    found = [seen.over(gone) for seen in op.seen[:count] if seen is not None]
    found += [seen.broadcast(op.shape, ()) for seen in op.seen[count:] if seen is not None]
    return hull(found)


def _cumulative(op: Operation) -> Sight:
    return op.beside().so_far(op["axis"], reverse=op["reverse"])


def _reduce_window(op: Operation) -> Sight:
    count = len(op.equation.outputs)
    dilations, bases = op["window_dilation"], op["base_dilation"]
    found = [seen.broadcast(op.shape, ()) for seen in op.seen[count:] if seen is not None]
    for seen in op.seen[:count]:
        if seen is None:
            continue
        for axis, size in enumerate(op["window_dimensions"]):
            seen = seen.windows(
                axis,
                op.shape[axis],
                range(0, size * dilations[axis], dilations[axis]),
                op["window_strides"][axis],
                -op["padding"][axis][0],
                bases[axis],
            )
        found.append(seen)
    return hull(found)


def _convolution(op: Operation) -> Sight | list[Sight]:
    """Kernels that are constant count where they are not zero."""
    images, kernel = op.seen
    if op["batch_group_count"] != 1:
        return _without_rule(op)
    numbers = op["dimension_numbers"]
    found = []
    if images is not None:
        seen = _through_kernel(op, images.transpose(numbers.lhs_spec), kernel is None)
        found.append(
            seen.transpose([numbers.out_spec.index(axis) for axis in range(len(op.shape))])
        )
    if kernel is not None:
        found.append(kernel.over(range(len(kernel.shape))).broadcast(op.shape, ()))
    return hull(found)


def _through_kernel(op: Operation, seen: Seen, fixed: bool) -> Seen:
    """[n, c, spatial axes] before and after."""
    numbers, groups = op["dimension_numbers"], op["feature_group_count"]
    outputs, inputs, *sizes = (op.operand_shape(1)[axis] for axis in numbers.rhs_spec)
    weights = op.constant(1) if fixed else None
    used = None if weights is None else weights.transpose(numbers.rhs_spec) != 0
    if used is None or used.all():
        mixed = _channels(seen, groups, outputs, inputs)
        return _windowed(op, mixed, [range(size) for size in sizes])
    parts = []
    for tap in product(*map(range, sizes)):
        if used[:, :, *tap].any():
            mixed = _channels(seen, groups, outputs, inputs, used[:, :, *tap])
            parts.append(_windowed(op, mixed, [[t] for t in tap]))
    if not parts:
        return nothing([op.shape[axis] for axis in numbers.out_spec])
    return hull(parts).changed(Span.compact)


def _windowed(op: Operation, seen: Seen, taps: Sequence[Sequence[int]]) -> Seen:
    """A convolution's windows, [n, c, spatial axes]; `taps` of each axis count."""
    for i, places in enumerate(taps):
        seen = seen.windows(
            2 + i,
            op.shape[op["dimension_numbers"].out_spec[2 + i]],
            [tap * op["rhs_dilation"][i] for tap in places],
            op["window_strides"][i],
            -op["padding"][i][0],
            op["lhs_dilation"][i],
        )
    return seen


def _channels(
    seen: Seen, groups: int, outputs: int, inputs: int, used: np.ndarray | None = None
) -> Seen:
    """Channels are mixed in groups of `inputs`, where `used` [outputs, inputs] says."""
    shape = (seen.shape[0], outputs, *seen.shape[2:])
    axes = (seen.axes[0], features(outputs), *seen.axes[2:])
    if used is None and not seen.spread(1):
        return replace(seen, shape=shape, axes=axes)
    tail = (1,) * (len(shape) - 2)

    def mix(end: np.ndarray, join: np.ufunc, none: float) -> np.ndarray:
        if end.shape[1] == 1:
            return end if used is None else np.where(used.any(1).reshape(1, -1, *tail), end, none)
        if used is None and groups == 1:
            return join.reduce(end, axis=1, keepdims=True)
        each = end.reshape(end.shape[0], groups, 1, inputs, *end.shape[2:])
        if used is not None:
            mask = used.reshape(1, groups, outputs // groups, inputs, *tail)
            each = np.where(mask, each, none)
        each = join.reduce(each, axis=3)
        if used is None:
            each = each.repeat(outputs // groups, axis=2)
        return each.reshape(end.shape[0], -1, *end.shape[2:])

    return seen.changed(lambda span: span.join(mix), shape, axes)


def _product(op: Operation) -> Sight:
    """Each side as [batch, its own axes, the other's axes]; constants count where not zero."""
    gone, shared = op["dimension_numbers"]
    free = [
        [a for a in range(len(op.operand_shape(side))) if a not in (*gone[side], *shared[side])]
        for side in range(2)
    ]
    batch = len(shared[0])
    rank = len(op.shape)
    found = []
    for side, other in ((0, 1), (1, 0)):
        seen = op.seen[side]
        if seen is None:
            continue
        seen = seen.transpose([*shared[side], *free[side], *gone[side]])
        kept = batch + len(free[side])
        summed = range(kept, len(seen.shape))
        shape = (*seen.shape[:kept], *(op.operand_shape(other)[axis] for axis in free[other]))
        weights = None
        if op.seen[other] is None and any(seen.spread(a) or moves(seen.axes[a]) for a in summed):
            weights = op.constant(other)
        if weights is None:
            seen = seen.over(summed).broadcast(shape, range(kept))
        else:
            order = [*shared[other], *free[other], *gone[other]]
            seen = _weighted(seen, weights.transpose(order) != 0, batch, kept, shape)
        if side == 1:
            seen = seen.transpose([*range(batch), *range(kept, rank), *range(batch, kept)])
        found.append(seen)
    return hull(found)


_LARGEST = 2**24  # elements of a product with a constant that are looked at one by one


def _weighted(seen: Seen, used: np.ndarray, batch: int, kept: int, shape: tuple[int, ...]) -> Seen:
    """`seen` [batch, own, summed] times a constant that is `used` [batch, new, summed]."""
    summed, new = seen.shape[kept:], shape[kept:]
    whole = seen.over(range(kept, len(seen.shape))).broadcast(shape, range(kept))
    own = max(math.prod(span.low.shape[:kept]) for span in seen.spans)
    if own * used.size > _LARGEST:
        return whole
    used = used.reshape(*used.shape[:batch], *(1,) * (kept - batch), *new, -1)

    def mix(end: np.ndarray, join: np.ufunc, none: float) -> np.ndarray:
        end = np.broadcast_to(end, (*end.shape[:kept], *summed))
        end = end.reshape(*end.shape[:kept], *(1,) * len(new), -1)
        return join.reduce(np.where(used, end, none), axis=-1)

    found = seen.within([far is not None for far in whole.nominal]).changed(
        lambda span: span.join(mix).compact(), shape, whole.axes
    )
    axes = list(whole.axes)
    one = len(new) == len(summed) == 1 and batch == 0 and moves(seen.axes[kept])
    along = _resized(seen.axes[kept], used.reshape(new[0], -1)) if one else None
    for place in range(kept, len(shape)):
        if along is not None:
            axes[place] = along
        elif found.spread(place):
            first, second = (None if span.low.shape[place] > 1 else 0 for span in found.spans)
            axes[place] = (Index(shape[place], 1, (first, second)),)
    return replace(found, axes=tuple(axes))


def _resized(axis: Axis, used: np.ndarray) -> Axis | None:
    """How a map moves along its new rows, if each row used what lies behind the last one's.

    A choice of rows moves as they stand. A resizing goes as far as the map in as many steps as it
    has, but for the border.
    """
    some = used.any(1)
    ends = np.stack([used.argmax(1), used.shape[1] - 1 - used[:, ::-1].argmax(1)]).astype(PIXELS)
    steps = np.diff(ends[:, some], axis=1)
    if not steps.any() or not ((steps >= 0).all() or (steps <= 0).all()):
        return None
    new, old = used.shape
    index = found_axis((Span(ends[:1], ends[1:]),) * 2, 1, new)[0]
    if index.shifts[0] is not None and index.period == 1:
        return stepped(axis, new, index.shifts[0])
    middles = ends.sum(0) / 2
    whole = np.copysign((new - 1) * old / new, middles[-1] - middles[0])
    if abs(middles[-1] - middles[0] - whole) > np.ptp(ends, axis=0).max() + 1:
        return None
    return stepped(axis, new, int(np.copysign(old, whole)), new)


def _gather(op: Operation) -> Sight | list[Sight]:
    """By constant indices; by any where what is seen does not differ along the indexed axes."""
    operand, indices = op.seen
    numbers, sizes = op["dimension_numbers"], op["slice_sizes"]
    if operand is None or indices is not None:
        return _without_rule(op)
    batching = set(numbers.operand_batching_dims)
    dropped = {*numbers.collapsed_slice_dims, *batching}
    sliced = [axis for axis in range(len(sizes)) if axis not in dropped]
    whole = [
        axis not in batching and size == full
        for axis, (size, full) in enumerate(zip(sizes, operand.shape, strict=True))
    ]
    if not any(operand.spread(a) or moves(operand.axes[a]) for a in _false(whole)):
        found = operand.over(sorted(dropped))  # a choice of features
        for axis, of in enumerate(sliced):
            found = found.windows(axis, sizes[of])
        return found.broadcast(op.shape, numbers.offset_dims)
    places = op.constant(1)
    if places is None:
        return UNKNOWN
    # Axes that are taken whole, and along which all see the same, need one place only.
    thin = [w and not operand.spread(axis) for axis, w in enumerate(whole)]
    shape = [1 if t else size for t, size in zip(thin, operand.shape, strict=True)]
    taken = jax.lax.gather(
        jnp.arange(math.prod(shape), dtype=jnp.int32).reshape(shape),
        jnp.asarray(places),
        numbers,
        tuple(1 if t else size for t, size in zip(thin, sizes, strict=True)),
        mode=op["mode"],
        fill_value=-1,
    )
    origin = {
        place: operand.axes[axis]
        for axis, place in zip(sliced, numbers.offset_dims, strict=True)
        if whole[axis]
    }
    return _picked(operand, shape, np.asarray(taken), op.shape, origin)


def _false(flags: Sequence[bool]) -> list[int]:
    return [i for i, flag in enumerate(flags) if not flag]


def _picked(
    seen: Seen,
    thin: Sequence[int],
    places: np.ndarray,
    shape: tuple[int, ...],
    origin: dict[int, Axis],
) -> Seen:
    """Elements by their flat place in `thin`, the operand's shape with ones; -1 for nothing."""

    def change(span: Span) -> Span:
        taken = span.map(lambda array: np.broadcast_to(array, thin).ravel()[places])
        return taken.only(places >= 0).compact()

    found = seen.changed(change, shape, seen.axes)
    axes = [
        origin[axis] if axis in origin else found_axis(found.counted, axis, size)
        for axis, size in enumerate(shape)
    ]
    return replace(found, axes=tuple(axes))


def _starts(op: Operation, first: int, sizes: Sequence[int], full: Sequence[int]) -> list:
    """Of a dynamic slice by axis: clamped, or None where it is not known."""
    found = []
    for axis, (size, whole) in enumerate(zip(sizes, full, strict=True)):
        known = op.constant(first + axis)
        found.append(0 if size == whole else
                     None if known is None else int(np.clip(known, 0, whole - size)))  # fmt: skip
    return found


def _dynamic_slice(op: Operation) -> Sight | list[Sight]:
    found = op.seen[0]
    if found is None or any(seen is not None for seen in op.seen[1:]):
        return _without_rule(op)
    for axis, start in enumerate(_starts(op, 1, op.shape, found.shape)):
        if start is None and (found.spread(axis) or moves(found.axes[axis])):
            return UNKNOWN
        found = found.windows(axis, op.shape[axis], start=start or 0)
    return found


def _dynamic_update_slice(op: Operation) -> Sight | list[Sight]:
    old, new = op.seen[:2]
    if any(seen is not None for seen in op.seen[2:]):
        return _without_rule(op)
    sizes = op.operand_shape(1)
    starts = _starts(op, 2, sizes, op.shape)
    if any(start is None for start in starts):
        return _without_rule(op)
    places = np.full(op.shape, -1)
    region = tuple(slice(s, s + size) for s, size in zip(starts, sizes, strict=True))
    places[region] = np.arange(math.prod(sizes)).reshape(sizes)
    return _overwritten(op, old, new, places, dict(enumerate(range(len(sizes)))))


def _overwritten(
    op: Operation, old: Seen | None, new: Seen | None, places: np.ndarray, origin: dict[int, int]
) -> Seen:
    """`old` where `places` is -1, elsewhere `new` by flat place."""
    parts = [] if old is None else [_kept(old, places < 0)]
    if new is not None:
        given = _picked(new, new.shape, places, op.shape, {
            axis: stepped(new.axes[of], op.shape[axis], 1) for axis, of in origin.items()
        })  # fmt: skip
        parts.append(given.within())
    return hull(parts)


def _kept(seen: Seen, where: np.ndarray) -> Seen:
    return seen.changed(lambda span: span.only(where).compact())


def _scatter(op: Operation) -> Sight | list[Sight]:
    """By constant indices; each update is where it lands, beside or instead of the operand."""
    operand, indices, updates = op.seen
    places = op.constant(1) if indices is None else None
    if places is None:
        return _without_rule(op)
    numbers, mode = op["dimension_numbers"], op["mode"]
    indices, shape = jnp.asarray(places), op.operand_shape(2)
    inserted = {*numbers.inserted_window_dims, *numbers.operand_batching_dims}
    windows = [axis for axis in range(len(op.shape)) if axis not in inserted]
    origin = dict(zip(windows, numbers.update_window_dims, strict=True))
    if op.equation.name == "scatter":
        order = jnp.arange(math.prod(shape), dtype=jnp.int32).reshape(shape)
        empty = jnp.full(op.shape, -1, jnp.int32)
        taken = np.asarray(jax.lax.scatter(empty, indices, order, numbers, mode=mode))
        return _overwritten(op, operand, updates, taken, origin)
    parts = [] if operand is None else [operand]
    if updates is not None:

        def land(end: np.ndarray, join: np.ufunc, none: float) -> np.ndarray:
            put = jax.lax.scatter_min if join is np.minimum else jax.lax.scatter_max
            start, ends = jnp.full(op.shape, none, PIXELS), jnp.asarray(np.broadcast_to(end, shape))
            return np.asarray(put(start, indices, ends, numbers, mode=mode))

        landed = updates.within().changed(lambda span: span.join(land).compact(), op.shape)
        axes = [
            stepped(updates.axes[origin[axis]], size, 1)
            if axis in origin
            else found_axis(landed.spans, axis, size)
            for axis, size in enumerate(op.shape)
        ]
        parts.append(replace(landed, axes=tuple(axes)))
    return hull(parts)


_ELEMENTWISE = frozenset((
    "abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh",
    "bessel_i0e", "bessel_i1e", "cbrt", "ceil", "clamp", "clz", "complex", "conj",
    "convert_element_type", "copy", "cos", "cosh", "digamma", "div", "eq", "eq_to",
    "erf", "erf_inv", "erfc", "exp", "exp2", "expm1", "floor", "ge", "gt", "igamma",
    "igamma_grad_a", "igammac", "imag", "integer_pow", "is_finite", "le", "le_to", "lgamma",
    "log", "log1p", "logistic", "lt", "lt_to", "max", "min", "mul", "mulhi", "name", "ne",
    "neg", "nextafter", "not", "or", "polygamma", "population_count", "pow",
    "real", "reduce_precision", "regularized_incomplete_beta", "rem",
    "round", "rsqrt", "sharding_constraint", "shift_left", "shift_right_arithmetic",
    "shift_right_logical", "sign", "sin", "sinh", "sqrt", "square", "stop_gradient", "sub",
    "tan", "tanh", "xor", "zeta",
))  # fmt: skip

_RULES: dict[str, Rule] = {
    "broadcast_in_dim": _broadcast,
    "concatenate": _concatenate,
    "conv_general_dilated": _convolution,
    "device_put": _each,
    "dot_general": _product,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "gather": _gather,
    "optimization_barrier": _each,
    "pad": _pad,
    "reshape": _reshape,
    "rev": _reverse,
    "select_n": _select,
    "slice": _slice,
    "split": _split,
    "squeeze": _squeeze,
    "stack": _stack,
    "tile": _tile,
    "transpose": _transpose,
    "unstack": _unstack,
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _cumulative),
    **dict.fromkeys(
        ("reduce", "reduce_sum", "reduce_max", "reduce_min", "reduce_prod", "reduce_and",
         "reduce_or", "reduce_xor", "argmax", "argmin"), _reduce),
    **dict.fromkeys(
        ("reduce_window", "reduce_window_max", "reduce_window_min", "reduce_window_sum"),
        _reduce_window),
    **dict.fromkeys(
        ("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max"),
        _scatter),
}  # fmt: skip
