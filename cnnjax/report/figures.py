"""The figures of a study, in the manner of He et al. 2015, figures 1 and 6.

One panel a file, so that a page can set them side by side or, on a phone, one below the other.
Drawn without global state and without dates: the same results give the same bytes.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator

from cnnjax.report.canvas import (
    COLOURS,
    HEIGHT,
    NARROW,
    WIDEST,
    Look,
    Picture,
    drawing,
    fitted,
    legend_below,
    level_axis,
    looks,
    panel,
    picture,
    spread,
    text_width,
)
from cnnjax.report.probe_figures import probe_pictures
from cnnjax.report.tables import INTERVAL, minus, no_interval, spreads, values
from cnnjax.study.cells import Cell, Variant
from cnnjax.study.measures import goal_of, labelled, probed, value_of, words
from cnnjax.study.outcome import Outcome
from cnnjax.study.statistics import summarize
from cnnjax.study.store import Store
from cnnjax.study.verdict import Judgement
from cnnjax.tasks.task import Metric

_FEWEST = 6  # seeds of a band by bootstrap, as of an interval
_DRAWS = 2_000  # of it


@dataclass(frozen=True)
class _Epoch:
    """One variant at one epoch: each seed's figure, over its batches and on the test split."""

    epoch: int
    batch: list[float]
    test: list[float]


@dataclass(frozen=True)
class _Curve:
    """A variant's epochs, as far as all its seeds that have a result went."""

    level: str
    epochs: list[_Epoch]
    diverged: bool

    @property
    def label(self) -> str:
        if self.epochs:
            return self.level
        return f"{self.level} ({'diverged in epoch 1' if self.diverged else 'no epochs'})"


def pictures(outcome: Outcome) -> list[Picture]:
    """Every figure that the results so far allow."""
    drawn = []
    if _with_results(outcome, _grid_variants(outcome)):
        drawn += [_final(outcome, metric) for metric in outcome.plan.metrics] + _curves(outcome)
    if _with_results(outcome, _arm_variants(outcome)):
        drawn.append(_arms(outcome))
    return drawn + _contrasts(outcome) + probe_pictures(outcome)


def _grid_variants(outcome: Outcome) -> list[Variant]:
    factors = set(outcome.plan.factors)
    return [v for v in outcome.plan.variants if set(v.levels) == factors]


def _arm_variants(outcome: Outcome) -> list[Variant]:
    grid = _grid_variants(outcome)
    return [v for v in outcome.plan.variants if v not in grid]


def _with_results(outcome: Outcome, variants: Sequence[Variant]) -> list[Variant]:
    return [v for v in variants if _results(outcome, v)]


def _results(outcome: Outcome, variant: Variant) -> list[dict]:
    found = [outcome.results.get((variant.name, seed)) for seed in variant.replicates]
    return [result for result in found if result is not None]


def _lines(outcome: Outcome) -> dict[str, list[Variant]]:
    """The grid as one line for each combination of all factors but the last; "": there are none."""
    lines: dict[str, list[Variant]] = {}
    for variant in _grid_variants(outcome):
        levels = list(variant.levels.values())
        lines.setdefault("-".join(levels[:-1]), []).append(variant)
    return lines


def _final(outcome: Outcome, metric: str) -> Picture:
    """Final error against the last factor: every seed a dot, mean and 95 % interval.

    Levels that are numbers have an order: a line joins their means. Others have none: thin lines
    join what is compared, the values of a seed.
    """
    *others, factor = outcome.plan.factors
    levels = outcome.plan.factors[factor]
    ordered = all(map(_is_number, levels))
    lines = _lines(outcome)
    step = min(0.16, 0.75 / len(lines))  # of a level's slot, from line to line
    with drawing():
        slot = max(0.09 * len(lines), max(map(text_width, levels)) + 0.1)
        figure, axes = panel(min(WIDEST, max(NARROW, 0.8 + slot * len(levels))))
        inches = step * (figure.get_figwidth() - 0.8) / len(levels)
        shown, drawn = [0.0], []
        for index, ((name, variants), look) in enumerate(
            zip(lines.items(), looks(len(lines)), strict=True)
        ):
            shift = (index - (len(lines) - 1) / 2) * step
            means = []
            if not ordered:
                _join_seeds(
                    axes,
                    outcome,
                    variants,
                    metric,
                    look.colour,
                    [levels.index(variant.levels[factor]) + shift for variant in variants],
                )
            for variant in variants:
                x = levels.index(variant.levels[factor]) + shift
                _dots(axes, x, _figures(outcome, variant, metric), look.colour, step)
                summary = summarize(values(outcome, variant, metric))
                if summary.mean is None:
                    continue
                means.append((x, summary.mean))
                shown += values(outcome, variant, metric)  # the interval lies within
                low, high = summary.interval.low, summary.interval.high
                if low is not None:
                    axes.plot([x, x], [low, high], color=look.colour, linewidth=2.2)
            if means:
                size = {"ms": 4} if look.marker else {"ms": min(11, max(4, 72 * inches))}
                line = {"color": look.colour, "marker": look.marker or "_", **size}
                line |= {} if ordered else {"linestyle": "none"}
                axes.plot(*zip(*means, strict=True), **line)
                drawn.append((name, look))
        axes.set_ylim(*spread(shown, outcome.plan.measures[metric].unit))
        axes.set_ylabel(labelled(metric, outcome.plan.measures[metric]))
        level_axis(axes, figure, factor, levels)
        legend_below(figure, ", ".join(others), drawn)
        caption = (
            f"{_titled(metric)} against {factor}. A dot is a seed (a cross: {_crossed(metric)}),"
            f" the bar the {INTERVAL};"
            f" {'the line joins means' if ordered else 'thin lines join seeds'}."
            f"{no_interval(outcome)}"
        )
        return picture(figure, f"final-{metric}", caption)


def _is_number(level: str) -> bool:
    try:
        return math.isfinite(float(level))
    except ValueError:
        return False


def _join_seeds(
    axes: Any,
    outcome: Outcome,
    variants: Sequence[Variant],
    metric: str,
    colour: str,
    places: Sequence[float],
) -> None:
    """A thin line for each seed through the variants that have it, at their places."""
    measure = outcome.plan.measures[metric]
    for seed in sorted({seed for variant in variants for seed in variant.replicates}):
        results = [outcome.results.get((variant.name, seed)) for variant in variants]
        points = [
            (x, value)
            for x, result in zip(places, results, strict=True)
            if result is not None and (value := value_of(result, metric, measure)) is not None
        ]
        if len(points) > 1:
            axes.plot(*zip(*points, strict=True), color=colour, alpha=0.25, linewidth=0.7)


def _curves(outcome: Outcome) -> list[Picture]:
    """The first metric that an epoch has, by epoch: one panel a line of the grid with a result."""
    store = Store(outcome.folder)
    name = next((name for name in outcome.plan.metrics if goal_of(name) is None), None)
    if name is None:
        return []
    figure, metric = name.partition("_")[2], outcome.plan.measures[name]
    factor = list(outcome.plan.factors)[-1]
    levels = outcome.plan.factors[factor]
    lines = {
        name: [
            _curve(store, outcome, variant, variant.levels[factor], figure) for variant in variants
        ]
        for name, variants in _lines(outcome).items()
        if _with_results(outcome, variants)
    }
    shown = [
        value
        for line in lines.values()
        for curve in line
        if curve is not None
        for epoch in curve.epochs
        for value in (*epoch.batch, *epoch.test)
    ]
    scale = labelled(figure, metric), _range(metric, shown)
    with drawing():
        return [
            _curve_panel(name, factor, list(zip(line, looks(len(levels)), strict=True)), *scale)
            for name, line in lines.items()
        ]


def _curve_panel(
    name: str,
    factor: str,
    line: list[tuple[_Curve | None, Look]],
    label: str,
    limits: tuple[float, float],
) -> Picture:
    """Training thin, test bold, a band over seeds; where there is one epoch, a dot a level."""
    drawn = [(curve, look) for curve, look in line if curve is not None]
    crowded = len(line) > len(COLOURS)
    figure, axes = panel(*((1.4 * NARROW, 1.4 * HEIGHT) if crowded else (NARROW, HEIGHT)))
    last = max((e.epoch for curve, _ in drawn for e in curve.epochs), default=1)
    for index, (curve, look) in enumerate(drawn):
        # The only epoch has room for all levels side by side.
        shift = 0.8 * ((index + 0.5) / len(drawn) - 0.5) if last == 1 else 0.0
        x = [e.epoch + shift for e in curve.epochs]
        for bold in (False, True):
            rows = [e.test if bold else e.batch for e in curve.epochs]
            if not all(rows):
                continue
            axes.plot(
                x,
                [statistics.fmean(row) for row in rows],
                color=look.colour,
                linewidth=(1.5 if crowded else 2.2) if bold else (0.6 if crowded else 0.9),
                clip_on=False,
                zorder=2.5 if bold else 2.4,
                **_points(look, len(x), index, bold),
            )
            bands = [_band(row) for row in rows]
            low, high = [one for one, _ in bands], [one for _, one in bands]
            axes.fill_between(
                x, low, high, color=look.colour, alpha=0.05 if crowded else 0.12, linewidth=0
            )
            if len(x) == 1:
                axes.plot(x * 2, low + high, color=look.colour, lw=4 if bold else 2, alpha=0.25)
        if curve.diverged and curve.epochs:
            end = statistics.fmean(curve.epochs[-1].test)
            axes.plot(x[-1], end, "x", color=look.colour, ms=8, mew=2, clip_on=False, zorder=3)
    if not any(curve.epochs for curve, _ in drawn):
        text = "no epoch has a figure of all seeds"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color="#595959")
    axes.set_ylim(*limits)
    if last == 1:
        axes.set_xlim(0.5, 1.5)
    axes.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    axes.set_xlabel("epoch")
    axes.set_ylabel(label)
    axes.set_title(fitted(name, figure.get_figwidth() - 0.9, 10.8))
    legend_below(figure, factor, [(curve.label, look) for curve, look in drawn])
    what = f"{name}: {label}" if name else label[:1].upper() + label[1:]
    epochs = [epoch for curve, _ in drawn for epoch in curve.epochs]
    thin = "Thin: of the epoch's batches while training; bold: of the test split"
    seeds = min((len(epoch.test) for epoch in epochs), default=0)
    band = "all seeds" if seeds < _FEWEST else "95 % by bootstrap of the mean over seeds"
    caption = (
        f"{what} by epoch and {factor}. {thin if any(e.batch for e in epochs) else 'Test split'};"
        f" band: {band}, at each epoch for itself, a description and no test; a cross ends a line"
        " where a seed diverged."
    )
    return picture(figure, f"curves-{name or 'all'}", caption)


def _band(values: Sequence[float]) -> tuple[float, float]:
    """Percentiles of the means of seeds drawn with replacement; of a few seeds all of them."""
    if len(values) < _FEWEST:
        return min(values), max(values)
    drawn = np.random.default_rng(0).integers(0, len(values), (_DRAWS, len(values)))
    low, high = np.percentile(np.asarray(values)[drawn].mean(1), (2.5, 97.5))
    return float(low), float(high)


def _points(look: Look, epochs: int, index: int, bold: bool) -> dict[str, Any]:
    """Where a line shows points: its only epoch, or a few on the bold one of many lines."""
    if epochs == 1:
        return {"marker": look.marker or "o", "ms": 5 if bold else 3,
                "mfc": look.colour if bold else "white"}  # fmt: skip
    if not bold:
        return {}
    every = max(1, epochs // 5)
    return {"marker": look.marker, "ms": 4, "markevery": (index % every, every)}


def _range(metric: Metric, values: list[float]) -> tuple[float, float]:
    """From 0, where a metric has no sign, to a little above the highest."""
    low, high = min(values, default=0.0), max(values, default=metric.worst or 1.0) or 1.0
    return (0.0 if low >= 0 else low - 0.03 * (high - low)), high + 0.03 * (high - min(low, 0.0))


def _curve(
    store: Store, outcome: Outcome, variant: Variant, level: str, figure: str
) -> _Curve | None:
    """A variant's epochs that every seed with a result has finished; None: there is no result.

    A mean over the seeds that went on would flatter.
    """
    done = {s: outcome.results.get((variant.name, s)) for s in variant.replicates}
    seeds = [
        {record["epoch"]: record for record in store.curves(Cell(variant, seed))}
        for seed, result in done.items()
        if result is not None
    ]
    if not seeds:
        return None
    epochs = []
    for epoch in sorted(set.intersection(*map(set, seeds))):
        records = [seed[epoch] for seed in seeds]
        # What only an accumulator gives is not known of the epoch's batches.
        batch = [value for r in records if (value := r.get(f"batch_{figure}")) is not None]
        test = [value for r in records if (value := r[f"test_{figure}"]) is not None]
        known = any(f"batch_{figure}" in r for r in records)
        if (known and len(batch) < len(seeds)) or len(test) < len(seeds):
            break
        epochs.append(_Epoch(epoch, batch, test))
    diverged = any(r["status"] == "diverged" for r in done.values() if r is not None)
    return _Curve(level, epochs, diverged)


def _contrasts(outcome: Outcome) -> list[Picture]:
    """Contrasts in one unit share an axis: points and nats would not compare."""
    axes = dict.fromkeys(_axis(j) for j in outcome.judgements if j.mean_difference is not None)
    return [
        _contrasts_on(
            outcome, axis, f"contrasts-{axis.replace(' ', '-')}" if number else "contrasts"
        )
        for number, axis in enumerate(axes)
    ]


def _axis(judgement: Judgement) -> str:
    """What a difference is measured in: a unit or, without one, the metric that is a number."""
    of_probe = probed(judgement.metric)
    plain = of_probe[0].partition("@")[0] if of_probe else judgement.metric
    return judgement.unit or plain


def _contrasts_on(outcome: Outcome, axis: str, name: str) -> Picture:
    """Each contrast's mean difference with its interval, its words above."""
    judged = [
        (j, d)
        for j in outcome.judgements
        if (d := j.mean_difference) is not None and _axis(j) == axis
    ]
    unit, bounds = judged[0][0].unit, any(j.bound for j, _ in judged)
    with drawing():
        texts = [
            fitted(f"{minus(j.title)}, {words(j.metric)}: {j.verdict}", NARROW - 0.5, 8.0)
            for j, _ in judged
        ]
        rows = [0.36 + 0.14 * len(text.splitlines()) for text in texts]  # inches
        figure, axes = panel(height=sum(rows) + 0.6)
        shown = [-0.5, 0.5] if unit == "points" else [0.0]
        y = sum(rows)
        for (j, difference), text, row in zip(judged, texts, rows, strict=True):
            y -= row
            colour = COLOURS[0] if not j.verdict.startswith("not") else "#777777"
            if j.bound:
                ends = [-float(j.bound), float(j.bound)]
                axes.plot(ends, [y, y], color="#bbbbbb", linewidth=9, zorder=1)
                shown += ends
            if j.ci_low is not None and j.ci_high is not None:
                axes.plot([j.ci_low, j.ci_high], [y, y], color=colour, linewidth=2.2, zorder=2)
                shown += [j.ci_low, j.ci_high]
            axes.plot([difference], [y], "o", color=colour, ms=5, zorder=3)
            shown.append(difference)
            axes.text(
                0.01,
                y + 0.11,
                text,
                transform=axes.get_yaxis_transform(),
                fontsize=8,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
            )
        axes.axvline(0, color="#333333", linewidth=0.8, zorder=0.9)
        axes.set_xlim(*spread(shown, unit))
        axes.set_ylim(-0.2, sum(rows) - 0.15)
        axes.set_yticks([])
        what = "difference, first minus second" if judged[0][0].first else "slope"
        axes.set_xlabel(f"{what}{f' ({unit})' if unit else ''}")
        caption = (
            "Contrasts: mean difference of variances over pairs of seeds, without an interval."
            if {j.name for j, _ in judged} <= spreads(outcome)
            else "Contrasts: mean difference paired by seed and its 95 % interval, before Holm's"
            " correction, which decides the words"
            + ("; grey band: the bound within which two are called equal." if bounds else ".")
            + no_interval(outcome)
        )
        return picture(figure, name, caption)


def _arms(outcome: Outcome) -> Picture:
    """The variants beside the grid, with the grid's variants that they start from."""
    metric = outcome.plan.metrics[0]
    arms = _arm_variants(outcome)
    parents = [
        v
        for v in _grid_variants(outcome)
        if any(v.levels.items() <= arm.levels.items() for arm in arms)
    ]
    shown = sorted([*parents, *arms], key=lambda v: list(v.levels.values()))
    with drawing():
        names = [fitted(variant.name, 2.6) for variant in shown]
        row = 0.24 * max(len(name.splitlines()) for name in names)
        width = max(NARROW, 3.2 + max(map(text_width, names)))
        figure, axes = panel(width, 0.8 + row * len(shown))
        for y, variant in enumerate(reversed(shown)):
            colour = COLOURS[0] if variant in parents else COLOURS[1]
            for value, diverged in _figures(outcome, variant, metric):
                axes.plot(value, y, **_dot(diverged, colour))
        axes.set_yticks(range(len(shown)), reversed(names))
        axes.set_ylim(-0.6, len(shown) - 0.4)
        axes.set_xlabel(labelled(metric, outcome.plan.measures[metric]))
        all_values = [e for v in shown for e in values(outcome, v, metric)]
        axes.set_xlim(*spread(all_values, outcome.plan.measures[metric].unit))
        caption = (
            f"Arms beside the grid, final {words(metric)}: every seed a dot; blue: the grid's"
            " variant that an arm starts from."
        )
        return picture(figure, "arms", caption)


def _titled(name: str) -> str:
    text = words(name)
    return text[0].upper() + text[1:] if goal_of(name) else f"Final {text}"


def _crossed(name: str) -> str:
    return "never there, counted as one epoch more" if goal_of(name) else "diverged"


def _figures(outcome: Outcome, variant: Variant, name: str) -> list[tuple[float, bool]]:
    """Each seed's final figure, and whether it diverged or never got there; one that diverged may
    have none."""
    metric, goal = outcome.plan.measures[name], goal_of(name)
    found = [
        (value_of(r, name, metric), r["status"] == "diverged" or bool(goal and r[name] is None))
        for r in _results(outcome, variant)
    ]
    return [(value, crossed) for value, crossed in found if value is not None]


def _dots(
    axes: Any, x: float, figures: Sequence[tuple[float, bool]], colour: str, step: float
) -> None:
    """The seeds of one variant, moved aside a little: a third of the way to the next line."""
    for index, (value, diverged) in enumerate(figures):
        aside = 0.3125 * step * ((index % 5) - 2) / 2
        axes.plot(x + aside, value, **_dot(diverged, colour))


def _dot(diverged: bool, colour: str) -> dict[str, Any]:
    return {
        "marker": "x" if diverged else "o",
        "color": colour,
        "alpha": 0.55,
        "ms": 4.5,
        "mew": 1 if diverged else 0,
    }
