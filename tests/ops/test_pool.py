import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import Refused
from cnnjax.ops.activation import scaled_tanh
from cnnjax.ops.conv import conv
from cnnjax.ops.norm import local_response_norm
from cnnjax.ops.pool import (
    adaptive_avg_pool,
    avg_pool,
    global_avg_pool,
    global_max_pool,
    max_pool,
    max_pool_with_indices,
    max_unpool,
    min_pool,
    pooled_size,
)

pytestmark = pytest.mark.core  # also on every other Python: make test-core

LECTURE = [[12, 20, 30, 0], [8, 12, 2, 0], [34, 70, 37, 7], [112, 100, 22, 12]]


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        (max_pool, [[20, 30], [112, 37]]),
        (avg_pool, [[13, 8], [79, 19.5]]),  # the lecture prints 18 for the last: it is 19.5
        (min_pool, [[8, 0], [34, 7]]),
    ],
)
def test_the_lectures_4x4_example(pool, expected):
    out = pool(jnp.asarray(LECTURE, jnp.float32)[None, :, :, None], 2, 2)
    assert out[0, :, :, 0].tolist() == expected


def test_indices_and_the_way_back():
    images = jnp.asarray(LECTURE, jnp.float32)[None, :, :, None]
    values, indices = max_pool_with_indices(images, 2)
    assert values[0, :, :, 0].tolist() == [[20, 30], [112, 37]]
    assert indices[0, :, :, 0].tolist() == [[1, 2], [12, 10]]
    back = max_unpool(values, indices, (4, 4))
    assert back[0, :, :, 0].tolist() == [
        [0, 20, 30, 0],
        [0, 0, 0, 0],
        [0, 0, 37, 0],
        [112, 0, 0, 0],
    ]


def test_padding_never_wins_a_pooling_window():
    images = -jnp.ones((1, 4, 4, 1))
    assert (max_pool(images, window=3, strides=2, padding=1) == -1).all()
    assert (min_pool(-images, window=3, strides=2, padding=1) == 1).all()
    values, indices = max_pool_with_indices(images, 3, 2, 1)
    assert (values == -1).all()
    assert (indices >= 0).all()


def test_a_window_that_starts_in_the_padding_is_dropped():
    assert pooled_size(112, 3, 2, 0) == 55
    assert pooled_size(112, 3, 2, 0, ceil_mode=True) == 56
    assert pooled_size(5, 2, 2, 1, ceil_mode=True) == 3  # a fourth would start at 6, behind 5 + 1


def test_global_pooling():
    images = jax.random.normal(jax.random.key(0), (2, 5, 3, 4))
    np.testing.assert_allclose(global_avg_pool(images), images.mean((1, 2)), rtol=1e-6)
    np.testing.assert_array_equal(global_max_pool(images), images.max((1, 2)))
    np.testing.assert_allclose(
        adaptive_avg_pool(images, 1)[:, 0, 0], global_avg_pool(images), rtol=1e-5
    )


@pytest.mark.parametrize(
    "call",
    [
        lambda x: max_pool(x, 5),
        lambda x: max_pool(x, 2, 2, 2),
        lambda x: avg_pool(x, 2, 0),
        lambda x: adaptive_avg_pool(x, 0),
    ],
)
def test_impossible_windows_are_refused(call):
    with pytest.raises(Refused):
        call(jnp.ones((1, 4, 4, 1)))


def test_response_normalisation_by_krizhevskys_formula():
    images = np.asarray(jax.random.normal(jax.random.key(0), (1, 2, 2, 8))) * 30
    found = local_response_norm(jnp.asarray(images))
    for i in range(8):
        window = images[..., max(0, i - 2) : min(7, i + 2) + 1].astype(np.float64)
        expected = images[..., i] / (2 + 1e-4 * (window**2).sum(-1)) ** 0.75
        np.testing.assert_allclose(found[..., i], expected, rtol=1e-5)


def test_scaled_tanh_is_about_1_at_1():
    assert float(scaled_tanh(jnp.ones(()))) == pytest.approx(1, abs=1e-4)
    assert float(scaled_tanh(jnp.asarray(50.0))) == pytest.approx(1.7159)


def test_bfloat16_convolutions_behind_a_pooling_are_those_of_float32():
    """XLA on a processor gave random numbers, from jax 0.11 on, where it fused them."""
    key = jax.random.key(0)
    images = jax.random.normal(key, (4, 16, 16, 128))
    kernels = [0.03 * jax.random.normal(key, (3, 3, c, 256)) for c in (128, 256)]

    @jax.jit
    def stage(images, kernels):
        x = max_pool(images, 2)
        for kernel in kernels:
            x = jax.nn.relu(conv(x, kernel, padding=1) + jnp.zeros(256, x.dtype)[None, None, None])
        return x

    expected = stage(images, kernels)
    found = stage(images.astype(jnp.bfloat16), [k.astype(jnp.bfloat16) for k in kernels])
    assert float(jnp.abs(found - expected).max() / jnp.abs(expected).max()) < 0.02
