"""What a user writes: a question, factors, seeds, contrasts, presets. Plain frozen data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from cnnjax.core.errors import Refused
from cnnjax.core.recipe import Recipe

METRICS = ("train_error", "test_error")  # per cent, in evaluation mode over the whole split

Levels = Mapping[str, Mapping[str, Any]]  # level name -> {setting path: value}


@dataclass(frozen=True)
class Contrast:
    """Two variants compared on one metric, paired by seed: first minus second.

    Attributes:
      first: a variant's name: its level names in the order of the factors, "plain-56".
      second: another.
      metric: one of the study's metrics.
      expect: the claim, declared before the run. "lower" or "higher": the first is; tested
        one-sided. "equal": within `bound`. None: they differ, in either direction.
      bound: in points (per cent), for "equal": the 90 % interval must lie within +-bound, and
        no cell may have diverged.
    """

    first: str
    second: str
    metric: str = "test_error"
    expect: Literal["lower", "higher", "equal"] | None = None
    bound: float | int | None = None

    def __post_init__(self):
        if self.expect not in (None, "lower", "higher", "equal"):
            raise Refused(
                f"contrast {self.name}: expect={self.expect!r} is not one of 'lower', 'higher',"
                " 'equal', None"
            )
        if (self.expect == "equal") != (self.bound is not None):
            raise Refused(f"contrast {self.name}: `bound` goes with expect='equal', and only there")
        if self.bound is not None and not 0 < self.bound < 100:
            raise Refused(f"contrast {self.name}: bound={self.bound} must be above 0, in points")
        if self.first == self.second:
            raise Refused(f"contrast {self.name}: a variant is compared with itself")

    @property
    def name(self) -> str:
        return f"{self.first} - {self.second} ({self.metric})"

    @property
    def sided(self) -> str:
        return "one-sided" if self.expect in ("lower", "higher") else "two-sided"


@dataclass(frozen=True)
class Arm:
    """Variants beside the grid: `factors` crossed at the fixed levels `where`."""

    where: Mapping[str, str]
    factors: Mapping[str, Levels]
    seeds: int | None = None  # default: as many as the grid


@dataclass(frozen=True)
class Preset:
    """One size of a study.

    Attributes:
      about: one line for `study list`.
      settings: {path: value} over the base recipe.
      factors: replaces the study's levels of these factors.
      seeds: replaces the study's number of seeds.
      contrasts: replaces the study's contrasts.
      arms: variants beside the grid.
    """

    about: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    factors: Mapping[str, Levels] = field(default_factory=dict)
    seeds: int | None = None
    contrasts: tuple[Contrast, ...] | None = None
    arms: tuple[Arm, ...] = ()


@dataclass(frozen=True)
class Study:
    """A question and how it is answered.

    Attributes:
      name: short, for the command line.
      question: one sentence.
      source: the claim's paper and section.
      base: the recipe that all variants share.
      factors: {factor: {level: {setting path: value}}}; their product is the grid.
      seeds: replicates of each variant; variants are paired by seed.
      metrics: of `METRICS`; the first is the one that figures show largest.
      contrasts: what is tested; Holm's correction is over all of them.
      presets: sizes of the study; "quick" is the default.
    """

    name: str
    question: str
    source: str
    base: Recipe
    factors: Mapping[str, Levels]
    seeds: int
    metrics: tuple[str, ...]
    contrasts: tuple[Contrast, ...]
    presets: Mapping[str, Preset] = field(default_factory=lambda: {"quick": Preset()})

    def __post_init__(self):
        where = f"study {self.name}"
        _check_tuple(where, "contrasts", self.contrasts, Contrast)
        _check_tuple(where, "metrics", self.metrics, str)
        for name, preset in self.presets.items():
            if not isinstance(preset, Preset):
                raise Refused(f"{where}: preset {name!r} must be a Preset(...)")
            _check_tuple(f"{where}, preset {name!r}", "arms", preset.arms, Arm)
            if preset.contrasts is not None:
                _check_tuple(f"{where}, preset {name!r}", "contrasts", preset.contrasts, Contrast)
        if not self.factors or not all(self.factors.values()):
            raise Refused(f"{where}: it needs a factor with at least one level")
        if unknown_metrics := [m for m in self.metrics if m not in METRICS]:
            raise Refused(
                f"{where}: no metric {unknown_metrics[0]!r}; there is {' and '.join(METRICS)}"
            )
        if not self.metrics:
            raise Refused(f"{where}: it needs a metric, of {' and '.join(METRICS)}")
        if self.seeds < 1:
            raise Refused(f"{where}: seeds={self.seeds} must be 1 or more")
        if not self.presets:
            raise Refused(f"{where}: it needs a preset")


def _check_tuple(where: str, name: str, value: object, kind: type) -> None:
    """A forgotten comma makes a tuple of one into its element."""
    if not isinstance(value, tuple | list) or not all(isinstance(item, kind) for item in value):
        shown = "..." if kind is str else f"{kind.__name__}(...)"
        raise Refused(f"{where}: {name} must be a tuple of {kind.__name__}; write ({shown},)")
