"""Scenes of scattered digits: what is said of them is what is in them."""

from dataclasses import replace

import numpy as np
import pytest

from cnnjax import Dataset, Refused
from cnnjax.core.recipe import Data, Scenes
from cnnjax.data.load import load_dataset

FEW = Scenes(train=30, test=10)


def made(**changes):
    return load_dataset(Data("scattered_digits", scenes=replace(FEW, **changes)))


@pytest.fixture(scope="module")
def scenes():
    return made()


def test_boxes_are_the_extent_of_what_is_seen(scenes):
    arrays = scenes.train.arrays
    assert (arrays["box_labels"] >= 0).sum(1).min() >= 1
    for boxes, labels, objects, classes in zip(
        *(arrays[name] for name in ("boxes", "box_labels", "object_map", "class_map")), strict=True
    ):
        for place, (box, label) in enumerate(zip(boxes, labels, strict=True)):
            mask = objects == place + 1
            if label < 0:
                assert not mask.any()
                continue
            rows, columns = np.nonzero(mask)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            assert set(classes[mask].tolist()) == {label + 1}
        assert ((classes > 0) == (objects > 0)).all()


def test_without_overlap_no_two_boxes_meet(scenes):
    for boxes, labels in zip(
        *(scenes.train.arrays[name] for name in ("boxes", "box_labels")), strict=True
    ):
        covered = np.zeros((64, 64), int)
        for x, y, x2, y2 in boxes[labels >= 0].astype(int):
            covered[y:y2, x:x2] += 1
        assert covered.max() == 1


def test_a_scene_is_its_seed_and_its_number(scenes):
    longer = made(train=40)
    for name, array in scenes.train.arrays.items():
        np.testing.assert_array_equal(longer.train.arrays[name][:30], array)
    assert made(seed=1).fingerprint != scenes.fingerprint
    assert made().fingerprint == scenes.fingerprint
    assert not np.array_equal(scenes.train.images[:10], scenes.test.images)


@pytest.mark.core
def test_no_version_changes_a_pixel(scenes):
    assert scenes.fingerprint.startswith("741befd8b5a7aac9")


def test_digits_are_split_before_they_are_scattered():
    """Two sources that differ in their test images alone make the same training scenes."""
    rng = np.random.default_rng(0)

    def source(test_seed):
        images = rng.integers(0, 256, (20, 8, 8))
        tested = np.random.default_rng(test_seed).integers(0, 256, (20, 8, 8))
        return images, tested

    first, test_a = source(1)
    _, test_b = source(2)
    labels = np.arange(20) % 4
    sets = [
        Dataset.from_arrays({"images": first, "labels": labels}, {"images": t, "labels": labels})
        for t in (test_a, test_b)
    ]
    from cnnjax.data.scenes import load_scenes

    data = Data("scattered_digits", scenes=FEW)
    one, two = (load_scenes(data, lambda name, given=given: given) for given in sets)
    np.testing.assert_array_equal(one.train.images, two.train.images)
    assert not np.array_equal(one.test.images, two.test.images)


def test_overlap_makes_room():
    crowded, apart = (
        made(overlap=overlap, fewest=8, most=8, train=40).train.arrays["box_labels"] >= 0
        for overlap in (0.9, 0.0)
    )
    assert crowded.sum() > apart.sum()


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_overlap_is_bounded(share):
    """Seen as it was placed: before the later digit covered the earlier one."""
    from cnnjax.data.scenes import _Draws, _free_place

    scenes = replace(FEW, overlap=share)
    placed = [np.array([10, 10, 30, 40])]
    draws, found = _Draws(0, "train", 0), []
    for _ in range(200):
        corner = _free_place((12, 16), placed, scenes, draws)
        assert corner is not None
        top, left = corner
        wide = max(0, min(left + 16, 30) - max(left, 10))
        found.append(wide * max(0, min(top + 12, 40) - max(top, 10)) / (12 * 16))
    assert max(found) <= share
    assert max(found) > 0.5 * share


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"size": 4}, "size=4: must be 8 or more"),
        ({"overlap": 1.0}, "overlap=1.0: a share"),
        ({"noise": -1.0}, "noise=-1.0: must be 0 or more"),
        ({"seed": -1}, "seed=-1"),
    ],
)
def test_impossible_scenes(changes, text):
    with pytest.raises(ValueError, match=text):
        replace(FEW, **changes)


def test_a_least_that_is_more_than_a_most():
    """Seen when all settings are known, in whatever order they come."""
    with pytest.raises(Refused, match=r"fewest=5: more than data\.scenes\.most=4"):
        made(fewest=5)
    with pytest.raises(Refused, match=r"largest=70: more than data\.scenes\.size=64"):
        made(largest=70)


def test_a_source_that_cannot_be_scattered():
    with pytest.raises(Refused, match=r"data\.scenes\.source=scattered_digits"):
        made(source="scattered_digits")
    with pytest.raises(Refused, match="did you mean digits"):
        made(source="digts")


def arrays(**changed):
    whole = {
        "images": np.zeros((2, 8, 8), np.uint8),
        "boxes": np.array([[[0, 0, 4, 4], [0, 0, 0, 0]]] * 2, np.float32),
        "box_labels": np.array([[0, -1]] * 2),
        "class_map": np.ones((2, 8, 8), np.uint8),
    }
    return {**whole, **changed}


def test_arrays_of_ones_own_with_boxes_and_maps():
    found = Dataset.from_arrays(arrays(), label_names=["one"])
    assert found.num_classes == 1


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"class_map": np.full((2, 8, 8), 2)}, r"128 class map .* \(first: 2\); .* allow 1 to 1"),
        ({"class_map": np.full((2, 8, 8), 9)}, "0 the ground, 255 what is not counted"),
        ({"box_labels": np.array([[0, 1]] * 2)}, "2 box labels .* allow 0 to 0, -1 no box"),
        (
            {"boxes": np.zeros((2, 2, 4), np.float32)},
            r"2 boxes .* \(0, 0, 0, 0\) of image 0 has no",
        ),
        ({"boxes": np.full((2, 2, 4), [0, 0, 9, 4], np.float32)}, "of image 0 leaves its image"),
        ({"boxes": np.zeros((2, 3, 4), np.float32)}, r"\[n, most, 4\] and \[n, most\]"),
    ],
)
def test_wrong_boxes_and_maps_are_refused(changed, text):
    with pytest.raises(Refused, match=text):
        Dataset.from_arrays(arrays(**changed), label_names=["one"])


def test_classes_of_boxes_need_names():
    with pytest.raises(Refused, match="give label_names, one a class"):
        Dataset.from_arrays(arrays())
