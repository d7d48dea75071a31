"""What the papers say about LeNet-5, AlexNet, VGG and GoogLeNet beyond their counts."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import Refused, create_model
from cnnjax.analysis.cost import model_cost
from cnnjax.layers.lenet import RBF, TABLE_I, PartialConv
from cnnjax.models.lenet_bitmaps import BITMAPS
from cnnjax.ops.conv import formulation
from cnnjax.testing import check_model


def strides(name, size, **fields):
    model = create_model(name, **fields)
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)

    def maps(key, images):
        variables = model.init(key, images, train=False)
        return model.apply(variables, images, train=False, method="feature_maps")

    found = jax.eval_shape(maps, jax.random.key(0), images)
    return {stride: (m.shape[1], m.shape[3]) for stride, m in found.items()}


@pytest.mark.parametrize(
    ("name", "size", "expected"),
    [
        ("lenet5", 32, {1: (28, 6), 2: (10, 16), 4: (1, 120)}),
        ("alexnet", 227, {4: (55, 96), 8: (27, 256), 16: (13, 256), 32: (6, 256)}),
        ("alexnet_torchvision", 224, {4: (55, 64), 8: (27, 192), 16: (13, 256), 32: (6, 256)}),
        ("vgg16", 64, {1: (64, 64), 2: (32, 128), 4: (16, 256), 8: (8, 512), 16: (4, 512),
                       32: (2, 512)}),
        ("googlenet", 224, {2: (112, 64), 4: (56, 192), 8: (28, 480), 16: (14, 832),
                            32: (7, 1024)}),
    ],
)  # fmt: skip
def test_feature_maps_by_stride(name, size, expected):
    assert strides(name, size) == expected


def test_table_i_has_the_papers_60_connections():
    assert len(TABLE_I) == 16
    assert sum(map(len, TABLE_I)) == 60
    rows = [[f for f, seen in enumerate(TABLE_I) if i in seen] for i in range(6)]
    assert rows == [  # the crosses of table I
        [0, 4, 5, 6, 9, 10, 11, 12, 14, 15],
        [0, 1, 5, 6, 7, 10, 11, 12, 13, 15],
        [0, 1, 2, 6, 7, 8, 11, 13, 14, 15],
        [1, 2, 3, 6, 7, 8, 9, 12, 14, 15],
        [2, 3, 4, 7, 8, 9, 10, 12, 13, 15],
        [3, 4, 5, 8, 9, 10, 11, 13, 14, 15],
    ]


@pytest.mark.parametrize("connections", [TABLE_I, ((0,), (1, 2), (5,), (3, 0))])
def test_an_output_map_sees_its_connections_and_no_other(connections):
    layer = PartialConv(connections, 3)
    images = jax.random.normal(jax.random.key(0), (1, 5, 5, 6))
    variables = layer.init(jax.random.key(1), images)
    jacobian = jax.jacobian(lambda x: layer.apply(variables, x).sum((0, 1, 2)))(images)
    reached = np.abs(jacobian).sum((1, 2, 3)) > 0  # [output map, input map]
    expected = [[i in seen for i in range(6)] for seen in connections]
    np.testing.assert_array_equal(reached, expected)
    with formulation("library"):  # as on an accelerator: grouped
        grouped = layer.apply(variables, images)
    np.testing.assert_allclose(layer.apply(variables, images), grouped, atol=1e-5)


def test_rbf_is_minus_half_the_squared_distance():
    x = np.asarray(jax.random.normal(jax.random.key(0), (3, 84)))
    found = RBF(BITMAPS).apply({}, jnp.asarray(x))
    expected = -0.5 * ((x[:, None].astype(np.float64) - np.asarray(BITMAPS)) ** 2).sum(-1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_bitmaps_are_ten_different_drawings():
    bitmaps = np.asarray(BITMAPS)
    assert bitmaps.shape == (10, 84)
    assert set(bitmaps.ravel()) == {-1, 1}
    distances = (bitmaps[:, None] != bitmaps).sum(-1)
    assert distances[~np.eye(10, dtype=bool)].min() >= 5


@pytest.mark.parametrize(
    ("name", "size", "channels"),
    [
        ("lenet5", 8, 1),
        ("lenet5", 28, 1),
        ("lenet5", 32, 3),
        ("lenet5_modern", 8, 1),
        # Enlarging and padding are the same code.
        pytest.param("lenet5_modern", 28, 1, marks=pytest.mark.long),
        pytest.param("lenet5_modern", 32, 3, marks=pytest.mark.long),
    ],
)
def test_lenet_takes_three_sizes_of_image(name, size, channels):
    assert len(check_model(create_model(name), (size, size, channels))) == 7


def test_digits_are_enlarged_and_mnist_is_padded_with_its_border():
    model = create_model("lenet5")
    small = jax.random.normal(jax.random.key(0), (2, 8, 8, 1))
    variables = model.init(jax.random.key(1), small, train=False)
    large = jnp.asarray(np.kron(np.asarray(small), np.ones((1, 4, 4, 1), np.float32)))
    np.testing.assert_array_equal(
        model.apply(variables, small, train=False), model.apply(variables, large, train=False)
    )
    mnist = jnp.full((1, 28, 28, 1), -0.1)
    np.testing.assert_array_equal(
        model.apply(variables, mnist, train=False),
        model.apply(variables, jnp.full((1, 32, 32, 1), -0.1), train=False),
    )
    with pytest.raises(Refused, match="LeNet-5 takes 32x32"):
        model.apply(variables, jnp.zeros((1, 31, 32, 1)), train=False)


def test_lenet_initial_weights_lie_within_the_papers_bounds():
    params = create_model("lenet5").init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)), train=False)[
        "params"
    ]
    for array, fan in (
        (params["c1"]["kernel"], 25),
        (params["c3"]["kernel3"], 75),
        (params["c3"]["kernel6"], 150),
        (params["f6"]["kernel"], 120),
        (params["s2"]["coefficient"], 4),
    ):
        assert np.abs(array).max() <= 2.4 / fan
        assert np.abs(array).max() > 1.2 / fan


def test_alexnet_starts_with_biases_of_1_where_the_paper_says():
    model = create_model("alexnet", num_classes=10)
    shape = jax.ShapeDtypeStruct((1, 67, 67, 3), jnp.float32)
    params = model.lazy_init(jax.random.key(0), shape, train=False)["params"]
    ones = {name for name, layer in params.items() if (np.asarray(layer["bias"]) == 1).all()}
    assert ones == {"conv2", "conv4", "conv5", "dense6", "dense7"}
    assert np.asarray(params["dense7"]["kernel"]).std() == pytest.approx(0.01, rel=0.01)


@pytest.mark.parametrize(("groups", "sees"), [(2, False), (1, True)])
def test_the_towers_meet_in_conv3_and_not_before(groups, sees):
    model = create_model("alexnet", num_classes=10, groups=groups, lrn=False)
    images = jax.random.normal(jax.random.key(0), (1, 67, 67, 3))
    variables = dict(model.lazy_init(jax.random.key(1), images, train=False))

    def second_half_of_conv2(kernel):
        params = {
            **variables["params"],
            "conv1": {**variables["params"]["conv1"], "kernel": kernel},
        }
        maps = model.apply({"params": params}, images, train=False, method="feature_maps")
        return maps[8][..., 128:].sum(), maps[16].sum()

    kernel = variables["params"]["conv1"]["kernel"]
    conv2, conv5 = jax.jacrev(second_half_of_conv2)(kernel)
    assert bool(np.any(conv2[..., :48] != 0)) == sees  # conv1's first tower
    assert np.any(conv2[..., 48:] != 0)
    assert np.any(conv5[..., :48] != 0)


@pytest.mark.parametrize(
    ("name", "fields", "size"),
    [
        ("alexnet", {"pooling": "non_overlapping", "activation": "tanh", "lrn": False, "groups": 1,
                     "dropout": 0.0}, 79),
        pytest.param("alexnet", {"pooling": "non_overlapping"}, 79, marks=pytest.mark.long),
        pytest.param("alexnet", {"activation": "tanh", "lrn": False, "groups": 1, "dropout": 0.0},
                     67, marks=pytest.mark.long),
        pytest.param("vgg11", {"kernel": "5x5", "norm": "batch"}, 32, marks=pytest.mark.long),
        pytest.param("googlenet", {"norm": "batch"}, 32, marks=pytest.mark.long),
        ("lenet5", {"connections": "full", "pooling": "max", "activation": "relu"}, 32),
    ],
)  # fmt: skip
def test_every_switch_of_an_ablation_keeps_the_contract(name, fields, size):
    extra = {} if name == "lenet5" else {"num_classes": 10}
    assert len(check_model(create_model(name, **fields, **extra), (size, size, 3))) == 7


@pytest.mark.parametrize(
    ("name", "fields", "convolutions"),
    [("vgg11", {"kernel": "5x5"}, 5), ("googlenet", {}, 57)],
)
def test_every_convolution_has_a_batch_normalisation(name, fields, convolutions):
    """By shapes: what it does in numbers is in the contract of vgg11_bn."""
    model = create_model(name, num_classes=10, norm="batch", **fields)
    images = jax.ShapeDtypeStruct((4, 32, 32, 3), jnp.float32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    for train in (False, True):
        logits, variables = jax.eval_shape(
            partial(model.init_with_output, train=train), keys, images
        )
        assert (logits.shape, logits.dtype) == ((4, 10), jnp.float32)
    leaves = [(path[-1].key, leaf) for path, leaf in jax.tree.leaves_with_path(variables["params"])]
    assert sum(kind == "kernel" and leaf.ndim == 4 for kind, leaf in leaves) == convolutions
    assert sum(kind == "scale" for kind, _ in leaves) == convolutions
    assert len(jax.tree.leaves(variables["batch_stats"])) == 2 * convolutions


def test_non_overlapping_pooling_has_the_same_sizes():
    plain = model_cost(create_model("alexnet"), (227, 227, 3))
    other = model_cost(create_model("alexnet", pooling="non_overlapping"), (227, 227, 3))
    assert (plain.params, plain.macs) == (other.params, other.macs)


def test_one_5x5_in_place_of_two_3x3_leaves_an_odd_one():
    names = create_model("vgg16", kernel="5x5").stages()
    assert [size for _, size in names.values()] == [5, 5, 5, 3, 5, 3, 5, 3]


def test_dropout_is_a_field_and_acts_while_training_only():
    images = jnp.ones((1, 67, 67, 3))
    model = create_model("alexnet", num_classes=10)
    variables = model.lazy_init(jax.random.key(0), images, train=False)

    def run(model, seed):
        return model.apply(variables, images, train=True, rngs={"dropout": jax.random.key(seed)})

    assert not np.array_equal(run(model, 0), run(model, 1))
    still = model.clone(dropout=0.0)
    np.testing.assert_array_equal(run(still, 0), run(still, 1))
    np.testing.assert_array_equal(run(still, 0), model.apply(variables, images, train=False))


def test_auxiliary_heads_cost_nothing_without_training():
    model = create_model("googlenet", aux=True)
    assert model_cost(model, (224, 224, 3)).macs == 1_582_671_872
    assert model_cost(model, (224, 224, 3), train=True).macs == 1_591_044_096
    other = create_model("googlenet_torchvision", aux=True)
    assert model_cost(other, (224, 224, 3), train=True).macs == 1_506_748_416


def test_seven_classes_need_another_output():
    with pytest.raises(Refused, match="ten digits only"):
        create_model("lenet5", num_classes=7)
    create_model("lenet5", num_classes=7, output="dense")
