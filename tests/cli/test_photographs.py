"""Photographs with boxes and masks, and detectors that tell masks, as a user types them."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from cnnjax import create_model
from cnnjax.core.recipe import Data, Scenes
from cnnjax.data.load import load_dataset
from cnnjax.interop.mapping import to_torch
from cnnjax.ops.rle import RunLengths
from cnnjax.tasks.network import fresh_variables
from tests.cli.test_scene_commands import SCENES
from tests.data.test_scene_folders import coco, masked  # noqa: F401  (fixtures)

REAL = Path(__file__).parents[3] / "shared" / "coco_small"
BODY = '--set=model.backbone_fields={"features": [4, 4, 8, 8], "units": 1}'


def trained(cli, folder, *arguments, batch_size=3):
    code, _, err = cli(
        "train",
        "--recipe",
        "small_scenes",
        "--batch-size",
        str(batch_size),
        "--workdir",
        folder,
        *arguments,
    )
    assert code == 0, err


def test_a_detector_with_masks_is_scored_as_it_is_evaluated(cli, tmp_path):
    run, out = tmp_path / "run", tmp_path / "found"
    few = {**SCENES, "train": 12}
    trained(
        cli, run, "--model", "tiny_mask_rcnn", "--set=model.sizes=[[10]]", "--set=model.most=20",
        "--set=steps=60", "--learning-rate=0.003",
        *(f"--set=data.scenes.{name}={value}" for name, value in few.items()),
    )  # fmt: skip
    evaluated = json.loads(cli("eval", run, "--split", "train", "--json")[1])
    assert evaluated["mask_ap"] == evaluated["mask_coco"]["ap"]
    assert evaluated["mask_ap50"] > 1
    arrays = load_dataset(Data("scattered_digits", scenes=Scenes(**few))).train.arrays
    truth = {
        "images": [{"id": n, "width": 16, "height": 16} for n in range(1, 13)],
        "categories": [{"id": k + 1, "name": str(k)} for k in range(10)],
        "annotations": [],
    }
    for image, place in zip(*np.nonzero(arrays["box_labels"] >= 0), strict=True):
        mask = arrays["object_map"][image] == 1 + place
        one = {
            "id": len(truth["annotations"]) + 1,
            "image_id": int(image) + 1,
            "category_id": int(arrays["box_labels"][image, place]) + 1,
            "segmentation": {"size": [16, 16], "counts": RunLengths.of_mask(mask).text()},
        }
        truth["annotations"].append(one)
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    images = []
    for number, pixels in enumerate(arrays["images"], start=1):
        images.append(tmp_path / f"{number:02}.png")
        Image.fromarray(pixels[..., 0]).save(images[-1])
    code, _, err = cli("predict", run, *images, "--out", out, "--threshold", "0", "--json")
    assert (code, err) == (0, "")
    files = "--truth", tmp_path / "truth.json", "--detections", out / "detections.json"
    scored = json.loads(cli("score", *files, "--iou-type", "segm", "--json")[1])
    for name, value in evaluated["mask_coco"].items():
        wanted = None if value is None else pytest.approx(value / 100, abs=1e-4)
        assert scored[name] == wanted, name


def test_a_detector_learns_from_a_coco_folder(cli, coco, tmp_path):  # noqa: F811
    run, data = tmp_path / "run", ("--data", f"coco:{coco}", "--set=data.image_size=32")
    trained(
        cli, run, "--task", "detection", "--model", "tiny_ssd", *data, BODY, "--set=steps=3",
        "--set=data.augmentation=scale_jitter_flip", "--set=model.sizes=[[10.0]]",
    )  # fmt: skip
    found = json.loads(cli("eval", run, "--json")[1])
    assert (found["examples"], len(found["class_ap"])) == (3, 2)
    image = coco / "val2017" / "000000000001.jpg"
    code, out, err = cli(
        "predict", run, image, "--out", tmp_path / "out", "--threshold", "0", "--json"
    )
    assert (code, err) == (0, "")
    boxes = np.array([one["bbox"] for one in json.loads(out)["detections"]])
    assert len(boxes)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 0] + boxes[:, 2] <= 40 + 1e-6).all()  # of the photograph as it is
    assert (boxes[:, 1] + boxes[:, 3] <= 30 + 1e-6).all()
    code, _, err = cli("data", "info", f"coco:{coco}")
    assert code == 0
    again = "predict", run, image, "--out", tmp_path / "ids", "--threshold", "0", "--json"
    truth = coco / "annotations" / "instances_val2017.json"
    found = json.loads(cli(*again, "--ids", truth)[1])["detections"]
    numbers = {(one["category"], one["category_id"]) for one in found}
    assert numbers <= {("cat", 3), ("dog", 7)}
    assert {one["image_id"] for one in found} == {1}
    scored = cli("score", "--truth", truth, "--detections", tmp_path / "ids" / "detections.json")
    assert scored[0] == 0, scored
    whole = json.loads(truth.read_text())
    whole["images"][0]["file_name"] = "other.jpg"
    (tmp_path / "other.json").write_text(json.dumps(whole))
    code, _, err = cli(*again, "--ids", tmp_path / "other.json")
    assert code == 2
    assert "--ids" in err
    assert "image 000000000001.jpg is there 0 times" in err


def test_a_segmentation_learns_from_a_folder_of_masks(cli, masked, tmp_path):  # noqa: F811
    run, data = tmp_path / "run", ("--data", f"masks:{masked}", "--set=data.image_size=32")
    trained(cli, run, "--model", "unet_small", *data, "--set=model.depth=2", "--set=steps=3")
    found = json.loads(cli("eval", run, "--json")[1])
    counted = np.sum(found["confusion"])
    assert counted == 3 * (24 - 2) * 32  # 24 of 32 rows are of the photograph, two not counted
    image = masked / "images" / "val" / "0.jpg"
    code, _, err = cli("predict", run, image, "--out", tmp_path / "out")
    assert code == 0, err
    with Image.open(tmp_path / "out" / "0-mask.png") as mask:
        assert mask.size == (32, 32)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--model", "cifar_resnet8"), "task classification needs labels, and data set coco:"),
        (("--model", "tiny_mask_rcnn", "--set=data.test_crops=10"), "is seen whole; leave it out"),
        (("--model", "tiny_ssd", "--set=data.augmentation=pad_crop"), "use flip or scale_jitter"),
        (("--model", "tiny_ssd", "--set=data.streaming=never"), "is always streamed"),
        (
            ("--model", "tiny_ssd", "--set=data.train_split=minival"),
            "no single file instances_minival",
        ),
        (("--model", "tiny_ssd", "--set=data.permute_pixels=1"), "data.permute_pixels=1"),
    ],
)
def test_what_does_not_go_with_photographs_is_refused(cli, coco, tmp_path, arguments, line):  # noqa: F811
    command = ("train", "--recipe", "small_scenes", "--batch-size=2", "--data", f"coco:{coco}")
    code, out, err = cli(
        *command, "--set=data.image_size=32", "--workdir", tmp_path / "w", *arguments
    )
    assert (code, out) == (2, ""), err
    assert line in err
    assert err.count("\n") == 1
    assert not (tmp_path / "w").exists()


@pytest.mark.long
@pytest.mark.skipif(not REAL.is_dir(), reason="needs ../shared/coco_small")
def test_sixteen_photographs_are_learnt_by_heart(cli, tmp_path):
    """A detector that cannot learn them has a fault between boxes, pixels and losses."""
    trained(
        cli, tmp_path / "run", "--task", "detection", "--model", "tiny_ssd",
        "--data", f"coco:{REAL}", "--set=data.image_size=160", "--set=data.augmentation=none",
        "--set=data.train_examples=16", "--set=steps=400", "--learning-rate=0.003",
        "--set=model.strides=[8, 16, 32]", "--set=model.ratios=[0.5, 1.0, 2.0]",
        '--set=model.backbone_fields={"features": [12, 24, 48, 96, 96, 96], "units": 1}',
        "--set=model.sizes=[[16.0, 28.0], [48.0, 72.0], [110.0, 160.0]]", batch_size=16,
    )  # fmt: skip
    found = json.loads(cli("eval", tmp_path / "run", "--split", "train", "--json")[1])
    assert found["ap50"] > 90


def test_imported_weights_of_a_detector_are_for_a_run(cli, tmp_path):
    fields = {"backbone": "resnet18", "backbone_fields": {"normalization": "frozen"}}
    fields |= {"features": 4, "depth": 1, "num_classes": 3}
    model = create_model("retinanet", **fields)
    variables = fresh_variables(model, (64, 64, 3), jax.random.key(0))
    np.savez(tmp_path / "w.npz", **to_torch(model, variables))
    code, _, err = cli(
        "import-weights", "retinanet", tmp_path / "w.npz", "--out", tmp_path / "weights",
        "--input", 64, 64, 3,
        *(f"--set=model.{name}={json.dumps(value)}" for name, value in fields.items()),
    )  # fmt: skip
    assert code == 0, err
    Image.new("RGB", (40, 30)).save(tmp_path / "image.png")
    arguments = "predict", tmp_path / "weights", tmp_path / "image.png", "--out", tmp_path / "out"
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert "retinanet, which is for detection: what it finds is told of a run" in err
