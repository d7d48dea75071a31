"""Which pixels each element of an array sees: an interval along the height, one along the width.

Element i of an array sees pixels low[i] to high[i]. So what moves elements (slices, reshapes,
transpositions) is the same operation on low and high, and what combines elements is the minimum of
the lows and the maximum of the highs. Arrays have size 1 along every axis on which they do not
depend. What sees nothing has low = inf, high = -inf; an element sees nothing if that is so along
one of the two dimensions.

Besides these there are the nominal intervals, where padding around a map continues the map beyond
the image and is seen: the usual convention, r += (k - 1) j, j *= s (Dumoulin & Visin 2016; Araujo
et al. 2019, Distill), of a size that does not depend on the image's. They end where what moves
meets what does not (a mean over the map, say), for then the image's own border decides.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, reduce
from operator import is_

import numpy as np

from cnnjax.analysis.axes import (
    Axes,
    Axis,
    Index,
    features,
    meet,
    moves,
    profile,
    regroup,
    regular,
    single,
    stepped,
)

Array = np.ndarray
PIXELS = np.float32  # exact to 2^24 pixels, and knows infinity


@dataclass(frozen=True, eq=False)
class Span:
    """First and last pixel along one dimension of the image, for every element of an array.

    Both are of one shape, which broadcasts to the array's.
    """

    low: Array
    high: Array

    def map(self, change: Callable[[Array], Array]) -> "Span":
        """The same operation on both ends."""
        return Span(change(self.low), change(self.high))

    def join(self, change: Callable[[Array, np.ufunc, float], Array]) -> "Span":
        """An operation that combines elements, given how, and what has no effect on it."""
        return Span(change(self.low, np.minimum, np.inf), change(self.high, np.maximum, -np.inf))

    def only(self, where: Array) -> "Span":
        """Nothing where not."""
        return self.join(lambda end, _, none: np.where(where, end, none))

    def compact(self) -> "Span":
        """Size 1 along axes on which neither end depends."""
        for axis, size in enumerate(self.low.shape):
            if size > 1 and _constant(self.low, axis) and _constant(self.high, axis):
                self = self.map(lambda end, axis=axis: end.take([0], axis))
        return self


def _constant(array: Array, axis: int) -> bool:
    return bool((array == array.take([0], axis)).all())


@dataclass(frozen=True, eq=False)
class Seen:
    """What the elements of an array of `shape` see, along the height and the width.

    Attributes:
      axes: how it moves along them.
      spans: pixels of the image.
      nominal: pixels of the image and beyond; None where that has no meaning any more.
    """

    shape: tuple[int, ...]
    axes: Axes
    spans: tuple[Span, Span]
    nominal: tuple[Span | None, Span | None]

    @property
    def is_map(self) -> bool:
        """Whether along some axis other pixels are seen."""
        return any(moves(axis) for axis in self.axes)

    @property
    def counted(self) -> tuple[Span, Span]:
        """The intervals whose size is the receptive field's."""
        return self.nominal[0] or self.spans[0], self.nominal[1] or self.spans[1]

    def spread(self, axis: int) -> bool:
        """Whether what is seen differs along an axis."""
        return any(span.low.shape[axis] > 1 for span in (*self.spans, *self.counted))

    def changed(
        self, change: Callable[[Span], Span], shape: Sequence[int] | None = None,
        axes: Sequence[Axis] | None = None,
    ) -> "Seen":  # fmt: skip
        """The same operation on all intervals."""
        spans = change(self.spans[0]), change(self.spans[1])
        nominal = [
            new if far is old else far and change(far)
            for far, old, new in zip(self.nominal, self.spans, spans, strict=True)
        ]
        return Seen(
            self.shape if shape is None else tuple(shape),
            self.axes if axes is None else tuple(axes),
            spans,
            (nominal[0], nominal[1]),
        )

    def within(self, kept: Sequence[bool] = (False, False)) -> "Seen":
        """Without nominal intervals, but in the dimensions that keep them."""
        height, width = (
            far if keep else None for far, keep in zip(self.nominal, kept, strict=True)
        )
        return replace(self, nominal=(height, width))

    # Elements move.

    def transpose(self, order: Sequence[int]) -> "Seen":
        return self.changed(
            lambda span: span.map(lambda end: end.transpose(order)),
            [self.shape[axis] for axis in order],
            [self.axes[axis] for axis in order],
        )

    def squeeze(self, gone: Sequence[int]) -> "Seen":
        kept = [axis for axis in range(len(self.shape)) if axis not in gone]
        return self.changed(
            lambda span: span.map(lambda end: end.squeeze(tuple(gone))),
            [self.shape[axis] for axis in kept],
            [self.axes[axis] for axis in kept],
        )

    def broadcast(self, shape: Sequence[int], places: Sequence[int]) -> "Seen":
        """Axis i becomes axis places[i]; the others repeat."""
        axes = [features(size) for size in shape]
        for axis, size, place in zip(self.axes, self.shape, places, strict=True):
            if size == shape[place]:
                axes[place] = axis

        def expand(end: Array) -> Array:
            sizes = [1] * len(shape)
            for size, place in zip(end.shape, places, strict=True):
                sizes[place] = size
            return end.reshape(sizes)

        return self.changed(lambda span: span.map(expand), shape, axes)

    def reshape(self, shape: Sequence[int]) -> "Seen":
        groups = _aligned(self.shape, shape)

        def change(end: Array) -> Array:
            full, sizes = [], []
            for old, new in groups:
                varies = any(end.shape[axis] > 1 for axis in old)
                full += [self.shape[axis] if varies else 1 for axis in old]
                sizes += [shape[axis] if varies else 1 for axis in new]
            return np.broadcast_to(end, full).reshape(sizes)

        axes = regroup(self.axes, shape)
        return self.changed(lambda span: span.map(change).compact(), shape, axes)

    def windows(
        self,
        axis: int,
        size: int,
        taps: Sequence[int] = (0,),
        strides: int = 1,
        start: int = 0,
        dilation: int = 1,
    ) -> "Seen":
        """Element i along `axis` sees what start + i strides + taps saw.

        These count on a grid with `dilation` - 1 zeros between neighbours. Slices, padding and
        reversal are windows of one tap.
        """
        old = self.shape[axis]
        if (size, tuple(taps), start, dilation) == (old, (0,), 0, 1) and (strides == 1 or old == 1):
            return self
        index = single(self.axes[axis])
        views = _views(old, size, tuple(taps), strides, start, dilation, index.period)
        spans = _windows(self.spans, axis, old, views, (None, None))
        shifts = [index.shifts[d] if self._continues(index, d) else None for d in range(2)]
        far = spans
        if self.counted != self.spans or views[0].empty.any():
            far = _windows(self.counted, axis, old, views, shifts)
        nominal = [None if self.nominal[d] is None else far[d] for d in range(2)]
        along = stepped(self.axes[axis], size, strides, dilation)
        return Seen(
            _with(self.shape, axis, size),
            _with(self.axes, axis, along),
            (spans[0], spans[1]),
            (nominal[0], nominal[1]),
        )

    def _continues(self, index: Index, dimension: int) -> bool:
        """Whether a map goes on beyond its border in one dimension of the image."""
        far = self.nominal[dimension] is not None
        return far and index.shifts[dimension] not in (None, 0) and index.period <= index.size

    # Elements are combined.

    def over(self, gone: Sequence[int]) -> "Seen":
        """Everything along the axes `gone`, as a sum sees it.

        Where nothing moves any more, the whole image was seen and its border counts.
        """

        def change(end: Array, join: np.ufunc, _: float) -> Array:
            return join.reduce(end, axis=tuple(gone), keepdims=True)

        shape = [1 if axis in gone else size for axis, size in enumerate(self.shape)]
        axes = [features(1) if i in gone else axis for i, axis in enumerate(self.axes)]
        seen = self.changed(lambda span: span.join(change), shape, axes)
        kept = [
            any(moves(axis, d) for axis in axes) or not any(moves(axis, d) for axis in self.axes)
            for d in range(2)
        ]
        return (seen if all(kept) else seen.within(kept)).squeeze(gone)

    def so_far(self, axis: int, *, reverse: bool) -> "Seen":
        """Everything up to each element along an axis, as a cumulative sum sees it."""
        if not self.spread(axis):
            return self

        def change(end: Array, join: np.ufunc, _: float) -> Array:
            if not reverse:
                return join.accumulate(end, axis=axis)
            return np.flip(join.accumulate(np.flip(end, axis), axis=axis), axis)

        kept = [span.low.shape[axis] == 1 for span in self.counted]
        return self.within(kept).changed(lambda span: span.join(change))


def _with(items: tuple, place: int, item: object) -> tuple:
    return (*items[:place], item, *items[place + 1 :])


@dataclass(frozen=True, eq=False)
class _View:
    """Where windows look, [elements, taps], and what of that is not there.

    Attributes:
      places: in the array.
      blocks: how many periods beyond the array, from where `places` were taken back into it.
      empty: taps on zeros: between neighbours, and beyond the array where no map goes on.
    """

    places: Array
    blocks: Array
    empty: Array

    @cached_property
    def hollow(self) -> bool:
        return bool(self.empty.any())

    @cached_property
    def void(self) -> Array | None:
        """Elements all of whose taps are on zeros, if there are any."""
        void = np.all(self.empty, axis=1, keepdims=True)
        return void if void.any() else None


@lru_cache(4096)
def _views(
    old: int, size: int, taps: tuple[int, ...], strides: int, start: int, dilation: int, period: int
) -> tuple[_View, _View]:
    """Of an array that ends in zeros, and of a map that goes on beyond its border."""
    grid = start + np.arange(size)[:, None] * strides + np.asarray(taps)
    places = grid // dilation
    inside = np.clip(places, 0, old - 1)
    blocks = np.minimum(places // period, 0) + np.maximum((places - old) // period + 1, 0)
    wrapped = np.clip(places - blocks * period, 0, old - 1)
    holes = grid % dilation != 0
    ending = _View(inside, np.zeros_like(blocks), holes | (places != inside))
    return ending, _View(wrapped, blocks.astype(PIXELS), holes)


def _windows(
    spans: Sequence[Span], axis: int, old: int, views: tuple[_View, _View],
    shifts: Sequence[int | None],
) -> list[Span]:  # fmt: skip
    """Windows along an axis, beyond which a span moves on by its shift, or sees nothing."""
    ending, going_on = views
    found = [
        _window(span, axis, old, ending if shift is None else going_on, shift or 0)
        if span.low.shape[axis] > 1 or shift is not None
        else span
        for span, shift in zip(spans, shifts, strict=True)
    ]
    view = ending if shifts[0] is shifts[1] is None else going_on
    if view.void is not None:  # what sees nothing along one dimension sees nothing at all
        some = ~view.void.reshape(_with((1,) * spans[0].low.ndim, axis, -1))
        return [span.only(some) for span in found]
    # Where the whole image is seen, nothing differs any more; what goes on always does.
    return [span if span in spans or shift else span.compact()
            for span, shift in zip(found, shifts, strict=True)]  # fmt: skip


def _window(span: Span, axis: int, old: int, view: _View, shift: int) -> Span:
    return span.join(lambda end, join, none: join.reduce(
        _taps(end, axis, old, view, shift, none), axis=axis + 1
    ))  # fmt: skip


def _taps(end: Array, axis: int, old: int, view: _View, shift: int, none: float) -> Array:
    """What each tap of each window sees, along two axes in place of one."""
    if end.shape[axis] != old:
        end = np.broadcast_to(end, _with(end.shape, axis, old))
    taken = end.take(view.places, axis)
    lift = view.places.shape + (1,) * (end.ndim - axis - 1)
    if shift:
        taken = taken + (view.blocks * PIXELS(shift)).reshape(lift)
    if view.hollow:
        taken = np.where(view.empty.reshape(lift), none, taken)
    return taken


def _aligned(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """The smallest groups of axes that a reshape turns into one another."""
    groups = []
    i = j = 0
    while i < len(old) or j < len(new):
        before, after = list(range(i, min(i + 1, len(old)))), list(range(j, min(j + 1, len(new))))
        i, j = i + len(before), j + len(after)
        while (a := math.prod(old[k] for k in before)) != (b := math.prod(new[k] for k in after)):
            if a < b:
                before.append(i)
                i += 1
            else:
                after.append(j)
                j += 1
        groups.append((before, after))
    return groups


def nothing(shape: Sequence[int]) -> Seen:
    """What a constant sees."""
    one = (1,) * len(shape)
    span = Span(np.full(one, np.inf, PIXELS), np.full(one, -np.inf, PIXELS))
    axes = tuple(features(size) for size in shape)
    return Seen(tuple(shape), axes, (span, span), (span, span))


def image(shape: tuple[int, int, int, int]) -> Seen:
    """The images [n, h, w, c] themselves."""
    rows, columns = np.arange(shape[1], dtype=PIXELS), np.arange(shape[2], dtype=PIXELS)
    height, width = rows.reshape(1, -1, 1, 1), columns.reshape(1, 1, -1, 1)
    axes = (
        features(shape[0]),
        (Index(shape[1], 1, (1, 0)),),
        (Index(shape[2], 1, (0, 1)),),
        features(shape[3]),
    )
    spans = Span(height, height), Span(width, width)
    return Seen(shape, axes, spans, spans)


def hull(parts: Sequence[Seen]) -> Seen:
    """Element by element, of arrays of one shape."""
    first = parts[0]
    if len(parts) == 1 or all(map(is_, parts, [first] * len(parts))):
        return first
    axes = [reduce(meet, axis) for axis in zip(*(part.axes for part in parts), strict=True)]
    spans, nominal = [], []
    for d in range(2):
        whole = _both([part.spans[d] for part in parts])
        far = _alike(parts, d, [part.axes for part in parts])
        if far and all(f is part.spans[d] for f, part in zip(far, parts, strict=True)):
            nominal.append(whole)
        else:
            nominal.append(_both(far) if far else None)
            whole = whole if far else whole.compact()
        spans.append(whole)
    return Seen(first.shape, tuple(axes), (spans[0], spans[1]), (nominal[0], nominal[1]))


def _both(spans: Sequence[Span]) -> Span:
    return Span(
        reduce(np.minimum, [span.low for span in spans]),
        reduce(np.maximum, [span.high for span in spans]),
    )


def _alike(parts: Sequence[Seen], d: int, axes: Sequence[Axes]) -> list[Span] | None:
    """Nominal intervals of arrays that move alike along `axes`, so that their hull does too."""
    far = [span for part in parts if (span := part.nominal[d]) is not None]
    if len(far) < len(parts):
        return None
    if all(other == axes[0] for other in axes[1:]):
        return far
    alike = len({profile(other, d) for other in axes}) == 1 and regular(axes[0], d)
    return far if alike else None


def concatenate(parts: Sequence[Seen | None], sizes: Sequence[int], axis: int) -> Seen:
    """Along an axis; None for what does not depend on the images."""
    given = [part for part in parts if part is not None]
    longest = max(given, key=lambda part: part.shape[axis])
    shape = _with(longest.shape, axis, sum(sizes))
    full = [
        nothing(_with(shape, axis, size)) if part is None else part
        for part, size in zip(parts, sizes, strict=True)
    ]
    across = [(*part.axes[:axis], *part.axes[axis + 1 :]) for part in given]
    axes = [reduce(meet, column) for column in zip(*across, strict=True)]
    moving = any(moves(part.axes[axis]) for part in given)
    along = stepped(longest.axes[axis], shape[axis], 1) if moving else features(shape[axis])
    padded = _padded(parts, sizes, axis)
    spans, nominal = [], []
    for d in range(2):
        spans.append(_put_together([part.spans[d] for part in full], sizes, axis).compact())
        far = None
        if padded is not None:
            far = padded.nominal[d]
        elif _alike(given, d, across):
            far = _put_together([part.counted[d] for part in full], sizes, axis)
            if moves(along, d) and not _goes_on(far, axis, single(along), d):
                far = None
        nominal.append(far and far.compact())
    return Seen(
        shape,
        (*axes[:axis], along, *axes[axis:]),
        (spans[0], spans[1]),
        (nominal[0], nominal[1]),
    )


def _padded(parts: Sequence[Seen | None], sizes: Sequence[int], axis: int) -> Seen | None:
    """The map among `parts`, if all the others are its padding: constants, or its own border."""
    at = max(range(len(parts)), key=lambda i: -1 if parts[i] is None else sizes[i])
    whole = parts[at]
    if whole is None or not any(whole._continues(single(whole.axes[axis]), d) for d in range(2)):
        return None
    for i, part in enumerate(parts):
        border = 0 if i < at else whole.shape[axis] - 1
        if i != at and part is not None and not _repeats(part, whole, border, axis):
            return None
    return whole.windows(axis, sum(sizes), start=-sum(sizes[:at]))


def _repeats(part: Seen, whole: Seen, place: int, axis: int) -> bool:
    """Whether `part` sees nothing but what one place of a larger map sees."""
    if whole.shape[axis] == 1:
        return False
    for a, b in zip(part.spans, whole.spans, strict=True):
        for x, y in ((a.low, b.low), (a.high, b.high)):
            one = y if y.shape[axis] == 1 else y.take([place], axis)
            if not (x == one).all():
                return False
    return True


def _put_together(spans: Sequence[Span], sizes: Sequence[int], axis: int) -> Span:
    shapes = [_with(span.low.shape, axis, 1) for span in spans]
    across = np.broadcast_shapes(*shapes)

    def join(ends: Sequence[Array]) -> Array:
        full = [
            np.broadcast_to(end, _with(across, axis, size))
            for end, size in zip(ends, sizes, strict=True)
        ]
        return np.concatenate(full, axis)

    return Span(join([span.low for span in spans]), join([span.high for span in spans]))


def _goes_on(span: Span, axis: int, index: Index, d: int) -> bool:
    """Whether both ends move along an axis as `index` says, everywhere."""
    shift = index.shifts[d]
    if shift is None or index.size <= index.period:
        return False
    return all(_shift(end, axis, index.period) == shift for end in (span.low, span.high))


def _shift(end: Array, axis: int, period: int) -> int | None:
    """By how much an array has moved after `period` steps, if it is the same everywhere."""
    size = end.shape[axis]
    if size == 1:
        return 0
    ahead, behind = end.take(range(period, size), axis), end.take(range(size - period), axis)
    if not np.isfinite(behind).all() or not np.isfinite(ahead).all():
        return None
    change = ahead - behind
    return int(change.flat[0]) if (change == change.flat[0]).all() else None


_LONGEST = 64  # periods that are looked for


def found_axis(spans: Sequence[Span], axis: int, size: int) -> Axis:
    """How what is seen moves along an axis, from what is seen."""
    found = [_found(span, axis) for span in spans]
    periods = {period for period, _ in found if period}
    if len(periods) > 1:
        periods, found = {1}, [(0, None if shift != 0 else 0) for _, shift in found]
    return (Index(size, periods.pop() if periods else 1, (found[0][1], found[1][1])),)


def _found(span: Span, axis: int) -> tuple[int, int | None]:
    """Period and shift; no period where it does not move or not regularly."""
    size = span.low.shape[axis]
    if size == 1:
        return 0, 0
    for period in range(1, min(size // 2, _LONGEST) + 1):
        shift = _shift(span.low, axis, period)
        if shift is not None and shift == _shift(span.high, axis, period):
            return period, shift
    return 0, None
