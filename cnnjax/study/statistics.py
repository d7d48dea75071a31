"""Means, intervals, exact paired tests and Holm's correction; scipy does the work.

Everything is a function of the values alone: bootstrap resamples come from a fixed seed.
"""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

RESAMPLES = 9_999
EXACT_SEEDS = 16  # up to here every sign flip is enumerated; beyond, 2^16 random ones


@dataclass(frozen=True)
class Interval:
    """An interval for a mean. `method`: BCa, percentile, or exact (all values the same)."""

    low: float | None
    high: float | None
    method: str


@dataclass(frozen=True)
class Summary:
    """Mean, standard deviation (n - 1) and 95 % interval; None where n is too small."""

    n: int
    mean: float | None
    sd: float | None
    interval: Interval


def summarize(values: Sequence[float]) -> Summary:
    """Summary of one variant's values over seeds."""
    n = len(values)
    if n == 0:
        return Summary(0, None, None, Interval(None, None, "none"))
    mean = math.fsum(values) / n
    sd = None
    if n > 1:
        sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    return Summary(n, mean, sd, bootstrap_interval(values))


def bootstrap_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Bootstrap interval for the mean: BCa where it is defined, else percentile.

    Args:
      values: one a seed. All the same: that value is the interval.
      level: coverage.
    """
    if len(values) < 2:
        return Interval(None, None, "none")
    if len(set(values)) == 1:
        return Interval(values[0], values[0], "exact")
    import numpy as np
    from scipy import stats

    for method, name in (("BCa", "BCa"), ("percentile", "percentile")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # BCa warns where it is not defined, and gives NaN
            result = stats.bootstrap(
                (np.asarray(values, float),),
                np.mean,
                confidence_level=level,
                n_resamples=RESAMPLES,
                method=method,
                rng=np.random.default_rng(0),
            ).confidence_interval
        if math.isfinite(result.low) and math.isfinite(result.high):
            return Interval(float(result.low), float(result.high), name)
    raise ValueError(f"no bootstrap interval for {values}")


def sign_flip_p(differences: Sequence[float], alternative: str = "two-sided") -> float:
    """Exact paired test: under the null each difference is as likely to have the other sign.

    Args:
      differences: first minus second, one a seed.
      alternative: "two-sided", "less" (the first is lower) or "greater".

    Returns:
      The p value; at best 2 / 2^n two-sided, 1 / 2^n one-sided.
    """
    if not differences or all(d == 0 for d in differences):
        return 1.0
    if len(differences) == 1:  # scipy wants two
        agrees = (differences[0] < 0) == (alternative == "less")
        return 0.5 if alternative != "two-sided" and agrees else 1.0
    import numpy as np
    from scipy import stats

    result = stats.permutation_test(
        (np.asarray(differences, float),),
        np.mean,
        permutation_type="samples",
        alternative=alternative,
        vectorized=True,
        n_resamples=2**EXACT_SEEDS,
        rng=np.random.default_rng(0),
    )
    return min(1.0, float(result.pvalue))


def smallest_p(n: int, sided: str) -> float:
    """The smallest p that n paired seeds can reach."""
    return min(1.0, (1 if sided == "one-sided" else 2) / 2**n)


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
    summary = summarize(differences)
    if summary.mean is None or not summary.sd:
        return None
    return summary.mean / summary.sd


def seeds_needed(effect_size: float | None, sided: str, contrasts: int) -> int | None:
    """About how many paired seeds give 80 % power at .05 after Holm over `contrasts`.

    Normal approximation, and never fewer than the exact test needs to reach .05 at all.

    Args:
      effect_size: mean / sd of the paired differences; its sign does not matter here.
    """
    if not effect_size:
        return None
    from scipy.stats import norm

    alpha = 0.05 / contrasts
    tail = norm.isf(alpha if sided == "one-sided" else alpha / 2)
    n = math.ceil(((tail + norm.isf(0.2)) / abs(effect_size)) ** 2)
    while contrasts * smallest_p(n, sided) >= 0.05:
        n += 1
    return n
