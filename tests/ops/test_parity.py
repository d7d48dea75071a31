"""Array functions against PyTorch on random geometries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="torch is not installed; it is an oracle of tests only")

from cnnjax.ops import pool as ours  # noqa: E402
from cnnjax.ops.conv import conv, conv_transpose  # noqa: E402
from cnnjax.ops.norm import local_response_norm  # noqa: E402

functional = torch.nn.functional
pair = st.tuples(st.integers(1, 3), st.integers(1, 3))


def images_of(shape, seed):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def to_torch(images):
    return torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))


def same(found, expected, atol=2e-5):
    np.testing.assert_allclose(found, expected.numpy().transpose(0, 2, 3, 1), atol=atol)


@given(
    st.integers(5, 11), st.integers(5, 9), pair, pair, st.integers(0, 3), pair,
    st.sampled_from([1, 2]),
)  # fmt: skip
def test_convolution(height, width, kernel_size, strides, padding, dilation, groups):
    reach = [d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True)]
    assume(reach[0] <= height + 2 * padding and reach[1] <= width + 2 * padding)
    images = images_of((2, height, width, 4), 0)
    kernel = images_of((*kernel_size, 4 // groups, 6), 1)
    expected = functional.conv2d(
        to_torch(images), torch.from_numpy(kernel.transpose(3, 2, 0, 1).copy()),
        stride=strides, padding=padding, dilation=dilation, groups=groups,
    )  # fmt: skip
    out = conv(
        jnp.asarray(images), jnp.asarray(kernel),
        strides=strides, padding=padding, dilation=dilation, groups=groups,
    )  # fmt: skip
    same(out, expected)


@given(st.integers(2, 6), pair, pair, st.integers(0, 2), st.integers(0, 2), pair)
def test_transposed_convolution(size, kernel_size, strides, padding, extra, dilation):
    assume(all(extra < max(s, d) for s, d in zip(strides, dilation, strict=True)))
    lengths = [
        (n - 1) * s - 2 * padding + d * (k - 1) + 1 + extra
        for n, k, s, d in zip((size, 5), kernel_size, strides, dilation, strict=True)
    ]
    assume(min(lengths) >= 1)
    images, kernel = images_of((2, size, 5, 3), 0), images_of((*kernel_size, 3, 4), 1)
    expected = functional.conv_transpose2d(
        to_torch(images), torch.from_numpy(kernel.transpose(2, 3, 0, 1).copy()),
        stride=strides, padding=padding, output_padding=extra, dilation=dilation,
    )  # fmt: skip
    out = conv_transpose(
        jnp.asarray(images), jnp.asarray(kernel),
        strides=strides, padding=padding, output_padding=extra, dilation=dilation,
    )  # fmt: skip
    same(out, expected)


windows = st.tuples(
    st.integers(2, 12), st.integers(2, 9), pair, pair, st.integers(0, 1), st.booleans()
)


def fits(height, width, window, strides, padding, ceil_mode):
    """Whether PyTorch takes the geometry: in ceil mode a window may overhang."""
    spare = [stride - 1 if ceil_mode else 0 for stride in strides]
    return (
        2 * padding <= min(window)
        and window[0] <= height + 2 * padding + spare[0]
        and window[1] <= width + 2 * padding + spare[1]
    )


@given(windows)
def test_max_pooling_its_indices_and_the_way_back(geometry):
    height, width, window, strides, padding, ceil_mode = geometry
    assume(fits(height, width, window, strides, padding, ceil_mode))
    images = images_of((2, height, width, 3), 0)
    expected, where = functional.max_pool2d(
        to_torch(images), window, strides, padding, ceil_mode=ceil_mode, return_indices=True
    )

    @jax.jit
    def pooled(images):
        geometry = (window, strides, padding)
        values, indices = ours.max_pool_with_indices(images, *geometry, ceil_mode=ceil_mode)
        return (
            ours.max_pool(images, *geometry, ceil_mode=ceil_mode),
            ours.min_pool(-images, *geometry, ceil_mode=ceil_mode),
            values,
            indices,
            ours.max_unpool(values, indices, (height, width)),
        )

    plain, smallest, values, indices, unpooled = pooled(jnp.asarray(images))
    same(plain, expected)
    same(-smallest, expected)
    same(values, expected)
    np.testing.assert_array_equal(indices, where.numpy().transpose(0, 2, 3, 1))
    back = torch.zeros((2, 3, height * width)).scatter_(2, where.flatten(2), expected.flatten(2))
    same(unpooled, back.reshape(2, 3, height, width))
    if strides == window and padding == 0:
        theirs = functional.max_unpool2d(
            expected, where, window, strides, output_size=(height, width)
        )
        same(unpooled, theirs)


@given(windows, st.booleans())
def test_average_pooling(geometry, count_include_pad):
    height, width, window, strides, padding, ceil_mode = geometry
    assume(fits(height, width, window, strides, padding, ceil_mode))
    images = images_of((2, height, width, 3), 0)
    options = {"ceil_mode": ceil_mode, "count_include_pad": count_include_pad}
    expected = functional.avg_pool2d(to_torch(images), window, strides, padding, **options)
    same(ours.avg_pool(jnp.asarray(images), window, strides, padding, **options), expected)


@given(st.integers(1, 12), st.integers(1, 9), pair)
def test_adaptive_average_pooling(height, width, size):
    images = images_of((2, height, width, 3), 0)
    expected = functional.adaptive_avg_pool2d(to_torch(images), size)
    same(ours.adaptive_avg_pool(jnp.asarray(images), size), expected)


@given(
    st.integers(1, 7), st.integers(1, 9), st.sampled_from([1e-4, 0.3]), st.sampled_from([0.75, 1])
)
def test_local_response_normalisation(size, channels, alpha, beta):
    images = images_of((2, 3, 2, channels), 0) * 3
    expected = functional.local_response_norm(to_torch(images), size, alpha, beta, 2.0)
    found = local_response_norm(jnp.asarray(images), size, alpha, float(beta), 2.0, mean=True)
    same(found, expected)


def test_gradients_of_pooling_equal_pytorchs():
    images = images_of((2, 7, 6, 3), 0)
    theirs = to_torch(images).requires_grad_()
    total = functional.max_pool2d(theirs, 3, 2, 1, ceil_mode=True).sin().sum()
    total = total + functional.avg_pool2d(theirs, 3, 2, 1).cos().sum()
    total = total + functional.local_response_norm(theirs, 5).sin().sum()
    total.backward()

    def loss(x):
        y = jnp.sin(ours.max_pool(x, 3, 2, 1, ceil_mode=True)).sum()
        y += jnp.cos(ours.avg_pool(x, 3, 2, 1)).sum()
        return y + jnp.sin(local_response_norm(x, 5, k=1.0, mean=True)).sum()

    same(jax.jit(jax.grad(loss))(jnp.asarray(images)), theirs.grad, atol=1e-5)
