"""Average precision against COCO's own tools and by hand."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cnnjax.data.coco_json import Detection, Instances
from cnnjax.data.dataset import uncounted
from cnnjax.metrics.average_precision import average_precision, curves, match
from cnnjax.metrics.matching import Matches, found_and_missed
from cnnjax.metrics.objects import detections_of, truths_of
from tests.metrics.coco import FIGURES, scene, summarized

pytest.importorskip("pycocotools", reason="pycocotools is not installed: an oracle of tests only")


def matched(truth: dict, detections: list[dict], iou_type="bbox", protocol="coco") -> Matches:
    instances = msgspec.json.decode(json.dumps(truth), type=Instances)
    found = msgspec.convert(detections, list[Detection])
    return match(
        truths_of(instances, iou_type, difficult=protocol != "coco"),
        detections_of(found, instances, iou_type),
        len(instances.categories),
        protocol,
    )


def figures(truth, detections, iou_type="bbox", protocol="coco"):
    return average_precision(matched(truth, detections, iou_type, protocol), protocol)


def same(found: dict, wanted: dict) -> None:
    for name in FIGURES:
        if wanted[name] is None:
            assert found[name] is None, name
        else:
            assert found[name] == pytest.approx(wanted[name], abs=1e-9), name


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.sampled_from(["bbox", "segm"]))
@settings(max_examples=500)
def test_random_scenes_as_pycocotools(seed, images, iou_type):
    truth, detections = scene(seed, images=images, masks=iou_type == "segm")
    same(figures(truth, detections, iou_type), summarized(truth, detections, iou_type))


@pytest.mark.parametrize("seed", range(4))
def test_more_than_a_hundred_detections_a_category(seed):
    truth, detections = scene(seed, images=2, categories=1, busy=20, found=130)
    same(figures(truth, detections), summarized(truth, detections, "bbox"))


@given(st.integers(0, 2**32 - 1))
def test_shards_join_to_the_same_bits(seed):
    truth, detections = scene(seed, images=7, busy=6)
    whole = figures(truth, detections)
    for count in (1, 2, 4):
        parts = []
        for shard in range(count):
            ids = {image["id"] for image in truth["images"][shard::count]}
            part = {
                **truth,
                "annotations": [a for a in truth["annotations"] if a["image_id"] in ids],
            }
            parts.append(matched(part, [d for d in detections if d["image_id"] in ids]))
        total = parts[-1]
        for part in parts[:-1]:
            total = total.merged(part)
        assert average_precision(total, "coco") == whole


def there(*boxes, images=(1, 2), first=1, **further):
    """A truth of one category: (image, x, y, width, height)."""
    return {
        "images": [{"id": image, "width": 640, "height": 480} for image in images],
        "categories": [{"id": 1, "name": "thing"}],
        "annotations": [
            {"id": number, "image_id": image, "category_id": 1, "bbox": box, **further}
            for number, (image, *box) in enumerate(boxes, start=first)
        ],
    }


def seen(*boxes):
    """Detections of one category: (image, x, y, width, height, score)."""
    return [
        {"image_id": image, "category_id": 1, "bbox": box, "score": score}
        for image, *box, score in boxes
    ]


TRUTH_A = there((1, 10, 10, 40, 40), (1, 100, 100, 50, 50), (2, 20, 20, 60, 60))
SEEN_A = seen(
    (1, 10, 10, 40, 40, 0.9),
    (1, 12, 12, 40, 40, 0.8),
    (2, 30, 20, 60, 60, 0.7),
    (2, 120, 120, 30, 30, 0.6),
    (1, 100, 100, 50, 40, 0.5),
)


def test_an_example_by_hand():
    found = figures(TRUTH_A, SEEN_A)
    assert found["ap50"] == pytest.approx((34 + 33 * 2 / 3 + 34 * 0.6) / 101)
    assert found["ap"] == pytest.approx((5 * 76.4 + 2 * 47.2 + 3 * 34) / 1010)
    assert found["ap_medium"] == pytest.approx(0.618069, abs=1e-6)
    assert (found["ap_small"], found["ap_large"]) == (None, None)
    assert [found[f"ar{most}"] for most in (1, 10, 100)] == pytest.approx([0.5, 22 / 30, 22 / 30])
    assert figures(TRUTH_A, SEEN_A, protocol="voc2007")["ap"] == pytest.approx(8.4 / 11)
    assert figures(TRUTH_A, SEEN_A, protocol="voc2010")["ap"] == pytest.approx(0.755556, abs=1e-6)


def test_where_voc_and_coco_part():
    """A detection of VOC stays with the object that it fits best, though that is taken."""
    truth = there((1, 0, 0, 40, 40), (1, 10, 0, 40, 40))
    found = seen((1, 0, 0, 40, 40, 0.9), (1, 2, 0, 40, 40, 0.8))
    assert figures(truth, found, protocol="voc2010")["ap"] == 0.5
    assert figures(truth, found, protocol="voc2007")["ap"] == pytest.approx(6 / 11)
    coco = figures(truth, found)
    assert (coco["ap50"], coco["ap"]) == (1.0, pytest.approx(0.70297, abs=1e-6))


@pytest.mark.parametrize("protocol", ["coco", "voc2007", "voc2010"])
def test_nothing_there_and_nothing_found(protocol):
    assert figures(there(), SEEN_A, protocol=protocol)["ap"] is None
    assert figures(there(), [], protocol=protocol)["ap"] is None
    assert figures(TRUTH_A, [], protocol=protocol)["ap"] == 0.0
    perfect = seen(*((one["image_id"], *one["bbox"], 0.9) for one in TRUTH_A["annotations"]))
    assert figures(TRUTH_A, perfect, protocol=protocol)["ap"] == pytest.approx(1.0)


def test_an_annotation_of_id_0_is_one_like_the_others():
    """Which COCO's tools never find."""
    first = there((1, 0, 0, 40, 40), first=0)
    assert figures(first, seen((1, 0, 0, 40, 40, 0.9)))["ap"] == pytest.approx(1.0)
    first["annotations"][0] |= {"area": 1600, "iscrowd": 0}
    assert summarized(first, seen((1, 0, 0, 40, 40, 0.9)), "bbox")["ap"] == 0.0


def test_what_lies_in_a_crowd_counts_neither_way():
    truth = there((1, 0, 0, 40, 40), (1, 100, 0, 80, 80))
    found = seen((1, 110, 10, 20, 20, 0.95), (1, 140, 10, 20, 20, 0.93), (1, 0, 0, 40, 40, 0.9))
    assert figures(truth, found)["ap"] == pytest.approx(51 / 101 / 3, abs=1e-6)
    truth["annotations"][1]["iscrowd"] = 1
    assert figures(truth, found)["ap"] == pytest.approx(1.0)


def test_difficult_objects_are_voc_s_alone():
    truth = there((1, 0, 0, 40, 40), (2, 0, 0, 40, 40))
    truth["annotations"][1]["difficult"] = 1
    found = seen((2, 0, 0, 40, 40, 0.9), (1, 0, 0, 40, 40, 0.8), (2, 1, 0, 40, 40, 0.7))
    assert figures(truth, found, protocol="voc2010")["ap"] == 1.0
    assert figures(truth, found)["ap50"] == pytest.approx(1.0)


def test_an_iou_of_just_a_threshold():
    """0.5 is enough to COCO, and not to VOC."""
    truth, found = there((1, 0, 0, 40, 40)), seen((1, 0, 0, 20, 40, 0.9))
    assert figures(truth, found)["ap50"] == pytest.approx(1.0)
    assert figures(truth, found, protocol="voc2010")["ap"] == 0.0


def greedy_voc(truth: dict, detections: list[dict], category: int) -> float | None:
    """Area under the envelope, written down as the devkit says it."""
    objects = [one for one in truth["annotations"] if one["category_id"] == category]
    total = sum(not one["iscrowd"] for one in objects)
    if not total:
        return None
    rows = [(n, d) for n, d in enumerate(detections) if d["category_id"] == category]
    taken, points, hits, misses = set(), [], 0, 0
    for _, one in sorted(rows, key=lambda p: (-p[1]["score"], p[1]["image_id"], p[0])):
        best, which = -1.0, None
        for candidate in objects:
            if candidate["image_id"] == one["image_id"]:
                overlap = iou(one["bbox"], candidate["bbox"])
                if overlap > best:
                    best, which = overlap, candidate
        if which is not None and best > 0.5:
            if which["iscrowd"]:
                continue
            hits += which["id"] not in taken
            misses += which["id"] in taken
            taken.add(which["id"])
        else:
            misses += 1
        points.append((hits / total, hits / (hits + misses)))
    area, before = 0.0, 0.0
    for place, (recall, _) in enumerate(points):
        area += (recall - before) * max(precision for _, precision in points[place:])
        before = recall
    return area


def iou(a, b) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    common = max(width, 0) * max(height, 0)
    return common / (a[2] * a[3] + b[2] * b[3] - common)


@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
@settings(max_examples=100)
def test_random_scenes_by_the_rule_of_voc(seed, images):
    truth, detections = scene(seed, images=images, busy=6)
    found = figures(truth, detections, protocol="voc2010")["per_category"]
    for place, category in enumerate(sorted(one["id"] for one in truth["categories"])):
        wanted = greedy_voc(truth, detections, category)
        value = found[place]["ap"]
        assert value == (None if wanted is None else pytest.approx(wanted, abs=1e-12))


def test_a_curve_ends_where_everything_counted_is_shown():
    (curve,) = curves(matched(TRUTH_A, SEEN_A))
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3, 1 / 2, 3 / 5])
    np.testing.assert_allclose(curve.recall, [1 / 3, 1 / 3, 2 / 3, 2 / 3, 1])
    np.testing.assert_array_equal(curve.scores, [0.9, 0.8, 0.7, 0.6, 0.5])


def test_what_is_found_and_what_is_missed_in_one_image():
    """Each detection takes the free object of its class that it overlaps most."""
    truth = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [0, 20, 10, 30.0]]), np.array([1, 1, 2])
    detected = (
        np.array([[1, 0, 11, 10], [0, 0, 10, 10], [20, 0, 30, 10], [0, 20, 10, 30.0]]),
        np.array([1, 1, 2, 2]),
    )
    found, missed, out = found_and_missed(truth, detected)
    assert found.tolist() == [True, False, False, True]  # taken already; of another class
    assert missed.tolist() == [False, True, False]
    assert not out.any()
    none, all_missed, _ = found_and_missed(truth, (np.zeros((0, 4)), np.zeros(0, int)))
    assert (none.tolist(), all_missed.tolist()) == ([], [True] * 3)
    crowd = np.array([*truth[0], [15, 0, 60, 60]]), np.append(truth[1], uncounted(2))
    found, missed, out = found_and_missed(crowd, detected)
    assert found.tolist() == [True, False, False, True]
    assert missed.tolist() == [False, True, False, False]  # a crowd is never missed
    assert out.tolist() == [False, False, True, False]  # of its class, and all of it lies in it
