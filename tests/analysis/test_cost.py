import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from cnnjax.analysis.cost import count_macs, model_cost


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
