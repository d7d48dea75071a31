"""Paired differences: exact sign-flip tests, the intervals that belong to them, and Holm.

Under the null each difference is as likely to have the other sign. Flipping some signs makes the
mean no larger exactly where the mean of those that were flipped is 0 or more, so the test and its
interval are both read off the means of all non-empty subsets (Hartigan 1969, "Using subsample
values as typical values"). Everything is a function of the values alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

EXACT_SEEDS = 16  # up to here every sign flip is enumerated; beyond, 2^16 random ones
POWER = 0.8


@dataclass(frozen=True)
class Interval:
    """An interval for a mean; None where there are too few values for its level."""

    low: float | None
    high: float | None


@dataclass(frozen=True)
class Summary:
    """Mean, standard deviation (n - 1) and 95 % interval; None where n is too small."""

    n: int
    mean: float | None
    sd: float | None
    interval: Interval


@dataclass(frozen=True, eq=False)
class SignFlips:
    """The sign flips of some values: tests of where their centre lies, and its interval.

    Valid for values that lie symmetrically about their centre, as the differences of two variants
    do where the variants are alike. An interval and a p value of the same values never disagree:
    `interval(level)` holds just those centres that neither test refuses at (1 - level) / 2.
    """

    values: Sequence[float]
    _means: "np.ndarray" = field(init=False, repr=False)  # of non-empty subsets, sorted

    def __post_init__(self):
        import numpy as np

        means = np.zeros(0)
        if self.values:
            sums, sizes = subsets(np.asarray(self.values, float)[None])
            means = sums[0, 1:] / sizes[1:]
            means = np.clip(means, min(self.values), max(self.values))  # but for rounding
            means = np.sort(np.where(np.abs(means) <= self._rounding, 0.0, means))
        object.__setattr__(self, "_means", means)

    def p_above(self, centre: float = 0.0) -> float:
        """One-sided p of "the centre is `centre` or less"; small: it is above. At best 1 / 2^n."""
        import numpy as np

        at_most = np.searchsorted(self._means, centre + self._rounding, "right")
        return float(1 + at_most) / (1 + len(self._means))

    def p_below(self, centre: float = 0.0) -> float:
        """One-sided p of "the centre is `centre` or more"; small: it is below. At best 1 / 2^n."""
        import numpy as np

        below = np.searchsorted(self._means, centre - self._rounding, "left")
        return float(1 + len(self._means) - below) / (1 + len(self._means))

    def p(self) -> float:
        """Two-sided p of "the centre is 0". At best 2 / 2^n."""
        return min(1.0, 2 * min(self.p_above(), self.p_below()))

    def interval(self, level: float = 0.95) -> Interval:
        """The k-th smallest and k-th largest mean, which cover 1 - 2k / 2^n; k as large as `level`
        allows. Of five values or fewer there is none at 95 %."""
        k = _allowed((1 - level) / 2, 1 + len(self._means))
        if k < 1:
            return Interval(None, None)
        return Interval(float(self._means[k - 1]), float(self._means[-k]))

    @property
    def _rounding(self) -> float:
        """Sums of floats that should be equal differ by less."""
        return 1e-12 * max((abs(value) for value in self.values), default=0.0)


def _allowed(level: float, flips: int) -> int:
    """Of so many sign flips, how many a p value may count and still be at most `level`."""
    return math.floor(level * flips * (1 + 1e-12))


def subsets(values: "np.ndarray") -> "tuple[np.ndarray, np.ndarray]":
    """The sum of each subset of each row and how many it has; the first subset is empty.

    Args:
      values: [rows, n].

    Returns:
      [rows, 2^n] and [2^n]; beyond `EXACT_SEEDS`, 2^16 - 1 random subsets in the place of all.
    """
    import numpy as np

    rows, n = values.shape
    if n > EXACT_SEEDS:
        chosen = _random_subsets(n)
        return values @ chosen, chosen.sum(0)
    sums, sizes = np.zeros((rows, 1)), np.zeros(1)
    for column in values.T:
        sums = np.concatenate([sums, sums + column[:, None]], axis=1)
        sizes = np.concatenate([sizes, sizes + 1])
    return sums, sizes


@lru_cache(maxsize=1)
def _random_subsets(n: int) -> "np.ndarray":
    """[n, 2^16] of zeros and ones; the first column empty, the others not. The same each time."""
    import numpy as np

    chosen = np.random.default_rng(0).integers(0, 2, (n, 2**EXACT_SEEDS), np.int8).astype(float)
    chosen[0, ~chosen.any(0)] = 1
    chosen[:, 0] = 0
    return chosen


def summarize(values: Sequence[float]) -> Summary:
    """Summary of one variant's values over seeds."""
    n = len(values)
    if n == 0:
        return Summary(0, None, None, Interval(None, None))
    mean = math.fsum(values) / n
    sd = None
    if n > 1:
        sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    return Summary(n, mean, sd, SignFlips(values).interval())


def expected_sd(error: float, examples: int) -> float:
    """How far runs scatter in a test error, foretold from that of one (Jordan 2023).

    Of runs that err on each example by themselves, and that are calibrated together (of the
    examples that a share q of the runs puts in a class, a share q is of that class), the variance
    is error / (2 examples) where each example is in doubt between two classes, and less where it
    is between more. docs/statistics.md derives it.

    Args:
      error: in per cent.
      examples: of the test set.

    Returns:
      A standard deviation over runs, in points.
    """
    share = error / 100
    return 100 * math.sqrt(share / (2 * examples))


def sd_interval(sd: float, n: int, level: float = 0.95) -> tuple[float, float]:
    """Of the standard deviation of n normal values, two at least (chi-squared)."""
    from scipy.special import gammaincinv

    tail = (1 - level) / 2
    low, high = (
        sd * math.sqrt((n - 1) / (2 * float(gammaincinv((n - 1) / 2, share))))
        for share in (1 - tail, tail)
    )
    return low, high


def smallest_p(n: int) -> float:
    """The smallest one-sided p that n paired seeds can reach."""
    return 1 / 2 ** min(n, EXACT_SEEDS)


def fewest_seeds(level: float) -> int | None:
    """How many paired seeds can reach a one-sided p below `level`; None: no number can."""
    return next((n for n in range(2, EXACT_SEEDS + 1) if smallest_p(n) < level), None)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p values, in the order given (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = running
    return adjusted


def paired_effect_size(differences: Sequence[float]) -> float | None:
    """Cohen's d of paired differences: mean / standard deviation; None where that is 0."""
    n = len(differences)
    mean = math.fsum(differences) / n if n else 0.0
    deviation = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1)) if n > 1 else 0
    return mean / deviation if deviation else None


def seeds_needed(effect_size: float | None, level: float) -> int | None:
    """About how many paired seeds show an effect with 80 % power at a one-sided `level`.

    Of a t test by Guenther's approximation (1981), and never fewer than the exact test needs to
    reach `level` at all; None: no number does.

    Args:
      effect_size: mean / sd of the paired differences; its sign does not matter here.
    """
    fewest = fewest_seeds(level)
    if not effect_size or fewest is None:
        return None
    tail = -NormalDist().inv_cdf(level)
    needed = ((tail + NormalDist().inv_cdf(POWER)) / abs(effect_size)) ** 2 + tail**2 / 2
    return max(math.ceil(needed), fewest)
