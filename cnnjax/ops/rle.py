"""Masks as run lengths, column by column, as COCO's files keep them; on the host, exact.

A mask is read down its columns; the runs of 0 and 1 take turns and begin with the zeros, of which
there may be none. Rows 1-2 and columns 1-3 of 4x5 are [5, 2, 2, 2, 2, 2, 5]. A file has the counts
as a list, or as text: five bits a character, each count from the fourth on as what it adds to the
one before the last ("5220003").
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int

from cnnjax.core.errors import Refused

_UPSAMPLING = 5  # of a polygon's outline, as COCO's own tools draw it
_FIRST, _BITS, _MORE, _MINUS = 48, 0x1F, 0x20, 0x10  # of the text
_LONGEST = 7  # characters of a count behind its first: sums of counts fit into 64 bits


@dataclass(frozen=True, eq=False)
class RunLengths:
    """One mask.

    Attributes:
      size: height and width.
      counts: of zeros, ones, zeros, ...; they add up to height x width.
    """

    size: tuple[int, int]
    counts: Int[np.ndarray, " runs"]

    @classmethod
    def of_mask(cls, mask: Bool[np.ndarray, "h w"]) -> "RunLengths":
        pixels = np.asarray(mask, bool).T.reshape(-1)
        changes = np.flatnonzero(np.diff(pixels, prepend=False))
        return _between(mask.shape, changes)

    @classmethod
    def of_counts(cls, size: tuple[int, int], counts: Sequence[int] | str) -> "RunLengths":
        """
        Args:
          counts: as a file has them, a list or text.

        Raises:
          Refused: they are broken, or of a mask of another size.
        """
        height, width = size
        given = _from_text(counts) if isinstance(counts, str) else counts
        try:
            runs = np.asarray(given, np.int64)
        except OverflowError:  # of a list
            first = next(int(run) for run in given if not 0 <= int(run) <= height * width)
            raise _broken(first, size) from None
        outside = (runs < 0) | (runs > height * width)
        if outside.any():
            raise _broken(int(runs[outside][0]), size)
        if runs.size == 0 or runs.sum() != height * width:
            raise Refused(
                f"run lengths that add up to {int(runs.sum()):,} are no mask of {height}x{width},"
                f" which has {height * width:,} pixels"
            )
        return cls(size, runs)

    @classmethod
    def of_polygons(
        cls, size: tuple[int, int], polygons: Sequence[Sequence[float]]
    ) -> "RunLengths":
        """What any of the polygons covers, to the pixel as COCO's own tools draw them.

        Args:
          polygons: x, y, x, y, ... of the corners in pixels, where (0, 0) is the outer corner of
            the first pixel.
        """
        masks = [_outline(size, np.reshape(polygon, (-1, 2))) for polygon in polygons]
        if len(masks) == 1:
            return masks[0]
        return cls.of_mask(np.any([mask.decoded() for mask in masks], axis=0))

    def decoded(self) -> Bool[np.ndarray, "h w"]:
        height, width = self.size
        values = np.arange(len(self.counts)) % 2 == 1
        return np.repeat(values, self.counts).reshape(width, height).T

    def text(self) -> str:
        """The counts as a file has them."""
        steps = self.counts.copy()
        steps[3:] -= self.counts[1:-2]
        return "".join(map(_characters, steps.tolist()))

    @cached_property
    def area(self) -> int:
        """In pixels."""
        return int(self.counts[1::2].sum())

    @cached_property
    def box(self) -> tuple[float, float, float, float]:
        """x, y, width, height of what is set; zeros where nothing is."""
        starts, ends = self._runs
        starts, ends = starts[ends > starts], ends[ends > starts]
        if not len(starts):
            return 0.0, 0.0, 0.0, 0.0
        height = self.size[0]
        columns, last = starts // height, (ends - 1) // height
        whole = (last > columns).any()  # a run that turns into the next column
        top = 0 if whole else int((starts % height).min())
        bottom = height - 1 if whole else int(((ends - 1) % height).max())
        left, right = int(columns.min()), int(last.max())
        return float(left), float(top), float(right - left + 1), float(bottom - top + 1)

    @cached_property
    def _runs(self) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " k"]]:
        """Where each run of ones begins and ends, in the order of columns."""
        ends = np.cumsum(self.counts)
        return ends[0:-1:2], ends[1::2]

    @cached_property
    def _rises(self) -> tuple[Int[np.ndarray, " runs"], Int[np.ndarray, " runs"]]:
        """Where each run begins, and how many ones lie before it."""
        starts = np.concatenate([[0], np.cumsum(self.counts)[:-1]])
        ones = np.where(np.arange(len(self.counts)) % 2 == 1, self.counts, 0)
        return starts, np.concatenate([[0], np.cumsum(ones)[:-1]])

    def _ones_before(self, places: Int[np.ndarray, " k"]) -> Int[np.ndarray, " k"]:
        starts, before = self._rises
        run = np.searchsorted(starts, places, side="right") - 1
        return before[run] + np.where(run % 2 == 1, places - starts[run], 0)

    def intersections(self, others: Sequence["RunLengths"]) -> Int[np.ndarray, " n"]:
        """How many pixels this mask and each of the others, of the same size, have in common."""
        runs = [other._runs for other in others]
        lengths = [len(starts) for starts, _ in runs]
        if not sum(lengths):
            return np.zeros(len(others), np.int64)
        starts, ends = (np.concatenate(part) for part in zip(*runs, strict=True))
        common = self._ones_before(ends) - self._ones_before(starts)
        total = np.concatenate([[0], np.cumsum(common)])
        borders = np.concatenate([[0], np.cumsum(lengths)])
        return np.diff(total[borders])


def _between(size: tuple[int, ...], changes: Int[np.ndarray, " k"]) -> RunLengths:
    """The mask whose pixels change at these places, in rising order."""
    height, width = size
    borders = np.concatenate([[0], changes, [height * width]])
    counts = np.diff(borders)
    if len(counts) > 1 and counts[-1] == 0:  # the last pixel is set: nothing follows
        counts = counts[:-1]
    return RunLengths((height, width), counts)


def _broken(run: int, size: tuple[int, int]) -> Refused:
    return Refused(f"broken run lengths: a run of {run:,} pixels in a mask of {size[0]}x{size[1]}")


def _from_text(text: str) -> Int[np.ndarray, " runs"]:
    """
    Raises:
      Refused: a character that no count has, or the last count is cut.
    """
    codes = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - _FIRST
    if not codes.size or codes.min() < 0 or codes.max() > _BITS + _MORE or codes[-1] & _MORE:
        raise Refused(f"broken run lengths {text[:20]!r}: they are cut, or no text of counts")
    last = np.flatnonzero(codes & _MORE == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    if (last - first).max() > _LONGEST:
        raise Refused(f"broken run lengths {text[:20]!r}: a count of more than 40 bits")
    place = np.arange(len(codes)) - np.repeat(first, last - first + 1)
    values = np.add.reduceat((codes & _BITS) << (5 * place), first)
    values -= np.where(codes[last] & _MINUS, 1 << (5 * (last - first + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


def _characters(value: int) -> str:
    """Five bits each, the lowest first; the sign of what is left ends it."""
    found = []
    while True:
        bits, value = value & _BITS, value >> 5
        more = value != (-1 if bits & _MINUS else 0)
        found.append(chr(_FIRST + bits + (_MORE if more else 0)))
        if not more:
            return "".join(found)


def _outline(size: tuple[int, int], corners: Float[np.ndarray, "k 2"]) -> RunLengths:
    """One polygon, as COCO draws it: the outline on a grid five times finer, then each column's
    crossings; between an odd and the next even one lies the inside."""
    height, width = size
    fine = np.trunc(_UPSAMPLING * np.asarray(corners, np.float64) + 0.5).astype(np.int64)
    edges = zip(fine, np.roll(fine, -1, axis=0), strict=True)
    x, y = np.concatenate([_line(start, end) for start, end in edges]).T
    turns = np.flatnonzero(np.diff(x)) + 1
    column = (np.minimum(x[turns], x[turns] - (x[turns] > x[turns - 1])) + 0.5) / _UPSAMPLING - 0.5
    row = np.ceil(((np.minimum(y[turns], y[turns - 1])) + 0.5) / _UPSAMPLING - 0.5)
    there = (column == np.floor(column)) & (column >= 0) & (column <= width - 1)
    rows = np.clip(row[there], 0, height).astype(np.int64)
    places, times = np.unique(column[there].astype(np.int64) * height + rows, return_counts=True)
    changes = places[times % 2 == 1]
    return _between(size, changes[changes < height * width])


def _line(start: Int[np.ndarray, "2"], end: Int[np.ndarray, "2"]) -> Int[np.ndarray, "k 2"]:
    """The points of the fine grid from one corner to the next, both included."""
    (dx, dy), steep = abs(end - start), abs(end - start)[1] > abs(end - start)[0]
    along, across = (1, 0) if steep else (0, 1)
    turned = start[along] > end[along]
    first, last = (end, start) if turned else (start, end)
    steps = np.arange(max(dx, dy) + 1)
    slope = (last[across] - first[across]) / max(dx, dy, 1)
    points = np.empty((len(steps), 2), np.int64)
    points[:, along] = first[along] + steps
    points[:, across] = np.trunc(first[across] + slope * steps + 0.5)
    return points[::-1] if turned else points
