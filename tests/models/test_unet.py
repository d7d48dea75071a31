"""U-Net: figure 1 of its paper, and what a switch changes."""

from functools import partial
from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import Refused, create_model
from cnnjax.analysis.cost import model_cost
from cnnjax.interop.mapping import to_torch

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


def written_out(torch, params, images, upsampling, skip, padded):
    """A U-Net of two poolings in PyTorch's functions."""
    functional = torch.nn.functional

    def weights(name, order=(3, 2, 0, 1)):
        kernel = torch.tensor(np.asarray(params[name]["kernel"])).permute(*order)
        return kernel, torch.tensor(np.asarray(params[name]["bias"]))

    def twice(name, x):
        for index in (1, 2):
            x = functional.conv2d(x, *weights(f"{name}_conv{index}"), padding=int(padded)).relu()
        return x

    def middle(x, like):
        top, left = ((x.shape[k] - like.shape[k]) // 2 for k in (2, 3))
        return x[:, :, top : top + like.shape[2], left : left + like.shape[3]]

    x, beside = torch.tensor(np.asarray(images)).permute(0, 3, 1, 2), []
    for level in (0, 1):
        x = twice(f"down{level}", x)
        beside.append(x)
        x, places = functional.max_pool2d(x, 2, return_indices=True)
        beside.append(places)
    x = twice("bottom", x)
    for level in (1, 0):
        places, other = beside.pop(), beside.pop()
        if upsampling == "transposed":
            kernel, bias = weights(f"up{level}", (2, 3, 0, 1))
            x = functional.conv_transpose2d(x, kernel, bias, stride=2)
        elif upsampling == "bilinear":
            x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
            x = functional.conv2d(functional.pad(x, (0, 1, 0, 1)), *weights(f"up{level}"))
        else:
            x = functional.conv2d(functional.pad(x, (0, 1, 0, 1)), *weights(f"up{level}"))
            x = functional.max_unpool2d(x, places, 2)
        if skip != "none":
            other = middle(other, x)
            x = x + other if skip == "sum" else torch.cat([other, x], dim=1)
        x = twice(f"up{level}", x)
    return functional.conv2d(x, *weights("head")).permute(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("upsampling", "skip", "padded"),
    [
        ("transposed", "concat", False),
        ("bilinear", "sum", False),
        ("unpool", "none", True),
        ("bilinear", "concat", True),
    ],
)
def test_as_pytorch_computes_it(upsampling, skip, padded):
    torch = pytest.importorskip("torch", reason="torch is not installed: an oracle of tests only")
    model = create_model("unet", **SMALL, padded=padded, upsampling=upsampling, skip=skip)
    images = jax.random.normal(jax.random.key(1), (2, *((16, 24) if padded else (44, 48)), 1))
    params = model.init(jax.random.key(0), images, train=False)["params"]
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)  # biases too
    wanted = written_out(torch, params, images, upsampling, skip, padded)
    found = model.apply({"params": params}, images, train=False)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)
    if upsampling == "transposed":
        state = to_torch(model, {"params": params}, images.shape[1:])
        kernel = np.asarray(params["up0"]["kernel"]).transpose(2, 3, 0, 1)  # as it is above
        np.testing.assert_array_equal(state["up0.weight"], kernel)


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
