"""From a study to its cells: every variant resolved to a recipe, every cell with its identity."""

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cnnjax.core.config import digest, override, override_text, plain
from cnnjax.core.errors import Refused, unknown
from cnnjax.core.recipe import Recipe
from cnnjax.study.spec import Contrast, Levels, Study

_LEVEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._]{0,40}")


@dataclass(frozen=True)
class Variant:
    """One combination of levels."""

    levels: Mapping[str, str]  # factor -> level name
    recipe: Recipe
    seeds: int

    @property
    def name(self) -> str:
        return "-".join(self.levels.values())


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
        identity = {"recipe": plain(self.variant.recipe), "seed": self.seed}
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
    contrasts: tuple[Contrast, ...]

    @property
    def cells(self) -> list[Cell]:
        """Seed by seed, so that a half-done study has whole replicates."""
        return [
            Cell(variant, seed)
            for seed in range(max(variant.seeds for variant in self.variants))
            for variant in self.variants
            if seed < variant.seeds
        ]

    def identity(self) -> dict[str, Any]:
        """What must not change in a study's folder: all but the number of seeds."""
        return {
            "study": self.study,
            "question": self.question,
            "source": self.source,
            "preset": self.preset,
            "base": plain(self.base),
            "factors": plain(self.factors),
            "variants": {
                variant.name: {"levels": plain(variant.levels), "recipe": plain(variant.recipe)}
                for variant in self.variants
            },
            "metrics": list(self.metrics),
            "contrasts": [plain(contrast) for contrast in self.contrasts],
        }


def resolve(
    study: Study,
    preset: str = "quick",
    *,
    data: str | None = None,
    settings: tuple[str, ...] = (),
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
    base = study.base
    for path, value in chosen.settings.items():
        base = override(base, path, plain(value))
    if data is not None:
        base = override(base, "data.name", data)
    for assignment in settings:
        base = override_text(base, assignment)

    for name in chosen.factors:
        if name not in study.factors:
            raise unknown(f"factor in preset {preset}:", name, study.factors)
    factors = {name: chosen.factors.get(name, levels) for name, levels in study.factors.items()}
    _check_overlap(settings, factors)
    variants = _grid(base, factors, count)
    for arm in chosen.arms:
        fixed = {}
        for name, levels in factors.items():
            if name not in arm.where:
                raise Refused(f"an arm of preset {preset} fixes no level of factor {name}")
            level = arm.where[name]
            if level not in levels:
                raise unknown(f"level of {name}", level, levels)
            fixed[name] = {level: levels[level]}
        variants += _grid(base, {**fixed, **arm.factors}, arm.seeds or count)

    contrasts = study.contrasts if chosen.contrasts is None else chosen.contrasts
    names = [variant.name for variant in variants]
    if len(set(names)) < len(names):
        raise Refused(f"study {study.name}: two variants have the same name; rename a level")
    twins: dict[str, str] = {}
    for variant in variants:
        twin = twins.setdefault(digest(variant.recipe), variant.name)
        if twin != variant.name:
            raise Refused(f"study {study.name}: {twin} and {variant.name} have the same settings")
    for contrast in contrasts:
        for name in (contrast.first, contrast.second):
            if name not in names:
                raise unknown(f"variant of study {study.name} named", name, names)
        if contrast.metric not in study.metrics:
            raise unknown("metric", contrast.metric, study.metrics)
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
        contrasts=contrasts,
    )


def _grid(base: Recipe, factors: Mapping[str, Levels], seeds: int) -> list[Variant]:
    variants = []
    for combination in itertools.product(*(levels.items() for levels in factors.values())):
        recipe = base
        for level, settings in combination:
            if not _LEVEL.fullmatch(level):
                raise Refused(f"level {level!r}: use letters, digits, . and _ in level names")
            for path, value in settings.items():
                recipe = override(recipe, path, plain(value))
        levels = dict(zip(factors, (level for level, _ in combination), strict=True))
        variants.append(Variant(levels, recipe, seeds))
    return variants


def _check_overlap(settings: tuple[str, ...], factors: Mapping[str, Levels]) -> None:
    """A --set that every level overwrites would do nothing without a word."""
    for assignment in settings:
        path = assignment.partition("=")[0].strip()
        for name, levels in factors.items():
            if all(path in level for level in levels.values()):
                raise Refused(f"--set {assignment}: {path} is varied by factor {name}")
