"""Figures of segmentation by hand and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from cnnjax.metrics.confusion import PixelConfusion, class_ious, confusion_figures

TRUTH = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 2, 2, 255], [2, 2, 2, 255]])
SEEN = np.array([[0, 0, 1, 1], [0, 1, 1, 0], [0, 2, 2, 2], [2, 2, 0, 1]])


def counted(truth, seen, classes):
    found = np.zeros((classes, classes), np.int64)
    kept = truth != 255
    np.add.at(found, (truth[kept], seen[kept]), 1)
    return found


def test_an_example_by_hand():
    counts = counted(TRUTH, SEEN, 3)
    assert counts.tolist() == [[4, 1, 0], [1, 3, 0], [1, 0, 4]]
    assert confusion_figures(counts) == pytest.approx(
        {
            "mean_iou": (4 / 7 + 3 / 5 + 4 / 5) / 3,  # .657143
            "mean_accuracy": (4 / 5 + 3 / 4 + 4 / 5) / 3,  # .783333
            "pixel_accuracy": 11 / 14,
            "frequency_weighted_iou": 0.661224,
            "mean_dice": (8 / 11 + 6 / 8 + 8 / 9) / 3,  # .788721
        },
        abs=1e-6,
    )


@given(st.integers(0, 10**6), st.integers(2, 6))
def test_as_scikit_learn(seed, classes):
    rng = np.random.default_rng(seed)
    used = rng.choice(classes, rng.integers(1, classes + 1), replace=False)
    truth, seen = rng.choice(used, 60), rng.choice(used, 60)
    found = confusion_figures(counted(truth, seen, classes))
    there = sorted({*truth, *seen})
    keys = {"labels": there, "zero_division": 0}
    each = metrics.jaccard_score(truth, seen, average=None, **keys)
    assert found["mean_iou"] == pytest.approx(each.mean())
    dice = metrics.f1_score(truth, seen, average="macro", **keys)  # Dice is F1
    assert found["mean_dice"] == pytest.approx(dice)
    assert found["pixel_accuracy"] == pytest.approx(metrics.accuracy_score(truth, seen))
    recall = metrics.recall_score(truth, seen, labels=sorted({*truth}), average="macro")
    assert found["mean_accuracy"] == pytest.approx(recall)
    weights = [(truth == one).mean() for one in there]
    assert found["frequency_weighted_iou"] == pytest.approx(np.dot(each, weights))


def test_a_class_in_neither_is_left_out():
    counts = np.array([[3, 0, 0], [0, 0, 0], [1, 0, 2]])
    assert class_ious(counts) == [3 / 4, None, 2 / 3]
    assert confusion_figures(counts)["mean_iou"] == pytest.approx((3 / 4 + 2 / 3) / 2)
    none = confusion_figures(np.zeros((3, 3), int))
    assert all(np.isnan(value) for value in none.values())  # not measured, which is not 0


def test_shards_join_to_the_same_figures():
    parts = np.random.default_rng(0).integers(0, 2**31 - 1, (9, 2, 2)).astype(np.int32)
    whole, first, second = (PixelConfusion(2, detailed=True) for _ in range(3))
    whole.add(np.arange(9), {"confusion": parts})
    first.add(np.arange(4), {"confusion": parts[:4]})
    second.add(np.arange(5), {"confusion": parts[4:]})
    second.merge(first)
    assert second.finish() == whole.finish()
    assert np.sum(whole.finish()["confusion"]) == parts.sum(dtype=np.int64) > 2**31
