"""What a detector does, drawn: precision over recall."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cnnjax.core.words import counted
from cnnjax.metrics.average_precision import (
    THRESHOLDS,
    Curve,
    ProtocolName,
    average_precision,
    curves,
)
from cnnjax.metrics.matching import Matches
from cnnjax.report.canvas import COLOURS, Picture, drawing, fitted, picture

_MOST, _COLUMNS = 12, 4  # panels
_LINES = {"coco": (0, 5, 8), "voc2007": (0,), "voc2010": (0,)}  # IoU thresholds that are drawn
_STYLES = (("-", COLOURS[0]), ("--", COLOURS[2]), (":", COLOURS[3]))
_SCORES = (0.9, 0.5, 0.1)  # score thresholds that are marked, and how
_MARKERS = ("^", "o", "v")


def curve_picture(
    matches: Matches, names: Sequence[str], protocol: ProtocolName, heading: str
) -> Picture:
    """Precision over recall as the score threshold falls, a panel a category, most objects first.

    Marks on the curve of the lowest IoU say what a threshold of the score gives; above it stands
    what lies below that curve, as the protocol measures it.
    """
    areas = average_precision(matches, protocol)["per_category"]
    area = "ap50" if protocol == "coco" else "ap"
    lines = {place: curves(matches, threshold=place) for place in _LINES[protocol]}
    counts = matches.positives[:, 0]
    shown = [one for one in np.argsort(-counts, kind="stable").tolist() if counts[one]][:_MOST]
    columns = min(_COLUMNS, max(len(shown), 1))
    rows = max(1, math.ceil(len(shown) / columns))
    with drawing():
        entries = _legend(protocol)
        aside = min(3, columns)  # entries beside each other
        below = 0.3 + 0.19 * math.ceil(len(entries) / aside)
        figure = Figure(figsize=(2.4 * columns, 2.3 * rows + below), layout="constrained")
        FigureCanvasAgg(figure)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[len(shown) :]:
            axes.set_visible(False)
        for axes, category in zip(grid.flat, shown, strict=False):
            for (dash, colour), (place, found) in zip(_STYLES, lines.items(), strict=False):
                curve = found[category]
                assert curve is not None, "it has objects"
                axes.plot(*_from_nothing(curve), dash, color=colour, lw=1.4)
                if not place:
                    _mark(axes, curve)
                    if not curve.recall.any():
                        axes.text(0.5, 0.5, "none is found", ha="center", fontsize=8, color="0.4")
            many, share = counted(int(counts[category]), "object"), areas[category][area]
            title = f"{fitted(str(names[category]), 2.0, 8.0)}\n{many}, AP50 {100 * share:.0f} %"
            axes.set_title(title, fontsize=8)
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.05), xticks=(0, 0.5, 1))
            if axes in grid[:, 0]:
                axes.set_ylabel("precision")
        for axes in (column[sum(a.get_visible() for a in column) - 1] for column in grid.T):
            axes.set_xlabel("recall")
            axes.tick_params("x", labelbottom=True)
        figure.legend(handles=entries, loc="outside lower center", ncols=aside)
        figure.suptitle(fitted(heading, figure.get_figwidth() - 0.4), fontsize=9)
        rest = int((counts > 0).sum()) - len(shown)
        more = f"; {rest:,} more categories are not drawn" if rest else ""
        return picture(figure, "precision_recall", f"Precision over recall by category{more}.")


def _from_nothing(curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    """From recall 0 on; beyond the recall that is reached there is nothing."""
    first = curve.precision[:1] if len(curve.precision) else np.zeros(1)
    return np.append(0.0, curve.recall), np.concatenate([first, curve.precision])


def _mark(axes, curve: Curve) -> None:
    for score, marker in zip(_SCORES, _MARKERS, strict=True):
        count = int((curve.scores >= score).sum())
        if count:
            at = curve.recall[count - 1], curve.precision[count - 1]
            axes.plot(*at, marker, color=COLOURS[1], ms=4.5, zorder=3)


def _legend(protocol: str) -> list[Line2D]:
    lines = [
        Line2D([], [], color=colour, ls=dash, label=f"IoU {THRESHOLDS[place]:.2f}")
        for (dash, colour), place in zip(_STYLES, _LINES[protocol], strict=False)
    ]
    return lines + [
        Line2D([], [], color=COLOURS[1], marker=marker, ls="", label=f"score {score:g} and above")
        for score, marker in zip(_SCORES, _MARKERS, strict=True)
    ]
