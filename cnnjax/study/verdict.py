"""From results to a verdict: what was shown, what was not, and with how many seeds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cnnjax.study.cells import Plan
from cnnjax.study.measures import shown_step, step_unit, value_of, with_unit, words
from cnnjax.study.spec import Contrast
from cnnjax.study.statistics import (
    bootstrap_interval,
    holm,
    paired_effect_size,
    seeds_needed,
    sign_flip_p,
    smallest_p,
    summarize,
)
from cnnjax.tasks.task import Metric

ALPHA = 0.05


@dataclass(frozen=True)
class Judgement:
    """One contrast, judged. Differences are first minus second, in `unit`."""

    name: str
    first: str
    second: str
    metric: str
    unit: str
    expect: str | None
    bound: float | int | None
    sided: str
    n: int
    mean_difference: float | None
    ci_low: float | None
    ci_high: float | None
    ci_method: str
    ci90_low: float | None
    ci90_high: float | None
    effect_size: float | None
    p: float | None
    p_holm: float | None
    verdict: str
    sentence: str
    seeds_needed: int | None
    diverged: tuple[str, ...]  # cells that entered at the worst value, or prevent a verdict
    missing: tuple[str, ...]  # cells that are not done, and with them their pairs


def judge(plan: Plan, results: Mapping[tuple[str, int], Mapping]) -> list[Judgement]:
    """Judge every contrast of `plan`.

    Args:
      results: (variant name, seed) -> a result with "status" and the metrics, for cells that
        are done or diverged.
    """
    pairs = [_pair(plan, contrast, results) for contrast in plan.contrasts]
    raw = [_p(c, d) if d else 1.0 for c, (d, _, _) in zip(plan.contrasts, pairs, strict=True)]
    adjusted = holm(raw)
    return [
        _judge(contrast, plan.measures[contrast.metric], *pair, p, p_holm, len(plan.contrasts))
        for contrast, pair, p, p_holm in zip(plan.contrasts, pairs, raw, adjusted, strict=True)
    ]


def power_note(plan: Plan) -> str:
    """One line on what the design can show, told before it runs."""
    k = len(plan.contrasts)
    tested = [c for c in plan.contrasts if c.expect != "equal"]  # those are judged by interval
    if not tested:
        return f"{plan.seeds} seeds and no contrast with a p value: nothing is tested"
    seeds = {variant.name: variant.seeds for variant in plan.variants}
    reach = [(k * smallest_p(min(seeds[c.first], seeds[c.second]), c.sided), c) for c in tested]
    worst, contrast = max(reach, key=lambda pair: pair[0])
    n = min(seeds[contrast.first], seeds[contrast.second])
    text = (
        f"{n} paired seeds, {k} contrast{'s' * (k > 1)} (Holm): the smallest adjusted p that can be"
        f" reached is {min(1, worst):.4f} ({contrast.sided})"
    )
    if worst < ALPHA:
        return text
    needed = next(m for m in range(1, 64) if k * smallest_p(m, contrast.sided) < ALPHA)
    return f"{text}: {contrast.name} cannot be shown; {needed} seeds could"


def _pair(
    plan: Plan, contrast: Contrast, results: Mapping[tuple[str, int], Mapping]
) -> tuple[list[float], tuple[str, ...], tuple[str, ...]]:
    seeds = {variant.name: variant.seeds for variant in plan.variants}
    metric = plan.measures[contrast.metric]
    pairs, diverged, missing = [], [], []
    for seed in range(min(seeds[contrast.first], seeds[contrast.second])):
        both = [results.get((name, seed)) for name in (contrast.first, contrast.second)]
        names = [f"{name}-s{seed}" for name in (contrast.first, contrast.second)]
        missing += [name for name, result in zip(names, both, strict=True) if result is None]
        first, second = both
        if first is None or second is None:
            continue
        values = [value_of(result, contrast.metric, metric) for result in (first, second)]
        diverged += [
            name
            for name, result, value in zip(names, (first, second), values, strict=True)
            if result["status"] == "diverged" or value is None  # no number on these data, say
        ]
        if values[0] is None or values[1] is None:  # no worst value is declared
            continue
        pairs.append((values[0], values[1]))
    return _differences(pairs), tuple(diverged), tuple(missing)


def _differences(pairs: Sequence[tuple[float, float]]) -> list[float]:
    """First minus second, to nine digits of the largest value and at least nine behind the point.

    What is equal but for rounding is equal.
    """
    largest = max((abs(value) for pair in pairs for value in pair), default=0.0)
    digits = 9 if largest == 0 else max(9, 9 - math.floor(math.log10(largest)))
    return [round(first - second, digits) for first, second in pairs]


def _p(contrast: Contrast, differences: Sequence[float]) -> float:
    alternative = {"lower": "less", "higher": "greater"}.get(contrast.expect or "", "two-sided")
    return sign_flip_p(differences, alternative)


def _judge(
    contrast: Contrast,
    metric: Metric,
    differences: list[float],
    diverged: tuple[str, ...],
    missing: tuple[str, ...],
    p: float,
    p_holm: float,
    contrasts: int,
) -> Judgement:
    n = len(differences)
    summary = summarize(differences)
    narrow = bootstrap_interval(differences, 0.90)
    effect = paired_effect_size(differences)
    verdict = _verdict(contrast, step_unit(metric), differences, narrow, p_holm, contrasts)
    if contrast.expect == "equal" and diverged:  # two failures are not evidence of equality
        verdict = f"not shown with {n} seeds"
    if diverged and metric.worst is None:
        verdict = f"not judged: {words(contrast.metric)} of {diverged[0]} is no number"
    needed = None
    wanted_sign = {"lower": -1, "higher": 1}.get(contrast.expect or "", 0)
    against = effect is not None and effect * wanted_sign < 0
    if verdict.startswith("not shown") and contrast.expect != "equal" and not against:
        needed = seeds_needed(effect, contrast.sided, contrasts)
        needed = max(needed, n + 1) if needed else None
    return Judgement(
        name=contrast.name,
        first=contrast.first,
        second=contrast.second,
        metric=contrast.metric,
        unit=step_unit(metric),
        expect=contrast.expect,
        bound=contrast.bound,
        sided=contrast.sided,
        n=n,
        mean_difference=summary.mean,
        ci_low=summary.interval.low,
        ci_high=summary.interval.high,
        ci_method=summary.interval.method,
        ci90_low=narrow.low,
        ci90_high=narrow.high,
        effect_size=effect,
        p=p if n else None,
        p_holm=p_holm if n else None,
        verdict=verdict,
        sentence=_sentence(contrast, metric, summary.mean, verdict, needed, missing, diverged),
        seeds_needed=needed,
        diverged=diverged,
        missing=missing,
    )


def _verdict(contrast, unit, differences, narrow, p_holm, contrasts) -> str:
    n = len(differences)
    if n < 2:
        return f"not judged with {n} paired seed{'s' * (n != 1)}"
    if contrast.expect == "equal":
        if -contrast.bound <= narrow.low and narrow.high <= contrast.bound:
            return with_unit(f"equal within {contrast.bound:g}", unit)
        if narrow.low > contrast.bound or narrow.high < -contrast.bound:
            return "the opposite"
        return f"not shown with {n} seeds"
    if p_holm < ALPHA:
        return "shown"
    if contrast.expect is not None:
        other = "greater" if contrast.expect == "lower" else "less"
        if contrasts * sign_flip_p(differences, other) < ALPHA:
            return "the opposite"
    return f"not shown with {n} seeds"


def _sentence(contrast, metric, mean, verdict, needed, missing, diverged) -> str:
    name = words(contrast.metric)
    claim = {
        "lower": f"{contrast.first} has a lower {name} than {contrast.second}",
        "higher": f"{contrast.first} has a higher {name} than {contrast.second}",
        "equal": f"{contrast.first} and {contrast.second} have the same {name}",
        None: f"{contrast.first} and {contrast.second} differ in {name}",
    }[contrast.expect]
    text = f"{claim}: {verdict}"
    if mean is not None:
        text += f" (difference {with_unit(shown_step(metric, mean), step_unit(metric))})"
    if needed:
        text += f"; about {needed} seeds would be needed"
    if diverged and metric.worst is not None:
        text += f"; diverged, counted as {with_unit(f'{metric.worst:g}', metric.unit)}:"
        text += f" {', '.join(diverged)}"
    elif diverged:
        text += f"; diverged, or without a value: {', '.join(diverged)}"
    if missing:
        text += f"; not done: {', '.join(missing)}"
    return text + "."
