"""Layer by layer, receptive field and memory, against the papers and by hand."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax import Refused, create_model
from cnnjax.analysis.comparison import compare
from cnnjax.analysis.cost import model_cost
from cnnjax.core.architectures import MODELS

pytestmark = pytest.mark.core  # also on every other Python: make test-core

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "lineage.json").read_text())


@pytest.mark.parametrize(("name", "params", "macs", "field", "stride"), GOLDEN["rows"])
def test_counts_and_receptive_field_to_the_digit(name, params, macs, field, stride):
    cost = model_cost(create_model(name), MODELS.find(name).input_shape)
    assert (cost.params, cost.macs, cost.flops) == (params, macs, 2 * macs)
    assert (cost.field.size, cost.field.stride) == (field, stride)
    assert sum(layer.params for layer in cost.layers) == params
    assert sum(layer.macs for layer in cost.layers) == macs


def test_padding_with_the_border_keeps_the_receptive_field():
    whole = model_cost(create_model("lenet5"), (32, 32, 1)).layers
    padded = model_cost(create_model("lenet5"), (28, 28, 1)).layers
    for a, b in zip(whole[:5], padded[:5], strict=True):
        assert (a.field.size, a.field.stride) == (b.field.size, b.field.stride)
        assert b.field.offset == a.field.offset - 2  # two pixels of border in front


def test_a_network_that_prints_is_counted_as_one_that_does_not():
    class Prints(nn.Module):
        prints: bool = True

        @nn.compact
        def __call__(self, images, *, train):
            if self.prints:
                jax.debug.print("{}", images.mean())
            return nn.Dense(10)(images.reshape(images.shape[0], -1))

    said, silent = (model_cost(Prints(prints), (8, 8, 1)) for prints in (True, False))
    assert (said.params, said.macs) == (silent.params, silent.macs) == (650, 640)
    assert [row.field for row in said.layers] == [row.field for row in silent.layers]


def test_alexnet_layer_by_layer():
    rows = [
        [list(layer.output[1:]), layer.params, layer.macs,
         layer.field and layer.field.size, layer.field and layer.field.stride]
        for layer in model_cost(create_model("alexnet"), (227, 227, 3)).layers
    ]  # fmt: skip
    assert rows == GOLDEN["alexnet"]


def test_lenets_connections_as_the_paper_counts_them():
    layers = model_cost(create_model("lenet5"), (32, 32, 1)).layers
    found = [[layer.name.split("/")[0], layer.params, layer.connections] for layer in layers]
    assert found == GOLDEN["lenet5"]
    assert sum(layer.connections for layer in layers) == 340_908


def test_scanned_blocks_have_a_row_each_under_their_own_names():
    layers = model_cost(create_model("cifar_resnet20"), (32, 32, 3)).layers
    convolutions = [layer.name for layer in layers if layer.kind.startswith("conv")]
    assert len(convolutions) == 19
    assert convolutions[:4] == [
        "stem/conv",
        "stage1_block1/conv1/conv",
        "stage1_block1/conv2/conv",
        "stage1_block2/conv1/conv",
    ]
    sizes = [layer.field.size for layer in layers if layer.kind.startswith("conv")]
    assert sizes[:4] == [3, 5, 7, 9]
    assert sizes[-1] == 81


class Branches(nn.Module):
    """3x3 beside 5x5 at stride 2, a dilated one behind, weights used twice."""

    @nn.compact
    def __call__(self, images, *, train):
        a = nn.Conv(4, (3, 3), padding=1, name="a")(images)
        b = nn.Conv(4, (5, 5), padding=2, name="b")(images)
        x = nn.Conv(4, (3, 3), strides=2, padding=1, name="c")(a + b)
        twice = nn.Conv(4, (3, 3), kernel_dilation=2, padding=2, name="d")
        x = twice(twice(x))
        x = x.mean((1, 2))
        return nn.Dense(3, name="e")(x)


def test_a_users_branches_dilation_and_shared_weights():
    cost = model_cost(Branches(), (16, 16, 3))
    rows = {layer.name: layer for layer in cost.layers}
    assert [rows[name].field.size for name in "abcd"] == [3, 5, 7, 23]
    assert rows["d"].field.stride == 2
    assert rows["d"].params == 9 * 16 + 4  # once
    assert rows["d"].macs == 2 * 8 * 8 * 4 * 36  # twice
    assert rows["e"].field is None


class Wrapped(nn.Module):
    """Parameters behind transformations that lose or add names, and one of its own."""

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Sequential([nn.Conv(4, (3, 3)), nn.relu, nn.Conv(4, (3, 3))])(images)
        x = nn.remat(nn.Conv)(5, (3, 3))(x)
        x = x * self.param("scale", nn.initializers.ones, (1, 1, 1, 5))
        return nn.Dense(10)(x.mean((1, 2)))


def test_layers_keep_their_rows_behind_sequential_and_remat():
    cost = model_cost(Wrapped(), (8, 8, 3))
    rows = {layer.name: (layer.params, layer.macs) for layer in cost.layers}
    assert rows == {
        "Conv_0": (112, 64 * 4 * 27),
        "Conv_1": (148, 64 * 4 * 36),
        "CheckpointConv_0": (185, 64 * 5 * 36),
        "root": (5, 0),
        "Dense_0": (60, 50),
    }


def test_the_offset_is_the_centre_of_what_the_first_unit_sees():
    rows = model_cost(create_model("vgg11"), (224, 224, 3)).layers
    pools = [layer.field.offset for layer in rows if layer.kind.startswith("max_pool")]
    assert pools == [0.5, 1.5, 3.5, 7.5, 15.5]  # centres of 2, 4, 8, 16, 32 pixels


@pytest.mark.parametrize(("name", "size"), [("cifar_resnet14", 61), ("lenet5_modern", 32)])
def test_the_receptive_field_is_what_a_gradient_reaches(name, size):
    """A unit in the middle depends on no pixel outside of its field, and on its corners."""
    model = create_model(name)
    channels = MODELS.find(name).input_shape[2]
    cost = model_cost(model, (size, size, channels))
    images = jnp.abs(jax.random.normal(jax.random.key(0), (1, size, size, channels)))
    variables = model.init(jax.random.key(1), images, train=False)
    positive = jax.tree.map(jnp.abs, variables)  # nothing cancels, no ReLU is dead
    stride = max(find_maps(model, positive, images))
    height = find_maps(model, positive, images)[stride].shape[1]
    middle = height // 2

    def unit(x):
        maps = model.apply(positive, x, train=False, method="feature_maps")
        return maps[stride][0, middle, middle].sum()

    reached = np.abs(jax.grad(unit)(images)).sum((0, 3)) > 0
    rows = np.flatnonzero(reached.any(1))
    centre = cost.field.offset + middle * cost.field.stride
    low, high = centre - (cost.field.size - 1) / 2, centre + (cost.field.size - 1) / 2
    assert (rows[0], rows[-1]) == (max(low, 0), min(high, size - 1))


def find_maps(model, variables, images):
    return model.apply(variables, images, train=False, method="feature_maps")


def test_peak_memory_by_hand():
    class Two(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            x = nn.relu(nn.Conv(8, (3, 3), padding=1)(images))
            x = nn.Conv(4, (3, 3), padding=1)(x)
            return x.mean((1, 2))

    pixels = 16 * 16 * 4  # bytes of one channel in float32
    cost = model_cost(Two(), (16, 16, 3))
    assert cost.peak_bytes == (8 + 4) * pixels  # the first map and the second
    assert model_cost(Two(), (16, 16, 3), batch=5).peak_bytes == 5 * cost.peak_bytes
    assert cost.activations == 16 * 16 * (8 + 4)


def test_depth_does_not_raise_the_peak():
    shallow = model_cost(create_model("cifar_resnet20"), (32, 32, 3))
    deep = model_cost(create_model("cifar_resnet110"), (32, 32, 3))
    assert shallow.peak_bytes == deep.peak_bytes


def test_a_net_that_rejects_the_input_is_refused_in_its_own_words():
    class Picky(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            raise ValueError("only squares")

    with pytest.raises(Refused, match="Picky does not take images of 4x5x3: ValueError: only"):
        model_cost(Picky(), (4, 5, 3))


def test_the_circulating_comparison_cell_by_cell():
    rows = {row["network"]: row["cells"] for row in compare()}

    def found(network, cell):
        return [what.split(":")[0] for what in rows[network][cell]["reproduced_by"]]

    assert found("AlexNet", "params") == ["alexnet_ungrouped, trained"]
    assert found("AlexNet", "flops") == []
    assert rows["AlexNet"]["flops"]["nearest"] == "alexnet, FLOPs = 2 x MACs: 1,448,813,632"
    assert found("VGGNet", "params") == ["vgg16, trained"]
    assert found("VGGNet", "flops") == ["vgg19, MACs"]
    assert found("VGGNet", "top5") == []
    assert found("Inception", "params") == []
    assert found("Inception", "flops")[0] == "googlenet, MACs"
    assert found("ResNet-152", "params")[0] == "resnet152_v1, with running statistics"
    assert found("ResNet-152", "flops") == ["resnet152_v1, MACs"]
    for network, error in (("AlexNet", "15.3"), ("Inception", "6.67"), ("ResNet-152", "4.49")):
        assert found(network, "top5")[0].startswith(error)
