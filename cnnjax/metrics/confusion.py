"""What one confusion matrix of pixels says, over a whole set."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float, Int

IGNORED = 255  # of a map of classes: pixels that are not counted


def confusion_figures(counts: Int[np.ndarray, "k k"]) -> dict[str, float]:
    """Fractions from how many pixels of each class (a row) are taken for each (a column).

    With TP, FP, FN of a class: IoU = TP / (TP + FP + FN), accuracy = TP / (TP + FN), Dice = F1 =
    2 TP / (2 TP + FP + FN). Means are over the classes in truth or prediction, of accuracy over
    those in the truth; frequency-weighted IoU weighs by the pixels of the truth (Long et al. 2015,
    section 5). NaN where no pixel is counted.
    """
    hits = np.diag(counts).astype(np.float64)
    truth, seen = counts.sum(1).astype(np.float64), counts.sum(0).astype(np.float64)
    total = truth.sum() or np.nan
    iou = _share(hits, truth + seen - hits)
    return {
        "mean_iou": _mean(iou),
        "mean_accuracy": _mean(_share(hits, truth)),
        "pixel_accuracy": float(hits.sum() / total),
        "frequency_weighted_iou": float(np.nansum(iou * truth) / total),
        "mean_dice": _mean(_share(2 * hits, truth + seen)),
    }


def class_ious(counts: Int[np.ndarray, "k k"]) -> list[float | None]:
    """Of each class; None: it is in neither truth nor prediction."""
    hits = np.diag(counts).astype(np.float64)
    found = _share(hits, counts.sum(1) + counts.sum(0) - hits)
    return [None if np.isnan(value) else float(value) for value in found]


class PixelConfusion:
    """Adds up the confusion of pixels, in 64 bits; figures in per cent."""

    def __init__(self, num_classes: int, detailed: bool):
        self.counts = np.zeros((num_classes, num_classes), np.int64)
        self._detailed = detailed

    def add(self, indices: Int[np.ndarray, " n"], outputs: Mapping[str, np.ndarray]) -> None:
        """Takes `confusion` [n, k, k]."""
        self.counts += outputs["confusion"].sum(0, dtype=np.int64)

    def merge(self, other: "PixelConfusion") -> None:
        self.counts += other.counts

    def finish(self) -> dict[str, Any]:
        """With `detailed` also `confusion` and the IoU of each class, `class_iou`."""
        found: dict[str, Any] = {
            name: 100 * value for name, value in confusion_figures(self.counts).items()
        }
        if self._detailed:
            ious = [None if v is None else 100 * v for v in class_ious(self.counts)]
            found |= {"confusion": self.counts.tolist(), "class_iou": ious}
        return found


def _share(
    part: Float[np.ndarray, " k"], whole: Float[np.ndarray, " k"]
) -> Float[np.ndarray, " k"]:
    """NaN where there is nothing to have a share of."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)


def _mean(values: Float[np.ndarray, " k"]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else np.nan
