"""What all figures share: a style, text that fits, legends below the data, bytes without dates."""

import contextlib
import io
import math
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path

# Okabe & Ito's palette: told apart with colour-blind eyes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
NARROW, WIDEST, HEIGHT = 4.6, 9.6, 3.1  # inches

_MARKERS = ("o", "s", "^", "D", "v", "P")
_DOTS_PER_INCH, _MOST_DOTS = 160, 2**16 - 1  # matplotlib draws no larger picture
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.solid_capstyle": "butt",  # an interval ends where it ends
    "svg.hashsalt": "cnnjax",
    "svg.fonttype": "path",
    "text.parse_math": False,  # a name with two $ is a name
}


@dataclass(frozen=True)
class Picture:
    """One figure: its file name without suffix, caption, bytes, and whether it needs a full row."""

    name: str
    caption: str
    png: bytes
    svg: bytes
    wide: bool = False


@dataclass(frozen=True)
class Look:
    """How one of several lines is told from the others; `marker`: "" for none."""

    colour: str
    marker: str


@contextlib.contextmanager
def drawing() -> Iterator[None]:
    """The style, within; a letter that the font lacks is a box without a warning."""
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield


def looks(count: int) -> list[Look]:
    """A look for each of `count` lines: colours, or beyond the palette a scale with markers."""
    if count <= len(COLOURS):
        return [Look(colour, "") for colour in COLOURS[:count]]
    scale = matplotlib.colormaps["viridis"]
    shades = [scale(0.92 * index / (count - 1)) for index in range(count)]
    return [
        Look(to_hex(shade), _MARKERS[index % len(_MARKERS)]) for index, shade in enumerate(shades)
    ]


def panel(width: float = NARROW, height: float = HEIGHT) -> tuple[Figure, Any]:
    """A figure of this size in inches with one pair of axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def text_width(text: str, size: float = 9.0) -> float:
    """Inches that the widest line of `text` takes, at `size` points."""
    font = FontProperties(size=size)
    widths = [text_to_path.get_text_width_height_descent(t, font, False)[0] for t in _lines(text)]
    return max(widths) / 72


def fitted(text: str, inches: float, size: float = 9.0) -> str:
    """`text` with line breaks at spaces and hyphens, in a long word anywhere: none is wider."""
    lines = [""]
    for piece in re.findall(r"[^\s-]*[\s-]|[^\s-]+", text):
        if lines[-1] and text_width((lines[-1] + piece).rstrip(), size) > inches:
            lines.append("")
        for part in [piece] if text_width(piece.rstrip(), size) <= inches else piece:
            if lines[-1] and text_width((lines[-1] + part).rstrip(), size) > inches:
                lines.append("")
            lines[-1] += part
    return "\n".join(line.strip() for line in lines)


def level_axis(axes: Any, figure: Figure, factor: str, levels: Sequence[str]) -> None:
    """A slot on the x axis for each level, named below: upright where the names are too long."""
    width = figure.get_figwidth()
    axes.set_xticks(range(len(levels)), levels)
    axes.set_xlim(-0.5, len(levels) - 0.5)
    longest = max(map(text_width, levels))
    if longest + 0.08 > (width - 0.7) / len(levels):
        axes.tick_params("x", rotation=90)
        figure.set_figheight(figure.get_figheight() + longest)
    axes.set_xlabel(fitted(factor, width - 0.9))


def legend_below(figure: Figure, title: str, names: Sequence[tuple[str, Look]]) -> None:
    """Names of lines in as many columns as fit, below the axes; the figure grows by its height.

    A line without a name, of a study with one factor, has no entry.
    """
    names = [(name, look) for name, look in names if name]
    if not names:
        return
    room = figure.get_figwidth() - 0.3
    handle = 0.65  # inches for a line's sample and the gaps beside it
    labels = [fitted(name, room - handle) for name, _ in names]
    columns = max(1, int(room / (max(map(text_width, labels)) + handle)))
    rows = math.ceil(len(labels) / columns)
    title = fitted(title, room)
    lines = rows * max(len(_lines(label)) for label in labels) + len(_lines(title))
    figure.set_figheight(figure.get_figheight() + 0.17 * lines + 0.06)
    figure.legend(
        [Line2D([], [], color=k.colour, marker=k.marker, ms=4.5, lw=2.2) for _, k in names],
        labels,
        title=title or None,
        loc="outside lower center",
        ncols=math.ceil(len(labels) / rows),
        borderaxespad=0.2,
    )


def spread(values: Sequence[float], unit: str = "%", margin: float = 0.05) -> tuple[float, float]:
    """Limits of an axis on which all `values` and 0 lie; points never less than one apart."""
    low, high = min((0.0, *values)), max((0.0, *values))
    if unit in ("%", "points") or low == high:
        high = max(high, low + 1)
    return low - margin * (high - low), high + margin * (high - low)


def picture(figure: Figure, name: str, caption: str) -> Picture:
    """A figure that is done."""
    wide = bool(figure.get_figwidth() > 1.5 * NARROW)
    return Picture(name, caption, *encoded(figure), wide)


def encoded(figure: Figure) -> tuple[bytes, bytes]:
    """The figure as PNG and SVG."""
    dots = min(_DOTS_PER_INCH, int(_MOST_DOTS / max(figure.get_size_inches())))
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=dots, metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None})
    return png.getvalue(), svg.getvalue()


def _lines(text: str) -> list[str]:
    return text.splitlines() or [""]
