import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jax import lax
from scipy.signal import convolve2d, correlate2d

from cnnjax import Refused
from cnnjax.ops.conv import (
    choose,
    conv,
    conv_transpose,
    convolve,
    explicit_padding,
    formulation,
    output_size,
)

pytestmark = pytest.mark.core  # also on every other Python: make test-core

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
        expected = jax.jit(jax.grad(loss, (0, 1)))(images, kernel)
    with formulation(form):
        found = jax.jit(jax.grad(lambda *args: loss(*args), (0, 1)))(images, kernel)
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


def test_convolution_is_cross_correlation_with_the_kernel_turned():
    images, kernel = examples(6, (3, 3))
    images, kernel = jnp.asarray(images), jnp.asarray(kernel)
    np.testing.assert_array_equal(convolve(images, kernel[::-1, ::-1]), conv(images, kernel))
    plane = convolve(images[:, :, :, :1], kernel[:, :, :1, :1], padding=2)
    expected = convolve2d(images[0, :, :, 0], kernel[:, :, 0, 0])
    np.testing.assert_allclose(plane[0, :, :, 0], expected, atol=1e-5)


@pytest.mark.parametrize("form", ["canonical", "im2col"])
@pytest.mark.parametrize(("groups", "dilation"), [(3, (1, 1)), (1, (2, 1)), (3, (2, 2))])
def test_groups_and_dilation_in_every_formulation(form, groups, dilation):
    images, kernel = examples(7, (3, 3))
    images, kernel = jnp.asarray(images), jnp.asarray(kernel[:, :, : 3 // groups, :3])

    def loss(images, kernel):
        options = {"groups": groups, "dilation": dilation, "strides": (2, 1), "padding": 1}
        return jnp.sum(jnp.sin(conv(images, kernel, **options)))

    with formulation("library"):
        expected = jax.jit(jax.value_and_grad(loss, (0, 1)))(images, kernel)
    with formulation(form):
        found = jax.jit(jax.value_and_grad(lambda *args: loss(*args), (0, 1)))(images, kernel)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), found, expected)


def test_same_is_not_padding_1_at_stride_2():
    assert explicit_padding("SAME", (32, 32), (3, 3), (2, 2)) == ((0, 1), (0, 1))
    assert explicit_padding("SAME", (32, 31), (3, 5), (1, 2)) == ((1, 1), (2, 2))
    assert explicit_padding(1, (32, 32), (3, 3)) == ((1, 1), (1, 1))
    assert explicit_padding("VALID", (32, 32), (3, 3)) == ((0, 0), (0, 0))
    images, kernel = (jnp.asarray(a) for a in examples(8, (3, 3)))
    same = conv(images, kernel, strides=(2, 2), padding="SAME")
    expected = lax.conv_general_dilated(
        images, kernel, (2, 2), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(same, expected, atol=1e-5)
    assert not np.allclose(same, conv(images, kernel, strides=(2, 2), padding=1))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: output_size(5, 3, 0, (0, 0)), "must be 1 or more"),
        (lambda: output_size(4, 3, 1, (0, 0), 2), "a kernel of 5 px does not fit 4 px"),
        (lambda: conv(jnp.ones((1, 4, 4, 3)), jnp.ones((1, 1, 2, 4))), "3 channels in 1 groups"),
        (
            lambda: conv_transpose(jnp.ones((1, 1, 1, 1)), jnp.ones((1, 1, 1, 1)), padding=1),
            "leaves -1 px",
        ),
    ],
)
def test_impossible_geometries_are_refused(call, message):
    with pytest.raises(Refused, match=message):
        call()
