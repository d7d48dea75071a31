"""Sets of tensorflow-datasets with boxes: as a folder in COCO's layout of the same scenes."""

import json
import pickle
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from cnnjax import Data, Refused, load_dataset
from cnnjax.core.errors import Failed
from cnnjax.core.folders import user_cache
from cnnjax.core.recipe import Scenes
from cnnjax.data import tfds_boxes
from cnnjax.data.dataset import images_per_class, uncounted
from cnnjax.data.prepared import open_prepared
from cnnjax.data.preview import contact_sheet
from cnnjax.data.scenes import load_scenes
from cnnjax.testing import check_dataset
from tests.data.prepared_set import write_boxed, write_prepared
from tests.data.test_decode import pillow

rng = np.random.default_rng(0)
IMAGE = rng.integers(0, 256, (30, 40, 3), np.uint8)
PNG = pillow(IMAGE, "PNG")
TWO = {"bbox": [[0.1, 0.2, 0.5, 0.8], [0.0, 0.0, 1.0, 1.0]], "label": [1, 0], "flag": [0, 1]}
NONE = {"bbox": [], "label": []}
ONE = {"bbox": [[0.5, 0.25, 0.75, 0.5]], "label": [0]}
SPLITS = {"train": [(PNG, TWO), (PNG, NONE), (PNG, ONE)], "test": [(PNG, ONE)]}


def load(root, name="boxed", say=lambda line: None, **settings):
    return load_dataset(Data(name, **{"image_size": 80, **settings}), root, say)


@pytest.mark.parametrize("form", ["REL_YXYX", None])
def test_boxes_come_with_their_images(tmp_path, form):
    write_boxed(tmp_path, "boxed", SPLITS, form=form, shards=2)
    said = []
    dataset = load(tmp_path, say=said.append)
    check_dataset(dataset)
    assert len(said) == 2
    assert said[0] == "boxed: reading the boxes of train once, of 3 images"
    assert dataset.label_names == ("a", "b")
    assert {name: field.shape for name, field in dataset.fields.items()} == {
        "images": (80, 80, 3), "boxes": (2, 4), "box_labels": (2,)
    }  # fmt: skip
    shards_first = [dataset.train.read(index)[1] for index in range(3)]
    counts = sorted(len(one.labels) for one in shards_first)
    assert counts == [0, 1, 2]
    two = next(i for i, one in enumerate(shards_first) if len(one.labels) == 2)
    seen = dataset.view.fixed(*dataset.train.read(two))
    np.testing.assert_allclose(seen["boxes"], [[16, 6, 64, 30], [0, 0, 80, 60]], atol=1e-4)
    assert seen["box_labels"].tolist() == [1, uncounted(0)]  # a crowd
    assert images_per_class(dataset.train, 2).tolist() == [1, 1]
    again = []
    pickled = pickle.loads(pickle.dumps(load(tmp_path, say=again.append)))
    assert again == []  # the boxes are kept
    assert pickled.fingerprint == dataset.fingerprint
    np.testing.assert_array_equal(pickled.train.read(two)[1].boxes, shards_first[two].boxes)


@pytest.mark.parametrize(
    "names",
    [
        {"objects": "bobjects", "flag": "is_group_of"},
        {"label": "type", "flag": "is_difficult", "other_label": "occluded"},  # kitti
        {"other_label": "pose"},  # voc
        {"flag": "is_truncated"},
    ],
)
def test_features_are_found_by_their_kind(tmp_path, names):
    write_boxed(tmp_path, "boxed", {"train": [(PNG, TWO)], "test": [(PNG, ONE)]}, **names)
    labels = load(tmp_path).train.read(0)[1].labels.tolist()
    assert labels == [1, 0 if names.get("flag") == "is_truncated" else uncounted(0)]


def test_as_a_folder_in_coco_s_layout(tmp_path):
    """The same scenes both ways: the same training batches, to the rounding of float32."""
    scenes = Scenes(train=4, test=2)
    made = load_scenes(Data("scattered_digits", scenes=scenes), load_dataset)
    splits, root = {}, tmp_path / "coco"
    for split, examples in (("train", made.train), ("test", made.test)):
        listed, annotations, images = [], [], []
        (root / split).mkdir(parents=True)
        for number in range(len(examples)):
            pixels = examples.arrays["images"][number].repeat(3, -1)
            there = examples.arrays["box_labels"][number] >= 0
            corners = examples.arrays["boxes"][number][there]
            classes = examples.arrays["box_labels"][number][there].tolist()
            size = len(pixels)
            relative = (corners / size)[:, [1, 0, 3, 2]].tolist()
            listed.append((pillow(pixels, "PNG"), {"bbox": relative, "label": classes}))
            assert cv2.imwrite(str(root / split / f"{number}.png"), pixels)
            images.append({"id": number, "file_name": f"{number}.png"})
            for (x, y, x2, y2), label in zip(corners.tolist(), classes, strict=True):
                box = [x, y, x2 - x, y2 - y]
                one = {"id": len(annotations) + 1, "image_id": number, "category_id": label}
                annotations.append({**one, "bbox": box})
        splits[split] = listed
        categories = [{"id": i, "name": name} for i, name in enumerate(made.label_names)]
        whole = {"images": images, "annotations": annotations, "categories": categories}
        (root / f"instances_{split}.json").write_text(json.dumps(whole))
    write_boxed(tmp_path, "boxed", splits, label_names=made.label_names)
    ours = load(tmp_path, image_size=64)
    theirs = load_dataset(Data(f"coco:{root}", image_size=64))
    for split in ("train", "test"):
        for index in range(len(getattr(ours, split))):
            for how in ("flip", "scale_jitter_flip"):
                one, other = (
                    data.view.training(how).random(
                        *getattr(data, split).read(index), np.random.default_rng(index)
                    )
                    for data in (ours, theirs)
                )
                assert one.keys() == other.keys()
                for name in one:
                    np.testing.assert_allclose(one[name], other[name], atol=1e-4)


def test_a_test_part_without_annotations_is_said(tmp_path):
    write_boxed(tmp_path, "boxed", {**SPLITS, "test": [(PNG, NONE)], "validation": [(PNG, ONE)]})
    said = []
    load(tmp_path, say=said.append)
    assert said[-1] == (
        "boxed: no image of its test part has an object that counts: nothing to judge by, AP"
        " is null; another part is chosen by data.test_split"
    )
    load(tmp_path, say=said.append, test_split="validation")
    assert said[-1] == "boxed: reading the boxes of validation once, of 1 image"


@pytest.mark.parametrize(
    ("bbox", "text"),
    [
        ([0.2, 0.1, 0.2, 0.5], r"example 1: the box \(0.1, 0.2, 0.5, 0.2\) has no area"),
        ([0.2, 0.1, 0.4, 1.5], r"example 1: the box \(0.1, 0.2, 1.5, 0.4\) leaves its image"),
        ([0.2, float("nan"), 0.4, 0.5], "example 1: the box .* has no area"),
    ],
)
def test_wrong_boxes_are_refused_or_left_out(tmp_path, bbox, text):
    wrong = {"bbox": [bbox, *ONE["bbox"]], "label": [1, 0]}
    write_boxed(tmp_path, "boxed", {**SPLITS, "train": [(PNG, TWO), (PNG, wrong)]})
    with pytest.raises(Refused, match=f"{text}.*data.unreadable=skip"):
        load(tmp_path)
    said = []
    left = load(tmp_path, say=said.append, unreadable="skip")
    assert left.train.read(1)[1].labels.tolist() == [0]
    assert [one.count for one in left.left_out] == [1]
    assert any("left out: 1 boxes without area or outside" in line for line in said)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"streaming": "never"}, "data.streaming=never: boxed has boxes and is always streamed"),
        ({"test_crops": 10}, "boxed is seen whole"),
        (
            {"train_split": "other"},
            r"no split 'other'; it has train \(3\), test \(1\); set .*%:\]\"$",
        ),
        ({"test_split": "test[5:]"}, r"data.test_split=test\[5:\] holds no example; .*\[100:\]"),
        ({"test_share": 0.2, "test_split": "train"}, "leave one of them out"),
    ],
)
def test_settings_without_meaning_are_refused(tmp_path, settings, text):
    write_boxed(tmp_path, "boxed", SPLITS)
    with pytest.raises(Refused, match=text):
        load(tmp_path, **settings)


def test_other_forms_and_classes_are_refused(tmp_path):
    write_boxed(tmp_path, "pixels", SPLITS, form="XYXY")
    with pytest.raises(Refused, match="boxes in the form XYXY; REL_YXYX is read"):
        load(tmp_path, "pixels")
    strange = {"bbox": ONE["bbox"], "label": [7]}
    write_boxed(tmp_path, "strange", {**SPLITS, "train": [(PNG, strange)]})
    with pytest.raises(Refused, match="example 0: label 7 is out of range; 2 classes allow 0 to 1"):
        load(tmp_path, "strange")
    write_boxed(tmp_path, "nameless", SPLITS, label_names=())
    with pytest.raises(Refused, match=r"objects/label has no classes .*objects-label.labels.txt"):
        load(tmp_path, "nameless")


def test_info_counts_what_does_not_count(cli, tmp_path):
    write_boxed(tmp_path, "boxed", SPLITS)
    command = ["data", "info", "boxed", "--data-dir", tmp_path]
    code, out, _ = cli(*command, "--json")
    assert code == 0
    facts = json.loads(out)
    assert facts["uncounted_objects"] == {"train": 1, "test": 0}
    assert facts["train_per_class"] == {"a": 1, "b": 1}
    assert "1 in the train part, 0 in the test part" in cli(*command)[1]


def test_a_detector_learns_on_them_from_the_command_line(cli, tmp_path):
    write_boxed(tmp_path, "boxed", {"train": [(PNG, TWO)] * 3, "test": [(PNG, ONE)]})
    command = ["train", "--model", "tiny_ssd", "--data", "boxed", "--data-dir", tmp_path]
    command += ["--set", "data.image_size=32", "--batch-size", "2", "--set", "steps=2"]
    code, out, err = cli(*command, "--workdir", tmp_path / "run", "--json")
    assert code == 0, err
    assert json.loads(out)["status"] == "done"
    code, out, _ = cli("eval", tmp_path / "run", "--json")
    assert code == 0
    assert json.loads(out)["examples"] == 1


def test_a_label_of_the_whole_image_comes_first(tmp_path):
    folder = write_boxed(tmp_path, "boxed", SPLITS)
    plain = write_prepared(tmp_path, "plain", {"train": [(PNG, 0)]}, shape=(30, 40, 3))
    features = json.loads((folder / "features.json").read_text())
    label = json.loads((plain / "features.json").read_text())["featuresDict"]["features"]["label"]
    features["featuresDict"]["features"]["label"] = label
    (folder / "features.json").write_text(json.dumps(features))
    assert tfds_boxes.box_features(open_prepared("boxed", tmp_path)) is None


def test_of_two_classes_which_is_meant_must_be_known(tmp_path):
    write_boxed(tmp_path, "boxed", SPLITS, label="kind", other_label="pose")
    with pytest.raises(Refused, match=r"2 classes \(kind, pose\); one is needed, named"):
        load(tmp_path)


def test_an_unknown_flag_is_not_set(tmp_path):
    """Open Images has -1 there."""
    unknown = {"bbox": TWO["bbox"], "label": [1, 0], "flag": [-1, 1]}
    splits = {"train": [(PNG, unknown)], "test": [(PNG, ONE)]}
    write_boxed(tmp_path, "boxed", splits, flag="is_group_of", flag_type="int8")
    assert load(tmp_path).train.read(0)[1].labels.tolist() == [1, uncounted(0)]


def test_slices_and_configurations(tmp_path):
    write_boxed(tmp_path, "boxed/2017", SPLITS)
    for name in ("boxed", "boxed/2017"):
        dataset = load(tmp_path, name, train_split="train[1:]", test_split="train[:1]")
        assert [len(dataset.train.read(index)[1].labels) for index in (0, 1)] == [0, 1]
        assert len(dataset.test.read(0)[1].labels) == 2
        assert dataset.fields["boxes"].shape == (2, 4)
    said = []
    load(tmp_path, "boxed", test_split="train[1:2]", say=said.append)
    assert said[0] == "boxed: 1 of 1 test images are trained on, too"
    load(tmp_path, "boxed", train_split="train[:2]", test_split="train[2:]", say=said.append)
    assert len([line for line in said if "trained on" in line]) == 1
    held_out = load(tmp_path, "boxed", test_split="test", validation_share=0.34)
    assert (len(held_out.train), len(held_out.test)) == (2, 1)


def test_a_set_that_is_prepared_anew_is_read_anew(tmp_path):
    """Large files are known by their size, which other boxes do not change."""
    noise = pillow(np.random.default_rng(0).integers(0, 256, (800, 800, 3), np.uint8), "PNG")
    assert len(noise) > 2**20
    write_boxed(tmp_path, "boxed", {"train": [(noise, ONE)], "test": [(PNG, ONE)]})
    first = load(tmp_path)
    assert first.train.read(0)[1].labels.tolist() == [0]
    shutil.rmtree(tmp_path / "boxed")
    other = {"bbox": ONE["bbox"], "label": [1]}
    write_boxed(tmp_path, "boxed", {"train": [(noise, other)], "test": [(PNG, ONE)]})
    second = load(tmp_path)
    assert second.train.read(0)[1].labels.tolist() == [1]
    assert second.fingerprint != first.fingerprint
    stale = pickle.loads(pickle.dumps(first))
    with pytest.raises(Failed, match=r"its boxes are not those .* remove .*boxed-boxes-.*\.arrays"):
        stale.train.read(0)


def test_a_record_that_cannot_be_read_is_refused_or_left_out(cli, tmp_path):
    folder = write_boxed(tmp_path, "boxed", {**SPLITS, "train": [(PNG, TWO)] * 3})
    damage(next(folder.glob("*-train.array_record-*")))
    with pytest.raises(Refused, match=r"example \d: it cannot be read.*data\.unreadable=skip"):
        load(tmp_path)
    left = load(tmp_path, unreadable="skip")
    assert len(left.train) == 2
    assert all(len(left.train.read(index)[1].labels) == 2 for index in range(2))
    code, out, _ = cli("data", "check", "boxed", "--data-dir", tmp_path, "--json")
    assert code == 1
    assert json.loads(out)["unreadable"]


def damage(path):
    """In the middle of the first record, which the file's own index does not notice."""
    data = bytearray(path.read_bytes())
    at = data.index(b"IHDR")
    data[at - 40 : at + 8] = bytes(48)
    path.write_bytes(data)


def test_what_does_not_count_is_drawn_apart(tmp_path):
    write_boxed(tmp_path, "boxed", {"train": [(PNG, TWO)], "test": [(PNG, ONE)]})
    crowd = contact_sheet(load(tmp_path))
    counted = {**TWO, "flag": [0, 0]}
    write_boxed(tmp_path, "other", {"train": [(PNG, counted)], "test": [(PNG, ONE)]})
    assert crowd != contact_sheet(load(tmp_path, "other"))


def test_a_damaged_cache_is_read_again(tmp_path):
    write_boxed(tmp_path, "boxed", SPLITS)
    fingerprint = load(tmp_path).fingerprint
    kept = list(Path(user_cache("data")).glob("boxed-boxes-*.arrays"))
    assert kept
    for path in kept:
        path.write_bytes(path.read_bytes()[:-3])
    said = []
    assert load(tmp_path, say=said.append).fingerprint == fingerprint
    assert any("arrays: " in line and "; boxed: reading the boxes" in line for line in said)
