"""What a user writes: a question, factors, seeds, contrasts, presets. Plain frozen data.

Every value is looked at here, so that what a file has wrong is said in its own words.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, get_args

from cnnjax.core.errors import Refused
from cnnjax.core.recipe import SEEDS, Recipe

Levels = Mapping[str, Mapping[str, Any]]  # level name -> {setting path: value}

# Names become folders, columns and words of a command.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._]{0,40}")
_STUDY_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,80}")


Expect = Literal["lower", "higher", "equal"] | None


@dataclass(frozen=True)
class Contrast:
    """Two variants compared on one metric, paired by seed: first minus second.

    Attributes:
      first: a variant's name: its level names in the order of the factors, "plain-56".
      second: another.
      metric: one of the study's metrics.
      expect: the claim, declared before the run. "lower" or "higher": the first is. "equal": within
        `bound`. None: they differ, in either direction.
      bound: in the metric's unit (points, where it is per cent), for "equal": the difference must
        be shown to lie within +-bound, and no cell may have diverged.
    """

    first: str
    second: str
    metric: str = "test_error"
    expect: Expect = None
    bound: float | int | None = None

    seeds_each: ClassVar[int] = 1  # of which a difference is made

    def __post_init__(self):
        for name in ("first", "second", "metric"):
            _check_type("a contrast", name, getattr(self, name), str)
        _check_expected(self, ("lower", "higher", "equal"))
        if (self.expect == "equal") != (self.bound is not None):
            raise Refused(f"contrast {self.name}: `bound` goes with expect='equal', and only there")
        number = isinstance(self.bound, int | float) and not isinstance(self.bound, bool)
        if self.bound is not None and not (number and 0 < self.bound < float("inf")):
            raise Refused(
                f"contrast {self.name}: bound={_shown(self.bound)} must be above 0, in points"
            )
        if self.first == self.second:
            raise Refused(f"contrast {self.name}: a variant is compared with itself")

    @property
    def title(self) -> str:
        return f"{self.first} - {self.second}"

    @property
    def name(self) -> str:
        return f"{self.title} ({self.metric})"


@dataclass(frozen=True)
class Trend:
    """How a metric changes with a factor whose levels are numbers: each seed's own slope.

    The slope is that of least squares over the ranks of the levels, in the metric's unit from a
    level to the next: evenly spaced, so that the slopes of a factor without effect are symmetric
    whatever the errors look like, as the sign-flip test asks.

    Attributes:
      factor: one whose levels are numbers, which give their order: "8", "20", "56".
      where: the level of each other factor: {"shortcut": "plain"}.
      metric: one of the study's metrics.
      expect: the claim, declared before the run. "lower" or "higher": the metric is, at higher
        levels. None: it changes, in either direction.
    """

    factor: str
    where: Mapping[str, str] = field(default_factory=dict)
    metric: str = "test_error"
    expect: Literal["lower", "higher"] | None = None

    bound: ClassVar[None] = None
    seeds_each: ClassVar[int] = 1

    def __post_init__(self):
        for name in ("factor", "metric"):
            _check_type("a trend", name, getattr(self, name), str)
        _check_mapping("a trend", "where", self.where)
        for factor, level in self.where.items():
            _check_type("a trend", f"where[{_shown(factor)}]", level, str)
        _check_expected(self, ("lower", "higher"))

    @property
    def title(self) -> str:
        levels = ", ".join(self.where.values())
        return f"slope over {self.factor}" + (f" of {levels}" if levels else "")

    @property
    def name(self) -> str:
        return f"{self.title} ({self.metric})"


@dataclass(frozen=True)
class Spread:
    """How far the seeds of two variants scatter: the variances of a metric, first minus second.

    Seeds are taken two by two (0 and 1, 2 and 3, ...): half the squared difference of two is an
    estimate of the variance that needs no mean. Where variants scatter alike, the differences of
    these between variants are symmetric, as the sign-flip test asks; each needs two seeds. There is
    no interval: where variances differ, differences of squares are skewed.

    Attributes:
      first, second: variants' names.
      metric: one of the study's metrics.
      expect: the claim, declared before the run. "lower" or "higher": the first's variance is.
        None: they differ, in either direction.
    """

    first: str
    second: str
    metric: str = "test_error"
    expect: Literal["lower", "higher"] | None = None

    bound: ClassVar[None] = None
    seeds_each: ClassVar[int] = 2

    def __post_init__(self):
        for name in ("first", "second", "metric"):
            _check_type("a spread", name, getattr(self, name), str)
        _check_expected(self, ("lower", "higher"))
        if self.first == self.second:
            raise Refused(f"contrast {self.name}: a variant is compared with itself")

    @property
    def title(self) -> str:
        return f"spread of {self.first} - {self.second}"

    @property
    def name(self) -> str:
        return f"{self.title} ({self.metric})"


AnyContrast = Contrast | Trend | Spread


def _check_expected(contrast: AnyContrast, allowed: tuple[str, ...]) -> None:
    if contrast.expect not in (None, *allowed):
        words = ", ".join(map(repr, allowed))
        raise Refused(
            f"contrast {contrast.name}: expect={_shown(contrast.expect)} is not one of {words},"
            " None"
        )


@dataclass(frozen=True)
class Probe:
    """What is looked at inside each network while it trains; training keeps its bits.

    Attributes:
      name: gradient_norm, gradient_attenuation, weight_gradient_norm, response_deviation,
        dead_channels, effective_receptive_field, shift_sensitivity, or a function (task, state,
        batch) of your own: FILE.py:function, package.module:function.
      at: which shares of a run are over when it looks: 0 is before the first update, 1 the end.

    A contrast's metric may be "NAME@SHARE", or "NAME/LAYER@SHARE" where a probe tells of layers:
    "gradient_attenuation@0.1", "dead_channels/stem@1". Of one's own NAME is the function's.
    """

    name: str
    at: tuple[float | int, ...] = (0, 0.01, 0.1, 1)

    def __post_init__(self):
        _check_type("a probe", "name", self.name, str)
        numbers = isinstance(self.at, tuple | list) and all(
            isinstance(share, int | float) and not isinstance(share, bool) and 0 <= share <= 1
            for share in self.at
        )
        if not numbers or not self.at or len({f"{share:g}" for share in self.at}) < len(self.at):
            raise Refused(
                f"probe {self.name}: at={_shown(self.at)} must be a tuple of shares of a run, 0 to"
                " 1, each once, e.g. (0, 0.1, 1)"
            )

    @property
    def label(self) -> str:
        return self.name.rpartition(":")[2]

    @property
    def moments(self) -> list[str]:
        """The names of what it sees: "gradient_norm@0.1"."""
        return [f"{self.label}@{share:g}" for share in self.at]


@dataclass(frozen=True)
class Match:
    """A setting that is found by counting: {"model.width": Match("params", "3x3")} in a level gives
    its variants the width with which they cost most nearly what another variant does.

    Attributes:
      cost: "params" or "macs".
      variant: whose cost is wanted, by its name.
    """

    cost: Literal["params", "macs"]
    variant: str

    def __post_init__(self):
        if self.cost not in ("params", "macs"):
            raise Refused(f"Match: cost={_shown(self.cost)} is not one of 'params', 'macs'")
        _check_type("Match", "variant", self.variant, str)


@dataclass(frozen=True)
class Tune:
    """Settings of which each variant takes its own best value before it is judged.

    Every value is tried with seeds that are not judged (1000, 1001, ...) and on a validation part
    of the training images, never on the test set.

    Attributes:
      settings: {setting path: values}, crossed: {"optimizer.learning_rate": (0.025, 0.05, 0.1)}.
      metric: by which the best is chosen, the mean over seeds.
      seeds: of each trial.
      validation_share: of the training images of each class.
    """

    settings: Mapping[str, tuple[Any, ...]]
    metric: str = "test_error"
    seeds: int = 2
    validation_share: float = 0.25

    def __post_init__(self):
        _check_mapping("Tune", "settings", self.settings)
        if not self.settings:
            raise Refused('Tune: it needs a setting: {"optimizer.learning_rate": (0.05, 0.1)}')
        for path, values in self.settings.items():
            if not isinstance(values, tuple | list) or len(values) < 2:
                raise Refused(f"Tune: {path}={_shown(values)} must be a tuple of two or more")
            if len({repr(value) for value in values}) < len(values):
                raise Refused(f"Tune: {path}={_shown(values)} has a value twice")
        _check_type("Tune", "metric", self.metric, str)
        _check_seeds("Tune", self.seeds, needed=True)
        if not isinstance(self.validation_share, float) or not 0 < self.validation_share < 1:
            raise Refused(
                f"Tune: validation_share={_shown(self.validation_share)} must be a share, above 0"
                " and below 1"
            )


@dataclass(frozen=True)
class Arm:
    """Variants beside the grid: `factors` crossed at the fixed levels `where`."""

    where: Mapping[str, str]
    factors: Mapping[str, Levels]
    seeds: int | None = None  # default: as many as the grid

    def __post_init__(self):
        _check_mapping("an arm", "where", self.where)
        for factor, level in self.where.items():
            _check_type("an arm", f"where[{_shown(factor)}]", level, str)
        _check_factors("an arm", self.factors)
        _check_seeds("an arm", self.seeds)


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
      tune: replaces what the study tunes; False: nothing is.
    """

    about: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    factors: Mapping[str, Levels] = field(default_factory=dict)
    seeds: int | None = None
    contrasts: tuple[AnyContrast, ...] | None = None
    arms: tuple[Arm, ...] = ()
    tune: Tune | Literal[False] | None = None

    def __post_init__(self):
        where = f"preset ({_shown(self.about)})" if self.about else "a preset"
        _check_type(where, "about", self.about, str)
        _check_mapping(where, "settings", self.settings)
        _check_factors(where, self.factors)
        _check_seeds(where, self.seeds)
        _check_tuple(where, "arms", self.arms, Arm)
        if self.tune is not False:
            _check_tune(where, self.tune)
        if self.contrasts is not None:
            _check_contrasts(where, self.contrasts)


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
      metrics: "train_" or "test_" and a metric of the task, in evaluation mode over the whole
        split ("train_error" is classification's "train_top1_error"); the first is the one that
        figures show largest. "batch_error<=25" and "test_error<=5" count the epochs until the
        figure of an epoch (of its batches as they were trained on, of the test split) is there; a
        run that never is counts as one epoch longer than it was.
      contrasts: what is tested, each a Contrast, a Trend or a Spread; Holm's correction is over
        every statement that could be made of any of them.
      presets: sizes of the study; "quick" is the default.
      probes: what is looked at inside the networks while they train.
      tune: what each variant finds for itself before it is judged.
    """

    name: str
    question: str
    source: str
    base: Recipe
    factors: Mapping[str, Levels]
    seeds: int
    metrics: tuple[str, ...]
    contrasts: tuple[AnyContrast, ...]
    presets: Mapping[str, Preset] = field(default_factory=lambda: {"quick": Preset()})
    probes: tuple[Probe, ...] = ()
    tune: Tune | None = None

    def __post_init__(self):
        where = f"study {self.name}" if isinstance(self.name, str) else "a study"
        for name, kind in (("name", str), ("question", str), ("source", str), ("base", Recipe)):
            _check_type(where, name, getattr(self, name), kind)
        if not _STUDY_NAME.fullmatch(self.name):
            raise Refused(f"study {self.name!r}: a name is letters, digits, ., _ and -")
        _check_factors(where, self.factors)
        if not self.factors:
            raise Refused(f"{where}: it needs a factor with at least one level")
        _check_contrasts(where, self.contrasts)
        _check_tuple(where, "metrics", self.metrics, str)
        if not self.metrics or len(set(self.metrics)) < len(self.metrics):
            raise Refused(
                f"{where}: metrics={_shown(self.metrics)}: it needs a metric, each once, e.g."
                ' ("test_error",)'
            )
        _check_tuple(where, "probes", self.probes, Probe)
        if len({probe.label for probe in self.probes}) < len(self.probes):
            raise Refused(f"{where}: two probes have the same name")
        _check_tune(where, self.tune)
        _check_seeds(where, self.seeds, needed=True)
        _check_mapping(where, "presets", self.presets)
        if not self.presets:
            raise Refused(f"{where}: it needs a preset")
        for name, preset in self.presets.items():
            if not _STUDY_NAME.fullmatch(name):
                raise Refused(
                    f"{where}: preset {_shown(name)}: a name is letters, digits, ., _ and -"
                )
            if not isinstance(preset, Preset):
                raise Refused(f"{where}: preset {_shown(name)} must be a Preset(...)")


def _shown(value: object) -> str:
    """A value in a message: as it is written in Python, where that can be said."""
    try:
        return repr(value)
    except Exception:  # a number of thousands of digits, a class of the user's own
        return f"a {type(value).__name__}"


def _check_type(where: str, name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise Refused(f"{where}: {name}={_shown(value)} must be a {kind.__name__}")


def _check_mapping(where: str, name: str, value: object) -> None:
    if not isinstance(value, Mapping):
        raise Refused(f"{where}: {name}={_shown(value)} must be a dict")
    if not all(isinstance(key, str) for key in value):
        raise Refused(f"{where}: {name}={_shown(value)}: its keys must be strings")


def _check_tune(where: str, tune: object) -> None:
    if tune is not None and not isinstance(tune, Tune):
        raise Refused(f"{where}: tune={_shown(tune)} must be a Tune(...)")


def _check_seeds(where: str, seeds: object, *, needed: bool = False) -> None:
    if seeds is None and not needed:
        return
    if not isinstance(seeds, int) or isinstance(seeds, bool) or seeds < 1:
        raise Refused(f"{where}: seeds={_shown(seeds)} must be a whole number, 1 or more")
    if seeds > SEEDS:
        raise Refused(f"{where}: seeds: there are {SEEDS:,}")


def _check_factors(where: str, factors: object) -> None:
    """{factor: {level: {setting path: value}}}, each name a word."""
    shown = '{"depth": {"8": {"model.depth": 8}}}'
    if not isinstance(factors, Mapping):
        raise Refused(f"{where}: factors={_shown(factors)} must be a dict like {shown}")
    for factor, levels in factors.items():
        if not isinstance(factor, str) or not factor:
            raise Refused(f"{where}: factor {_shown(factor)}: its name must be a string")
        if not isinstance(levels, Mapping) or not levels:
            raise Refused(f"{where}: factor {factor} must be a dict of levels like {shown}")
        for level, settings in levels.items():
            if not isinstance(level, str) or not _NAME.fullmatch(level):
                raise Refused(
                    f"{where}: level {_shown(level)} of factor {factor}: use letters, digits, . and"
                    " _ in a string"
                )
            if not isinstance(settings, Mapping) or not all(isinstance(p, str) for p in settings):
                raise Refused(
                    f"{where}: level {_shown(level)} of factor {factor} is {_shown(settings)};"
                    f" write its settings, like {shown}"
                )


def _check_contrasts(where: str, contrasts: object) -> None:
    """A contrast that is there twice would count twice in Holm's correction."""
    _check_tuple(where, "contrasts", contrasts, AnyContrast)
    seen: dict[Any, AnyContrast] = {}
    for contrast in contrasts:  # type: ignore[attr-defined]
        what = (
            (contrast.factor, *sorted(contrast.where.items()))
            if isinstance(contrast, Trend)
            else (type(contrast), frozenset((contrast.first, contrast.second)))
        )
        if (twin := seen.get((what, contrast.metric))) is not None:
            raise Refused(
                f"{where}: contrasts {twin.name} and {contrast.name} compare the same variants on"
                " one metric; leave one out"
            )
        seen[what, contrast.metric] = contrast


def _check_tuple(where: str, name: str, value: object, kind: Any) -> None:
    """A forgotten comma makes a tuple of one into its element."""
    if not isinstance(value, tuple | list) or not all(isinstance(item, kind) for item in value):
        kinds = [one.__name__ for one in get_args(kind) or (kind,)]
        shown = "..." if kind is str else f"{kinds[0]}(...)"
        raise Refused(f"{where}: {name} must be a tuple of {' or '.join(kinds)}; write ({shown},)")
