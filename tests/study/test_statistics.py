import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cnnjax.study.power import power, seeds_for_power
from cnnjax.study.statistics import (
    SignFlips,
    expected_sd,
    fewest_seeds,
    holm,
    paired_effect_size,
    sd_interval,
    seeds_needed,
    smallest_p,
    summarize,
)

values = st.lists(st.integers(-8, 8).map(lambda k: k / 4), min_size=1, max_size=8)
centres = st.integers(-6, 6).map(lambda k: k / 3)


def by_enumeration(differences, centre):
    """The definition: the shares of all sign flips whose mean is at least as high, as low."""
    moved = np.asarray(differences) - centre
    flips = itertools.product((1, -1), repeat=len(moved))
    means = np.array([np.mean(moved * signs) for signs in flips])
    return (means >= moved.mean() - 1e-12).mean(), (means <= moved.mean() + 1e-12).mean()


@given(values, centres)
def test_the_sign_flip_test_is_the_enumeration(differences, centre):
    above, below = by_enumeration(differences, centre)
    flips = SignFlips(differences)
    assert flips.p_above(centre) == pytest.approx(above)
    assert flips.p_below(centre) == pytest.approx(below)


@given(st.lists(st.integers(-9, 9).map(lambda k: k / 10), min_size=2, max_size=9))
def test_the_sign_flip_test_is_scipys(differences):
    expected = stats.permutation_test(
        (differences,), np.mean, permutation_type="samples", vectorized=True, n_resamples=np.inf
    ).pvalue
    if any(differences):
        assert SignFlips(differences).p() == pytest.approx(expected)


def test_darwins_maize():
    """Fisher 1935, section 21: 1,726 of 32,768 sign flips are as extreme (two-sided .0527)."""
    inches = [49, -67, 8, 16, 6, 23, 28, 41, 14, 29, 56, 24, 75, 60, -48]
    flips = SignFlips([float(value) for value in inches])
    assert flips.p() == pytest.approx(1726 / 32768, abs=1e-9)
    low, high = flips.interval().low, flips.interval().high
    assert low <= 0 < high  # as p is above .05
    assert flips.interval(1 - 1726 / 32768 + 1e-6).low <= 0 < flips.interval(1 - 1726 / 32768).low


@given(st.lists(st.integers(-99, 99).map(lambda k: k / 7), min_size=6, max_size=9), st.data())
def test_an_interval_holds_just_the_centres_that_the_test_does_not_refuse(differences, data):
    level = data.draw(st.sampled_from([0.8, 0.9, 0.95]))
    flips = SignFlips(differences)
    found = flips.interval(level)
    step = 1e-6
    refused = (1 - level) / 2 + 1e-12
    for end, outwards in ((found.low, -step), (found.high, step)):
        assert min(flips.p_above(end), flips.p_below(end)) > refused
        assert min(flips.p_above(end + outwards), flips.p_below(end + outwards)) <= refused


def test_an_interval_is_of_the_means_of_subsets():
    """By hand: of six values at 95 % k = 1, so the ends are the smallest and largest value."""
    data = [3.0, -1.0, 4.0, 1.5, 5.0, 9.0]
    assert (SignFlips(data).interval().low, SignFlips(data).interval().high) == (-1, 9)
    subsets = [c for k in range(1, 9) for c in itertools.combinations([*data, 2.0, 6.0], k)]
    means = sorted(np.mean(c) for c in subsets)
    found = SignFlips([*data, 2.0, 6.0]).interval()
    assert (found.low, found.high) == pytest.approx((means[5], means[-6]))  # 6 = floor(.025 x 256)


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_too_few_values_have_no_interval(n):
    found = summarize([1.0, 2.0, 3.0, 4.0, 5.0][:n])
    assert (found.interval.low, found.interval.high) == (None, None)
    assert SignFlips([1.0] * n).p_above() == 1 / 2**n


@pytest.mark.parametrize("n", [2, 6, 8])
def test_the_smallest_p_is_reached_when_all_signs_agree(n):
    flips = SignFlips([1.0 + i for i in range(n)])
    assert flips.p_above() == smallest_p(n)
    assert flips.p() == 2 * smallest_p(n)
    assert flips.p_below() == 1


def test_many_seeds_are_sampled_and_close_to_the_t_test():
    differences = list(np.random.default_rng(1).normal(0.4, 1, 40))
    expected = stats.ttest_1samp(differences, 0)
    flips = SignFlips(differences)
    assert flips.p() == pytest.approx(expected.pvalue, rel=0.15)
    assert flips.p() == SignFlips(differences).p()
    interval = flips.interval()
    assert (interval.low, interval.high) == pytest.approx(expected.confidence_interval(), abs=0.03)
    # No p of a sample is nothing, and the one that is told before the run can be reached.
    assert SignFlips([1.0] * 17).p_above() == smallest_p(17) == smallest_p(400) > 1e-5


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


DRAWS = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "counts": lambda rng, shape: rng.binomial(450, 0.03, shape) - rng.binomial(450, 0.03, shape),
    "skewed": lambda rng, shape: rng.gamma(2.0, size=shape) - rng.gamma(2.0, size=shape),
    "heavy tails": lambda rng, shape: rng.standard_t(3, shape),
}


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("n", [6, 8, 12])
def test_intervals_cover_as_often_as_they_say(draw, n):
    """Of 1,000 null studies: 95 % within three standard errors, where bootstrap gave 86 to 90."""
    samples = DRAWS[draw](np.random.default_rng(0), (1000, n)).astype(float)
    found = [SignFlips(list(row)).interval() for row in samples]
    covered = np.mean([one.low <= 0 <= one.high for one in found])
    assert covered > 0.95 - 3 * math.sqrt(0.95 * 0.05 / 1000)


@pytest.mark.parametrize("value", [0.0, -3.5])
def test_no_variance_is_an_interval_and_never_nan(value):
    data = [value] * 8
    found = summarize(data)
    assert (found.interval.low, found.interval.high) == (value, value)
    assert found.sd == 0
    assert paired_effect_size(data) is None
    assert SignFlips(data).p() == (1.0 if value == 0 else 2 / 2**8)


@given(st.lists(st.sampled_from([0.0, 0.0, 0.1, 100.0]), min_size=0, max_size=9))
def test_nothing_is_ever_nan(data):
    found = summarize(data)
    numbers = (found.mean, found.sd, found.interval.low, found.interval.high)
    assert all(number is None or math.isfinite(number) for number in numbers)
    if found.interval.low is not None:
        assert found.interval.low <= found.mean + 1e-9
        assert found.mean <= found.interval.high + 1e-9


def test_seeds_that_are_needed_shrink_with_the_effect():
    assert seeds_needed(None, 0.025) is None
    assert seeds_needed(10.0, 0.025) == fewest_seeds(0.025) == 6  # of the exact test
    assert seeds_needed(0.5, 0.025) == pytest.approx(34, abs=1)  # t test: G*Power gives 34
    assert seeds_needed(0.5, 0.05) < seeds_needed(0.5, 0.005)
    assert fewest_seeds(1e-6) is None
    assert seeds_needed(1.0, 1e-6) is None


@pytest.mark.parametrize(("effect", "level"), [(0.6, 0.025), (1.0, 0.005), (2.0, 0.05)])
def test_the_power_that_is_told_is_the_one_that_is_found(effect, level):
    """Simulated studies, other draws than those of `power`, each judged as a study is."""
    n = seeds_for_power(effect, level)
    assert power(n, effect, level) >= 0.8
    assert n == pytest.approx(seeds_needed(effect, level), abs=2)
    rng = np.random.default_rng(7)
    shown = [SignFlips(list(rng.normal(effect, 1, n))).p_above() <= level for _ in range(400)]
    assert np.mean(shown) == pytest.approx(power(n, effect, level), abs=0.06)


def test_the_power_of_an_equality_is_that_of_both_its_tests():
    assert power(8, 0.0, 0.01, bound=3.0) > 0.9
    assert power(8, 2.9, 0.01, bound=3.0) < 0.1
    assert seeds_for_power(0.0, 0.01, bound=1.0) > seeds_for_power(0.0, 0.01, bound=2.0)
    assert seeds_for_power(0.0, 0.01, bound=0.01) is None


@pytest.mark.parametrize(("classes", "least", "most"), [(2, 0.9, 1.1), (10, 0.6, 0.95)])
def test_calibrated_runs_scatter_as_one_of_them_foretells(classes, least, most):
    """Of two classes as foretold, of more at most so: runs that draw each image's class from its
    shares, where the label is drawn from the same."""
    draw = np.random.default_rng(0)
    images, runs = 5_000, 400
    shares = draw.dirichlet([0.3] * classes, images).cumsum(1)
    label = (draw.random((images, 1)) > shares).sum(1)
    said = [(draw.random((images, 1)) > shares).sum(1) for _ in range(runs)]
    errors = 100 * np.array([(classes_of_run != label).mean() for classes_of_run in said])
    ratio = errors.std(ddof=1) / np.mean([expected_sd(float(e), images) for e in errors])
    assert least <= ratio <= most


def test_the_interval_of_a_deviation_covers():
    draw = np.random.default_rng(1)
    inside = []
    for _ in range(4_000):
        low, high = sd_interval(float(draw.normal(0, 3, 8).std(ddof=1)), 8)
        inside.append(low <= 3 <= high)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.012)
