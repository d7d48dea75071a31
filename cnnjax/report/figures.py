"""The figures of a study, in the manner of He et al. 2015, figures 1 and 6.

One panel a file, so that a page can set them side by side or, on a phone, one below the other.
Drawn without global state and without dates: the same results give the same bytes.
"""

import io
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cnnjax.report.tables import values
from cnnjax.study.cells import Cell, Variant
from cnnjax.study.outcome import Outcome
from cnnjax.study.statistics import summarize
from cnnjax.study.store import Store
from cnnjax.study.verdict import value_of

# Okabe & Ito's palette: told apart with colour-blind eyes.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e5e5e5",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "svg.hashsalt": "cnnjax",
    "svg.fonttype": "path",
}


@dataclass(frozen=True)
class Picture:
    """One figure: its file name without suffix, caption, and bytes."""

    name: str
    caption: str
    png: bytes
    svg: bytes


def pictures(outcome: Outcome) -> list[Picture]:
    """Every figure that the results so far allow."""
    if not outcome.results:
        return []
    drawn = [_final(outcome, metric) for metric in outcome.plan.metrics] + _curves(outcome)
    if _arm_variants(outcome):
        drawn.append(_arms(outcome))
    if any(j.n for j in outcome.judgements):
        drawn.append(_contrasts(outcome))
    return drawn


def _grid_variants(outcome: Outcome) -> list[Variant]:
    factors = set(outcome.plan.factors)
    return [v for v in outcome.plan.variants if set(v.levels) == factors]


def _arm_variants(outcome: Outcome) -> list[Variant]:
    grid = _grid_variants(outcome)
    return [v for v in outcome.plan.variants if v not in grid]


def _lines(outcome: Outcome) -> dict[str, list[Variant]]:
    """The grid as one line for each combination of all factors but the last."""
    lines: dict[str, list[Variant]] = {}
    for variant in _grid_variants(outcome):
        levels = list(variant.levels.values())
        lines.setdefault("-".join(levels[:-1]) or "all", []).append(variant)
    return lines


def _final(outcome: Outcome, metric: str) -> Picture:
    """Final error against the last factor: every seed a dot, mean and 95 % interval."""
    factor = list(outcome.plan.factors)[-1]
    levels = outcome.plan.factors[factor]
    lines = _lines(outcome)
    with matplotlib.rc_context(_STYLE):
        figure, axes = _panel()
        for index, (name, variants) in enumerate(lines.items()):
            colour = COLOURS[index % len(COLOURS)]
            shift = (index - (len(lines) - 1) / 2) * 0.16
            means = []
            for variant in variants:
                x = levels.index(variant.levels[factor]) + shift
                found = [outcome.results.get((variant.name, s)) for s in range(variant.seeds)]
                _dots(axes, x, [r for r in found if r is not None], metric, colour)
                summary = summarize(values(outcome, variant, metric))
                if not summary.n:
                    continue
                means.append((x, summary.mean))
                if summary.interval.low is not None:
                    ends = [summary.interval.low, summary.interval.high]
                    axes.plot([x, x], ends, color=colour, linewidth=2.2, solid_capstyle="butt")
            if means:
                axes.plot(*zip(*means, strict=True), color=colour, marker="_", ms=11, label=name)
        axes.set_xticks(range(len(levels)), levels)
        axes.set_xlim(-0.5, len(levels) - 0.5)
        axes.set_xlabel(factor)
        axes.set_ylabel(f"{_words(metric)} (%)")
        axes.set_ylim(bottom=min(0, axes.get_ylim()[0]))
        axes.legend(loc="upper left")
        caption = (
            f"Final {_words(metric)} against {factor}. A dot is a seed (a cross: diverged), the bar"
            " the 95 % interval of the mean, the line joins means."
        )
        return _save(figure, f"final-{metric}", caption)


def _curves(outcome: Outcome) -> list[Picture]:
    """Error by epoch, one panel a line of the grid: training thin, test bold, band over seeds."""
    store = Store(outcome.folder)
    drawn = []
    series = {
        name: [(variant, _by_epoch(store, outcome, variant)) for variant in variants]
        for name, variants in _lines(outcome).items()
    }
    highest = max(
        (
            record[key]
            for line in series.values()
            for _, epochs in line
            for records in epochs.values()
            for record in records
            for key in ("train_error", "test_error")
        ),
        default=100,
    )
    factor = list(outcome.plan.factors)[-1]
    for name, line in series.items():
        with matplotlib.rc_context(_STYLE):
            figure, axes = _panel()
            for index, (variant, epochs) in enumerate(line):
                seeds = len(epochs.get(1, []))
                # A line ends where a seed does: a mean over survivors would flatter it.
                epochs = {e: records for e, records in epochs.items() if len(records) == seeds}
                if not epochs:
                    continue
                colour = COLOURS[index % len(COLOURS)]
                for key, width in (("train_error", 0.9), ("test_error", 2.2)):
                    x = list(epochs)
                    rows = [[record[key] for record in records] for records in epochs.values()]
                    label = variant.levels[factor] if key == "test_error" else None
                    means = [statistics.fmean(row) for row in rows]
                    axes.plot(x, means, color=colour, linewidth=width, label=label)
                    low, high = [min(row) for row in rows], [max(row) for row in rows]
                    axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
            axes.set_ylim(0, highest * 1.03 or 1)
            axes.set_xlabel("epoch")
            axes.set_ylabel("error (%)")
            axes.set_title(name)
            axes.legend(title=factor, ncols=2)
            caption = (
                f"{name}: error while training, by {factor}. Thin: training error (of the epoch's"
                " batches); bold: test error; band: all seeds; a line ends where a seed diverged."
            )
            drawn.append(_save(figure, f"curves-{name}", caption))
    return drawn


def _contrasts(outcome: Outcome) -> Picture:
    """Each contrast's mean difference with its interval."""
    judged = [j for j in outcome.judgements if j.n and j.mean_difference is not None]
    with matplotlib.rc_context(_STYLE):
        figure, axes = _panel(height=0.9 + 0.55 * len(judged))
        for row, j in enumerate(judged):
            colour = COLOURS[0] if not j.verdict.startswith("not") else "#777777"
            y = len(judged) - row
            if j.bound:
                axes.plot([-j.bound, j.bound], [y, y], color="#bbbbbb", linewidth=9, zorder=1)
            if j.ci_low is not None:
                axes.plot([j.ci_low, j.ci_high], [y, y], color=colour, linewidth=2.2, zorder=2)
            axes.plot([j.mean_difference], [y], "o", color=colour, ms=5, zorder=3)
            text = f"{j.first} − {j.second}, {_words(j.metric)}: {j.verdict}"
            axes.annotate(
                text,
                (0.0, y + 0.2),
                xycoords=("axes fraction", "data"),
                fontsize=8,
                backgroundcolor="white",
            )
        axes.axvline(0, color="#333333", linewidth=0.8)
        axes.set_ylim(0.4, len(judged) + 0.8)
        axes.set_yticks([])
        axes.set_xlabel("difference, first minus second (points)")
        caption = (
            "Contrasts: mean difference paired by seed and its 95 % interval; grey: the bound"
            " within which two are called equal."
        )
        return _save(figure, "contrasts", caption)


def _arms(outcome: Outcome) -> Picture:
    """The variants beside the grid, with the grid's variants that they start from."""
    metric = outcome.plan.metrics[0]
    arms = _arm_variants(outcome)
    parents = [
        v
        for v in _grid_variants(outcome)
        if any(v.levels.items() <= arm.levels.items() for arm in arms)
    ]
    shown = sorted([*parents, *arms], key=lambda v: list(v.levels.values())[: len(v.levels)])
    with matplotlib.rc_context(_STYLE):
        figure, axes = _panel(height=0.8 + 0.24 * len(shown))
        for row, variant in enumerate(shown):
            found = [outcome.results.get((variant.name, s)) for s in range(variant.seeds)]
            colour = COLOURS[0] if variant in parents else COLOURS[1]
            for result in (r for r in found if r is not None):
                _dots(axes, len(shown) - row, [result], metric, colour, across=True)
        axes.set_yticks(range(len(shown), 0, -1), [variant.name for variant in shown])
        axes.set_xlabel(f"{_words(metric)} (%)")
        axes.set_xlim(left=min(-1, axes.get_xlim()[0]))
        caption = (
            f"Arms beside the grid, final {_words(metric)}: every seed a dot; blue: the grid's"
            " variant that an arm starts from."
        )
        return _save(figure, "arms", caption)


def _by_epoch(store: Store, outcome: Outcome, variant: Variant) -> dict[int, list[dict]]:
    epochs: dict[int, list[dict]] = {}
    for seed in range(variant.seeds):
        if (variant.name, seed) in outcome.results:
            for record in store.curves(Cell(variant, seed)):
                epochs.setdefault(record["epoch"], []).append(record)
    return dict(sorted(epochs.items()))


def _dots(
    axes: Any,
    at: float,
    results: Sequence[dict],
    metric: str,
    colour: str,
    across: bool = False,
) -> None:
    for index, result in enumerate(results):
        spread = 0.0 if across else 0.05 * ((index % 5) - 2) / 2
        mark = "x" if result["status"] == "diverged" else "o"
        place = (
            (value_of(result, metric), at) if across else (at + spread, value_of(result, metric))
        )
        axes.plot(*place, mark, color=colour, alpha=0.55, ms=4.5, mew=1 if mark == "x" else 0)


def _panel(width: float = 4.6, height: float = 3.1) -> tuple[Figure, Any]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.add_subplot()


def _save(figure: Figure, name: str, caption: str) -> Picture:
    png, svg = io.BytesIO(), io.BytesIO()
    figure.savefig(png, format="png", dpi=160, metadata={"Software": None})
    figure.savefig(svg, format="svg", metadata={"Date": None})
    return Picture(name, caption, png.getvalue(), svg.getvalue())


def _words(metric: str) -> str:
    return {"train_error": "training error", "test_error": "test error"}.get(metric, metric)
