"""The tools of COCO as an oracle, and random scenes to put before both."""

import contextlib
import io

import numpy as np

from cnnjax.ops.rle import RunLengths

# The twelve figures, in the order in which `summarize` prints them.
FIGURES = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100",
           "ar_small", "ar_medium", "ar_large")  # fmt: skip


def summarized(truth: dict, detections: list[dict], iou_type: str) -> dict[str, float | None]:
    """What pycocotools prints; None for its -1."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        ours = COCO()
        ours.dataset = truth
        ours.createIndex()
        evaluation = COCOeval(ours, _loaded(ours, detections, iou_type), iou_type)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = [None if value == -1 else float(value) for value in evaluation.stats]
    return dict(zip(FIGURES, values, strict=True))


def _loaded(truth, detections: list[dict], iou_type: str):
    from pycocotools.coco import COCO

    if detections:
        drop = "segmentation" if iou_type == "bbox" else "bbox"  # else a mask's area is its box's
        return truth.loadRes([{k: v for k, v in one.items() if k != drop} for one in detections])
    empty = COCO()  # loadRes([]) raises
    empty.dataset = {**truth.dataset, "annotations": []}
    empty.createIndex()
    return empty


def scene(
    seed: int,
    *,
    images: int = 3,
    categories: int = 3,
    masks: bool = False,
    busy: int = 4,
    found: int | None = None,
):
    """Truth and detections at random: ties, crowds, edges of areas, classes that are absent.

    Args:
      busy: objects an image, at most; there are up to three times as many detections, or `found`.
    """
    rng = np.random.default_rng(seed)
    size = int(rng.choice([24, 60, 200]))
    ids = rng.choice(1000, images, replace=False).tolist()
    kinds = [*range(1, 2 * categories, 2)]
    truth = {
        "images": [{"id": i, "width": size, "height": size} for i in ids],
        "categories": [{"id": k, "name": f"c{k}"} for k in kinds],
        "annotations": [],
    }
    detections = []
    present = [k for k in kinds if rng.random() < 0.8]
    for image in ids:
        boxes = []
        for _ in range(rng.integers(0, busy + 1) if present else 0):
            box = _box(rng, size)
            boxes.append(box)
            one = {"id": len(truth["annotations"]) + 1, "image_id": image,
                   "category_id": int(rng.choice(present)), "iscrowd": int(rng.random() < 0.15),
                   **_shape(box, size, masks, rng)}  # fmt: skip
            if rng.random() < 0.2:  # just at an edge
                one["area"] = float(rng.choice([1024, 1024.5, 9216, 9216.5, 1023.5]))
            truth["annotations"].append(one)
        for _ in range(rng.integers(0, 3 * busy + 1) if found is None else found):
            near = boxes and rng.random() < 0.7
            box = _moved(rng, boxes[rng.integers(len(boxes))], size) if near else _box(rng, size)
            shape = _shape(box, size, masks, rng)
            del shape["area"]
            detections.append({"image_id": image, "category_id": int(rng.choice(kinds)), **shape,
                               "score": float(np.round(rng.random(), 1))})  # fmt: skip
    return truth, detections


def _box(rng, size: int) -> list[float]:
    low = rng.uniform(0, size - 2, 2)
    sides = rng.uniform(1, size - low)
    box = [*low, *sides]
    return [float(np.floor(v)) if rng.random() < 0.7 else float(v) for v in box[:2]] + [
        float(max(1, np.floor(v))) for v in box[2:]
    ]


def _moved(rng, box: list[float], size: int) -> list[float]:
    if rng.random() < 0.3:
        return list(box)
    x, y, w, h = box
    x, y = np.clip([x + rng.integers(-3, 4), y + rng.integers(-3, 4)], 0, size - 2)
    w, h = max(1.0, min(w, size - x)), max(1.0, min(h, size - y))
    return [float(x), float(y), float(w), float(h)]


def _shape(box: list[float], size: int, masks: bool, rng) -> dict:
    found = {"bbox": box, "area": box[2] * box[3]}
    if masks:
        x, y, w, h = (int(v) for v in box)
        mask = np.zeros((size, size), bool)
        mask[y : y + h, x : x + w] = (
            rng.random((len(mask[y : y + h]), len(mask[0, x : x + w]))) < 0.9
        )
        runs = RunLengths.of_mask(mask)
        found["segmentation"] = {"size": [size, size], "counts": runs.text()}
        found["area"] = float(runs.area)
    return found
