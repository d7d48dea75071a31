import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax.analysis.cost import count_macs, model_cost

pytestmark = pytest.mark.core  # also on every other Python: make test-core


class UsersNet(nn.Module):
    """Grouped, transposed and 1-d products: nothing of ours."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(8, (3, 3), feature_group_count=2, padding="VALID")(images)
        x = nn.ConvTranspose(4, (2, 2), strides=(2, 2), use_bias=False)(x)
        return nn.Dense(5)(x.reshape(x.shape[0], -1))


def test_a_users_architecture_is_counted_without_help():
    cost = model_cost(UsersNet(), (6, 6, 4))
    conv = 4 * 4 * 8 * (3 * 3 * 2)
    dense = 8 * 8 * 4 * 5
    transposed = 4 * 4 * 8 * (2 * 2 * 4)  # each pixel meets each tap: inserted zeros cost nothing
    assert cost.macs == conv + transposed + dense
    assert cost.params == (3 * 3 * 2 * 8 + 8) + (2 * 2 * 8 * 4) + (8 * 8 * 4 * 5 + 5)
    assert cost.flops == 2 * cost.macs


def test_loops_and_branches_are_counted():
    matrix = jnp.ones((3, 3))

    def looped(x):
        return jax.lax.scan(lambda c, _: (c @ matrix, None), x, None, length=4)[0]

    def branched(x):
        return jax.lax.cond(x[0, 0] > 0, lambda v: v @ matrix @ matrix, lambda v: v, x)

    assert count_macs(looped, matrix) == 4 * 27
    assert count_macs(jax.jit(looped), matrix) == 4 * 27
    assert count_macs(branched, matrix) == 2 * 27


@pytest.mark.parametrize("batch", [1, 3])
def test_macs_grow_with_the_batch(batch):
    assert count_macs(lambda x: x @ jnp.ones((5, 7)), jnp.ones((batch, 5))) == batch * 35


def macs(compute, shape=(8, 8, 3)):
    """Of a network that is one function, and its rows."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            return compute(images)

    cost = model_cost(Net(), shape)
    return cost.macs, [layer.kind for layer in cost.layers]


NHWC = ("NHWC", "HWIO", "NHWC")
BLUR = np.outer([1, 2, 1], [1, 2, 1]).astype(np.float32)


def convolved(x, kernel, groups=1):
    return jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=NHWC, feature_group_count=groups
    )


def patches(x):
    return jax.lax.conv_general_dilated_patches(x, (3, 3), (1, 1), "SAME", dimension_numbers=NHWC)


@pytest.mark.parametrize(
    "move",
    [
        lambda x: jax.image.resize(x, (x.shape[0], 16, 16, 3), "bilinear"),
        lambda x: jax.image.resize(x, (x.shape[0], 4, 4, 3), "cubic"),
        lambda x: jax.image.resize(x * x.mean((1, 2), keepdims=True), (1, 16, 16, 3), "bilinear"),
        patches,
        lambda x: jnp.einsum("nhwc,hk->nkwc", x, np.tril(np.ones((8, 8)))),
        lambda x: jnp.einsum("nhwc,hw->nc", x, np.full((8, 8), 1 / 64)),
        lambda x: jnp.einsum("nhwc,hk->nkwc", x, jax.nn.one_hot(np.array([3, 1]), 8).T),
        lambda x: x @ np.eye(3)[:, [2, 0, 1]],  # channels in another order
        lambda x: jnp.einsum("ntc,ts->nsc", x.reshape(1, 64, 3), np.full((64, 4), 1 / 64)),
        lambda x: convolved(x, np.repeat(BLUR[..., None, None], 3, 3), groups=3),
        lambda x: convolved(x, BLUR[..., None, None] * np.eye(3, dtype=np.float32)),
        lambda x: convolved(x[..., :1], jnp.ones((3, 3, 1, 5))),
        lambda x: x + (jnp.ones((3, 3)) @ jnp.ones((3, 3)))[0, 0],  # constants alone
    ],
    ids=["resize", "down", "excited", "patches", "cumulative", "mean", "one-hot", "permuted",
         "tokens", "blur", "blur-full", "one-channel", "constants"],
)  # fmt: skip
def test_what_fixed_weights_do_along_the_map_is_no_layer(move):
    assert macs(move) == (0, [])


@pytest.mark.parametrize(
    ("mix", "expected"),
    [
        (lambda x: x @ np.full((3, 1), 1 / 3), 64 * 3),  # colours to grey
        (lambda x: x @ np.tril(np.ones((3, 3))), 64 * 9),
        (lambda x: convolved(x, jnp.ones((3, 3, 3, 2))), 64 * 27 * 2),
        (lambda x: patches(x) @ np.ones((27, 2)), 64 * 27 * 2),
        (lambda x: x.reshape(1, -1) @ np.ones((192, 5)), 192 * 5),
        (lambda x: x.mean((1, 2)) @ np.ones((3, 7)), 21),
        (lambda x: jnp.einsum("nhwc,nhwd->ncd", x, x), 64 * 9),  # weights from the images
    ],
    ids=["grey", "triangular", "conv", "patches", "flat", "head", "gram"],
)
def test_fixed_weights_that_mix_features_are_a_layer(mix, expected):
    assert macs(mix)[0] == expected


def test_a_resized_map_costs_its_convolutions_alone():
    def compute(x):
        x = nn.Conv(16, (3, 3))(x)
        return nn.Conv(4, (3, 3))(jax.image.resize(x, (1, 64, 64, 16), "bilinear"))

    expected = 32 * 32 * 27 * 16 + 64 * 64 * 9 * 16 * 4
    assert macs(compute, (32, 32, 3)) == (expected, ["conv 3x3", "conv 3x3"])


def test_products_of_arguments_count_whatever_they_are_multiplied_by():
    assert count_macs(lambda x: x @ jnp.eye(5), jnp.ones((2, 5))) == 50
    assert count_macs(lambda x, w: x @ w, jnp.ones((2, 5)), jnp.eye(5)) == 50
