"""Detection and segmentation as a user types them: trained, evaluated, predicted, scored."""

import json

import numpy as np
import pytest
from PIL import Image

from cnnjax.core.recipe import Data, Scenes
from cnnjax.data.decode import fitted_part
from cnnjax.data.load import load_dataset

SCENES = {
    "train": 32,
    "test": 10,
    "size": 16,
    "smallest": 8,
    "largest": 12,
    "most": 2,
    "clutter": 1,
}
SETTINGS = [f"--set=data.scenes.{name}={value}" for name, value in SCENES.items()]
COMMON = ("train", "--recipe", "small_scenes", "--batch-size", "8", *SETTINGS)
NETS = {
    "detection": (
        "tiny_ssd",
        "--set=model.sizes=[[10]]",
        "--set=steps=100",
        "--learning-rate=0.003",
    ),
    "segmentation": ("unet_small", "--set=model.depth=2", "--set=steps=3"),
}


@pytest.fixture(scope="module")
def scenes():
    return load_dataset(Data("scattered_digits", scenes=Scenes(**SCENES)))


@pytest.fixture(scope="module")
def pictures(scenes, tmp_path_factory):
    """The test scenes as files, numbered from 1."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, image in enumerate(scenes.test.images, start=1):
        Image.fromarray(image[..., 0]).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture(scope="module", params=["detection", "segmentation"])
def run(request, tmp_path_factory):
    """A task and the folder of a run of it; the task is what the network is for."""
    from cnnjax.cli.main import cnnjax
    from cnnjax.cli.main import run as command

    folder = tmp_path_factory.mktemp("runs") / request.param
    arguments = [*COMMON, "--workdir", str(folder), "--model", *NETS[request.param]]
    with pytest.raises(SystemExit) as ended:
        command(cnnjax, arguments)
    assert not ended.value.code
    return request.param, folder


def test_eval_has_the_figures_of_the_task(cli, run):
    task, folder = run
    code, out, _ = cli("eval", folder, "--json")
    found = json.loads(out)
    assert (code, found["task"], found["examples"]) == (0, task, 10)
    if task == "detection":
        assert {"ap", "ap50", "ap75", "ap_small", "ar100"} < found["coco"].keys()
        assert found["coco"]["ap"] == found["ap"]
        assert len(found["class_ap"]) == 10
    else:
        assert np.shape(found["confusion"]) == (11, 11)
        assert np.sum(found["confusion"]) == 10 * 16 * 16
        assert len(found["class_iou"]) == 11
    code, out, _ = cli("eval", folder)
    assert code == 0
    assert " %" in out


def test_predictions_are_drawn_and_scored_as_eval_scores_them(cli, run, scenes, pictures, tmp_path):
    task, folder = run
    images = sorted(pictures.iterdir())
    out = tmp_path / "found"
    least = ("--threshold", "0") if task == "detection" else ()
    code, printed, err = cli("predict", folder, *images, "--out", out, *least, "--json")
    assert (code, err) == (0, "")
    assert all((out / image.name).read_bytes().startswith(b"\x89PNG") for image in images)
    evaluated = json.loads(cli("eval", folder, "--json")[1])
    if task == "segmentation":
        seen = np.stack([np.asarray(Image.open(out / f"{i.stem}-mask.png")) for i in images])
        counts = np.zeros((11, 11), int)
        np.add.at(counts, (scenes.test.arrays["class_map"], seen), 1)
        assert counts.tolist() == evaluated["confusion"]
        shares = json.loads(printed)["images"][0]["pixels"]
        assert sum(shares.values()) == pytest.approx(100)
        return
    truth = {
        "images": [{"id": n, "width": 16, "height": 16} for n in range(1, 11)],
        "categories": [{"id": k + 1, "name": str(k)} for k in range(10)],
        "annotations": [],
    }
    arrays = scenes.test.arrays
    for number, (boxes, labels) in enumerate(
        zip(arrays["boxes"], arrays["box_labels"], strict=True)
    ):
        for (x, y, x2, y2), label in zip(boxes.tolist(), labels.tolist(), strict=True):
            if label >= 0:
                one = {
                    "image_id": number + 1,
                    "category_id": label + 1,
                    "bbox": [x, y, x2 - x, y2 - y],
                }
                truth["annotations"].append({"id": len(truth["annotations"]) + 1, **one})
    (tmp_path / "truth.json").write_text(json.dumps(truth))
    files = "--truth", tmp_path / "truth.json", "--detections", out / "detections.json"
    scored = json.loads(cli("score", *files, "--json")[1])
    assert evaluated["ap50"] > 1
    for name, value in evaluated["coco"].items():
        wanted = None if value is None else pytest.approx(value / 100, abs=1e-4)
        assert scored[name] == wanted, name
    assert scored["detections"] > 10


def test_what_is_of_a_whole_image_is_refused(cli, run, tmp_path):
    task, folder = run
    code, _, err = cli("analyze", folder, "--what", "gradcam", "--out", tmp_path / "g.png")
    assert code == 2
    assert "tells no class of a whole image, which gradcam is about" in err
    code, _, err = cli("analyze", folder, "--what", "confusion", "--out", tmp_path / "c.png")
    assert code == (0 if task == "segmentation" else 2), err


def test_boxes_are_in_pixels_of_the_image_as_it_is(cli, run, pictures, tmp_path):
    task, folder = run
    if task != "detection":
        pytest.skip("of boxes")
    small = Image.open(pictures / "01.png")
    wide = Image.new("L", (26, 16))
    wide.paste(small, (5, 0))  # of which the middle is shown
    found = {}
    for name, image in (("small", small), ("wide", wide)):
        image.save(tmp_path / f"{name}.png")
        arguments = tmp_path / f"{name}.png", "--out", tmp_path / "out", "--threshold", "0"
        _, out, err = cli("predict", folder, *arguments, "--json")
        found[name] = np.array([one["bbox"] for one in json.loads(out)["detections"]])
    assert "wide.png: only its middle, 16x16, is looked at" in err
    np.testing.assert_allclose(found["wide"], found["small"] + [5, 0, 0, 0], atol=1e-3)
    assert fitted_part((48, 80), (16, 16)) == (16, 0, 48, 48)


def test_what_has_no_effect_or_is_missing_is_refused(cli, run, pictures, tmp_path):
    task, folder = run
    image = pictures / "01.png"
    code, _, err = cli("predict", folder, image)
    assert code == 2
    assert f"was trained on task {task}: say where its pictures go, --out DIR" in err
    code, _, err = cli("predict", folder, image, "--out", tmp_path / "o", "--threshold", "1.5")
    assert code == 2
    assert "--threshold" in err
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / "01.png"
    twin.write_bytes(image.read_bytes())
    code, _, err = cli("predict", folder, image, twin, "--out", tmp_path / "o")
    assert code == 2
    assert "two pictures would be named 01.png; rename an image" in err
    copy = tmp_path / "own"
    copy.mkdir()
    (copy / "01.png").write_bytes(image.read_bytes())
    code, _, err = cli("predict", folder, copy / "01.png", "--out", copy)
    assert code == 2
    assert "01.png there is an image that is looked at" in err
    assert (copy / "01.png").read_bytes() == image.read_bytes()
    if task == "segmentation":
        code, _, err = cli("predict", folder, image, "--out", tmp_path / "o", "--threshold", "0.3")
        assert code == 2
        assert "--threshold 0.3 has no effect" in err
    assert not (tmp_path / "o").exists()


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--model", "unet_small", "--data", "digits"), "task segmentation needs class_map, and"),
        (("--model", "tiny_ssd", "--data", "digits"), "task detection needs boxes, and data set"),
        (("--model", "cifar_resnet8"), "task classification needs labels, and data set scattered"),
        (("--task", "detection"), "UNet has no method detection_losses: it is no detector"),
        (("--set=data.scenes.size=60",), "go sides of 56 or 64 px, not 60"),
        (("--model=tiny_ssd", "--set=data.scenes.size=60"), "give sides that 8 divides"),
        (("--set=data.permute_pixels=1",), "it moves the pixels of an image and not its"),
        (("--set=model.depth=30",), "a U-Net has a pooling, 8 at most"),
        (("--set=data.scenes.size=banana",), "data.scenes.size=banana"),
        (("--set=data.scenes.fewest=9",), "data.scenes.fewest=9: more than data.scenes.most=4"),
        (("--set=data.scenes.colour=1",), "no setting 'data.scenes.colour'"),
        (("--set=loss.label_smoothing=0.1",), "task.name=segmentation does not use it"),
        (("--data=digits", "--set=data.scenes.size=32"), "data.name=digits has none"),
        (("--model=tiny_ssd", "--set=model.strides=[8,8]"), "give sizes for each stride"),
        (("--model=tiny_ssd", "--set=model.sizes=[[-5]]"), "above 0"),
        (("--model=tiny_ssd", "--set=model.backbone=net.py:Net"), "give a network that ships"),
        (("--set=task.pixel_loss=iou",), "it is one of cross_entropy, dice, both"),
    ],
)
def test_what_does_not_go_together_is_refused(cli, tmp_path, arguments, text):
    few = () if "digits" in " ".join(arguments) else ("--set=data.scenes.train=70",)
    command = ("train", "--recipe", "small_scenes", "--workdir", tmp_path / "w", *few, *arguments)
    code, out, err = cli(*command)
    assert (code, out) == (2, "")
    assert text in err
    assert not (tmp_path / "w").exists()


def test_scenes_are_shown(cli, tmp_path):
    picture = tmp_path / "scenes.png"
    code, _, err = cli("data", "preview", "scattered_digits", "--out", picture, *SETTINGS)
    assert (code, err) == (0, "")
    assert picture.read_bytes().startswith(b"\x89PNG")
    _, out, _ = cli("data", "info", "scattered_digits", *SETTINGS, "--json")
    found = json.loads(out)
    assert found["fields"]["boxes"] == {"shape": [2, 4], "dtype": "float32"}
    assert sum(found["train_per_class"].values()) > 32


def test_precision_over_recall_is_drawn_and_its_ap_is_that_of_eval(cli, run, tmp_path):
    task, folder = run
    arguments = ("analyze", folder, "--what", "precision_recall", "--out", tmp_path / "p.png")
    code, out, err = cli(*arguments, "--split", "train", "--json")
    if task == "segmentation":
        assert (code, "finds no objects" in err) == (2, True)
        return
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    _, judged, _ = cli("eval", folder, "--split", "train", "--json")
    found, judged = json.loads(out), json.loads(judged)
    assert found["ap"] == judged["ap"] > 0
    assert list(found["class_ap"].values()) == judged["class_ap"]


def test_predictions_are_drawn_beside_what_is_there(cli, run, tmp_path):
    task, folder = run
    arguments = ("analyze", folder, "--what", "predictions", "--out", tmp_path / "p.png")
    arguments = (*arguments, "--split", "train", "--count", "6")
    code, out, err = cli(*arguments, "--json")
    assert (code, err) == (0, "")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(out)
    if task == "segmentation":
        assert 0 < found["pixel_accuracy"] < 100
        code, _, err = cli(*arguments, "--threshold", "0.2")
        assert (code, "has no scores" in err) == (2, True)
        return
    code, out, _ = cli(*arguments, "--threshold", "1", "--json")
    assert code == 0
    none = json.loads(out)
    assert (none["TP"], none["FP"], none["FN"]) == (0, 0, found["TP"] + found["FN"])
    scenes = load_dataset(Data("scattered_digits", scenes=Scenes(**SCENES)))
    objects = (scenes.train.arrays["box_labels"][:6] >= 0).sum()
    assert found["TP"] + found["FN"] == objects
    assert found["TP"] > found["FN"]  # 200 steps on 32 scenes
