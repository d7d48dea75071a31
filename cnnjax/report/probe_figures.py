"""What probes saw: over the depth of a network, or one number over the run."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import NullFormatter

from cnnjax.report.canvas import (
    COLOURS,
    HEIGHT,
    NARROW,
    Picture,
    drawing,
    legend_below,
    looks,
    panel,
    picture,
)
from cnnjax.study.cells import Variant
from cnnjax.study.measures import words
from cnnjax.study.outcome import Outcome

_LOGARITHMIC = 20.0  # values that span more than this are drawn on such a scale

Seen = list[tuple[str, Any]]  # of each variant what its seeds saw


def probe_pictures(outcome: Outcome) -> list[Picture]:
    """A panel for each moment of a probe that tells of layers, one for each that gives a number."""
    drawn = []
    for probe in outcome.plan.probes:
        by_moment = {moment: _seen(outcome, moment) for moment in probe.moments}
        by_moment = {moment: seen for moment, seen in by_moment.items() if seen}
        of_layers = [
            moment
            for moment, seen in by_moment.items()
            if any(isinstance(value, Mapping) for _, values in seen for value in values)
        ]
        every = [_means(values) for moment in of_layers for _, values in by_moment[moment]]
        limits = _limits([value for means in every for value in means.values()])
        drawn += [_over_depth(moment, by_moment[moment], limits) for moment in of_layers]
        numbers = {m: seen for m, seen in by_moment.items() if m not in of_layers}
        if numbers:
            drawn.append(_over_the_run(probe.label, numbers, outcome.plan.variants))
    return drawn


def _seen(outcome: Outcome, moment: str) -> Seen:
    """Of each variant what its seeds saw, without those that diverged before."""
    found = []
    for variant in outcome.plan.variants:
        results = [outcome.results.get((variant.name, s)) for s in variant.replicates]
        values = [r["probes"].get(moment) for r in results if r is not None and "probes" in r]
        values = [value for value in values if value is not None]
        if values:
            found.append((variant.name, values))
    return found


def _means(values: Sequence[Mapping[str, float | None]]) -> dict[str, float]:
    """The mean of each layer over the seeds that have a number."""
    means = {}
    for layer in values[0]:
        numbers = [number for one in values if (number := one.get(layer)) is not None]
        if numbers:
            means[layer] = statistics.fmean(numbers)
    return means


def _limits(values: Sequence[float]) -> tuple[str, tuple[float, float]]:
    """Scale and ends of an axis that all moments of a probe share."""
    if not values:
        return "linear", (0.0, 1.0)
    low, high = min(values), max(values)
    if low > 0 and high / low > _LOGARITHMIC:
        return "log", (low / 1.5, high * 1.5)
    margin = 0.05 * (high - low) or 0.5
    return "linear", (min(0.0, low - margin) if low < 0 else 0.0, high + margin)


def _over_depth(moment: str, seen: Seen, limits: tuple[str, tuple[float, float]]) -> Picture:
    """A line for each variant, from the first layer to the last: the mean over seeds and their
    range."""
    scale, ends = limits
    with drawing():
        crowded = len(seen) > len(COLOURS)
        figure, axes = panel(*((1.4 * NARROW, 1.4 * HEIGHT) if crowded else (NARROW, HEIGHT)))
        lines = list(zip(seen, looks(len(seen)), strict=True))
        alike = len({len(_means(values)) for _, values in seen}) == 1
        for (_, values), look in lines:
            means = _means(values)
            count = max(1, len(means) - 1)
            x = [index if alike else index / count for index in range(len(means))]
            axes.plot(x, list(means.values()), color=look.colour, linewidth=1.8, clip_on=False,
                      marker=look.marker or None, ms=3.5)  # fmt: skip
            rows = [[v for one in values if (v := one.get(layer)) is not None] for layer in means]
            axes.fill_between(x, list(map(min, rows)), list(map(max, rows)), color=look.colour,
                              alpha=0.05 if crowded else 0.12, linewidth=0)  # fmt: skip
        axes.set_yscale(scale)
        axes.set_ylim(*ends)
        if scale == "log":
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
        place = "layer" if alike else "share of the layers"
        axes.set_xlabel(f"{place}, from the image on")
        axes.set_ylabel(moment.partition("@")[0].replace("_", " "))
        axes.set_title(words(moment), fontsize=10)
        legend_below(figure, "", [(name, look) for (name, _), look in lines])
        first = next(iter(_means(seen[0][1])), "")
        caption = (
            f"{words(moment)[:1].upper()}{words(moment)[1:]}, from the layer {first} on the left to"
            " the last one on the right. Line: mean over seeds; band: all seeds."
        )
        return picture(figure, f"probe-{moment.replace('@', '-at-')}", caption)


def _over_the_run(label: str, numbers: Mapping[str, Seen], variants: Sequence[Variant]) -> Picture:
    """A line for each variant over the moments."""
    with drawing():
        figure, axes = panel()
        lines = list(zip((v.name for v in variants), looks(len(variants)), strict=True))
        lines = [
            one for one in lines if any(one[0] == n for seen in numbers.values() for n, _ in seen)
        ]
        for name, look in lines:
            at, rows = [], []
            for index, seen in enumerate(numbers.values()):
                values = dict(seen).get(name)
                if values:
                    at.append(index)
                    rows.append(values)
            axes.plot(at, list(map(statistics.fmean, rows)), color=look.colour, linewidth=1.8,
                      marker=look.marker or "o", ms=4)  # fmt: skip
            axes.fill_between(at, list(map(min, rows)), list(map(max, rows)), color=look.colour,
                              alpha=0.12, linewidth=0)  # fmt: skip
            if len(at) == 1:  # no band: every seed a dot
                axes.plot(at * len(rows[0]), rows[0], "o", color=look.colour, ms=4, alpha=0.4)
        shares = [100 * float(moment.rpartition("@")[2]) for moment in numbers]
        axes.set_xticks(range(len(shares)), [f"{share:g} %" for share in shares])
        axes.set_xlabel("share of the run")
        axes.set_ylabel(label.replace("_", " "))
        legend_below(figure, "", lines)
        name = label.replace("_", " ")
        caption = (
            f"{name[:1].upper()}{name[1:]} over the run. Line: mean over seeds; band: all seeds."
            if len(numbers) > 1
            else f"{name[:1].upper()}{name[1:]}: mean and, paler, every seed."
        )
        return picture(figure, f"probe-{label}", caption)
