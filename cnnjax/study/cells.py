"""From a study to its cells: every variant resolved to a recipe, every cell with its identity."""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from cnnjax.core.config import (
    FORMAT,
    Assignment,
    assignment,
    canonical,
    compact,
    override_all,
)
from cnnjax.core.errors import Refused, refused_at, unknown
from cnnjax.core.recipe import Recipe, registry_of
from cnnjax.core.values import digest, plain, shown
from cnnjax.probes.registry import PROBES
from cnnjax.study.measures import Goal, goal_of, probed
from cnnjax.study.spec import (
    AnyContrast,
    Arm,
    Levels,
    Match,
    Probe,
    Study,
    Trend,
    Tune,
)
from cnnjax.tasks.task import SPLITS, Metric, aliased

MOST_CELLS = 10_000  # each is a training and a folder


@dataclass(frozen=True)
class Variant:
    """One combination of levels."""

    levels: Mapping[str, str]  # factor -> level name
    recipe: Recipe
    seeds: int
    matches: Mapping[str, Match] = field(
        default_factory=dict
    )  # settings that are still to be found
    first_seed: int = 0

    @property
    def name(self) -> str:
        return "-".join(self.levels.values())

    @property
    def replicates(self) -> range:
        """Its seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)


@dataclass(frozen=True)
class Cell:
    """One variant with one seed: one training run."""

    variant: Variant
    seed: int

    @property
    def name(self) -> str:
        return f"{self.variant.name}-s{self.seed}"

    @property
    def folder(self) -> str:
        """The name of the cell's folder; recipe and seed are in its hash."""
        recipe = compact(self.variant.recipe)
        identity = {"format": FORMAT, "recipe": recipe, "seed": self.seed}
        return f"{self.name}-{digest(identity)[:8]}"


@dataclass(frozen=True)
class Plan:
    """A study at one preset with everything resolved."""

    study: str
    question: str
    source: str
    preset: str
    base: Recipe
    factors: Mapping[str, tuple[str, ...]]
    variants: tuple[Variant, ...]
    seeds: int
    metrics: tuple[str, ...]
    measures: Mapping[str, Metric]  # what each of `metrics` is
    contrasts: tuple[AnyContrast, ...]
    probes: tuple[Probe, ...] = ()
    tune: Tune | None = None

    def weights(self, contrast: AnyContrast) -> dict[str, float]:
        """What a seed's value is of each variant: the sum of weight times metric is judged."""
        if not isinstance(contrast, Trend):
            return {contrast.first: 1.0, contrast.second: -1.0}
        levels = {
            float(variant.levels[contrast.factor]): variant.name
            for variant in self.variants
            if variant.levels[contrast.factor] in self.factors[contrast.factor]
            and {k: v for k, v in variant.levels.items() if k != contrast.factor} == contrast.where
        }
        middle = (len(levels) - 1) / 2
        spread = math.fsum((rank - middle) ** 2 for rank in range(len(levels)))
        return {levels[x]: (rank - middle) / spread for rank, x in enumerate(sorted(levels))}

    def groups(self, contrast: AnyContrast) -> list[tuple[int, ...]]:
        """The seeds that all variants of a contrast have, as they make its differences: one by
        one, of a spread two by two."""
        seeds = {variant.name: variant.seeds for variant in self.variants}
        count = min(seeds[name] for name in self.weights(contrast))
        size = contrast.seeds_each
        return [tuple(range(i, i + size)) for i in range(0, count - size + 1, size)]

    @property
    def cells(self) -> list[Cell]:
        """Seed by seed, so that a half-done study has whole replicates."""
        return [
            Cell(variant, variant.replicates[index])
            for index in range(max(variant.seeds for variant in self.variants))
            for variant in self.variants
            if index < variant.seeds
        ]

    def identity(self) -> dict[str, Any]:
        """What must not change in a study's folder: all but the number of seeds."""
        return {
            "format": FORMAT,
            "study": self.study,
            "question": self.question,
            "source": self.source,
            "preset": self.preset,
            "base": compact(self.base),
            "factors": plain(self.factors),
            "variants": {
                variant.name: {"levels": plain(variant.levels), "recipe": compact(variant.recipe)}
                for variant in self.variants
            },
            "metrics": list(self.metrics),
            "judged_by": {
                name: [metric.name, metric.unit, metric.worst]
                for name, metric in self.measures.items()
            },
            "contrasts": [plain(contrast) for contrast in self.contrasts],
            **({"probes": [plain(probe) for probe in self.probes]} if self.probes else {}),
            **({"tune": plain(self.tune)} if self.tune else {}),
        }


def resolve(
    study: Study,
    preset: str = "quick",
    *,
    data: str | None = None,
    settings: tuple[str | Assignment, ...] = (),
    seeds: int | None = None,
) -> Plan:
    """Every variant of `study` at `preset`, with a user's changes on top.

    Args:
      study: what the user wrote.
      preset: one of `study.presets`.
      data: another data set's name.
      settings: "path=value" over the base recipe; a factor's levels go on top of them.
      seeds: another number of replicates for the grid.

    Raises:
      Refused: an unknown preset, setting or contrast, or an impossible value.
    """
    if preset not in study.presets:
        raise unknown("preset", preset, study.presets)
    chosen = study.presets[preset]
    count = seeds if seeds is not None else chosen.seeds or study.seeds
    if count < 1:
        raise Refused(f"seeds={count}: must be 1 or more")
    own = _assignments(f"preset {preset}", chosen.settings)
    base = override_all(canonical(study.base), own)
    given = [assignment(one) if isinstance(one, str) else one for one in settings]
    if data is not None:
        given.append(Assignment("data.name", data, f"--data {data}"))
    base = override_all(base, given)

    for name in chosen.factors:
        if name not in study.factors:
            raise unknown(f"factor in preset {preset}:", name, study.factors)
    factors = {name: chosen.factors.get(name, levels) for name, levels in study.factors.items()}
    _check_overlap([*own, *given], factors)
    _check_size(study.name, factors, chosen.arms, count)
    variants = _grid(base, factors, count)
    for arm in chosen.arms:
        for name in arm.where:
            if name not in factors:
                raise unknown(f"factor for an arm of preset {preset}:", name, factors)
        fixed = {}
        for name, levels in factors.items():
            if name not in arm.where:
                raise Refused(f"an arm of preset {preset} fixes no level of factor {name}")
            level = arm.where[name]
            if level not in levels:
                raise unknown(f"level of {name}", level, levels)
            fixed[name] = {level: levels[level]}
        if twice := sorted(fixed.keys() & arm.factors.keys()):
            raise Refused(f"an arm of preset {preset} both fixes and varies factor {twice[0]}")
        _check_overlap([*own, *given], arm.factors)
        variants += _grid(base, {**fixed, **arm.factors}, arm.seeds or count)

    contrasts = study.contrasts if chosen.contrasts is None else chosen.contrasts
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names):
        raise Refused(f"study {study.name}: two variants have the same name; rename a level")
    twins: dict[str, str] = {}
    for variant in variants:
        settings_of = [compact(replace(variant.recipe, source="")), plain(variant.matches)]
        twin = twins.setdefault(digest(settings_of), variant.name)
        if twin != variant.name:
            raise Refused(f"study {study.name}: {twin} and {variant.name} have the same settings")
    for variant in variants:
        _check_matches(variant, {v.name: v for v in variants})
    tune = study.tune if chosen.tune is None else chosen.tune or None
    if tune is not None:
        if "epochs" in tune.settings and any(map(goal_of, (*study.metrics, tune.metric))):
            raise Refused(
                "epochs is tuned, and a metric counts epochs: it would not mean one thing"
            )
        varied = [factors, *(arm.factors for arm in chosen.arms)]
        _check_tune(tune, variants, [*own, *given], varied)
    wanted = (*study.metrics, *([tune.metric] if tune else []))
    measures = _measures(study.name, wanted, variants)
    for probe in study.probes:  # before a contrast is blamed for what is misspelt there
        PROBES.find(probe.name)
    for contrast in contrasts:
        with refused_at(f"study {study.name}: contrast {contrast.title}"):
            if isinstance(contrast, Trend):
                _check_trend(contrast, factors)
            else:
                for name in (contrast.first, contrast.second):
                    if name not in names:
                        raise unknown("variant named", name, names)
            if probed(contrast.metric) is not None:
                measures[contrast.metric] = _probe_metric(contrast.metric, study.probes)
            elif contrast.metric not in study.metrics:
                raise unknown("metric", contrast.metric, study.metrics)
            if measures[contrast.metric].unit == "%" and (contrast.bound or 0) >= 100:
                raise Refused(f"bound={contrast.bound} must be above 0 and below 100, in points")
    return Plan(
        study=study.name,
        question=study.question,
        source=study.source,
        preset=preset,
        base=base,
        factors={name: tuple(levels) for name, levels in factors.items()},
        variants=tuple(variants),
        seeds=count,
        metrics=study.metrics,
        measures=measures,
        contrasts=contrasts,
        probes=tuple(study.probes),
        tune=tune,
    )


def _measures(study: str, names: Sequence[str], variants: Sequence[Variant]) -> dict[str, Metric]:
    """What the study's metrics are; every variant's task must have each, and mean the same."""
    found: dict[str, Metric] = {}
    for recipe in {variant.recipe.task.name: variant.recipe for variant in variants}.values():
        task = registry_of(recipe.task).find(recipe.task.name).make
        declared = {metric.name: metric for metric in task.metrics}
        known = {f"{split}_{name}": m for split in SPLITS for name, m in declared.items()}
        short = [f"{split}_{name}" for split in SPLITS for name in task.aliases]
        for name in names:
            goal = goal_of(name)
            figure = goal.figure if goal else name
            metric = known.get(aliased(task.aliases, figure.replace("batch_", "train_", 1)))
            if metric is None and goal is None and ("<" in name or ">" in name):
                raise Refused(
                    f"study {study}: metric {name!r}: a goal is a figure of an epoch, <= or >=, and"
                    " a number: batch_error<=50, test_loss<=0.5"
                )
            if metric is None:
                where = f"metric of task {recipe.task.name}"
                there = [*short, *known]
                if goal:  # of an epoch
                    there = [one.replace("train_", "batch_", 1) for one in there]
                raise unknown(f"{where} (study {study})", figure, there)
            if goal:
                metric = _goal_metric(study, name, goal, metric, variants)
            if found.setdefault(name, metric) != metric:
                raise Refused(f"study {study}: {name} means different things to its tasks")
    return found


def _goal_metric(
    study: str, name: str, goal: Goal, of: Metric, variants: Sequence[Variant]
) -> Metric:
    """Epochs to a goal; a run that does not reach it counts as one epoch longer than it was.

    Args:
      of: what the goal is a value of.
    """
    sign = "<=" if of.better == "lower" else ">="
    if goal.sign != sign:
        raise Refused(
            f"study {study}: {name}: {goal.figure} is better {of.better}: write"
            f" {goal.figure}{sign}{goal.value:g}"
        )
    if of.worst is not None and (goal.value - of.worst) * (1 if sign == "<=" else -1) >= 0:
        raise Refused(
            f"study {study}: {name}: the worst value is {of.worst:g}, so every run is there at once"
        )
    if any(variant.recipe.steps is not None for variant in variants):
        raise Refused(f"study {study}: {name} counts epochs, and `steps` ends a run between them")
    lengths = sorted({variant.recipe.epochs for variant in variants})
    if len(lengths) > 1:
        raise Refused(
            f"study {study}: {name} counts epochs, and runs have {lengths[0]} to {lengths[-1]}:"
            " what never gets there must count alike"
        )
    worst = lengths[0] + 1
    return Metric(name, "epochs", "lower", f"never counts as {worst}", worst=float(worst))


def _check_matches(variant: Variant, variants: Mapping[str, Variant]) -> None:
    """Refuse to look for what is no real number, or for the cost of what is unknown itself."""
    with refused_at(f"variant {variant.name}"):
        if len(variant.matches) > 1:
            raise Refused(f"{' and '.join(variant.matches)} are both matched; match one setting")
        for path, match in variant.matches.items():
            override_all(variant.recipe, tried(path, 1.5))  # a setting, and a real number
            if match.variant not in variants:
                raise unknown("variant named", match.variant, variants)
            if variants[match.variant].matches:
                raise Refused(f"{match.variant}, whose {match.cost} are wanted, is matched itself")


def _check_tune(
    tune: Tune,
    variants: Sequence[Variant],
    given: Sequence[Assignment],
    factors: Iterable[Mapping[str, Levels]],
) -> None:
    """Refuse to tune what a variant or a user has set, or values that are none."""
    varied = list(factors)
    for path, values in tune.settings.items():
        for each in given:
            if each.path == path:
                raise Refused(f"{each.given}: {path} is tuned, so it cannot be given")
        for name, levels in (item for some in varied for item in some.items()):
            for level, own in levels.items():
                if path in own:
                    raise Refused(f"{path} is tuned, and level {level} of factor {name} sets it")
        for variant in variants:
            if variant.matches and path.startswith("model."):
                raise Refused(f"{path} is tuned, and {variant.name} is matched: it would not hold")
            for value in values:
                override_all(variant.recipe, tried(path, value))
    if any(variant.recipe.data.validation_share for variant in variants):
        raise Refused("data.validation_share: what is tuned has a validation part of its own")


def tried(path: str, value: Any) -> list[Assignment]:
    """A value that is tried, as an assignment."""
    return [Assignment(path, plain(value), f"{path}={shown(plain(value))}")]


def _probe_metric(name: str, probes: tuple[Probe, ...]) -> Metric:
    """What a probe sees, as a metric. Whether it has such a layer is seen when it is traced."""
    moment, _ = probed(name) or ("", "")
    known = [one for probe in probes for one in probe.moments]
    if moment not in known:
        raise unknown("moment of a probe", moment, known, "declare it: probes=(Probe(...),)")
    return Metric(name, "", "lower", f"what the probe {moment.rpartition('@')[0]} sees")


def _check_trend(trend: Trend, factors: Mapping[str, Levels]) -> None:
    """Refuse a slope over what are not three numbers or more, or at levels that are not said."""
    if trend.factor not in factors:
        raise unknown("factor", trend.factor, factors)
    for name, level in trend.where.items():
        if name not in factors or name == trend.factor:
            raise unknown("factor in `where`:", name, [f for f in factors if f != trend.factor])
        if level not in factors[name]:
            raise unknown(f"level of {name}", level, factors[name])
    if open_ := [name for name in factors if name not in {trend.factor, *trend.where}]:
        raise Refused(f'say at which level of {open_[0]}: where={{"{open_[0]}": ...}}')
    levels = list(factors[trend.factor])
    for level in levels:
        try:
            number = float(level)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise Refused(
                f"level {level} of factor {trend.factor} is no number: a slope needs levels that"
                " are; compare two variants with Contrast(...)"
            )
    if len({float(level) for level in levels}) < 3:
        raise Refused(
            f"a slope needs three levels of factor {trend.factor} or more; compare two variants"
            " with Contrast(...)"
        )


def _grid(base: Recipe, factors: Mapping[str, Levels], seeds: int) -> list[Variant]:
    _check_once(factors)
    variants = []
    for combination in itertools.product(*(levels.items() for levels in factors.values())):
        names = dict(zip(factors, (level for level, _ in combination), strict=True))
        own = {path: value for _, settings in combination for path, value in settings.items()}
        where = f"variant {'-'.join(names.values())}"
        matches = {path: value for path, value in own.items() if isinstance(value, Match)}
        recipe = override_all(
            base, _assignments(where, {p: v for p, v in own.items() if p not in matches})
        )
        variants.append(Variant(names, recipe, seeds, matches))
    return variants


def _assignments(where: str, settings: Mapping[str, Any]) -> list[Assignment]:
    return [
        Assignment(path, plain(value), f"{where}: {path}={shown(plain(value))}", where)
        for path, value in settings.items()
    ]


def _check_size(
    name: str, factors: Mapping[str, Levels], arms: tuple[Arm, ...], seeds: int
) -> None:
    """Refuse a plan that could not be stored, let alone run, before any of it is made."""
    cells = seeds * math.prod(len(levels) for levels in factors.values())
    for arm in arms:
        cells += (arm.seeds or seeds) * math.prod(len(levels) for levels in arm.factors.values())
    if cells > MOST_CELLS:
        raise Refused(
            f"study {name}: {cells:,} cells, a training each; a study has {MOST_CELLS:,} at most:"
            " fewer seeds or levels"
        )


def _check_once(factors: Mapping[str, Levels]) -> None:
    """Of two factors that vary one setting the first would do nothing without a word."""
    owners: dict[str, str] = {}
    for name, levels in factors.items():
        for path in {path for settings in levels.values() for path in settings}:
            if owners.setdefault(path, name) != name:
                raise Refused(f"factors {owners[path]} and {name} both vary {path}")


def _check_overlap(given: list[Assignment], factors: Mapping[str, Levels]) -> None:
    """A setting that every level overwrites, or some take away, would be lost without a word.

    A name brings settings of its own, so it overwrites those of another.
    """
    for each in given:
        group = each.path.partition(".")[0]
        path = f"{group}.name" if group in ("model", "task", "optimizer") else each.path
        for name, levels in factors.items():
            if all(level.keys() & {path, each.path} for level in levels.values()):
                raise Refused(f"{each.given}: {each.path} is varied by factor {name}")
            lost = [
                key
                for key, level in levels.items()
                if (path in level and each.path not in level)
                or (group in level and group != each.path)
            ]
            if lost:
                raise Refused(
                    f"{each.given} would not hold where {name} is {lost[0]}, which sets all"
                    f" of {group}; write {each.path} into its level"
                )
