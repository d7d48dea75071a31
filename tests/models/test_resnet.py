"""Counts against the papers' figures, shapes at full size without compute, the contract small."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import Refused, create_model
from cnnjax.analysis.cost import model_cost
from cnnjax.testing import check_model

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "resnet.json").read_text())
IMAGENET, CIFAR = (224, 224, 3), (32, 32, 3)


@pytest.mark.core
@pytest.mark.parametrize(("name", "shortcut", "params", "macs"), GOLDEN["imagenet"])
def test_parameters_and_macs_of_every_shortcut(name, shortcut, params, macs):
    cost = model_cost(create_model(name, shortcut=shortcut), IMAGENET)
    assert (cost.params, cost.macs) == (params, macs)


@pytest.mark.parametrize(("name", "shortcut", "params", "macs"), GOLDEN["cifar"])
def test_parameters_and_macs_of_the_cifar_family(name, shortcut, params, macs):
    cost = model_cost(create_model(name, shortcut=shortcut), CIFAR)
    assert cost.params == params
    if macs is not None:
        assert cost.macs == macs


@pytest.mark.long  # by default in tests/analysis/test_layers.py
def test_depth_1202_is_counted_too():
    cost = model_cost(create_model("cifar_resnet1202"), CIFAR)
    assert (cost.params, cost.macs) == (19_421_274, 2_829_238_912)


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("cifar_resnet20", 32, {1: (32, 16), 2: (16, 32), 4: (8, 64)}),
        ("cifar_resnet20", 9, {1: (9, 16), 2: (5, 32), 4: (3, 64)}),
        ("resnet50", 224, {4: (56, 256), 8: (28, 512), 16: (14, 1024), 32: (7, 2048)}),
        ("resnet18", 65, {4: (17, 64), 8: (9, 128), 16: (5, 256), 32: (3, 512)}),
    ],
)
def test_feature_maps_by_stride(name, size, expected):
    model = create_model(name)
    images = jax.ShapeDtypeStruct((2, size, size, 3), jnp.float32)

    def maps(key, images):
        variables = model.init(key, images, train=False)
        return model.apply(variables, images, train=False, method="feature_maps")

    found = jax.eval_shape(maps, jax.random.key(0), images)
    assert {s: (m.shape[1], m.shape[3]) for s, m in found.items()} == expected


@pytest.mark.parametrize(("name", "size"), [("cifar_resnet20", 7), ("resnet18", 31)])
def test_images_that_are_too_small_are_refused(name, size):
    images = jnp.zeros((1, size, size, 3))
    with pytest.raises(Refused, match="needed"):
        create_model(name).init(jax.random.key(0), images, train=False)


@pytest.mark.parametrize(
    ("name", "overrides", "shape"),
    [
        pytest.param("cifar_resnet14", {"width": 0.25}, (8, 8, 1), marks=pytest.mark.core),
        ("cifar_plain14", {"width": 0.25}, (9, 8, 3)),
        ("cifar_resnet8", {"width": 0.25, "shortcut": "B"}, (8, 8, 1)),
        ("cifar_resnet14", {"width": 0.25, "shortcut": "C"}, (8, 8, 1)),
        ("cifar_resnet8", {"width": 0.25, "initialization": "he_fan_out"}, (8, 8, 1)),
    ],
)
def test_the_contract_of_a_network(name, overrides, shape):
    ran = check_model(create_model(name, **overrides), shape)
    assert len(ran) == 8


@pytest.mark.parametrize("initialization", ["he_fan_in", "he_fan_out"])
def test_he_initialisation_has_the_papers_variance(initialization):
    model = create_model("cifar_resnet20", initialization=initialization, width=4)
    shape = jax.ShapeDtypeStruct((1, 8, 8, 3), jnp.float32)
    params = model.lazy_init(jax.random.key(0), shape, train=False)["params"]
    kernel = np.asarray(params["stage2_block1"]["conv1"]["conv"]["kernel"])  # 3x3, 64 to 128
    fan = 9 * (64 if initialization == "he_fan_in" else 128)
    assert kernel.std() == pytest.approx(np.sqrt(2 / fan), rel=0.01)
    assert abs(kernel.mean()) < 4 * kernel.std() / np.sqrt(kernel.size)


def test_shortcut_a_subsamples_and_pads_with_zeros():
    model = create_model("cifar_resnet8", width=0.25)
    images = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    variables = model.lazy_init(jax.random.key(1), images, train=False)
    silent = jax.tree.map(lambda a: a, variables["params"])
    for block in ("stage1_block1", "stage2_block1", "stage3_block1"):
        silent[block]["conv2"]["norm"]["scale"] = jnp.zeros_like(
            silent[block]["conv2"]["norm"]["scale"]
        )  # the residual branch is silent: what is left is the shortcut
    maps = model.apply({**variables, "params": silent}, images, train=False, method="feature_maps")
    np.testing.assert_array_equal(maps[2][..., :4], maps[1][:, ::2, ::2])
    assert (maps[2][..., 4:] == 0).all()
    np.testing.assert_array_equal(maps[4][..., :4], maps[1][:, ::4, ::4])
