"""Every registered network: its counts at full size without compute, the contract at the smallest.

A new file in cnnjax/models is tested here without another line.
"""

from functools import partial

import jax
import jax.numpy as jnp
import pytest

from cnnjax import Refused, create_model, list_models
from cnnjax.analysis.cost import count_params
from cnnjax.core.architectures import MODELS
from cnnjax.testing import check_model

SLOW = (  # minutes of compiling: with make test-long
    *("resnet34", "resnet101", "resnet152", "resnet50_v1", "preresnet50", "plain34", "plain50"),
    *("plain101", "plain152", "32", "44", "56", "110", "1202", "vgg13", "vgg16", "vgg19"),
    *("_aux", "googlenet_", "alexnet_"),
)
LARGE = (  # narrow twins are the same code
    *("unet", "fcn32s", "fcn16s", "fcn8s", "fcn_resnet50", "segnet", "deconvnet"),
    *("ssd300", "retinanet", "retinanet_c5", "faster_rcnn", "mask_rcnn"),
)
_TWIN = {"backbone": "vgg_small", "backbone_fields": {"features": (2,) * 6, "units": 1}}
TWINS = (  # fields that make one of them small
    ("fcn16s", {**_TWIN, "hidden": 4, "skips": (8, 4)}),
    ("fcn_resnet50", {"backbone": "resnet18"}),
    # Where maxima stand may differ in bfloat16, so here maps are resized.
    ("segnet", {"width": 0.05, "upsampling": "bilinear"}),
    (
        "deconvnet",
        {"features": (2, 4), "convolutions": (1, 2), "middle": 4, "upsampling": "bilinear"},
    ),
    (
        "retinanet",
        {"backbone": "resnet18", "backbone_fields": {"normalization": "frozen"}}
        | {"features": 4, "depth": 1},
    ),
    (
        "mask_rcnn",  # faster_rcnn with a head more
        {**_TWIN, "backbone_fields": {"features": (2,) * 5, "units": 1}}
        | {"strides": (8, 16), "sizes": ((8.0,), (16.0,), (32.0,)), "pyramid": 4}
        | {"rpn_features": 4, "hidden": (8,), "proposals": 10, "region_size": 2, "most": 4}
        | {"mask_convolutions": (4,), "mask_features": 4, "mask_size": 2},
    ),
)
REPEATED = (  # the same code is tested by what is named behind it: these with make test-long
    "vgg11",  # vgg11_lrn has a layer more
    "googlenet",  # tests/interop/test_parity.py, and its gradients in tests/tasks/test_losses.py
    "plain18",  # resnet18, and the shortcut of cifar_plain14 in test_resnet.py
    "cifar_resnet20",  # cifar_resnet14 in test_resnet.py, cifar_preresnet20
    "cifar_plain20",  # cifar_plain14 in test_resnet.py
    "resnet18",  # the narrow twin of fcn_resnet50, whose backbone it is
    "preresnet18",  # cifar_preresnet20
    "vgg11_bn",  # vgg11_lrn, and batch normalisation in vgg_small
    *("tiny_rcnn", "tiny_faster_rcnn"),  # tiny_mask_rcnn has a head more
)
CHECKS = ["deterministic", "logits", "finite", "independent", "gradients"]


@pytest.mark.parametrize(
    "name",
    [
        # Their 1202 layers are counted by the table of docs/reference/models.md too.
        pytest.param(name, marks=pytest.mark.long) if "1202" in name else name
        for name in list_models()
    ],
)
def test_the_published_count_by_shapes_alone(name):
    entry = MODELS.find(name)
    model = create_model(name)
    images = jax.ShapeDtypeStruct((1, *entry.input_shape), jnp.float32)
    outputs, variables = jax.eval_shape(
        partial(model.init_with_output, train=False), jax.random.key(0), images
    )
    assert count_params(variables["params"]) == entry.params
    assert entry.source
    leaves = [leaf.dtype for leaf in jax.tree.leaves(outputs)]
    real = {dtype for dtype in leaves if jnp.issubdtype(dtype, jnp.floating)}
    assert real == {jnp.dtype("float32")}
    if entry.task == "classification":
        assert outputs.shape == (1, model.num_classes)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.long)
        if name in (*REPEATED, *LARGE) or any(s in name for s in SLOW)
        else name
        for name in list_models()
        if "1202" not in name
    ],
)
def test_the_contract_at_the_smallest_input(name):
    """Not of depth 1202: at initialisation it leaves float32. While running statistics are still 0
    and 1 each of 600 residual sums doubles the variance; of the plain twin the gradients explode.
    """
    model = create_model(name, num_classes=10)
    size, channels = model.smallest_image, MODELS.find(name).input_shape[2]
    ran = check_model(model, (size, size, channels))
    assert ran[: len(CHECKS)] == CHECKS
    assert ran[-1] == "bfloat16"
    assert ("feature_maps" in ran) == hasattr(model, "feature_maps")
    assert ("stacked" in ran) == hasattr(model, "equal_blocks")


@pytest.mark.parametrize(("name", "fields"), TWINS)
def test_the_contract_of_a_narrow_twin(name, fields):
    model = create_model(name, num_classes=3, **fields)
    size = model.smallest_image
    ran = check_model(model, (size, size, MODELS.find(name).input_shape[2]))
    assert ran[: len(CHECKS)] == CHECKS
    assert "feature_maps" in ran


@pytest.mark.parametrize(
    "name", ["alexnet", "alexnet_torchvision", "vgg11", "resnet50", "googlenet", "cifar_resnet20"]
)
def test_one_pixel_below_the_smallest_is_refused(name):
    model = create_model(name)
    size = model.smallest_image - 1
    images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
    with pytest.raises(Refused, match="or more are needed"):
        jax.eval_shape(partial(model.init, train=False), jax.random.key(0), images)
