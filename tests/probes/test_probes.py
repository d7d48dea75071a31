"""What the probes see, against gradients and deviations that are computed by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnnjax import Refused, create_model
from cnnjax.probes.layers import layer_names
from cnnjax.probes.receptive_field import influence_map
from cnnjax.probes.registry import PROBES
from cnnjax.probes.shifts import moved
from cnnjax.training.probing import check_probe
from tests.runs import classification, small_batch

BATCH = small_batch()


class TwoLayers(nn.Module):
    """A convolution with ReLU and a dense layer."""

    num_classes: int = 10

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.relu(nn.Conv(4, (3, 3), name="conv")(images))
        return nn.Dense(self.num_classes, name="head")(x.reshape(len(x), -1))


class OneKernel(nn.Module):
    """A convolution of 3x3 ones, and its map at stride 1."""

    num_classes: int = 10

    def setup(self):
        self.conv = nn.Conv(1, (3, 3), kernel_init=nn.initializers.ones)
        self.head = nn.Dense(self.num_classes)

    def feature_maps(self, images, *, train):
        return {1: self.conv(images)}

    def __call__(self, images, *, train):
        return self.head(self.feature_maps(images, train=train)[1].mean((1, 2)))


def look(name, model, change=lambda params: params, batch=BATCH):
    task = classification(model, batch["images"].shape[1:], 10)
    state = task.init(jax.random.key(0))
    state = state.replace(params=change(state.params))
    return PROBES.find(name).make(task, state, batch), task, state


def by_hand(params, images):
    """Logits of `TwoLayers`, and the map before its ReLU."""
    conv = jax.lax.conv_general_dilated(
        images, params["conv"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    conv = conv + params["conv"]["bias"][None, None, None]
    flat = nn.relu(conv).reshape(len(images), -1)
    return flat @ params["head"]["kernel"] + params["head"]["bias"][None], conv


def loss_of(logits, labels):
    return -jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels]


def test_gradient_norms_are_those_of_each_example():
    found, _, state = look("gradient_norm", TwoLayers())
    norms = {"images": [], "conv": [], "head": []}
    for image, label in zip(BATCH["images"], BATCH["labels"], strict=True):
        params, label = state.params, label[None]

        def from_images(image, params=params, label=label):
            return loss_of(by_hand(params, image[None])[0], label)[0]

        def from_map(conv, params=params, label=label):
            flat = nn.relu(conv).reshape(1, -1)
            return loss_of(flat @ params["head"]["kernel"] + params["head"]["bias"][None], label)[0]

        logits, conv = by_hand(params, image[None])
        norms["images"].append(np.linalg.norm(jax.grad(from_images)(image)))
        norms["conv"].append(np.linalg.norm(jax.grad(from_map)(conv)))
        norms["head"].append(np.linalg.norm(jax.grad(lambda z, y=label: loss_of(z, y)[0])(logits)))
    assert {k: float(v) for k, v in found.items()} == pytest.approx(
        {name: np.mean(values) for name, values in norms.items()}, rel=1e-4
    )


def identity(params):
    """Residual branches that give nothing: every block passes on what it gets."""
    return {
        name: {**block, "conv2": jax.tree.map(jnp.zeros_like, block["conv2"])}
        if name.startswith("stage")
        else block
        for name, block in params.items()
    }


@pytest.mark.parametrize("depth", [20, 26])  # equal blocks of a stage are scanned
def test_an_identity_passes_gradients_on_unchanged(depth):
    """F'(x) + 1 with F = 0: within a stage no gradient is lost, and without shortcut all is.

    A stage's last block has no ReLU behind it and is left out.
    """
    model = create_model("cifar_resnet20", depth=depth, width=0.25)
    found, task, _ = look("gradient_norm", model, identity)
    for stage in (1, 2, 3):
        norms = [float(found[f"stage{stage}_block{block}"]) for block in (1, 2)]
        assert norms[0] == pytest.approx(norms[1], rel=1e-5)
        assert norms[0] > 0
    names = [name for name in layer_names(task) if "/" not in name]
    assert names[:3] == ["stem", "stage1_block1", "stage1_block2"]
    assert names[-2:] == [f"stage3_block{(depth - 2) // 6}", "head"]
    plain = create_model("cifar_plain20", depth=depth, width=0.25)
    found, _, _ = look("gradient_norm", plain, identity)
    assert float(found["stage1_block1"]) == 0


def test_attenuation_is_the_logarithm_of_the_ratio_of_norms():
    model = create_model("cifar_plain20", depth=14, width=0.25)
    norms, _, _ = look("gradient_norm", model)
    found, _, _ = look("gradient_attenuation", model)
    expected = np.log10(norms["stage3_block2"]) - np.log10(norms["stem"])
    assert float(found) == pytest.approx(float(expected), rel=1e-4)


def test_weight_gradients_are_of_the_mean_loss():
    found, _, state = look("weight_gradient_norm", TwoLayers())

    def loss(params):
        return loss_of(by_hand(params, BATCH["images"])[0], BATCH["labels"]).mean()

    grads = jax.grad(loss)(state.params)
    for name in ("conv", "head"):
        lengths = [
            np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree[name])))
            for tree in (grads, state.params)
        ]
        assert float(found[name]) == pytest.approx(lengths[0] / lengths[1], rel=1e-4)


def test_responses_are_before_relu_and_normalised_ones_have_deviation_one():
    found, _, state = look("response_deviation", TwoLayers())
    _, conv = by_hand(state.params, BATCH["images"])
    assert {k: float(v) for k, v in found.items()} == pytest.approx({"conv": float(np.std(conv))})
    model = create_model("cifar_resnet20", depth=14, width=0.25)
    found, _, _ = look("response_deviation", model)
    assert len(found) == 1 + 2 * 6  # a name for each convolution, none for its parts
    assert [float(value) for value in found.values()] == pytest.approx([1.0] * 13, abs=1e-3)
    bare = create_model("cifar_resnet20", depth=14, width=0.25, normalization="none")
    assert set(look("response_deviation", bare)[0]) == set(found)


def test_dead_channels_are_counted():
    def kill(params):
        conv = {**params["conv"], "bias": jnp.asarray([0.0, -99.0, -99.0, 0.0])}
        return {**params, "conv": conv}

    assert float(look("dead_channels", TwoLayers())[0]["conv"]) == 0
    assert float(look("dead_channels", TwoLayers(), kill)[0]["conv"]) == 0.5


def test_the_effective_receptive_field_of_one_kernel_is_the_kernel():
    found, task, state = look("effective_receptive_field", OneKernel())
    assert float(found) == 3
    expected = np.zeros((8, 8))
    expected[3:6, 3:6] = 1
    np.testing.assert_allclose(influence_map(task, state, BATCH), expected, atol=1e-6)


@pytest.mark.parametrize("probe", PROBES.names())
@pytest.mark.parametrize("name", ["cifar_preresnet20", "lenet5", "vgg11", "googlenet"])
def test_every_probe_takes_every_family(name, probe):
    """As a program would be traced; what it cannot look at is said in one line."""
    fields = {"width": 0.25} if name.startswith("cifar") else {}
    shape = {"cifar_preresnet20": (8, 8, 1), "lenet5": (32, 32, 1), "vgg11": (32, 32, 3)}
    shape = shape.get(name, (224, 224, 3))
    task = classification(create_model(name, **fields), shape, 10)
    layers = check_probe(probe, PROBES.find(probe).make, task, 2)
    assert layers is None or len(layers) >= 3
    if layers is not None and probe == "gradient_norm":
        assert layers[0] == "images"


def raising(task, state, batch):
    return jnp.zeros(3) + jnp.zeros(4)


def an_array(task, state, batch):
    return batch["mask"]


def of_layers(task, state, batch):
    return {"conv": batch["mask"]}


def a_word(task, state, batch):
    return "much"


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        (raising, "probe mine cannot look at TwoLayers"),
        (an_array, r"probe mine gives an array \[2\]; one number is needed"),
        (of_layers, r"gives an array \[2\] for 'conv'"),
        (a_word, "probe mine"),
    ],
)
def test_a_probe_that_is_none_is_refused_before_anything_is_computed(probe, message):
    task = classification(TwoLayers(), (8, 8, 1), 10)
    with pytest.raises(Refused, match=message):
        check_probe("mine", probe, task, 2)


@pytest.mark.parametrize(("down", "right"), [(1, 0), (-1, 0), (0, 1), (0, -1)])
def test_an_image_moves_by_a_pixel_and_zeros_come_in(down, right):
    images = BATCH["images"]
    wanted = np.roll(images, (down, right), (1, 2))
    edge = [slice(None)] * 4
    edge[1 if down else 2] = 0 if down + right > 0 else -1
    wanted[tuple(edge)] = 0
    np.testing.assert_array_equal(moved(images, down, right), wanted)


def test_shift_sensitivity_is_the_share_of_changed_classes():
    found, _, state = look("shift_sensitivity", TwoLayers())

    def classes(images):
        return np.argmax(by_hand(state.params, images)[0], axis=1)

    images = BATCH["images"]
    steps = ((1, 0), (-1, 0), (0, 1), (0, -1))
    changed = [classes(moved(images, *step)) != classes(images) for step in steps]
    assert found == pytest.approx(np.mean(changed))
    assert 0 < found < 1


def test_a_network_that_pools_everything_does_not_see_a_shift():
    class Summed(nn.Module):
        @nn.compact
        def __call__(self, images, *, train):
            return nn.Dense(10, name="head")(images.sum((1, 2)))

    framed = jnp.pad(BATCH["images"][:, 1:-1, 1:-1], ((0, 0), (1, 1), (1, 1), (0, 0)))
    assert look("shift_sensitivity", Summed(), batch={**BATCH, "images": framed})[0] == 0
