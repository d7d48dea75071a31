"""The small networks of the studies: what a field changes, and nothing else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import Refused, create_model
from cnnjax.layers.lenet import TABLE_I, random_table

IMAGES = jax.random.normal(jax.random.key(1), (2, 8, 8, 1))


def applied(name, **fields):
    model = create_model(name, **fields)
    variables = model.init(jax.random.key(0), IMAGES, train=False)
    return model, variables, model.apply(variables, IMAGES, train=False)


@pytest.mark.parametrize("overlapping", [True, False])
def test_alexnet_small_is_its_table(overlapping):
    """In PyTorch's layers, with these weights."""
    torch = pytest.importorskip("torch", reason="torch is not installed: an oracle of tests only")
    functional, tensor = torch.nn.functional, torch.tensor
    _, variables, logits = applied("alexnet_small", overlapping=overlapping)
    window = 3 if overlapping else 2
    x = tensor(np.asarray(IMAGES)).permute(0, 3, 1, 2)
    for index in (1, 2, 3):
        params = variables["params"][f"conv{index}"]
        kernel, bias = (tensor(np.asarray(params[key])) for key in ("kernel", "bias"))
        x = functional.conv2d(x, kernel.permute(3, 2, 0, 1), bias, padding=2).relu()
        if index < 3:  # size times alpha: PyTorch divides it
            x = functional.local_response_norm(x, 5, alpha=5e-4, beta=0.75, k=2.0)
        x = functional.max_pool2d(x, window, 2, ceil_mode=True)
    head = variables["params"]["head"]
    flat = x.permute(0, 2, 3, 1).reshape(2, -1)
    wanted = flat @ tensor(np.asarray(head["kernel"])) + tensor(np.asarray(head["bias"]))
    np.testing.assert_allclose(logits, wanted, rtol=1e-5, atol=1e-6)


def test_poolings_differ_in_their_maps_and_not_in_their_parameters():
    found = {}
    for pooling in ("max", "average", "min", "strided"):
        model, variables, logits = applied("alexnet_small", pooling=pooling)
        maps = model.apply(variables, IMAGES, train=False, method="feature_maps")
        assert {stride: m.shape[1] for stride, m in maps.items()} == {2: 4, 4: 2, 8: 1}
        found[pooling] = np.asarray(logits)
        shapes = jax.tree.map(jnp.shape, variables)
        assert shapes == jax.tree.map(jnp.shape, applied("alexnet_small")[1])
    assert len({logits.tobytes() for logits in found.values()}) == 4


def test_without_a_sum_local_response_norm_is_a_factor():
    """Which is why alpha must fit the size of the pixels."""
    _, variables, with_tiny = applied("alexnet_small", lrn_alpha=0.0)
    plain = create_model("alexnet_small", lrn=False)
    x = plain.apply(variables, IMAGES, train=False)  # biases are 0, so factors pass
    head = variables["params"]["head"]["bias"][None]
    np.testing.assert_allclose(with_tiny - head, (x - head) * 2**-1.5, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["alexnet_small", "lenet_300_100"])
def test_a_width_that_leaves_nothing_is_refused(name):
    with pytest.raises(Refused, match=r"width 0\.001 leaves no"):
        create_model(name, width=0.001)


def test_a_dense_network_does_not_know_neighbours():
    """Permuted rows of its first kernel make up for permuted pixels."""
    model, variables, logits = applied("lenet_300_100", activation="relu")
    order = np.random.default_rng(0).permutation(64)
    moved = IMAGES.reshape(2, 64)[:, order].reshape(2, 8, 8, 1)
    kernel = variables["params"]["hidden1"]["kernel"]
    variables["params"]["hidden1"]["kernel"] = kernel[order]
    np.testing.assert_allclose(model.apply(variables, moved, train=False), logits, rtol=1e-5)


def test_a_random_table_has_as_many_connections_as_table_i():
    tables = [random_table(seed) for seed in range(20)]
    for table in tables:
        assert [len(seen) for seen in table] == [len(seen) for seen in TABLE_I]
        assert all(len(set(seen)) == len(seen) and set(seen) <= set(range(6)) for seen in table)
        assert len(set(table)) == 16  # no two maps alike, as in table I
    assert len(set(tables)) == 20
    assert random_table(3) == tables[3]


def test_lrn_of_vgg_small_stands_behind_its_first_unit():
    bare = {"normalization": "none", "features": (4,), "units": 1}
    model, variables, _ = applied("vgg_small", **bare, lrn=True, lrn_alpha=0.0)
    twin = create_model("vgg_small", **bare)
    maps = [
        m.apply(variables, IMAGES, train=False, method="feature_maps")[1] for m in (model, twin)
    ]
    np.testing.assert_allclose(maps[0], maps[1] * 2**-0.75, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("alexnet_small", {"lrn": False, "lrn_alpha": 1.0}),
        ("alexnet_small", {"pooling": "strided", "overlapping": False}),
        ("vgg_small", {"lrn_alpha": 1.0}),
        ("lenet5", {"connection_seed": 1}),
    ],
)
def test_a_field_without_effect_is_refused(name, fields):
    with pytest.raises(Refused, match="has no effect"):
        create_model(name, **fields)
