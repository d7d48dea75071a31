import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cnnjax.study.statistics import (
    bootstrap_interval,
    holm,
    paired_effect_size,
    seeds_needed,
    sign_flip_p,
    smallest_p,
    summarize,
)

values = st.lists(st.integers(-8, 8).map(lambda k: k / 4), min_size=1, max_size=8)


def by_enumeration(differences, alternative):
    """The definition: the share of all sign flips whose mean is at least as extreme."""
    observed = np.mean(differences)
    flips = itertools.product((1, -1), repeat=len(differences))
    means = np.array([np.mean(np.multiply(differences, signs)) for signs in flips])
    less, greater = (means <= observed + 1e-12).mean(), (means >= observed - 1e-12).mean()
    return {"less": less, "greater": greater}.get(alternative, min(1, 2 * min(less, greater)))


@given(values, st.sampled_from(["two-sided", "less", "greater"]))
def test_the_sign_flip_test_is_the_enumeration(differences, alternative):
    if any(differences):
        expected = by_enumeration(differences, alternative)
        assert sign_flip_p(differences, alternative) == pytest.approx(expected)
    else:
        assert sign_flip_p(differences, alternative) == 1


def test_darwins_maize():
    """Fisher 1935, section 21: 1,726 of 32,768 sign flips are as extreme (two-sided .0527)."""
    inches = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    assert sign_flip_p([float(value) for value in inches]) == pytest.approx(1726 / 32768, abs=1e-9)


@pytest.mark.parametrize("n", [2, 6, 8])
def test_the_smallest_p_is_reached_when_all_signs_agree(n):
    differences = [1.0 + i for i in range(n)]
    assert sign_flip_p(differences) == pytest.approx(smallest_p(n, "two-sided"))
    assert sign_flip_p(differences, "greater") == pytest.approx(smallest_p(n, "one-sided"))
    assert sign_flip_p(differences, "less") == 1


def test_many_seeds_are_sampled_and_close_to_the_t_test():
    differences = list(np.random.default_rng(1).normal(0.4, 1, 40))
    expected = stats.ttest_1samp(differences, 0).pvalue
    assert sign_flip_p(differences) == pytest.approx(expected, rel=0.15)
    assert sign_flip_p(differences) == sign_flip_p(differences)


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.9, 0.8]) == [1, 1]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_lies_between_none_and_bonferroni_and_keeps_the_order(p_values):
    adjusted = holm(p_values)
    for p, q in zip(p_values, adjusted, strict=True):
        assert p <= q <= min(1, len(p_values) * p) + 1e-15
    order = np.argsort(p_values, kind="stable")
    assert all(a <= b for a, b in itertools.pairwise(np.asarray(adjusted)[order]))


def test_a_summary_is_numpys_with_a_bca_interval():
    data = [2.5, 3.25, 9.0, 4.5, 3.0, 2.0, 5.5, 3.75]
    found = summarize(data)
    assert (found.mean, found.sd) == pytest.approx((np.mean(data), np.std(data, ddof=1)))
    assert found.interval.method == "BCa"
    expected = stats.bootstrap(
        (data,), np.mean, n_resamples=9_999, method="BCa", rng=np.random.default_rng(0)
    ).confidence_interval
    assert (found.interval.low, found.interval.high) == tuple(expected)


def test_the_interval_covers_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = [
        interval.low <= 1 <= interval.high
        for interval in (bootstrap_interval(list(rng.exponential(1, 20))) for _ in range(60))
    ]
    assert np.mean(covered) > 0.8


@pytest.mark.parametrize("value", [0.0, -3.5])
def test_no_variance_is_an_exact_interval_and_never_nan(value):
    data = [value] * 8
    found = summarize(data)
    assert (found.interval.low, found.interval.high, found.interval.method) == (
        value,
        value,
        "exact",
    )
    assert found.sd == 0
    assert paired_effect_size(data) is None
    assert sign_flip_p(data) == (1.0 if value == 0 else pytest.approx(2 / 2**8))


@given(st.lists(st.sampled_from([0.0, 0.0, 0.1, 100.0]), min_size=0, max_size=9))
def test_nothing_is_ever_nan(data):
    found = summarize(data)
    numbers = (found.mean, found.sd, found.interval.low, found.interval.high)
    assert all(number is None or math.isfinite(number) for number in numbers)
    if found.interval.low is not None:
        assert found.interval.low <= found.mean + 1e-9
        assert found.mean <= found.interval.high + 1e-9


def test_seeds_that_are_needed_shrink_with_the_effect():
    assert seeds_needed(None, "two-sided", 1) is None
    assert seeds_needed(10.0, "two-sided", 1) == 6  # what the exact test needs at least
    assert seeds_needed(0.5, "two-sided", 1) == pytest.approx(32, abs=1)  # (1.96 + .84)^2 / .25
    assert seeds_needed(0.5, "one-sided", 1) < seeds_needed(0.5, "two-sided", 5)
