"""Each variant's own best settings, found before it is judged: a study in the study's folder."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cnnjax.core.config import override_all
from cnnjax.core.errors import Failed
from cnnjax.core.values import plain
from cnnjax.study.cells import Plan, Variant, tried
from cnnjax.study.measures import value_of
from cnnjax.study.outcome import Outcome

TUNING = "tuning"  # the folder of the trials
FIRST_SEED = 1000  # seeds from here on are not judged


@dataclass(frozen=True)
class Choice:
    """What a variant found.

    Attributes:
      values: by setting the best one.
      trials: the mean metric of each combination of values, in the order of `tune.settings`;
        None: it has no number.
      edges: settings whose best value is the first or the last that was tried.
    """

    variant: str
    values: Mapping[str, Any]
    trials: Sequence[tuple[Mapping[str, Any], float | None]]
    edges: tuple[str, ...]

    @property
    def warning(self) -> str:
        """A sentence where a best value lies at the edge; ""."""
        if not self.edges:
            return ""
        where = ", ".join(f"{path} = {self.values[path]}" for path in self.edges)
        return f"{self.variant}: the best {where} is at the edge of what was tried."


def tuning_plan(plan: Plan) -> Plan:
    """The trials: every variant with every value, on held-out training images."""
    tune = plan.tune
    assert tune is not None
    short = {path: path.rpartition(".")[2] for path in tune.settings}
    taken = [*short.values(), *(factor for v in plan.variants for factor in set(v.levels))]
    if len(set(short.values())) < len(short) or any(taken.count(n) > 1 for n in short.values()):
        short = {path: path for path in tune.settings}
    variants = []
    for variant in plan.variants:
        for values in _combinations(tune.settings):
            levels = {short[path]: f"{value}" for path, value in values.items()}
            held = tried("data.validation_share", tune.validation_share)
            own = [one for path, value in values.items() for one in tried(path, value)]
            recipe = override_all(variant.recipe, [*own, *held])
            variants.append(
                Variant({**variant.levels, **levels}, recipe, tune.seeds, first_seed=FIRST_SEED)
            )
    settings = " and ".join(tune.settings)
    factors = {short[path]: tuple(map(str, values)) for path, values in tune.settings.items()}
    return replace(
        plan,
        question=f"Which {settings} is best for each variant, on held-out training images?",
        factors={**plan.factors, **factors},
        variants=tuple(variants),
        seeds=tune.seeds,
        metrics=(tune.metric,),
        measures={tune.metric: plan.measures[tune.metric]},
        contrasts=(),
        probes=(),
        tune=None,
    )


def choices(plan: Plan, trials: Outcome) -> list[Choice]:
    """What each variant of `plan` found in its trials; of equal ones the first.

    Raises:
      Failed: a trial has no result.
    """
    tune = plan.tune
    assert tune is not None
    if trials.missing:
        raise Failed(
            f"{trials.folder}: {len(trials.missing)} trials failed, {trials.missing[0].name} first;"
            f" see: cnnjax study status {trials.folder}"
        )
    metric = plan.measures[tune.metric]
    tried_variants = iter(tuning_plan(plan).variants)
    found = []
    for variant in plan.variants:
        means: list[tuple[Mapping[str, Any], float | None]] = []
        for values in _combinations(tune.settings):
            trial = next(tried_variants)
            results = [trials.results[trial.name, seed] for seed in trial.replicates]
            figures = [value_of(result, tune.metric, metric) for result in results]
            known = [figure for figure in figures if figure is not None]
            whole = len(known) == len(figures)
            means.append((values, math.fsum(known) / len(known) if whole else None))
        sign = 1 if metric.better == "lower" else -1
        ranked = [(sign * mean, values) for values, mean in means if mean is not None]
        if not ranked:
            raise Failed(f"{variant.name}: no value of {', '.join(tune.settings)} gives a number")
        best = min(ranked, key=lambda pair: pair[0])[1]
        edges = tuple(
            path for path, values in tune.settings.items() if best[path] in (values[0], values[-1])
        )
        found.append(Choice(variant.name, best, means, edges))
    return found


def with_choices(plan: Plan, found: Sequence[Choice]) -> Plan:
    """The plan in which each variant has what it found."""
    variants = [
        replace(
            variant,
            recipe=override_all(
                variant.recipe,
                [one for path, value in choice.values.items() for one in tried(path, value)],
            ),
        )
        for variant, choice in zip(plan.variants, found, strict=True)
    ]
    return replace(plan, variants=tuple(variants))


def as_notes(found: Sequence[Choice]) -> list[dict[str, Any]]:
    """For study.json."""
    return [
        {
            "variant": choice.variant,
            "values": plain(choice.values),
            "trials": [{"values": plain(values), "mean": mean} for values, mean in choice.trials],
            "edges": list(choice.edges),
            "warning": choice.warning,
        }
        for choice in found
    ]


def _combinations(settings: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    return [
        dict(zip(settings, values, strict=True)) for values in itertools.product(*settings.values())
    ]
