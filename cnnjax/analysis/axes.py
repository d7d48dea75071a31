"""How what is seen moves along the axes of an array.

An axis is a tuple of indices, the outermost first: more than one where a reshape merged axes that
do not continue one another (the rows and columns of a map, say). So a map that was flattened and
restored is a map again, and the features in a flattened map are told from its places.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

Shift = int | None


class Index(NamedTuple):
    """An index over `size` values.

    After `period` steps what is seen has moved by `shifts` pixels along (height, width): 0 where it
    stays, None where it moves in no regular way. A repeated pixel has the period of the repeats.
    """

    size: int
    period: int
    shifts: tuple[Shift, Shift]

    def split(self, inner: int) -> "tuple[Index, Index]":
        """As two indices, of which the second has `inner` values."""
        common = math.gcd(self.period, inner)
        shifts = tuple(None if s is None else s * (inner // common) for s in self.shifts)
        outer = Index(self.size // inner, self.period // common, (shifts[0], shifts[1]))
        return outer, self._replace(size=inner)

    @property
    def fixed(self) -> bool:
        """Whether it runs over features: every value sees the same pixels, wherever that is."""
        return self.shifts == (0, 0)


Axis = tuple[Index, ...]
Axes = tuple[Axis, ...]


def features(size: int) -> Axis:
    """An axis along which nothing moves."""
    return (Index(size, 1, (0, 0)),)


def single(axis: Axis) -> Index:
    """An axis as one index, irregular unless all but the outermost repeat or hold features."""
    if len(axis) == 1:
        return axis[0]
    size = math.prod(index.size for index in axis)
    outer, inner = axis[0], axis[1:]
    if all(index.fixed for index in inner):
        return Index(size, outer.period * (size // outer.size), outer.shifts)
    return Index(size, 1, _lost(axis))


def _lost(indices: Sequence[Index]) -> tuple[Shift, Shift]:
    first, second = (
        None if any(index.shifts[d] != 0 for index in indices) else 0 for d in range(2)
    )
    return first, second


def stride(axis: Axis, dimension: int) -> float | None:
    """Pixels between what neighbours see; 0 where it stays, None where it is not regular."""
    index = single(axis)
    shift = index.shifts[dimension]
    return None if shift is None else shift / index.period


def moves(axis: Axis, dimension: int | None = None) -> bool:
    """Whether what is seen moves along an axis at all (or in one dimension of the image)."""
    return any(
        not index.fixed if dimension is None else index.shifts[dimension] != 0 for index in axis
    )


def profile(axes: Axes, dimension: int) -> tuple:
    """Equal for arrays that move alike."""
    return tuple(
        tuple((i.size, i.period, i.shifts[dimension]) for i in axis)
        if moves(axis, dimension)
        else 0
        for axis in axes
    )


def regular(axes: Axes, dimension: int) -> bool:
    return all(index.shifts[dimension] is not None for axis in axes for index in axis)


def stepped(axis: Axis, size: int, strides: int, dilation: int = 1) -> Axis:
    """After every `strides`-th was taken of a grid with `dilation` - 1 zeros between neighbours."""
    index = single(axis)
    if index.fixed:
        return features(size)
    period = index.period * dilation
    common = math.gcd(period, strides)
    shifts = tuple(None if s is None else s * strides // common for s in index.shifts)
    return (Index(size, period // common, (shifts[0], shifts[1])),)


def meet(a: Axis, b: Axis) -> Axis:
    """Where two arrays are combined element by element; a constant one takes the other's."""
    if a == b:
        return a
    if [i.size for i in a] != [i.size for i in b]:
        if not moves(a) or not moves(b):
            return a if moves(a) else b
        return (Index(single(a).size, 1, _lost((*a, *b))),)
    return tuple(_meet(x, y) for x, y in zip(a, b, strict=True))


def _meet(x: Index, y: Index) -> Index:
    if x.fixed or y.fixed:
        return y if x.fixed else x
    if x.period != y.period:
        return Index(x.size, 1, _lost((x, y)))
    first, second = (
        s if t in (s, 0) else (t if s == 0 else None)
        for s, t in zip(x.shifts, y.shifts, strict=True)
    )
    return x._replace(shifts=(first, second))


def regroup(axes: Axes, shape: Sequence[int]) -> Axes:
    """After a reshape."""
    waiting = [index for axis in axes for index in axis]
    found: list[Axis] = []
    for position, size in enumerate(shape):
        part: list[Index] = []
        while size > 1:
            index = waiting.pop(0)
            if size % index.size == 0:
                part.append(index)
                size //= index.size
            elif index.size % size == 0:
                outer, inner = index.split(index.size // size)
                part.append(outer)
                waiting.insert(0, inner)
                size = 1
            else:  # no factor in common: what follows has no order that is known
                lost = _lost((*part, index, *waiting))
                return (*found, *((Index(n, 1, lost),) for n in shape[position:]))
        if not part and waiting and waiting[0].size == 1:
            part.append(waiting.pop(0))  # a map of one pixel is one still
        found.append(_joined(part) or features(1))
    return tuple(found)


def _joined(indices: Sequence[Index]) -> Axis:
    """Without ones, and with neighbours that continue one another as one."""
    large = [index for index in indices if index.size > 1] or list(indices[:1])
    joined = large[:1]
    for inner in large[1:]:
        outer = joined[-1]
        continues = outer.period == 1 and inner.size % inner.period == 0
        if continues and all(
            s is not None and t is not None and t == s * (inner.size // inner.period)
            for s, t in zip(inner.shifts, outer.shifts, strict=True)
        ):
            joined[-1] = inner._replace(size=outer.size * inner.size)
        else:
            joined.append(inner)
    return tuple(joined)
