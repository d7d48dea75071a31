"""U-Net: figure 1 of its paper, and what a switch changes."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import Refused, create_model
from cnnjax.analysis.cost import model_cost

SMALL = {"features": 2, "depth": 2}
SWITCHES = list(product(["transposed", "bilinear", "unpool"], ["concat", "sum", "none"]))


def shape(model, *size):
    images = jax.ShapeDtypeStruct((1, *size), jnp.float32)
    init = partial(model.init_with_output, train=False)
    return jax.eval_shape(init, jax.random.key(0), images)[0].shape


def test_the_papers_sizes():
    assert shape(create_model("unet"), 572, 572, 1) == (1, 388, 388, 2)


@pytest.mark.parametrize(
    ("upsampling", "skip", "padded"),
    [
        ("transposed", "none", True),
        ("bilinear", "sum", True),
        ("unpool", "concat", True),
        ("transposed", "concat", False),
        ("unpool", "sum", False),
    ],
)
def test_every_switch_gives_a_map_and_gradients(upsampling, skip, padded):
    model = create_model("unet", **SMALL, padded=padded, upsampling=upsampling, skip=skip)
    size = 16 if padded else 44
    images = jax.random.normal(jax.random.key(1), (2, size, size, 1))
    variables = model.init(jax.random.key(0), images, train=False)

    @jax.jit
    @jax.value_and_grad
    def loss(params):
        logits = model.apply({"params": params}, images, train=False)
        assert logits.shape == (2, *([16] * 2 if padded else [4] * 2), 2)
        return (logits**2).mean()

    _, grads = loss(variables["params"])
    for path, grad in jax.tree.flatten_with_path(grads)[0]:
        assert np.asarray(grad).any(), path


def test_upsamplings_have_as_many_parameters():
    """So that a study of them varies nothing else."""
    counts = {
        (upsampling, skip): model_cost(
            create_model("unet_small", upsampling=upsampling, skip=skip), (64, 64, 1)
        ).params
        for upsampling, skip in SWITCHES
    }
    assert counts["transposed", "concat"] == 121_042
    for skip in ("concat", "sum", "none"):
        assert len({counts[up, skip] for up in ("transposed", "bilinear", "unpool")}) == 1
    assert counts["transposed", "sum"] == counts["transposed", "none"]


def test_a_joined_map_is_the_middle_of_the_one_beside():
    """Where nothing comes from below, an unpadded net without convolutions would crop."""
    from cnnjax.models.unet import _middle

    x = jnp.arange(36.0).reshape(1, 6, 6, 1)
    np.testing.assert_array_equal(_middle(x, (2, 4))[0, :, :, 0], x[0, 2:4, 1:5, 0])


@pytest.mark.parametrize(
    ("fields", "size", "text"),
    [
        ({}, 64, "sides of 188 px"),
        ({"padded": True}, 60, "sides of 48 or 64 px, not 60"),
        ({"padded": True}, 8, "sides of 16"),
    ],
)
def test_images_that_do_not_fit(fields, size, text):
    with pytest.raises(Refused, match=text):
        shape(create_model("unet", **fields), size, size, 1)


@pytest.mark.parametrize("fields", [{"depth": 0}, {"width": 0.001}, {"features": 0}])
def test_impossible_nets(fields):
    with pytest.raises(Refused, match="a U-Net has a pooling, 8 at most, and a channel"):
        create_model("unet", **fields)
