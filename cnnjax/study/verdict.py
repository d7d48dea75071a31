"""From results to a verdict: what was shown, what was not, and with how many seeds.

A contrast may be judged in more than one way: as declared, or as the opposite. Each such statement
is a hypothesis with an exact one-sided p value, and Holm's correction is over all statements that
a study could make, so that any false one is made in at most 5 % of studies.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnnjax.core.words import counted
from cnnjax.study.cells import Plan
from cnnjax.study.measures import goal_of, probed, shown_step, step_unit, value_of, with_unit, words
from cnnjax.study.spec import AnyContrast, Spread, Trend
from cnnjax.study.statistics import (
    Interval,
    SignFlips,
    holm,
    paired_effect_size,
    seeds_needed,
)
from cnnjax.tasks.task import Metric

ALPHA = 0.05


@dataclass(frozen=True)
class Statement:
    """What could be said of a contrast, and the one-sided p value of its being false."""

    verdict: str
    p: float


@dataclass(frozen=True)
class Judgement:
    """One contrast, judged. Differences are first minus second, or a trend's slopes, in `unit`.

    Attributes:
      first, second: the variants; None: of a trend.
      ci_low, ci_high: 95 % interval; None: too few seeds.
      p: two-sided, at most .05 just where the interval leaves out 0. Where an equality was
        declared, one-sided: of the equality, the larger of its two, at most .025 just where the
        interval lies within the bound; or of its opposite, where that is the verdict.
      p_holm: of the same statement after Holm's correction over all that the study could make.
      diverged: cells that entered at the worst value, as they diverged or never reached a goal.
      unknown: cells that have no value, diverged without a worst one or not measured: they prevent
        a verdict.
      missing: cells that are not done, and with them their seeds.
    """

    name: str
    title: str
    first: str | None
    second: str | None
    metric: str
    unit: str
    expect: str | None
    bound: float | int | None
    n: int
    mean_difference: float | None
    ci_low: float | None
    ci_high: float | None
    effect_size: float | None
    p: float | None
    p_holm: float | None
    verdict: str
    sentence: str
    seeds_needed: int | None
    diverged: tuple[str, ...]
    unknown: tuple[str, ...]
    missing: tuple[str, ...]


@dataclass(frozen=True)
class _Evidence:
    """A contrast with what the cells say of it: a difference for each seed that has all values.

    Attributes:
      diverged: cells that enter at the worst value.
      unknown: cells without a value.
      missing: cells that are not done.
    """

    contrast: AnyContrast
    metric: Metric
    flips: SignFlips
    diverged: tuple[str, ...]
    unknown: tuple[str, ...]
    missing: tuple[str, ...]

    @property
    def n(self) -> int:
        return len(self.flips.values)

    @property
    def judged(self) -> bool:
        # Cells at one worst value do not scatter, and tell nothing of how far seeds do.
        alike = bool(self.diverged) and isinstance(self.contrast, Spread)
        return self.n > 1 and not self.unknown and not alike

    @property
    def interval(self) -> Interval:
        """Of a spread none: where variances differ, the differences of squares are skewed."""
        if isinstance(self.contrast, Spread):
            return Interval(None, None)
        return self.flips.interval()

    def statements(self) -> list[Statement]:
        """All that could be said of it."""
        contrast, flips = self.contrast, self.flips
        if contrast.expect == "equal":
            bound = float(contrast.bound or 0)
            equal = with_unit(f"equal within {contrast.bound:g}", step_unit(self.metric))
            # Two failures are not evidence of equality.
            within = 1.0 if self.diverged else max(flips.p_below(bound), flips.p_above(-bound))
            found = [(equal, within), ("the opposite", flips.p_above(bound)),
                     ("the opposite", flips.p_below(-bound))]  # fmt: skip
        else:
            declared = {"lower": ("shown", "the opposite"), "higher": ("the opposite", "shown")}
            below, above = declared.get(contrast.expect or "", ("shown", "shown"))
            found = [(below, flips.p_below()), (above, flips.p_above())]
        return [Statement(verdict, p if self.judged else 1.0) for verdict, p in found]


def judge(plan: Plan, results: Mapping[tuple[str, int], Mapping]) -> list[Judgement]:
    """Judge every contrast of `plan`.

    Args:
      results: (variant name, seed) -> a result with "status" and the metrics, for cells that
        are done or diverged.
    """
    found = [_evidence(plan, contrast, results) for contrast in plan.contrasts]
    stated = [evidence.statements() for evidence in found]
    adjusted = iter(holm([statement.p for own in stated for statement in own]))
    level = ALPHA / max(1, statements_of(plan))
    judgements = []
    for evidence, own in zip(found, stated, strict=True):
        each = [(statement, next(adjusted)) for statement in own]
        # Of an equality that was not refuted it is the equality that is told of.
        first = evidence.contrast.expect == "equal" and min(p for _, p in each) >= ALPHA
        told, p_holm = each[0] if first else min(each, key=lambda pair: (pair[1], pair[0].p))
        judgements.append(_judge(evidence, told, p_holm, level))
    return judgements


def statements_of(plan: Plan) -> int:
    """How many statements a study could make: of an equality three, of another contrast two."""
    return sum(3 if contrast.expect == "equal" else 2 for contrast in plan.contrasts)


def _evidence(
    plan: Plan, contrast: AnyContrast, results: Mapping[tuple[str, int], Mapping]
) -> _Evidence:
    weights, metric = plan.weights(contrast), plan.measures[contrast.metric]
    rows, diverged, unknown, missing = [], [], [], []
    for seeds in plan.groups(contrast):
        keys = [(name, seed) for name in weights for seed in seeds]
        found = {key: results[key] for key in keys if key in results}
        missing += [f"{name}-s{seed}" for name, seed in keys if (name, seed) not in found]
        if len(found) < len(keys):
            continue
        values = {key: value_of(found[key], contrast.metric, metric) for key in keys}
        known = {key: value for key, value in values.items() if value is not None}
        unknown += [f"{name}-s{seed}" for name, seed in keys if (name, seed) not in known]
        diverged += [
            f"{name}-s{seed}"
            for name, seed in known
            if _is_worst(found[name, seed], contrast.metric)
        ]
        if len(known) == len(keys):
            rows.append([_of_seeds([known[name, seed] for seed in seeds]) for name in weights])
    flips = SignFlips(_differences(rows, list(weights.values())))
    return _Evidence(contrast, metric, flips, tuple(diverged), tuple(unknown), tuple(missing))


def _is_worst(result: Mapping, name: str) -> bool:
    """Whether a cell has a value that is not its own: it diverged, or never reached a goal. What a
    probe saw before, it saw."""
    if probed(name) is not None:
        return False
    return result["status"] == "diverged" or result.get(name) is None


def _of_seeds(values: Sequence[float]) -> float:
    """A seed's value; of two seeds, the variance that they tell of."""
    if len(values) == 1:
        return values[0]
    one, other = values
    return (one - other) ** 2 / 2


def _differences(rows: Sequence[Sequence[float]], weights: Sequence[float]) -> list[float]:
    """Each seed's weighted sum, to nine digits of the largest value, or nine behind the point.

    What is equal but for rounding is equal.
    """
    largest = max((abs(value) for row in rows for value in row), default=0.0)
    digits = 9 if largest == 0 else max(9, 9 - math.floor(math.log10(largest)))
    return [
        round(math.fsum(w * v for w, v in zip(weights, row, strict=True)), digits) for row in rows
    ]


def _judge(evidence: _Evidence, told: Statement, p_holm: float, level: float) -> Judgement:
    """`told`: of what could be said of it the likeliest."""
    contrast, metric, n = evidence.contrast, evidence.metric, evidence.n
    differences, interval = evidence.flips.values, evidence.interval
    mean = math.fsum(differences) / n if n else None
    effect = paired_effect_size(differences)
    if evidence.unknown:
        verdict = f"not judged: {words(contrast.metric)} of {evidence.unknown[0]} is no number"
    elif n < 2:
        pairs = counted(n, "pair" if isinstance(contrast, Spread) else "paired seed")
        of_seeds = " of seeds" if isinstance(contrast, Spread) else ""
        verdict = f"not judged with {pairs}{of_seeds}"
    elif not evidence.judged:
        of = evidence.diverged[0]
        verdict = (
            f"not judged: {words(contrast.metric)} of {of} is the worst, which tells no spread"
        )
    else:
        shown = p_holm < ALPHA
        verdict = told.verdict if shown else f"not shown with {n} {_counted_in(contrast)}"
    p = told.p if contrast.expect == "equal" else min(1.0, 2 * told.p)
    wanted_sign = {"lower": -1, "higher": 1}.get(contrast.expect or "", 0)
    against = effect is not None and effect * wanted_sign < 0
    needed = None
    if verdict.startswith("not shown") and contrast.expect != "equal" and not against:
        needed = seeds_needed(effect, level)
        needed = max(needed, n + 1) if needed else None
    return Judgement(
        name=contrast.name,
        title=contrast.title,
        first=None if isinstance(contrast, Trend) else contrast.first,
        second=None if isinstance(contrast, Trend) else contrast.second,
        metric=contrast.metric,
        unit=_unit(contrast, metric),
        expect=contrast.expect,
        bound=contrast.bound,
        n=n,
        mean_difference=mean,
        ci_low=interval.low,
        ci_high=interval.high,
        effect_size=effect,
        p=p if evidence.judged else None,
        p_holm=p_holm if evidence.judged else None,
        verdict=verdict,
        sentence=_sentence(evidence, mean, verdict, needed),
        seeds_needed=needed,
        diverged=evidence.diverged,
        unknown=evidence.unknown,
        missing=evidence.missing,
    )


def _counted_in(contrast: AnyContrast) -> str:
    return "pairs of seeds" if isinstance(contrast, Spread) else "seeds"


def _unit(contrast: AnyContrast, metric: Metric) -> str:
    """Of a difference; of a slope, from a level to the next; of a variance, squared."""
    unit = step_unit(metric)
    if isinstance(contrast, Trend):
        return f"{unit} per level".strip()
    return f"{unit}²" if isinstance(contrast, Spread) and unit else unit


def _sentence(evidence: _Evidence, mean: float | None, verdict: str, needed: int | None) -> str:
    contrast, metric = evidence.contrast, evidence.metric
    text = f"{_claim(contrast)}: {verdict}"
    if mean is not None:
        what = {Trend: "slope", Spread: "difference of variances"}.get(type(contrast), "difference")
        text += f" ({what} {with_unit(shown_step(metric, mean), _unit(contrast, metric))})"
    if needed:
        text += f"; about {needed} {_counted_in(contrast)} would be needed"
    if evidence.diverged:
        what = "never there" if goal_of(contrast.metric) else "diverged"
        text += f"; {what}, counted as {with_unit(f'{metric.worst:g}', metric.unit)}:"
        text += f" {', '.join(evidence.diverged)}"
    if evidence.unknown:
        text += f"; diverged or not measured: {', '.join(evidence.unknown)}"
    if evidence.missing:
        text += f"; not done: {', '.join(evidence.missing)}"
    return text + "."


def _claim(contrast: AnyContrast) -> str:
    """What is judged, in words."""
    name = words(contrast.metric)
    if isinstance(contrast, Trend):
        verb = {"lower": "falls", "higher": "rises"}.get(contrast.expect or "", "changes")
        of = f" of {', '.join(contrast.where.values())}" if contrast.where else ""
        return f"{name}{of} {verb} with {contrast.factor}"
    first, second = contrast.first, contrast.second
    if isinstance(contrast, Spread):
        verb = {"lower": "scatters less than", "higher": "scatters more than"}
        how = verb.get(contrast.expect or "")
        return (
            f"{first} {how} {second} in {name}"
            if how
            else (f"{first} and {second} scatter differently in {name}")
        )
    fewer = {"lower": "fewer", "higher": "more"}.get(contrast.expect or "")
    if fewer and goal_of(contrast.metric):
        return f"{first} needs {fewer} {name} than {second}"
    return {
        "lower": f"{first} has a lower {name} than {second}",
        "higher": f"{first} has a higher {name} than {second}",
        "equal": f"{first} and {second} have the same {name}",
    }.get(contrast.expect or "", f"{first} and {second} differ in {name}")
