"""A table as lines of text that fit a screen: a number is never broken, a word only where it must.

Pure: what it is given is what decides. Widths are in columns of a terminal.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells

GAP = 2


@dataclass(frozen=True)
class Lines:
    """A table that is ready to print; `left_out`: heads of the columns that had no room."""

    head: list[str]
    body: list[str]
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Column:
    head: str
    cells: tuple[str, ...]
    numeric: bool

    @property
    def natural(self) -> int:
        """Wide enough for everything on one line."""
        return max(map(cell_len, (self.head, *self.cells)))

    @property
    def whole_cells(self) -> int:
        """Narrowest with only the head wrapped."""
        return max((_longest_word(self.head), *map(cell_len, self.cells)))

    @property
    def whole_words(self) -> int:
        """Narrowest at all: a number is as one word, with its unit and its interval's ends."""
        return (
            self.whole_cells if self.numeric else max(map(_longest_word, (self.head, *self.cells)))
        )


def lay_out(
    head: Sequence[str],
    rows: Iterable[Sequence[object]],
    numeric: Sequence[int] = (),
    optional: Sequence[str] = (),
    width: int | None = None,
) -> Lines:
    """Lines of at most `width` columns.

    Where the table is wider, its heads are wrapped, then `optional` columns are left out, then text
    is wrapped at spaces; where even that does not fit, each row becomes a block of lines.

    Args:
      numeric: indices of columns that are set flush right and never wrapped.
      optional: heads of the columns that may be left out, the first to go first.
      width: None: as wide as it is.
    """
    texts = [[" ".join(str(cell).splitlines()) for cell in row] for row in rows]
    columns = [
        _Column(name, tuple(row[index] for row in texts), index in numeric)
        for index, name in enumerate(head)
    ]
    if width is None:
        return _grid(columns, [column.natural for column in columns])
    left_out: list[str] = []
    going = [name for name in dict.fromkeys(optional) if name in head]
    while _total([column.whole_cells for column in columns]) > width and going:
        left_out.append(going.pop(0))
        columns = [column for column in columns if column.head not in left_out]
    floors = [column.whole_cells for column in columns]
    if _total(floors) > width:
        floors = [column.whole_words for column in columns]
    if _total(floors) > width:
        return Lines([], list(_blocks(columns, width)), tuple(left_out))
    widths = _shrunk([column.natural for column in columns], floors, width)
    return _grid(columns, widths, tuple(left_out))


def wrap(text: str, width: int | None) -> list[str]:
    """`text` in lines of at most `width`, broken at spaces; later ones as indented as the first.

    A word that is too long for the indentation begins at the margin, and only one that is wider
    than `width` is broken.
    """
    if width is None or cell_len(text) <= width:
        return [text]
    indent = text[: len(text) - len(text.lstrip())]
    lines: list[str] = []
    line = ""
    for word in text.split():
        longer = f"{line} {word}" if line else indent + word
        if cell_len(longer) <= width:
            line = longer
            continue
        lines += [line] if line else []
        line = indent + word if cell_len(indent + word) <= width else word
        if cell_len(line) > width:
            *broken, line = chop_cells(line, width)
            lines += broken
    return [*lines, line]


def _grid(columns: list[_Column], widths: list[int], left_out: tuple[str, ...] = ()) -> Lines:
    heads = [column.head for column in columns]
    head = _row(heads, columns, widths) if any(heads) else []
    rows = zip(*(column.cells for column in columns), strict=True)
    body = [line for row in rows for line in _row(row, columns, widths)]
    return Lines(head, body, left_out)


def _row(cells: Sequence[str], columns: list[_Column], widths: list[int]) -> list[str]:
    """One row of the table: as many lines as its tallest cell has."""
    wrapped = [wrap(cell, width) for cell, width in zip(cells, widths, strict=True)]
    lines = []
    for level in range(max(map(len, wrapped))):
        parts = []
        for texts, column, width in zip(wrapped, columns, widths, strict=True):
            text = texts[level] if level < len(texts) else ""
            room = " " * (width - cell_len(text))
            parts.append(room + text if column.numeric else text + room)
        lines.append((" " * GAP).join(parts).rstrip())
    return lines


def _blocks(columns: list[_Column], width: int) -> Iterable[str]:
    """Each row as its first cell, with those that have no head, and below it the others."""
    titles = [c for index, c in enumerate(columns) if index == 0 or not c.head]
    rest = [c for index, c in enumerate(columns) if index > 0 and c.head]
    names = max((cell_len(column.head) for column in rest), default=0)
    for row in range(len(columns[0].cells)):
        yield from wrap((" " * GAP).join(c.cells[row] for c in titles).rstrip(), width)
        for column in rest:
            room = " " * (names - cell_len(column.head) + GAP)
            line = f"  {column.head}{room}{column.cells[row]}".rstrip()
            yield from [line] if cell_len(line) <= width else wrap(line, width)


def _shrunk(widths: list[int], floors: list[int], width: int) -> list[int]:
    """Widths that fit: the widest that may give way does."""
    widths = list(widths)
    while _total(widths) > width:
        free = [i for i, floor in enumerate(floors) if widths[i] > floor]
        widths[max(free, key=lambda i: widths[i])] -= 1
    return widths


def _total(widths: list[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _longest_word(text: str) -> int:
    """Of a text that keeps its indentation when it is wrapped."""
    indent = len(text) - len(text.lstrip())
    return max((indent + cell_len(word) for word in text.split()), default=0)
