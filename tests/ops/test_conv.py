import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import correlate2d

from cnnjax import Refused
from cnnjax.ops.conv import choose, conv, formulation, output_size
from cnnjax.ops.pool import max_pool

geometries = st.tuples(
    st.integers(5, 9),  # height
    st.sampled_from([(1, 1), (3, 3), (2, 3)]),  # kernel
    st.sampled_from([(1, 1), (2, 2), (2, 1)]),  # strides
    st.sampled_from([((0, 0), (0, 0)), ((1, 1), (1, 1)), ((0, 1), (2, 0))]),  # padding
)


def examples(height, kernel, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.normal(size=(2, height, 7, 3))
    return images.astype(np.float32), rng.normal(size=(*kernel, 3, 4)).astype(np.float32)


def by_scipy(images, kernel, strides, padding):
    """Cross-correlation in float64, one channel at a time."""
    padded = np.pad(images.astype(np.float64), ((0, 0), *padding, (0, 0)))
    out = [
        [
            sum(
                correlate2d(image[..., c], kernel[..., c, f].astype(np.float64), "valid")
                for c in range(kernel.shape[2])
            )[:: strides[0], :: strides[1]]
            for f in range(kernel.shape[3])
        ]
        for image in padded
    ]
    return np.moveaxis(np.asarray(out), 1, -1)


@pytest.mark.parametrize("form", ["library", "canonical", "im2col"])
@given(geometries)
def test_every_formulation_is_cross_correlation(form, geometry):
    height, size, strides, padding = geometry
    images, kernel = examples(height, size)
    with formulation(form):
        out = conv(jnp.asarray(images), jnp.asarray(kernel), strides=strides, padding=padding)
    np.testing.assert_allclose(out, by_scipy(images, kernel, strides, padding), atol=2e-5)


@pytest.mark.parametrize("form", ["canonical", "im2col"])
@given(geometries)
def test_written_gradients_are_the_automatic_ones(form, geometry):
    height, size, strides, padding = geometry
    images, kernel = (jnp.asarray(a) for a in examples(height, size))

    def loss(images, kernel):
        return jnp.sum(jnp.sin(conv(images, kernel, strides=strides, padding=padding)))

    with formulation("library"):
        expected = jax.grad(loss, (0, 1))(images, kernel)
    with formulation(form):
        found = jax.grad(loss, (0, 1))(images, kernel)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("strides", [(1, 1), (2, 2)])
def test_a_1x1_kernel_is_a_product(strides):
    images, kernel = examples(6, (1, 1))
    with formulation("product"):
        out = conv(jnp.asarray(images), jnp.asarray(kernel), strides=strides)
    expected = by_scipy(images, kernel, strides, ((0, 0), (0, 0)))
    np.testing.assert_allclose(out, expected, atol=2e-5)


def test_the_choice_depends_on_shapes_and_backend_alone():
    pad = ((1, 1), (1, 1))
    assert choose((4, 4), (3, 3), pad, "cpu") == "im2col"
    assert choose((8, 8), (3, 3), pad, "cpu") == "canonical"
    assert choose((8, 8), (1, 1), ((0, 0), (0, 0)), "cpu") == "product"
    assert choose((4, 4), (3, 3), pad, "gpu") == "library"


def test_a_kernel_that_does_not_fit_is_refused():
    assert output_size(227, 11, 4, (0, 0)) == 55
    with pytest.raises(Refused, match="use images of 5 px or more"):
        output_size(3, 7, 1, (1, 1))


def test_max_pool_by_hand():
    values = [[12, 20, 30, 0], [8, 12, 2, 0], [34, 70, 37, 7], [112, 100, 22, 12]]
    out = max_pool(jnp.asarray(values, jnp.float32)[None, :, :, None], window=2, strides=2)
    assert out[0, :, :, 0].tolist() == [[20, 30], [112, 37]]


def test_padding_never_wins_a_pooling_window():
    out = max_pool(-jnp.ones((1, 4, 4, 1)), window=3, strides=2, padding=1)
    assert out.shape == (1, 2, 2, 1)
    assert (out == -1).all()
