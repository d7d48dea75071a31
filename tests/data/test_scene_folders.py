"""Folders of photographs with boxes and masks, read as their users keep them."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from cnnjax import Data, Refused, load_dataset
from cnnjax.data.dataset import images_per_class, uncounted
from cnnjax.data.preview import contact_sheet
from cnnjax.ops.rle import RunLengths
from cnnjax.testing import check_dataset

REAL = Path(__file__).parents[3] / "shared" / "coco_small"


def image(seed, height=30, width=40):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def write(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), array)


def runs(x, y, x2, y2, height=30, width=40):
    mask = np.zeros((height, width), bool)
    mask[y:y2, x:x2] = True
    return {"size": [height, width], "counts": RunLengths.of_mask(mask).text()}


def annotations(images, **changes):
    """Two objects and a crowd in the first image, one in the second, none in the others."""
    polygon = [[2.0, 3.0, 12.0, 3.0, 12.0, 13.0, 2.0, 13.0]]
    found = [
        {"id": 1, "image_id": 1, "category_id": 7, "bbox": [2, 3, 10, 10], "area": 100,
         "iscrowd": 0, "segmentation": polygon},
        {"id": 2, "image_id": 1, "category_id": 3, "bbox": [20, 5, 8, 20], "area": 160,
         "iscrowd": 0, "segmentation": runs(20, 5, 28, 25)},
        {"id": 3, "image_id": 1, "category_id": 3, "bbox": [30, 0, 10, 5], "area": 50,
         "iscrowd": 1, "segmentation": runs(30, 0, 40, 5)},
        {"id": 4, "image_id": 2, "category_id": 7, "bbox": [0, 0, 40, 30], "area": 1200,
         "iscrowd": 0, "segmentation": runs(0, 0, 40, 30)},
    ]  # fmt: skip
    return {
        "images": [
            {"id": number, "file_name": f"{number:012}.jpg", "width": 40, "height": 30}
            for number in range(1, images + 1)
        ],
        "annotations": found,
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        **changes,
    }


@pytest.fixture
def coco(tmp_path):
    root = tmp_path / "coco"
    for split, count in (("train2017", 5), ("val2017", 3)):
        for number in range(1, count + 1):
            write(root / split / f"{number:012}.jpg", image(number))
        file = root / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(annotations(count)))
    return root


def load(root, kind="coco", **settings):
    said = []
    found = load_dataset(Data(f"{kind}:{root}", image_size=40, **settings), say=said.append)
    return found, said


def test_a_coco_folder_is_a_set_with_boxes_and_masks(coco):
    dataset, said = load(coco)
    check_dataset(dataset)
    assert said == []
    assert dataset.label_names == ("cat", "dog")  # by their ids, whatever the order in the file
    assert (len(dataset.train), len(dataset.test)) == (5, 3)
    one = dataset.view.fixed(*dataset.train.read(0))
    np.testing.assert_allclose(one["boxes"], [[2, 3, 12, 13], [20, 5, 28, 25], [30, 0, 40, 5]])
    assert one["box_labels"].tolist() == [1, 0, uncounted(0)]  # a crowd
    expected = np.full((40, 40), 255, np.uint8)
    expected[:30] = 0
    expected[:5, 30:] = 255  # the crowd
    expected[3:13, 2:12], expected[5:25, 20:28] = 2, 1
    np.testing.assert_array_equal(one["class_map"], expected)
    assert np.unique(one["object_map"]).tolist() == [0, 1, 2, 3]
    empty = dataset.view.fixed(*dataset.train.read(4))
    assert (empty["box_labels"] == -1).all()
    assert images_per_class(dataset.train, 2).tolist() == [1, 2]
    assert contact_sheet(dataset).startswith(b"\x89PNG")


def test_without_masks_there_are_boxes_and_of_masks_alone_boxes_are_made(coco):
    file = coco / "annotations" / "instances_train2017.json"
    whole = json.loads(file.read_text())
    del whole["annotations"][0]["segmentation"]
    file.write_text(json.dumps(whole))
    assert "class_map" not in load(coco)[0].fields
    whole = annotations(5)
    for one in whole["annotations"]:
        del one["bbox"]
    file.write_text(json.dumps(whole))
    one = load(coco)[0]
    boxes = [[2, 3, 12, 13], [20, 5, 28, 25], [30, 0, 40, 5]]
    np.testing.assert_allclose(one.train.read(0)[1].boxes, boxes)


@pytest.mark.parametrize("nothing", ["null", "[]", "[\n         ]"])
def test_no_mask_is_none_however_it_is_written(coco, nothing):
    file = coco / "annotations" / "instances_train2017.json"
    whole = json.loads(file.read_text())
    whole["annotations"][0]["segmentation"] = 77
    file.write_text(json.dumps(whole).replace("77", nothing))
    dataset, said = load(coco)
    assert "class_map" not in dataset.fields
    assert "1 of 4 annotations of train2017 have no mask" in said[0]
    dataset.view.fixed(*dataset.train.read(0))


def test_what_identifies_a_set_is_its_content(coco, tmp_path):
    first = load(coco)[0].fingerprint
    shutil.copytree(coco, tmp_path / "other")
    assert load(tmp_path / "other")[0].fingerprint == first
    file = tmp_path / "other" / "annotations" / "instances_train2017.json"
    file.write_text(file.read_text().replace('"dog"', '"wolf"').replace("[2, 3, 10", "[2, 3, 9"))
    val = tmp_path / "other" / "annotations" / "instances_val2017.json"
    val.write_text(val.read_text().replace('"dog"', '"wolf"'))
    assert load(tmp_path / "other")[0].fingerprint != first


def test_a_part_is_named_or_held_out(coco):
    dataset, _ = load(coco, train_split="val2017", test_split="train2017")
    assert (len(dataset.train), len(dataset.test)) == (3, 5)
    (coco / "annotations" / "instances_val2017.json").unlink()
    with pytest.raises(
        Refused, match=r"instances_test or val or validation\.json.*data.test_share=0.2"
    ):
        load(coco)


def test_of_scenes_a_part_is_held_back_without_regard_to_classes(coco):
    dataset, _ = load(coco, train_examples=2)
    assert (len(dataset.train), len(dataset.test)) == (2, 3)
    dataset, _ = load(coco, validation_share=0.4)
    assert (len(dataset.train), len(dataset.test)) == (3, 2)
    check_dataset(dataset)


def changed(change):
    def write_file(root):
        file = root / "annotations" / "instances_train2017.json"
        whole = json.loads(file.read_text())
        change(whole)
        file.write_text(json.dumps(whole))

    return write_file


def rename(split, name):
    def rename_file(root):
        folder = root / "annotations"
        (folder / f"instances_{split}.json").rename(folder / f"instances_{name}.json")

    return rename_file


def remove_image(root):
    (root / "train2017" / "000000000002.jpg").unlink()


def no_jpeg(root):
    (root / "train2017" / "000000000002.jpg").write_bytes(b"nothing")


@pytest.mark.parametrize(
    ("break_it", "line"),
    [
        (changed(lambda w: w["annotations"][0].update(bbox=[2, 3, 0, 5])), "has no area"),
        (changed(lambda w: w["annotations"][0].update(bbox=[35, 3, 10, 5])), "leaves its image"),
        (changed(lambda w: w["annotations"][0].update(category_id=5)), "of category 5, which is"),
        (changed(lambda w: w["annotations"][1].update(id=1)), "annotation id 1 is there 2 times"),
        (changed(lambda w: w["categories"].append({"id": 9, "name": "x"})), "categories of train"),
        (changed(lambda w: w["annotations"][1]["segmentation"].update(size=[3, 4])), "mask is of"),
        (changed(lambda w: w["annotations"][1]["segmentation"].update(counts="0")), "annotation 2"),
        (
            changed(
                lambda w: (
                    w["annotations"][3].pop("bbox") and w["annotations"][3].update(segmentation=[])
                )
            ),
            "annotation 4 has neither bbox nor segmentation",
        ),
        (changed(lambda w: w["images"][1].update(file_name="../2.jpg")), "names ../2.jpg, which"),
        (changed(lambda w: w["images"][1].update(file_name="/far/2.jpg")), "names /far/2.jpg, whi"),
        (changed(lambda w: w["images"][2].update(width=41)), "3.jpg is of 30x40 .*, and its ann"),
        (rename("train2017", "2017"), "no single file instances_train.json"),
        (rename("train2017", "trainval"), "no single file instances_train.json"),
        (remove_image, "there is no .*000000000002.jpg"),
        (no_jpeg, "000000000002.jpg: no decoder knows it"),
        (lambda root: shutil.rmtree(root / "train2017"), "no image of train2017 is there"),
        (lambda root: shutil.rmtree(root / "annotations"), "no single file instances_train"),
        (lambda root: shutil.rmtree(root), "there is no folder"),
    ],
)
def test_what_is_wrong_is_refused_in_a_line(coco, break_it, line):
    break_it(coco)
    with pytest.raises(Refused, match=line) as refused:
        load(coco)
    assert "\n" not in str(refused.value)


def test_one_part_is_not_both(coco):
    with pytest.raises(Refused, match="train2017 is the training and the test part"):
        load(coco, test_split="train")


def test_run_lengths_say_the_size_of_their_image(coco):
    def without_sizes(whole):
        for one in whole["images"]:
            del one["width"], one["height"]

    changed(without_sizes)(coco)
    load(coco)
    write(coco / "train2017" / "000000000001.jpg", image(1, 60, 80))
    with pytest.raises(Refused, match=r"1\.jpg is of 60x80 .*, and its annotations say 30x40"):
        load(coco)


def test_many_boxes_are_read_where_there_is_no_map(coco):
    def many(whole):
        box = {"image_id": 5, "category_id": 3, "bbox": [1, 1, 3, 3], "iscrowd": 0}
        whole["annotations"] = [{"id": n, **box} for n in range(1, 301)]

    changed(many)(coco)
    assert load(coco)[0].fields["boxes"].shape == (300, 4)


def test_a_missing_mask_is_said(coco):
    changed(lambda w: w["annotations"][0].pop("segmentation"))(coco)
    dataset, said = load(coco)
    assert "class_map" not in dataset.fields
    assert "1 of 4 annotations of train2017 have no mask (first: 1)" in said[0]


def test_what_can_be_left_out_is_with_a_word(coco, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    changed(lambda w: w["annotations"][0].update(bbox=[2, 3, 0, 5]))(coco)
    no_jpeg(coco)
    dataset, said = load(coco, unreadable="skip")
    assert len(dataset.train) == 4
    assert images_per_class(dataset.train, 2).tolist() == [1, 0]
    assert any("1 boxes without area or outside their image" in line for line in said), said
    assert any("cannot be decoded" in line for line in said), said


@pytest.fixture
def masked(tmp_path):
    root = tmp_path / "fields"
    for split in ("train", "val"):
        for number in range(3):
            write(root / "images" / split / f"{number}.jpg", image(number))
            mask = np.zeros((30, 40), np.uint8)
            mask[:10], mask[10:12] = 1 + number % 2, 255
            write(root / "masks" / split / f"{number}.png", mask)
    (root / "classes.txt").write_text("ground\nwheat\nrye\n")
    return root


def test_masks_beside_images_are_a_set(masked):
    dataset, said = load(masked, "masks")
    check_dataset(dataset)
    assert (dataset.label_names, said) == (("wheat", "rye"), [])
    assert list(dataset.fields) == ["images", "class_map"]
    found = dataset.view.fixed(*dataset.train.read(1))["class_map"]
    assert [int(found[row, 0]) for row in (0, 9, 10, 11, 12, 29, 30)] == [2, 2, 255, 255, 0, 0, 255]
    (masked / "masks" / "train" / "0.png").unlink()
    dataset, said = load(masked, "masks")
    assert len(dataset.train) == 2
    assert said == [f"masks:{masked}: left out: 1 images without a mask (images/train/0.jpg)"]


def test_a_year_of_voc_is_a_set(masked, tmp_path):
    from PIL import Image

    root = tmp_path / "VOC2012"
    for split, numbers in (("train", "01"), ("val", "2")):
        listed = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("".join(f"2007_{number}\n" for number in numbers))
        for number in numbers:
            write(root / "JPEGImages" / f"2007_{number}.jpg", image(int(number)))
            mask = Image.fromarray(np.full((30, 40), 15, np.uint8), "P")
            mask.putpalette([7] * 768)
            (root / "SegmentationClass").mkdir(exist_ok=True)
            mask.save(root / "SegmentationClass" / f"2007_{number}.png")
    dataset, _ = load(root, "masks")
    check_dataset(dataset)
    assert (len(dataset.train), len(dataset.test), dataset.num_classes) == (2, 1, 20)
    assert dataset.label_names[14] == "person"
    assert (dataset.view.fixed(*dataset.train.read(0))["class_map"][:30] == 15).all()


@pytest.mark.parametrize(
    ("break_it", "line"),
    [
        (lambda root: (root / "classes.txt").unlink(), "one file classes.txt is needed"),
        (lambda root: (root / "classes.txt").write_text("one"), "1 names; the ground and a class"),
        (lambda root: (root / "classes.txt").write_text("a\n\nb\n"), "line 2 is empty"),
        (lambda root: (root / "classes.txt").write_bytes("\xe9\nb".encode("latin-1")), "no UTF-8"),
        (lambda root: shutil.rmtree(root / "masks"), "holds neither masks/"),
        (
            lambda root: shutil.rmtree(root / "masks" / "train"),
            r"no single folder .*masks/train",
        ),
        (lambda root: shutil.rmtree(root / "images"), "there is no folder .*images/train"),
    ],
)
def test_a_folder_of_masks_that_lacks_something_is_refused(masked, break_it, line):
    break_it(masked)
    with pytest.raises(Refused, match=line):
        load(masked, "masks")


@pytest.mark.parametrize(
    ("mask", "line"),
    [
        (np.zeros((8, 8), np.uint8), "the mask is of 8x8, its image of 30x40"),
        (np.full((30, 40), 77, np.uint8), "pixels of class 77; they are 0 .the ground. to 2"),
        (np.zeros((30, 40, 3), np.uint8), "its mask is an image of mode RGB"),
    ],
)
def test_masks_that_do_not_fit_are_refused_before_a_run(masked, mask, line):
    write(masked / "masks" / "val" / "2.png", mask)
    with pytest.raises(Refused, match=f"val/2.png: .*{line}.*data.unreadable=skip"):
        load(masked, "masks")


def test_a_check_finds_masks_that_do_not_fit(masked, cli):
    write(masked / "masks" / "val" / "2.png", np.zeros((8, 8), np.uint8))
    write(masked / "masks" / "train" / "0.png", np.full((30, 40), 77, np.uint8))
    code, out, _ = cli("data", "check", f"masks:{masked}", "--json")
    assert code == 1
    reasons = [one["reason"] for one in json.loads(out)["unreadable"]]
    assert "pixels of class 77" in reasons[0]
    assert "the mask is of 8x8, its image of 30x40" in reasons[1]


@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/coco_small")
def test_photographs_of_coco(tmp_path):
    dataset, _ = load(REAL)
    check_dataset(dataset)
    assert (len(dataset.train), len(dataset.test), dataset.num_classes) == (100, 100, 80)
    instances = json.loads((REAL / "instances_train2017.json").read_text())["annotations"]
    counted = images_per_class(dataset.train, 80).sum()
    assert counted == sum(not one["iscrowd"] for one in instances)


def test_a_check_names_an_image_that_is_missing(coco, cli):
    remove_image(coco)
    code, out, _ = cli("data", "check", f"coco:{coco}", "--json")
    assert code == 1
    (one,) = json.loads(out)["unreadable"]
    assert one["where"].endswith("train2017/000000000002.jpg")


def test_a_check_finds_wrong_boxes(coco, cli):
    changed(lambda w: w["annotations"][0].update(bbox=[2, 3, 0, 5]))(coco)
    code, out, _ = cli("data", "check", f"coco:{coco}", "--json")
    assert code == 1
    assert json.loads(out)["boxes"][0]["count"] == 1


@pytest.mark.parametrize("shift", [0, 3.7])
def test_a_part_of_the_outline_is_as_in_the_whole(shift):
    from cnnjax.data.scene_views import _Frame, _part_of

    draw = np.random.default_rng(0)
    for _ in range(60):
        corners = draw.uniform(-3, 45, 2 * draw.integers(3, 9)).astype(np.float32) + shift
        frame = _Frame((40, 50), (33, 71))
        where, mask = _part_of([corners], frame)
        found = np.zeros(frame.resized, bool)
        found[where] = mask
        scaled = (corners.reshape(-1, 2) * frame.scale[::-1]).ravel().tolist()
        whole = RunLengths.of_polygons(frame.resized, [scaled]).decoded()
        np.testing.assert_array_equal(found, whole)
