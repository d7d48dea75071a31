import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax import Schedule, he2015_cifar
from cnnjax.training.schedules import learning_rates


def test_he2015_divides_at_32k_and_48k_of_64k():
    rates = learning_rates(he2015_cifar.schedule, 0.1, 64_000)
    assert rates[[0, 31_999, 32_000, 47_999, 48_000, 63_999]] == pytest.approx(
        [0.1, 0.1, 0.01, 0.01, 0.001, 0.001]
    )
    assert rates.dtype == np.float32


def test_he2015_warms_up_at_a_tenth():
    rates = learning_rates(Schedule("he2015", warmup=400 / 64_000), 0.1, 64_000)
    assert rates[[0, 399, 400]] == pytest.approx([0.01, 0.01, 0.1])


@given(steps=st.integers(20, 400), warmup=st.sampled_from([0.0, 0.1, 0.25]))
def test_cosine_is_a_ramp_and_half_a_wave(steps, warmup):
    ramp = round(warmup * steps)
    expected = [
        t / ramp if t < ramp else (1 + math.cos(math.pi * (t - ramp) / (steps - ramp))) / 2
        for t in range(steps)
    ]
    found = learning_rates(Schedule("cosine", warmup=warmup), 0.5, steps)
    np.testing.assert_allclose(found, 0.5 * np.asarray(expected), atol=1e-6)


def test_constant_after_its_ramp():
    rates = learning_rates(Schedule("constant", warmup=0.5), 0.2, 10)
    assert rates[0] == 0
    assert rates[5:] == pytest.approx([0.2] * 5)


@pytest.mark.parametrize("steps", [1, 3, 28])
@pytest.mark.parametrize("name", ["he2015", "cosine", "constant"])
def test_very_short_runs_have_a_schedule_too(name, steps):
    rates = learning_rates(Schedule(name, warmup=0.99), 0.1, steps)
    assert rates.shape == (steps,)
    assert (rates >= 0).all()
    assert (rates <= 0.1 + 1e-7).all()


def test_boundaries_on_one_step_both_count():
    assert learning_rates(Schedule("he2015"), 0.1, 3)[-1] == pytest.approx(0.001)
