"""Detection: a network that knows the truth has full marks, and images without objects train."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnnjax import Refused, create_model
from cnnjax.core.recipe import Optimizer
from cnnjax.data.dataset import uncounted
from cnnjax.models.ssd import SSD
from cnnjax.ops import boxes as box
from cnnjax.ops.assignment import assign
from cnnjax.report.looks import _detections
from cnnjax.tasks.detection import Detection, FoundObjects
from cnnjax.tasks.network import NetworkTask
from cnnjax.tasks.optimizers import update_of
from cnnjax.tasks.state import set_hyperparams
from cnnjax.tasks.task import DataSpec, figures_of
from tests.metrics.coco import scene, summarized

FIELDS = (
    ("images", (32, 32, 1), "uint8"),
    ("boxes", (3, 4), "float32"),
    ("box_labels", (3,), "int32"),
)
DATA = DataSpec("scenes", FIELDS, 2)
SMALL = {"num_classes": 2, "backbone_fields": {"features": (2, 2, 4, 4), "units": 1}}


def task_of(**fields):
    update = update_of(Optimizer("adam", learning_rate=0.01))
    return Detection(model=create_model("tiny_ssd", **SMALL, **fields), data=DATA, update=update)


def batch(objects=(2, 0, 3, 1), seed=0):
    rng = np.random.default_rng(seed)
    count = len(objects)
    low = np.stack([rng.permutation(3) * 11 for _ in range(count)])[..., None] + np.array([0, 1])
    corners = np.concatenate([low, low + np.array([9, 12])], axis=-1)
    corners = corners.clip(0, 32).astype(np.float32)
    there = np.arange(3) < np.array(objects)[:, None]
    maps = np.zeros((count, 32, 32), np.uint8)
    for image in range(count):
        for place in np.flatnonzero(there[image]):
            x, y, x2, y2 = corners[image, place].astype(int)
            maps[image, y:y2, x:x2] = 1 + place
    return {
        "images": jnp.asarray(rng.normal(size=(count, 32, 32, 1)), jnp.float32),
        "boxes": jnp.asarray(np.where(there[..., None], corners, 0)),
        "box_labels": jnp.asarray(np.where(there, rng.integers(0, 2, (count, 3)), -1), jnp.int32),
        "object_map": jnp.asarray(maps),
        "mask": jnp.ones(count),
        "indices": jnp.arange(count),
    }


def knowing(model, whole, class_loss):
    """Outputs of a network that knows the truth."""
    anchors = jnp.asarray(model.anchors(32, 32))

    def one(boxes, labels):
        chosen = assign(anchors, boxes, labels >= 0, positive=0.5, negative=0.5, weak="forced")
        truth = jnp.where(chosen.positive, 1 + labels[chosen.objects], 0)
        hot = 10.0 * jax.nn.one_hot(truth, 3)
        logits = hot - (5.0 if class_loss == "focal" else 0.0)
        return logits, box.encode(boxes[chosen.objects], anchors, box.SSD_WEIGHTS)

    logits, deltas = jax.vmap(one)(whole["boxes"], whole["box_labels"])
    return {"classes": logits, "boxes": jnp.where(jnp.isfinite(deltas), deltas, 0.0)}


def figures(task, outputs, whole, parts=1):
    found = jax.device_get(task.outputs_of(outputs, whole))
    collected = [task.accumulator(detailed=True) for _ in range(parts)]
    for part, accumulator in enumerate(collected):
        rows = slice(part, None, parts)
        accumulator.add(np.asarray(whole["indices"])[rows], {n: v[rows] for n, v in found.items()})
    for other in collected[1:]:
        collected[0].merge(other)
    return figures_of(task, jax.device_get(task.sums(outputs, whole)), collected[0])


@pytest.mark.parametrize("class_loss", ["mined", "all", "focal"])
def test_who_knows_the_truth_has_full_marks(class_loss):
    task, whole = task_of(class_loss=class_loss), batch()
    outputs = knowing(task.model, whole, class_loss)
    found = figures(task, outputs, whole)
    assert found["ap"] == found["coco"]["ap"] == pytest.approx(100)
    assert found["class_ap"] == pytest.approx([100, 100])
    worse = {**outputs, "classes": jnp.zeros_like(outputs["classes"])}
    assert (task.losses(worse, whole) > task.losses(outputs, whole)).all()
    moved = {**outputs, "boxes": outputs["boxes"] + 3.0}
    assert figures(task, moved, whole)["ap"] < 60


@pytest.mark.parametrize("seed", range(12))
def test_what_does_not_count_is_no_error_as_pycocotools_has_it(seed):
    pytest.importorskip(
        "pycocotools", reason="pycocotools is not installed: an oracle of tests only"
    )
    truth, detections = scene(seed, images=4)
    places = {one["id"]: place for place, one in enumerate(truth["categories"])}
    for number, one in enumerate(truth["annotations"]):
        one["area"] = one["bbox"][2] * one["bbox"][3]  # a batch has no other
        one["iscrowd"] = int(one["iscrowd"] or not number)
    expected = summarized(truth, detections, "bbox")
    ids = [one["id"] for one in truth["images"]]
    shape = (len(ids), 1 + max(len(truth["annotations"]), len(detections)))
    there = {"boxes": np.zeros((*shape, 4)), "labels": np.full(shape, -1)}
    seen = {**{name: array.copy() for name, array in there.items()}, "scores": np.zeros(shape)}
    for arrays, listed in ((there, truth["annotations"]), (seen, detections)):
        for place, one in enumerate(listed):
            where = ids.index(one["image_id"]), place
            x, y, width, height = one["bbox"]
            arrays["boxes"][where] = x, y, x + width, y + height
            label = places[one["category_id"]]
            arrays["labels"][where] = uncounted(label) if one.get("iscrowd") else label
            if "score" in one:
                arrays["scores"][where] = one["score"]
    accumulator = FoundObjects(len(places), detailed=True)
    truths = {f"true_{name}": array for name, array in there.items()}
    accumulator.add(np.array(ids), {**seen, **truths})
    found = accumulator.finish()["coco"]
    for name, value in expected.items():
        assert found[name] == (None if value is None else pytest.approx(100 * value, abs=1e-7))


class Spy(SSD):
    """Whose losses are the lowest label that it is told."""

    def detection_losses(self, outputs, boxes, labels, image_size):
        return labels.min(axis=1).astype(jnp.float32)


def test_to_a_network_what_does_not_count_is_no_object():
    whole = batch(objects=(2, 1, 0, 3))
    given = whole["box_labels"].at[1, 2].set(uncounted(1)).at[3, 0].set(uncounted(0))
    seen = [{**whole, "box_labels": labels} for labels in (given, whole["box_labels"])]
    task = Detection(model=Spy(**SMALL), data=DATA, update=update_of(Optimizer("adam")))
    assert task.losses(None, seen[0]).tolist() == [-1, -1, -1, -1]
    two = create_model("tiny_faster_rcnn", num_classes=2)
    told = Detection(model=two, data=DATA, update=update_of(Optimizer("adam"))).truths(seen[0])
    expected = jnp.where(given < 0, -1, given)
    np.testing.assert_array_equal(told["box_labels"], expected)
    np.testing.assert_array_equal(told["boxes"], whole["boxes"])
    losses = [task_of().losses(knowing(task_of().model, whole, "mined"), one) for one in seen]
    assert losses[0][1] == losses[1][1]


def test_a_picture_shows_no_detection_in_a_crowd_as_wrong():
    boxes = np.array([[[0, 0, 8, 8], [10, 10, 30, 30]]], np.float32)
    there = {"boxes": boxes, "box_labels": np.array([[0, uncounted(1)]])}
    corners = np.array([[[0, 0, 8, 8], [12, 12, 16, 16], [12, 12, 16, 16]]], np.float32)
    found = {"boxes": corners, "labels": np.array([[0, 1, 0]]), "scores": np.full((1, 3), 0.9)}
    look = _detections(np.zeros((1, 32, 32, 1)), there, found, ("a", "b"), "title", 0.5)
    assert look.found == {"TP": 1, "FP": 1, "FN": 0}  # of the other class it is wrong


def test_shards_join_to_the_same_figures():
    task, whole = task_of(), batch(objects=(2, 0, 3, 1, 2, 3))
    noise = jax.random.normal(jax.random.key(0), (6, 96, 3)) * 6
    outputs = knowing(task.model, whole, "mined")
    outputs["classes"] = outputs["classes"] + noise
    alone = figures(task, outputs, whole)
    assert 0 < alone["ap"] < 100
    assert figures(task, outputs, whole, parts=2) == alone
    assert figures(task, outputs, whole, parts=3) == alone


@pytest.mark.parametrize("class_loss", ["mined", "all", "focal"])
def test_a_batch_without_any_object_trains(class_loss):
    task, whole = task_of(class_loss=class_loss), batch(objects=(0, 0, 0, 0))
    state = set_hyperparams(task.init(jax.random.key(0)), learning_rate=0.01)
    state, sums = jax.jit(task.train_step)(state, whole, jax.random.key(1))
    assert int(state.step) == 1
    assert not np.asarray(sums["nonfinite"]).any()
    outputs = task.model.apply(
        {"params": state.params, **state.model_state}, whole["images"], train=False
    )
    assert figures(task, outputs, whole)["coco"]["ap"] is None  # no object says anything
    accumulator = task.accumulator()
    accumulator.add(np.arange(4), jax.device_get(task.outputs_of(outputs, whole)))
    assert accumulator.finish()["ap"] is None  # not measured, which is not 0


def test_detections_are_within_the_image_by_falling_score_and_padded():
    task = task_of(most=20, candidates=30)
    outputs = {
        "classes": jax.random.normal(jax.random.key(0), (2, 96, 3)),
        "boxes": 3 * jax.random.normal(jax.random.key(1), (2, 96, 4)),
    }
    found = jax.device_get(task.predictions(outputs))
    for boxes, scores, labels in zip(
        *(found[n] for n in ("boxes", "scores", "labels")), strict=True
    ):
        there = labels >= 0
        assert len(labels) == 20
        assert there.any()
        assert (np.diff(there.astype(int)) <= 0).all()
        assert (np.diff(scores[there]) <= 0).all()
        assert boxes.min() >= 0
        assert boxes.max() <= 32
        assert not boxes[~there].any()


class Coordinates(SSD):
    """Whose maps say where they are: x and y of each place."""

    def feature_maps(self, images, *, train):
        n, height, width, _ = images.shape
        maps = {}
        for stride in self.strides:
            y, x = jnp.meshgrid(
                jnp.arange(0, height, stride), jnp.arange(0, width, stride), indexing="ij"
            )
            places = jnp.stack([x, y], axis=-1) + stride / 2
            maps[stride] = jnp.broadcast_to(places, (n, *places.shape)).astype(jnp.float32)
        return maps


def test_outputs_stand_in_the_order_of_the_anchors():
    """Of an oblong image, on two maps, two anchors a place."""
    model = Coordinates(**SMALL, strides=(4, 8), sizes=((6.0,), (12.0,)), ratios=(1.0, 2.0))
    images = jnp.zeros((1, 32, 64, 1))
    params = model.init(jax.random.key(0), images, train=False)["params"]
    for stride in (4, 8):  # the middle of each kernel hands on x and y, of every anchor
        kernel = np.zeros(params[f"boxes{stride}"]["kernel"].shape, np.float32)
        for anchor in (0, 1):
            kernel[1, 1, [0, 1], [4 * anchor, 4 * anchor + 1]] = 1
        params[f"boxes{stride}"]["kernel"] = jnp.asarray(kernel)
    seen = model.apply({"params": params}, images, train=False)["boxes"][0, :, :2]
    anchors = model.anchors(32, 64)
    np.testing.assert_allclose(seen, (anchors[:, :2] + anchors[:, 2:]) / 2)


class Wrong(SSD):
    def detections(self, outputs, image_size):
        found = super().detections(outputs, image_size)
        return {**found, "labels": found["scores"]}


class Broken(SSD):
    def detection_losses(self, outputs, boxes, labels, image_size):
        return boxes @ labels


@pytest.mark.parametrize(
    ("kind", "text"),
    [(Wrong, "whole labels .* are needed, not boxes"), (Broken, "Broken is no detector")],
)
def test_a_detector_that_says_something_else_is_refused(kind, text):
    with pytest.raises(Refused, match=text):
        Detection(model=kind(**SMALL), data=DATA).check()


def test_a_network_that_is_no_detector_is_refused():
    task = Detection(model=create_model("unet_small"), data=DATA)
    with pytest.raises(Refused, match="UNet has no method detection_losses: it is no detector"):
        task.check_outputs(1, None)
    assert issubclass(Detection, NetworkTask)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"strides": (8, 16)}, "give sizes for each stride"),
        ({"sizes": ((),)}, "give sizes for each stride"),
        ({"nms_threshold": 1.5}, r"nms_threshold=1\.5: 0 to 1"),
        ({"most": 500}, "most=500: 1 to candidates=200"),
        ({"strides": (3,)}, "vgg_small has no map of stride 3; it has 1, 2, 4, 8"),
    ],
)
def test_impossible_detectors(fields, text):
    with pytest.raises(Refused, match=text):
        task_of(**fields).check()
