"""Networks of the papers beyond classification: sizes of their maps, what fits, SegNet as PyTorch
computes it."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import Refused, create_model
from cnnjax.analysis.cost import model_cost
from cnnjax.models.ssd import _unit_length


def shape(model, *size):
    images = jax.ShapeDtypeStruct((1, *size), jnp.float32)
    init = partial(model.init_with_output, train=False)
    return jax.eval_shape(init, jax.random.key(0), images)[0].shape


@pytest.mark.parametrize("name", ["fcn32s", "fcn16s", "fcn8s", "fcn_resnet50", "segnet"])
def test_a_class_for_each_pixel_of_images_of_any_size(name):
    assert shape(create_model(name, num_classes=4), 77, 101, 3) == (1, 77, 101, 4)


def test_deconvnet_has_a_vector_in_its_middle():
    assert shape(create_model("deconvnet"), 224, 224, 3) == (1, 224, 224, 21)
    rows = {layer.name: layer.output for layer in model_cost(_deconvnet(), (224, 224, 3)).layers}
    assert rows["middle1"] == (1, 1, 1, 4096)
    assert rows["middle3"] == (1, 7, 7, 512)
    with pytest.raises(Refused, match="224x224 or more"):
        shape(_deconvnet(), 223, 224, 3)


def _deconvnet():
    return create_model("deconvnet")


def test_a_dilated_resnet_keeps_its_maps_and_its_parameters():
    """torchvision's FCN: 152.72 GMACs at 520x520, its auxiliary head included."""
    plain, dilated = create_model("resnet50"), create_model("resnet50", output_stride=8)
    costs = [model_cost(model, (64, 64, 3)) for model in (plain, dilated)]
    assert costs[0].params == costs[1].params
    images = jax.ShapeDtypeStruct((1, 64, 64, 3), jnp.float32)
    variables = jax.eval_shape(partial(dilated.init, train=False), jax.random.key(0), images)
    maps = jax.eval_shape(
        partial(dilated.apply, train=False, method="stage_maps"), variables, images
    )
    assert [leaf.shape[1] for leaf in maps] == [16, 8, 8, 8]
    fcn = create_model("fcn_resnet50")
    assert round(model_cost(fcn, (520, 520, 3), train=True).macs / 1e9, 2) == 152.72


def segnet_written_out(torch, params, statistics, images, stages):
    functional = torch.nn.functional

    def step(name, x):
        kernel = torch.tensor(np.asarray(params[name]["kernel"])).permute(3, 2, 0, 1)
        x = functional.conv2d(x, kernel, torch.tensor(np.asarray(params[name]["bias"])), padding=1)
        if f"{name}_norm" not in params:
            return x
        norm, seen = params[f"{name}_norm"], statistics[f"{name}_norm"]
        values = (seen["mean"], seen["var"], norm["scale"], norm["bias"])
        return torch.relu(
            functional.batch_norm(x, *(torch.tensor(np.asarray(one)) for one in values))
        )

    x, stack = torch.tensor(np.asarray(images)).permute(0, 3, 1, 2), []
    for stage, count in enumerate(stages, start=1):
        for index in range(1, count + 1):
            x = step(f"down{stage}_conv{index}", x)
        size = x.shape[-2:]
        x, where = functional.max_pool2d(x, 2, return_indices=True)
        stack.append((where, size))
    for stage in range(len(stages), 0, -1):
        where, size = stack[stage - 1]
        x = functional.max_unpool2d(x, where, 2, output_size=size)
        for index in range(1, stages[stage - 1] + 1):
            x = step(f"up{stage}_conv{index}", x)
    return x.permute(0, 2, 3, 1).numpy()


def test_segnet_as_pytorch_computes_it():
    torch = pytest.importorskip("torch", reason="torch is not installed: an oracle of tests only")
    model = create_model("segnet", features=(3, 5), convolutions=(2, 1), num_classes=4)
    images = jax.random.normal(jax.random.key(1), (2, 13, 10, 3))
    variables = model.init(jax.random.key(0), images, train=False)
    variables = jax.tree.map(lambda leaf: leaf + 0.1, variables)
    wanted = segnet_written_out(
        torch, variables["params"], variables["batch_stats"], images, (2, 1)
    )
    np.testing.assert_allclose(model.apply(variables, images, train=False), wanted, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "fields", "told"),
    [
        ("fcn8s", {"skips": (8, 16)}, "falling strides"),
        ("segnet", {"convolutions": (1,)}, "a stage has channels and a convolution"),
        ("segnet", {"width": 0.001}, "a stage has a channel"),
        ("fcn8s", {"hidden": 0}, "hidden=0: 1 or more"),
        ("retinanet", {"extra": "pool"}, "p5 or c5"),
        ("retinanet", {"strides": (16, 8)}, "rising"),
        ("retinanet", {"depth": 0}, "1 or more"),
        ("preresnet50", {"output_stride": 8}, "batch and 32 only"),
        ("preresnet50", {"normalization": "frozen"}, "batch and 32 only"),
    ],
)
def test_what_cannot_be_is_refused(name, fields, told):
    with pytest.raises(Refused, match=told):
        create_model(name, **fields)


@pytest.mark.parametrize(
    ("name", "fields", "side", "told"),
    [
        ("ssd300", {}, 320, "ssd300 takes 300x300"),
        ("ssd300", {"backbone": "resnet18", "backbone_fields": None}, 300, "512 channels"),
        ("segnet", {}, 31, "32x32 or more"),
        ("fcn8s", {"skips": (32,)}, 64, "the first or the last; it has 1, 2"),
        ("fcn8s", {"skips": (3,)}, 64, "the first or the last; it has 1, 2"),
        ("fcn_resnet50", {"backbone": "vgg11", "backbone_fields": None}, 64, "a resnet is needed"),
        ("tiny_rcnn", {"crop_size": 20}, 64, "a multiple of 8"),
        ("tiny_rcnn", {"considered": 100, "proposals": 9}, 8, "10x10 or more"),
    ],
)
def test_what_does_not_fit(name, fields, side, told):
    model = create_model(name, **fields)
    images = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
    with pytest.raises(Refused, match=told):
        jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)


def test_an_object_is_unlikely_at_first():
    """Lin et al. 2017, section 4.1: kernels of deviation .01 keep what the bias says."""
    model = create_model("retinanet", num_classes=3, backbone="resnet18")
    images = jax.random.normal(jax.random.key(1), (1, 128, 128, 3))
    logits, _ = model.init_with_output(jax.random.key(0), images, train=False)
    chances = np.asarray(jax.nn.sigmoid(logits["classes"]))
    assert abs(chances.mean() - 0.01) < 0.001
    assert chances.max() < 0.1


def test_a_place_without_features_has_a_gradient():
    """ssd300 divides by the length of a place's features, which is 0 on even ground."""
    places = jnp.zeros((1, 1, 2, 3)).at[0, 0, 1].set(jnp.asarray([3.0, 4.0, 0.0]))
    found, grads = jax.value_and_grad(lambda x: _unit_length(x)[..., 0].sum())(places)
    assert float(found) == pytest.approx(0.6)
    assert np.isfinite(grads).all()
