"""Layers read the context of the call that they are in."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from cnnjax import create_model
from cnnjax.layers.batch_statistics import in_training
from cnnjax.layers.context import Context, in_context


@pytest.mark.parametrize("name", ["cifar_resnet14", "cifar_preresnet8"])  # scanned; in `setup`
def test_the_context_of_a_call_says_which_replicas_share_batch_statistics(name):
    model = create_model(name, width=0.25)
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    variables = jax.jit(partial(model.init, train=False))(jax.random.key(1), images)

    def statistics(images):
        return model.apply(variables, images, train=True, mutable=["batch_stats"])[1]

    def of_two_replicas(images):
        return jax.vmap(statistics, axis_name="replicas")(images.reshape(2, 2, 8, 8, 1))

    whole, alone = jax.jit(lambda images: (statistics(images), of_two_replicas(images)))(images)
    with in_context(Context(norm_axis="replicas")), nn.intercept_methods(in_training):
        shared = jax.jit(of_two_replicas)(images)
    twice = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf]), whole)
    chex.assert_trees_all_close(shared, twice, rtol=1e-4, atol=1e-5)
    for leaf in jax.tree.leaves(alone):
        assert not jnp.allclose(leaf[0], leaf[1], rtol=1e-4, atol=1e-5)
