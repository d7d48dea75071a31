from functools import cache

import chex
import jax
import jax.numpy as jnp
import pytest

from cnnjax import create_model
from cnnjax.layers.scan import stack_blocks, unstack_blocks

MODELS = [("cifar_resnet20", "A"), ("cifar_resnet20", "C"), ("cifar_plain20", "none")]


def setup(name, shortcut):
    model = create_model(name, shortcut=shortcut, width=0.25)
    images = jax.random.normal(jax.random.key(0), (4, 8, 8, 1))
    return model, images, dict(model.lazy_init(jax.random.key(1), images, train=False))


def unrolled(model, variables, images):
    """The network block by block, as `init` runs it: nothing is scanned."""
    from cnnjax.layers.conv_norm import ConvNorm

    stats = {}

    def run(module, name, x):
        inside = {key: tree[name] for key, tree in variables.items()}
        x, updates = module.apply(inside, x, train=True, mutable=["batch_stats"])
        stats[name] = updates["batch_stats"]
        return x

    x = jax.nn.relu(run(ConvNorm(round(16 * model.width), parent=None), "stem", images))
    for stage in model.stages():
        for name, block in stage.items():
            x = run(block, name, x)
    head = variables["params"]["head"]
    return x.mean((1, 2)) @ head["kernel"] + head["bias"][None], stats


def gradient(variables, function):
    def loss(params):
        out, stats = function({**variables, "params": params})
        return jnp.mean(out**2), (out, stats)

    return jax.jit(jax.grad(loss, has_aux=True))(variables["params"])


@cache
def expected(name, shortcut):
    model, images, variables = setup(name, shortcut)
    return gradient(variables, lambda given: unrolled(model, given, images))


@pytest.mark.parametrize(("name", "shortcut"), MODELS)
@pytest.mark.parametrize("stacked", [False, True])
def test_scanned_blocks_equal_unrolled_ones(name, shortcut, stacked):
    model, images, variables = setup(name, shortcut)
    runs = model.equal_blocks()
    assert len(runs) == 3

    def scanned(variables):
        given = stack_blocks(variables, runs) if stacked else variables
        out, updates = model.apply(given, images, train=True, mutable=["batch_stats"])
        return out, unstack_blocks(dict(updates), runs)["batch_stats"]

    found = gradient(variables, scanned)
    chex.assert_trees_all_close(found, expected(name, shortcut), rtol=1e-3, atol=1e-4)


def test_unstacking_gives_back_every_tree():
    model, _, variables = setup("cifar_resnet20", "A")
    runs = model.equal_blocks()
    tree = {"params": variables["params"], "trace": [variables["params"], jnp.zeros(3)]}
    stacked = stack_blocks(tree, runs)
    assert "stage1_block1..stage1_block3" in stacked["trace"][0]
    chex.assert_trees_all_equal(unstack_blocks(stacked, runs), tree)


def test_a_deeper_network_is_no_longer_program():
    def equations(depth):
        model = create_model(f"cifar_resnet{depth}", width=0.25)
        images = jnp.zeros((2, 8, 8, 1))
        variables = stack_blocks(
            dict(model.lazy_init(jax.random.key(1), images, train=False)), model.equal_blocks()
        )
        return len(jax.make_jaxpr(lambda v: model.apply(v, images, train=False))(variables).eqns)

    assert equations(20) == equations(44)
