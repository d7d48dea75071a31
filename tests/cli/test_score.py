"""`cnnjax score`, as it is typed."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.metrics.coco import FIGURES, scene, summarized


def written(folder: Path, truth: object, detections: object) -> tuple[str, ...]:
    for name, value in (("gt.json", truth), ("dt.json", detections)):
        (folder / name).write_text(value if isinstance(value, str) else json.dumps(value))
    files = "--truth", str(folder / "gt.json"), "--detections", str(folder / "dt.json")
    return "score", *files


@pytest.fixture
def example():
    return scene(5, images=4, masks=True)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_the_figures_are_pycocotools(cli, tmp_path, example, iou_type):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed: an oracle of tests")
    code, out, err = cli(*written(tmp_path, *example), "--iou-type", iou_type, "--json")
    assert (code, err) == (0, "")
    found, wanted = json.loads(out), summarized(*example, iou_type)
    assert {name: found[name] for name in FIGURES} == pytest.approx(wanted, abs=1e-9)
    assert found["images"] == 4
    assert found["detections"] == len(example[1])
    assert found["protocol"] == "coco"
    assert len(found["per_class"]) == 3


@pytest.mark.parametrize("protocol", ["voc2007", "voc2010"])
def test_figures_that_a_protocol_lacks_are_null(cli, tmp_path, example, protocol):
    _, out, _ = cli(*written(tmp_path, *example), "--protocol", protocol, "--json")
    found = json.loads(out)
    assert found["ap"] is not None
    assert all(found[name] is None for name in FIGURES[1:])
    code, out, _ = cli(*written(tmp_path, *example), "--protocol", protocol)
    assert code == 0
    assert out.startswith(f"VOC {protocol[3:]}: IoU above .5")


def test_nothing_there_and_nothing_found_is_legal(cli, tmp_path, example):
    truth = {**example[0], "annotations": []}
    code, out, _ = cli(*written(tmp_path, truth, []), "--json")
    assert code == 0
    assert json.loads(out)["ap"] is None
    code, out, _ = cli(*written(tmp_path, example[0], []))
    assert code == 0
    assert "0.0000" in out


def test_an_annotation_of_id_0_is_told(cli, tmp_path, example):
    example[0]["annotations"][0]["id"] = 0
    code, _, err = cli(*written(tmp_path, *example))
    assert code == 0
    assert "annotation id 0" in err


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_curves_are_drawn(cli, tmp_path, example, suffix):
    picture = tmp_path / f"pr.{suffix}"
    code, _, err = cli(*written(tmp_path, *example), "--curves", picture)
    assert (code, err) == (0, "")
    assert picture.read_bytes()[:5] in (b"\x89PNG\r", b"<?xml")


def annotation(**changed):
    whole = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "iscrowd": 0}
    return {key: value for key, value in {**whole, **changed}.items() if value is not None}


def truth(*annotations, **changed):
    return {
        "images": [{"id": 1, "width": 10, "height": 8}],
        "categories": [{"id": 1, "name": "one"}],
        "annotations": list(annotations) or [annotation()],
        **changed,
    }


def found(**changed):
    whole = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "score": 0.5}
    return [{key: value for key, value in {**whole, **changed}.items() if value is not None}]


def runs(*size, counts):
    return {"size": size, "counts": counts}


GOOD, FOUND = truth(), found()
IMAGE, CATEGORY = GOOD["images"][0], GOOD["categories"][0]
WRONG = [
    (truth(annotation(bbox=[0, 0, 0, 4])), FOUND, "annotation 1 of image 1: the box (0, 0, 0, 4)"),
    (truth(annotation(bbox=[7, 0, 5, 4])), FOUND, "leaves its image of 10x8"),
    (truth(annotation(bbox=[-2, 0, 5, 4])), FOUND, "leaves its image"),
    (truth(annotation(category_id=7)), FOUND, "annotation 1 is of category 7, which is not there"),
    (truth(annotation(image_id=7)), FOUND, "annotation 1 is of image 7, which is not there"),
    (truth(annotation(bbox=None)), FOUND, "has neither bbox nor segmentation"),
    (truth(annotation(), annotation()), FOUND, "annotation id 1 is there 2 times"),
    (truth(images=[IMAGE, IMAGE]), FOUND, "image id 1 is there 2 times"),
    (truth(categories=[CATEGORY, CATEGORY]), FOUND, "category id 1 is there 2 times"),
    (truth(categories=[]), FOUND, "there is no category"),
    (truth(annotation(segmentation=runs(8, 9, counts=[72]))), FOUND, "the mask is of 8x9"),
    (truth(annotation(segmentation=runs(8, 10, counts=[70]))), FOUND, "add up to 70"),
    (truth(annotation(segmentation=runs(8, 10, counts="~~"))), FOUND, "broken run lengths"),
    (truth(annotation(segmentation=[[1, 2, 3, 4]])), FOUND, "three corners"),
    (truth(annotation(segmentation=5)), FOUND, "annotation 1: a segmentation is polygons or run"),
    (truth(annotation(segmentation=[[0, 0, math.nan, 1, 2, 2]])), FOUND, "NaN at byte"),
    (truth(*(annotation(id=n, category_id=9) for n in range(9))), FOUND, "and 6 more; mend"),
    (truth(annotation(id="one")), FOUND, "Expected `int`, got `str` - at `$.annotations[0].id`"),
    (truth(annotation(id=2**70)), FOUND, "Expected `int` <= 9007199254740992"),
    (truth(annotation(area=-5)), FOUND, "Expected `float` >= 0.0 - at `$.annotations[0].area`"),
    (
        truth(annotation(segmentation=[[0, 0, 1e9, 1, 2, 2]])),
        FOUND,
        "Expected `float` <= 200000.0",
    ),
    (
        truth(
            annotation(segmentation=runs(8, 10, counts=[80])),
            annotation(id=2, segmentation=runs(20, 10, counts=[200])),
            images=[{"id": 1}],
        ),
        FOUND,
        "annotation 2: the mask is of 20x10, its image 1 of 8x10",
    ),
    (truth(annotation(bbox=[0, 0, 1e300, 1])), FOUND, "Expected `float` <= 1000000000.0"),
    ({"annotations": []}, FOUND, "missing required field `images`"),
    ("{", FOUND, "is no file of images, annotations and categories"),
    (GOOD, "[" * 100_000, "is no file of a list of detections"),
    (GOOD, GOOD, "is no file of a list of detections"),
    (
        GOOD,
        found(image_id=4),
        "detection 0 is of image 4, which the truth does not hold (1 images)",
    ),
    (GOOD, found(category_id=4), "detection 0 is of category 4; the truth has 1"),
    (GOOD, found(score=float("nan")), "NaN at byte 66; numbers are finite"),
    (GOOD, found(bbox=[0, 0, -1, 3]), "negative size"),
    (GOOD, found(bbox=None), "detection 0 has neither bbox nor segmentation"),
    (GOOD, found(segmentation=runs(8, 11, counts=[88])), "detection 0: the mask is of 8x11"),
    (GOOD, found(score=None), "missing required field `score`"),
]


@pytest.mark.parametrize(("given", "detections", "message"), WRONG)
def test_bad_files_are_refused_in_one_line(cli, tmp_path, given, detections, message):
    code, out, err = cli(*written(tmp_path, given, detections))
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert message in err
    assert err.startswith("Error: --")


@pytest.mark.parametrize(
    ("further", "message"),
    [
        (
            ("--iou-type", "segm"),
            "annotation 1 has no mask: no segmentation",
        ),
        (("--protocol", "voc"), "'voc' is not one of 'coco', 'voc2007', 'voc2010'"),
        (("--curves", "no/pr.png"), "--curves no/pr.png: give a .png or .svg file in a folder"),
        (("--curves", "pr.pdf"), "give a .png or .svg file"),
    ],
)
def test_bad_options_are_refused(cli, tmp_path, further, message):
    code, out, err = cli(*written(tmp_path, GOOD, FOUND), *further)
    assert (code, out) == (2, "")
    assert message in err


def test_a_file_that_is_not_there(cli, tmp_path):
    code, _, err = cli("score", "--truth", tmp_path / "a.json", "--detections", tmp_path / "b.json")
    assert code == 2
    assert "a.json cannot be read: No such file or directory" in err


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_photographs_with_objects_moved(cli, tmp_path, real_coco, iou_type):
    pytest.importorskip("pycocotools", reason="pycocotools is not installed: an oracle of tests")
    given = json.loads((real_coco / "instances_val2017.json").read_text())
    rng, moved = np.random.default_rng(0), []
    masks = {one["image_id"]: one["segmentation"] for one in given["annotations"]}
    for one in given["annotations"]:
        for _ in range(rng.integers(0, 4)):
            box = np.maximum(np.array(one["bbox"]) + rng.normal(0, 3, 4), 1).tolist()
            mask = one["segmentation"] if rng.random() < 0.8 else masks[one["image_id"]]
            moved.append(
                {
                    "image_id": one["image_id"],
                    "category_id": one["category_id"],
                    "score": float(np.round(rng.random(), 2)),
                    "bbox": box,
                    "segmentation": mask,
                }
            )
    code, out, _ = cli(*written(tmp_path, given, moved), "--iou-type", iou_type, "--json")
    wanted = summarized(given, moved, iou_type)
    assert code == 0
    assert wanted["ap"] > 0.1
    assert {name: json.loads(out)[name] for name in FIGURES} == pytest.approx(wanted, abs=1e-9)
