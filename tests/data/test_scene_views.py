"""Boxes and masks go where the pixels go: drawn, moved, and measured in the picture."""

from dataclasses import replace

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.core.errors import Failed
from cnnjax.data.augment import Augmentation, augment
from cnnjax.data.dataset import uncounted
from cnnjax.data.scene_views import NOT_COUNTED, Objects, SceneView
from cnnjax.data.views import example_generator
from cnnjax.ops.rle import RunLengths


def png(image):
    return cv2.imencode(".png", image[..., ::-1] if image.ndim == 3 else image)[1].tobytes()


def scene(height, width, boxes, kind):
    """White rectangles on black, with their boxes and masks."""
    image = np.zeros((height, width, 3), np.uint8)
    masks = []
    for x, y, x2, y2 in boxes:
        image[y:y2, x:x2] = 255
        mask = np.zeros((height, width), bool)
        mask[y:y2, x:x2] = True
        corners = np.array([x, y, x2, y, x2, y2, x, y2], np.float32)
        masks.append(RunLengths.of_mask(mask) if kind == "runs" else [corners])
    labels = np.arange(len(boxes), dtype=np.int32)
    known = Objects((height, width), np.asarray(boxes, np.float64), labels, tuple(masks))
    return png(image), known


def measured(mask):
    """The extent of what is set: x and y of the near and of the far corner."""
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])


@settings(max_examples=60, deadline=None)
@given(
    sides=st.tuples(st.integers(40, 120), st.integers(40, 120)),
    corner=st.tuples(st.floats(0, 0.6), st.floats(0, 0.6)),
    kind=st.sampled_from(["runs", "polygons"]),
    how=st.sampled_from(["none", "flip", "scale_jitter_flip"]),
    number=st.integers(0, 10**6),
)
def test_a_rectangle_stays_in_its_box_and_its_mask(sides, corner, kind, how, number):
    height, width = sides
    x, y = int(corner[0] * width), int(corner[1] * height)
    box = (x, y, x + max(8, width // 4), y + max(8, height // 3))
    encoded, known = scene(height, width, [box], kind)
    view = SceneView(64, most=2, maps=True, num_classes=3, augmentation=how)
    found = view.random(encoded, known, example_generator((1, 2), 0, number))
    if how == "none":
        found = view.fixed(encoded, known)
    assert {n: f.shape for n, f in view.fields.items()} == {n: v.shape for n, v in found.items()}
    white = found["images"].min(-1) > 190  # grey of what is laid round it is 104 to 124
    assert found["box_labels"][1] == -1
    if found["box_labels"][0] < 0:  # its centre was cut off
        assert how == "scale_jitter_flip"
        assert (found["object_map"] == 0).all()
        return
    assert white.any()
    np.testing.assert_allclose(found["boxes"][0], measured(white), atol=1.6)
    np.testing.assert_array_equal(found["object_map"] == 1, found["class_map"] == 1)
    differ = (found["class_map"] == 1) != white
    edge = cv2.dilate(white.astype(np.uint8), np.ones((3, 3))) - cv2.erode(
        white.astype(np.uint8), np.ones((3, 3))
    )
    assert not (differ & (edge == 0)).any()
    outside = (found["images"] == (124, 116, 104)).all(-1)
    np.testing.assert_array_equal(found["class_map"] == NOT_COUNTED, outside)


def test_what_is_small_lies_above_what_is_large_and_a_crowd_is_not_counted():
    boxes = [(4, 4, 12, 12), (0, 0, 30, 30), (26, 0, 64, 4)]
    encoded, known = scene(32, 64, boxes, "runs")
    crowd = np.array([0, 1, uncounted(0)], np.int32)
    found = SceneView(64, most=3, maps=True, num_classes=2).fixed(
        encoded, replace(known, labels=crowd)
    )
    assert found["box_labels"].tolist() == [0, 1, -2]
    assert found["object_map"][2, 55] == 3
    assert found["class_map"][2, 28] == 2  # a crowd lies below, though it is smaller
    assert found["class_map"][8, 8] == 1
    assert found["class_map"][20, 20] == 2
    assert found["object_map"][8, 8] == 1
    assert found["class_map"][2, 55] == NOT_COUNTED
    assert found["class_map"][8, 40] == 0
    assert (found["class_map"][32:] == NOT_COUNTED).all()  # below the photograph


def test_half_of_the_views_are_mirrored_and_an_epoch_repeats():
    encoded, known = scene(48, 48, [(0, 10, 8, 20)], "runs")
    view = SceneView(48, most=1, maps=True, num_classes=1, augmentation="flip")
    draws = [view.random(encoded, known, example_generator((3, 4), 0, i)) for i in range(200)]
    mirrored = np.mean([draw["boxes"][0, 0] > 24 for draw in draws])
    assert 0.4 < mirrored < 0.6
    again = view.random(encoded, known, example_generator((3, 4), 0, 7))
    assert all((again[name] == draws[7][name]).all() for name in again)


def test_scale_jitter_keeps_to_its_range():
    encoded, known = scene(60, 60, [(20, 20, 40, 40)], "runs")
    view = SceneView(60, most=1, augmentation="scale_jitter_flip")
    sides = []
    for index in range(300):
        found = view.random(encoded, known, example_generator((5, 6), 0, index))
        if found["box_labels"][0] == 0:
            x, y, x2, y2 = found["boxes"][0]
            if min(x, y) > 0 and max(x2, y2) < 60:
                sides.append(x2 - x)
    assert 10 <= min(sides) < 12
    assert max(sides) > 33


@pytest.mark.parametrize(
    ("known", "line"),
    [
        (Objects((30, 40)), "the image is of 20x40, its annotations are of one of 30x40"),
        (Objects(class_map=png(np.zeros((21, 40), np.uint8))), "the mask is of 21x40, its image"),
        (Objects(class_map=png(np.full((20, 40), 9, np.uint8))), "has pixels of class 9; they are"),
        (Objects(class_map=png(np.zeros((20, 40, 3), np.uint8))), "its mask is an image of mode"),
        (Objects(class_map=b"no image"), "its mask cannot be read"),
    ],
)
def test_what_does_not_belong_to_an_image_is_said(known, line):
    view = SceneView(16, maps=True, num_classes=4)
    with pytest.raises(Failed, match=line):
        view.check(png(np.zeros((20, 40, 3), np.uint8)), known)


def test_what_is_seen_of_an_image_is_the_whole():
    view = SceneView(64)
    assert view.part((100, 200)) == (0.0, 0.0, 200.0, 200.0)
    seen = view.image(png(np.full((100, 200, 3), 255, np.uint8)))
    assert (seen[:32] == 255).all()
    assert (seen[32:] == (124, 116, 104)).all()


@pytest.mark.parametrize("how", ["flip", "pad_crop", "pad_crop_flip"])
def test_on_the_device_boxes_and_maps_go_along(how):
    """Of scenes in memory: 64 augmentations of one rectangle."""
    size, count, box = 24, 64, (3, 5, 11, 20)
    x, y, x2, y2 = box
    image = np.zeros((size, size, 1), np.float32)
    image[y:y2, x:x2] = 1
    class_map = np.where(image[..., 0] > 0, 2, 0).astype(np.uint8)
    near = np.array([0, 8, 5, 16])  # half of it can be cut off
    batch = {
        "images": jnp.asarray(np.stack([image] * count)),
        "boxes": jnp.asarray(np.tile(np.float32([box, near, (0, 0, 0, 0)]), (count, 1, 1))),
        "box_labels": jnp.asarray(np.tile(np.array([1, 0, -1], np.int32), (count, 1))),
        "class_map": jnp.asarray(np.stack([class_map] * count)),
        "object_map": jnp.asarray(np.stack([(class_map > 0).astype(np.uint8)] * count)),
        "indices": jnp.arange(count),
    }  # fmt: skip
    found = augment(Augmentation(how, padding=4), batch, jax.random.key(0), 0)
    found = {name: np.asarray(array) for name, array in found.items()}
    assert found["class_map"].dtype == np.uint8
    places = set()
    for index in range(count):
        there = found["images"][index, ..., 0] > 0
        extent = measured(there)
        places.add(tuple(extent))
        assert found["box_labels"][index, 0] == 1
        np.testing.assert_array_equal(found["boxes"][index, 0], extent)
        np.testing.assert_array_equal(found["class_map"][index] == 2, there)
        np.testing.assert_array_equal(found["object_map"][index] == 1, there)
        kept = found["boxes"][index, 1]
        if found["box_labels"][index, 1] < 0:
            assert (kept == 0).all()
        else:
            assert kept[2] - kept[0] >= 2.5  # its centre is inside
        assert found["box_labels"][index, 2] == -1
    assert len(places) > (1 if how == "flip" else 20)
    dropped = (found["box_labels"][:, 1] < 0).any()
    assert dropped == (how != "flip")
    padded = (found["class_map"] == 255).any()
    assert padded == (how != "flip")
