"""Detectors of two stages: which regions they learn on, and what they make of them."""

from dataclasses import fields, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import Refused, create_model
from cnnjax.core.recipe import Optimizer
from cnnjax.layers.context import Context, in_context
from cnnjax.models.mask_rcnn import MaskRCNN
from cnnjax.ops import boxes as box
from cnnjax.ops.roi_align import align_masks
from cnnjax.tasks.detection import Detection, FoundObjects
from cnnjax.tasks.optimizers import update_of
from cnnjax.tasks.state import set_hyperparams
from tests.tasks.test_detection import DATA, batch, figures

MASKED = replace(DATA, fields=(*DATA.fields, ("object_map", (32, 32), "uint8")))

NETS = {
    "tiny_faster_rcnn": {"rpn_features": 4, "asked": 16, "proposals": 12, "sampled": 8},
    "tiny_rcnn": {"proposals": 12, "sampled": 4, "crop_size": 8, "smallest": 1},
    "tiny_mask_rcnn": {"rpn_features": 4, "asked": 16, "proposals": 12, "sampled": 8, "most": 6,
                       "mask_convolutions": (4,), "mask_features": 4},
}  # fmt: skip
PROPOSING = ("tiny_faster_rcnn", "tiny_mask_rcnn")
SMALL = {"num_classes": 2, "backbone_fields": {"features": (2, 2, 4, 4), "units": 1}}


def task_of(net):
    update = update_of(Optimizer("adam", learning_rate=0.01))
    model = create_model(net, **{**SMALL, **NETS[net]})
    return Detection(model=model, data=MASKED, update=update)


def forward(task, whole, key=0, **truths):
    state = task.init(jax.random.key(0))
    with in_context(Context(indices=whole["indices"])):
        found, _ = task.model.apply(
            {"params": state.params, **state.model_state},
            whole["images"],
            train=True,
            rngs={"dropout": jax.random.key(key)},
            mutable=list(state.model_state),
            **truths,
        )
    return found


@pytest.mark.parametrize("net", NETS)
def test_the_objects_stand_among_the_regions_while_training(net):
    task, whole = task_of(net), batch()
    drawn = forward(task, whole, **task.truths(whole))
    proposed = forward(task, whole)
    for image, (boxes, labels) in enumerate(zip(whole["boxes"], whole["box_labels"], strict=True)):
        overlap = box.iou(boxes, drawn["regions"][image]) * drawn["there"][image][None]
        positive = int((overlap.max(0) >= 0.5).sum())
        objects = int((labels >= 0).sum())
        assert positive <= 2  # a quarter of eight, or one of four
        assert int((overlap.max(1) == 1).sum()) >= min(objects, 1)
        assert drawn["regions"].shape[1] == NETS[net]["sampled"]
        assert proposed["regions"].shape[1] == (24 if net in PROPOSING else 12)


@pytest.mark.parametrize("net", NETS)
def test_an_example_s_regions_are_its_own_wherever_it_stands(net):
    task, whole = task_of(net), batch()
    there = forward(task, whole, **task.truths(whole))
    turned = {name: values[::-1] for name, values in whole.items()}
    back = forward(task, turned, **task.truths(turned))
    other = forward(task, whole, key=1, **task.truths(whole))
    np.testing.assert_allclose(there["regions"], back["regions"][::-1], atol=1e-3)
    assert (np.asarray(there["regions"]) != np.asarray(other["regions"])).any()
    if net in PROPOSING:
        np.testing.assert_array_equal(there["draws"], back["draws"][::-1])
        assert (np.asarray(there["draws"]) != np.asarray(other["draws"])).any(1).all()


@pytest.mark.parametrize("net", NETS)
def test_who_knows_the_truth_has_full_marks(net):
    task, whole = task_of(net), batch()
    labels = whole["box_labels"]
    outputs = {
        "regions": whole["boxes"],
        "there": labels >= 0,
        "classes": 20.0 * jax.nn.one_hot(labels + 1, 3),
        "moves": jnp.zeros((4, 3, 3, 4)),
    }
    if net in PROPOSING:
        anchors = task.model.anchor_boxes(32, 32)
        shape = (4, len(anchors))
        zeros = jnp.zeros(shape)
        outputs |= {"anchor_scores": zeros, "draws": zeros, "anchor_moves": jnp.zeros((*shape, 4))}
    if net == "tiny_mask_rcnn":
        numbers = jnp.broadcast_to(1 + jnp.arange(3), labels.shape)
        inside = jax.vmap(partial(align_masks, output_size=14, aligned=True))(
            whole["object_map"], whole["boxes"], numbers
        )
        outputs |= {"mask_boxes": whole["boxes"], "mask_labels": labels, "mask_logits":
                    20 * inside - 10, "mask_scores": jnp.ones(labels.shape)}  # fmt: skip
        found = figures(task, outputs, whole)
        assert found["mask_ap"] == found["mask_ap50"] == pytest.approx(100)
        shifted = whole["object_map"][:, :, ::-1]
        assert figures(task, outputs, {**whole, "object_map": shifted})["mask_ap"] < 50
        halves = figures(task, outputs, whole, parts=2)
        assert halves == found
        hidden = {**outputs, "mask_logits": jnp.zeros_like(inside)}
        assert (task.losses(hidden, whole) >= task.losses(outputs, whole)).all()
    assert figures(task, outputs, whole)["ap"] == pytest.approx(100)
    worse = {**outputs, "classes": jnp.zeros_like(outputs["classes"])}
    some = np.asarray(labels >= 0).any(1)
    assert (task.losses(worse, whole) > task.losses(outputs, whole))[some].all()


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("objects", [(0, 0, 0, 0), (2, 0, 3, 1)])
def test_a_step_is_finite_with_and_without_objects(net, objects):
    task, whole = task_of(net), batch(objects=objects)
    task.check(batch_size=4)
    state = set_hyperparams(task.init(jax.random.key(0)), learning_rate=0.01)
    new, sums = jax.jit(task.train_step)(state, whole, jax.random.key(1))
    assert int(new.step) == 1
    assert not np.asarray(sums["nonfinite"]).any()
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state.params, new.params)
    expected = {"classes", "body"} | ({"moves"} if any(objects) else set())
    if net in PROPOSING:
        expected |= {"rpn_conv", "rpn_scores"} | ({"rpn_moves"} if any(objects) else set())
    for name in expected:
        assert any(jax.tree.leaves(moved[name])), name


def test_the_losses_of_one_image_by_hand():
    """Of regions: one on an object and moved by a tenth of its width, one on nothing."""
    task = task_of("tiny_rcnn")
    logits = jnp.asarray([[[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]])
    moves = jnp.zeros((1, 2, 3, 4)).at[0, 0, 1].set(jnp.asarray([1.0, 0, 0, 0]))
    outputs = {
        "regions": jnp.asarray([[[0.0, 0, 10, 10], [20, 20, 30, 30]]]),
        "there": jnp.asarray([[True, True]]),
        "classes": logits,
        "moves": moves,
    }
    whole = {
        "boxes": jnp.asarray([[[0.0, 0, 10, 10]]]),
        "box_labels": jnp.asarray([[0]], jnp.int32),
    }
    entropy = np.log(np.exp(2) + 2) - 2 + np.log(np.exp(1) + 2) - 1
    found = task.model.detection_losses(outputs, whole["boxes"], whole["box_labels"], (32, 32))
    np.testing.assert_allclose(found, [(entropy + 1 - 1 / 18) / 2], rtol=1e-6)


@pytest.mark.parametrize(
    ("net", "fields", "told"),
    [
        ("tiny_faster_rcnn", {"sizes": ()}, "give sizes for each of the 1 maps"),
        ("tiny_faster_rcnn", {"strides": (8, 4)}, "each twice the one before"),
        ("tiny_faster_rcnn", {"strides": (4, 16)}, "each twice the one before"),
        ("tiny_faster_rcnn", {"strides": ()}, "each twice the one before"),
        ("faster_rcnn", {"sizes": ((8.0, 9.0), *((1.0,),) * 4)}, "as many on each map"),
        ("tiny_mask_rcnn", {"mask_convolutions": (0,)}, r"mask_convolutions=\[0\]: 1 or more"),
        ("tiny_mask_rcnn", {"mask_size": 0}, "mask_size=0: 1 or more"),
        ("tiny_faster_rcnn", {"region_size": 0}, "region_size=0: 1 or more"),
        ("tiny_faster_rcnn", {"asked": 0}, "asked=0: 1 or more"),
        ("tiny_faster_rcnn", {"hidden": (0,)}, "1 or more"),
        ("tiny_faster_rcnn", {"backbone_fields": 3}, "fields by name"),
        ("tiny_ssd", {"backbone": "unet_small"}, "is for segmentation: give one for classific"),
        ("tiny_rcnn", {"levels": ()}, "one or more"),
        ("tiny_rcnn", {"considered": -3}, "considered=-3: one or more, 1 or more"),
        ("tiny_rcnn", {"smallest": 0}, "smallest=0: 1 or more"),
        ("tiny_faster_rcnn", {"strides": (4, 8), "sizes": ((1.0,),) * 2}, "several maps need one"),
        ("tiny_faster_rcnn", {"ratios": (0.0,)}, "above 0"),
        ("tiny_faster_rcnn", {"positives": 2.0}, "0 to 1"),
        ("tiny_faster_rcnn", {"sampled": 0}, "1 or more"),
        ("tiny_faster_rcnn", {"most": 500}, "1 to candidates=200"),
        ("tiny_rcnn", {"proposals": 100}, "1 to 24"),
        ("tiny_rcnn", {"crop_size": 0}, "crop_size=0: 1 or more"),
        ("ssd300", {"sizes": ((99.0,),) * 6}, "its own anchors"),
        ("ssd300", {"strides": (8, 16)}, "its own anchors"),
    ],
)
def test_what_cannot_be_is_refused(net, fields, told):
    with pytest.raises(Refused, match=told):
        create_model(net, **fields)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"name": "x"}, "no field of backbone vgg_small 'name'"),
        ({"depth": 3}, "no field of backbone vgg_small 'depth'"),
        ({"units": "two"}, "backbone vgg_small: model.units=two"),
        ({"units": -1}, "backbone vgg_small: .* a network needs a unit"),
    ],
)
def test_a_backbone_that_cannot_be_is_refused_by_its_name(fields, told):
    with pytest.raises(Refused, match=told):
        create_model("tiny_ssd", backbone_fields=fields).make_body()


def test_another_kind_of_backbone_begins_without_the_fields_of_the_first():
    assert create_model("tiny_ssd", backbone="cifar_resnet8").backbone_fields is None
    same = create_model("retinanet", backbone="resnet18").backbone_fields
    assert dict(same) == {"normalization": "frozen"}
    given = create_model("tiny_ssd", backbone="cifar_resnet8", backbone_fields={"width": 0.5})
    assert dict(given.backbone_fields) == {"width": 0.5}


def test_masks_need_the_object_of_each_pixel():
    task = replace(task_of("tiny_mask_rcnn"), data=DATA)
    with pytest.raises(Refused, match="MaskRCNN needs object_map, the object of each pixel, and"):
        task.check(batch_size=2)


def test_the_loss_of_masks_by_hand():
    """Of one box over half of its object: logits of 0 cost log 2 each, known ones nothing."""
    model = task_of("tiny_mask_rcnn").model
    numbers = jnp.zeros((1, 32, 32), jnp.uint8).at[:, :, :8].set(1)
    boxes = jnp.asarray([[[0.0, 0, 16, 16]]])
    count = len(model.anchor_boxes(32, 32))
    outputs = {
        "anchor_scores": jnp.zeros((1, count)), "draws": jnp.zeros((1, count)),
        "anchor_moves": jnp.zeros((1, count, 4)), "regions": boxes, "there": jnp.asarray([[False]]),
        "classes": jnp.zeros((1, 1, 3)), "moves": jnp.zeros((1, 1, 3, 4)),
        "mask_boxes": boxes, "mask_labels": jnp.asarray([[1]]),
    }  # fmt: skip

    def loss(logits, label=1):
        found = model.detection_losses(
            {**outputs, "mask_logits": logits}, boxes, jnp.asarray([[label]]), (32, 32), numbers
        )
        return float(found[0])

    truth = align_masks(numbers[0], boxes[0], jnp.asarray([1]), output_size=4, aligned=True)[None]
    assert truth[0, 0, 0].tolist() == [1, 1, 0, 0]
    other = loss(jnp.zeros((1, 1, 4, 4)), label=0)  # of another class: nothing is learnt of it
    assert loss(jnp.zeros((1, 1, 4, 4))) - other == pytest.approx(np.log(2), rel=1e-5)
    assert loss(200 * truth - 100) - other == pytest.approx(0, abs=1e-5)


def test_every_drawn_object_has_a_mask_to_learn():
    """Shares are rounded in both places alike."""
    for sampled, positives in ((6, 0.25), (14, 0.25), (100, 0.29)):
        model = create_model(
            "tiny_mask_rcnn",
            **{**SMALL, **NETS["tiny_mask_rcnn"], "sampled": sampled, "positives": positives},
        )
        variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 1)), train=False)
        found = jax.eval_shape(
            lambda v, x, b, n, model=model: model.apply(
                v, x, train=True, boxes=b, box_labels=n, rngs={"dropout": jax.random.key(0)},
                mutable=["batch_stats"],
            )[0],
            variables, jnp.zeros((1, 32, 32, 1)), jnp.zeros((1, 90, 4)), jnp.zeros((1, 90), int),
        )  # fmt: skip
        assert found["mask_labels"].shape[1] == round(sampled * positives)


def test_detections_without_masks_are_refused():
    class Without(MaskRCNN):
        def detections(self, outputs, image_size):
            found = super().detections(outputs, image_size)
            return {name: found[name] for name in ("boxes", "scores", "labels")}

    task = task_of("tiny_mask_rcnn")
    names = {field.name for field in fields(task.model)} - {"parent", "name"}
    own = {name: getattr(task.model, name) for name in names}
    with pytest.raises(Refused, match=r"masks \[n, k, s, s\] are needed"):
        replace(task, model=Without(**own)).check(batch_size=2)


def test_an_object_that_is_covered_whole_is_no_mask_to_find():
    found = FoundObjects(2, False, True)
    boxes = np.array([[[0, 0, 8, 8], [2, 2, 4, 4]]], np.float32)
    whole = np.zeros((1, 16, 16), np.uint8)
    whole[:, :8, :8] = 1
    outputs = {
        "true_boxes": boxes, "true_labels": np.array([[0, 1]]), "true_map": whole,
        "boxes": boxes[:, :1], "labels": np.array([[0]]), "scores": np.array([[0.9]], np.float32),
        "masks": np.ones((1, 1, 7, 7), np.float32),
    }  # fmt: skip
    found.add(np.array([0]), outputs)
    figures = found.finish()
    assert figures["mask_ap"] == pytest.approx(100)
    assert figures["ap"] == pytest.approx(50)
