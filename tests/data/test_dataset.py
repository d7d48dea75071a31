"""A data set of one's own arrays: what is kept, what is converted, what is refused."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from cnnjax import Dataset, Refused
from cnnjax.data.conversion import as_arrays
from cnnjax.data.dataset import Examples, images_per_class
from cnnjax.data.examples import Field
from cnnjax.data.preview import contact_sheet
from cnnjax.report.visualize import stored_image
from cnnjax.testing import check_dataset

rng = np.random.default_rng(0)
IMAGES = rng.integers(0, 256, (12, 5, 4), np.uint8)
LABELS = np.arange(12) % 3


def part(images=IMAGES, labels=LABELS, **fields):
    arrays = {"images": images, "labels": labels, **fields}
    return {name: array for name, array in arrays.items() if array is not None}


def made(train=None, test=None, **about):
    return Dataset.from_arrays(train or part(), test or part(IMAGES[:4], LABELS[:4]), **about)


def test_arrays_become_a_data_set():
    dataset = made(name="mine")
    assert (len(dataset.train), len(dataset.test)) == (12, 4)
    assert (dataset.name, dataset.label_names) == ("mine", ("0", "1", "2"))
    assert dataset.image_shape == (5, 4, 1)
    assert dataset.fields == {
        "images": Field((5, 4, 1), np.dtype(np.uint8)),
        "labels": Field((), np.dtype(np.int32)),
    }
    assert dataset.train.labels.dtype == np.int32
    assert images_per_class(dataset.test, 3).tolist() == [2, 1, 1]
    assert len(check_dataset(dataset)) == 6


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64, ">i4"])
def test_whole_numbers_of_any_width_are_the_same_set(dtype):
    test = part(IMAGES[:4].astype(dtype), LABELS[:4])
    assert made(part(IMAGES.astype(dtype)), test).fingerprint == made().fingerprint


def test_further_fields_are_kept_and_are_part_of_the_fingerprint():
    boxes = rng.random((12, 2, 4))
    dataset = made(part(boxes=boxes), part(IMAGES[:4], LABELS[:4], boxes=boxes[:4]))
    assert dataset.fields["boxes"] == Field((2, 4), np.dtype(np.float32))
    np.testing.assert_array_equal(dataset.train.arrays["boxes"], boxes.astype(np.float32))
    named = made(part(masks=boxes), part(IMAGES[:4], LABELS[:4], masks=boxes[:4]))
    moved = made(part(boxes=boxes + 1), part(IMAGES[:4], LABELS[:4], boxes=boxes[:4]))
    prints = {one.fingerprint for one in (made(), dataset, named, moved)}
    assert len(prints) == 4
    assert len(check_dataset(dataset)) == 6


def test_a_fingerprint_is_of_the_content_and_nothing_else():
    one, other = made(name="one"), made(name="other", augmentation="pad_crop_flip")
    assert one.fingerprint == other.fingerprint == pickle.loads(pickle.dumps(one)).fingerprint
    assert made(label_names=["a", "b", "c"]).fingerprint != one.fingerprint
    changed = IMAGES.copy()
    changed[3, 2, 1] += 1
    assert made(part(changed)).fingerprint != one.fingerprint
    assert replace(one, train=made(part(changed)).train).fingerprint != one.fingerprint


def test_a_data_set_cannot_be_written_and_the_callers_arrays_can():
    images = IMAGES.copy()
    dataset = made(part(images))
    with pytest.raises(ValueError, match="read-only"):
        dataset.train.images[0] = 0
    images[0] = 0


def test_labels_may_be_absent(tmp_path):
    dataset = made(part(labels=None), part(IMAGES[:4], None))
    assert (dataset.num_classes, dataset.label_names) == (0, ())
    assert list(dataset.fields) == ["images"]
    assert images_per_class(dataset.train, 0) is None
    assert len(check_dataset(dataset)) == 6
    assert dataset.fingerprint != made().fingerprint
    assert contact_sheet(dataset).startswith(b"\x89PNG")
    assert stored_image(dataset, "test", 1)[1] == ""
    with pytest.raises(Refused, match=r"the data have no labels \(there is images\)"):
        _ = dataset.train.labels


TOO_FEW = {"images": IMAGES[:4], "labels": LABELS[:3]}
NAN = IMAGES.astype(np.float32)
NAN[2, 3] = np.nan
BOXES = np.zeros((12, 4), np.float32)


@pytest.mark.parametrize(
    ("train", "test", "about", "message"),
    [
        (None, TOO_FEW, {}, r"mine: test has 4 images and labels \[3\]; each array has a row"),
        (part(boxes=BOXES[:3]), None, {}, r"12 images and boxes \[3, 4\]"),
        (part(boxes=np.float32(3)), None, {}, r"12 images and boxes \[\]"),
        (
            part(labels=LABELS - 1),
            None,
            {},
            r"4 labels of the training split .*first: -1.*3 cl|2 c",
        ),
        (None, part(IMAGES[:4], LABELS[:4] + 1), {}, r"1 labels of the test .*first: 3\); 3 cl"),
        (part(labels=LABELS / 1), None, {}, r"labels are float64\[12\]; .*astype\(np.int32\)"),
        (part(labels=np.eye(3)[LABELS]), None, {}, r"one-hot rows give labels.argmax\(1\)"),
        (part(labels=LABELS * 1000), None, {}, r"labels go up to 2000 in 12 examples; .*label_nam"),
        (part(labels=LABELS + 2**40), None, {}, r"which 32 bits do not hold"),
        (part(NAN), None, {}, r"train images have 4 pixels that are no number"),
        (part(IMAGES / 255), None, {}, r"np.rint\(images \* 255\).astype\(np.uint8\)"),
        (part(IMAGES / 2), None, {}, r"np.rint\(images\).astype\(np.uint8\)"),
        (part(IMAGES > 9), None, {}, r"images are bool"),
        (part(IMAGES * 2 + np.int64(9)), None, {}, r"the pixels of a set .* are 0 to 255"),
        (None, None, {"max_value": 16}, r"the pixels of a set with max_value=16 are 0 to 16"),
        (None, None, {"max_value": 300}, r"max_value=300: 1 to 255"),
        (None, None, {"augmentation": "flip"}, r"it is one of none, pad_crop_flip"),
        (part(IMAGES[0]), None, {}, r"images are \[5, 4\]; they are \[n, h, w\]"),
        (part(IMAGES[:, :0]), None, {}, r"images of size 0x4x1, which is nothing"),
        (part(IMAGES[:0], LABELS[:0]), None, {}, r"the training split is empty"),
        (part(rng.integers(0, 9, (12, 3, 8, 8))), None, {}, r"np.moveaxis\(images, 1, -1\)"),
        (None, part(IMAGES[:4, 1:], LABELS[:4]), {}, r"images are 5x4x1, test images 4x4x1"),
        (part(boxes=BOXES), None, {}, r"boxes is float32 4 in the training split and not there in"),
        (part(mask=BOXES), None, {}, r"has a field 'mask'"),
        (part(**{"a b": BOXES}), None, {}, r"has a field 'a b'"),
        (
            part(words=np.array(["x"] * 12)),
            None,
            {},
            r"train words are of dtype <U1; give an array",
        ),
        (part(words=[None] * 12), None, {}, r"train words are of dtype object"),
        (part(words=[[1], [1, 2]]), None, {}, r"train words: no array can be made of it"),
        (part(None), None, {}, r"train has no images \(there is labels\)"),
        (None, None, {"label_names": "abc"}, r"label_names='abc': give a list"),
        (None, None, {"label_names": ["a", "b", "a"]}, r"two classes are named 'a'"),
        (None, None, {"label_names": ["a", "b"]}, r"4 labels of the training split .*first: 2"),
        (None, part(IMAGES[:4], None), {}, r"test split has classes, but no labels"),
        (part(labels=None), part(IMAGES[:4], None), {"label_names": ["a"]}, r"there are none"),
    ],
)
def test_what_is_no_data_set_is_refused_with_the_cure(train, test, about, message):
    with pytest.raises(Refused, match=message) as error:
        made(train, test, name="mine", **about)
    assert str(error.value).startswith("data set mine")
    assert "\n" not in str(error.value)


def test_a_split_that_is_no_dict_is_refused():
    with pytest.raises(Refused, match="mine: train is a list; give a dict of arrays"):
        as_arrays([IMAGES], "data set mine: train", 255)


def test_examples_that_were_put_together_by_hand_are_checked_too():
    good = made()
    for arrays in (
        {"images": IMAGES},
        {"images": IMAGES[..., None], "labels": LABELS, "wide": np.zeros(12)},
        {"labels": LABELS},
        {"images": IMAGES[..., None], "labels": LABELS / 1},
    ):
        with pytest.raises(Refused, match="data set arrays: the training split"):
            replace(good, train=Examples(arrays))


def test_an_object_that_does_not_count_is_a_label_of_its_own():
    boxes = np.array([[[0, 0, 2, 2], [1, 1, 3, 3], [0, 0, 1, 1]]], np.float32)
    labels = np.array([[1, -2, -1]])

    def scenes(labels):
        arrays = {"images": IMAGES[:1], "boxes": boxes, "box_labels": labels}
        return Dataset.from_arrays(arrays, arrays, label_names=("a", "b"))

    assert images_per_class(scenes(labels).train, 2).tolist() == [0, 1]
    assert scenes(labels - [[0, 1, 0]]).num_classes == 2
    with pytest.raises(Refused, match=r"out of range .*-2 - class an object that does not count"):
        scenes(labels - [[0, 2, 0]])
    for kind in (np.uint8, np.uint32, np.int8):
        assert images_per_class(scenes(np.array([[0, 1, 1]], kind)).train, 2).tolist() == [1, 2]
