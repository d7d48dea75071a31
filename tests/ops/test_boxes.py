"""Boxes, anchors, suppression and assignment against worked examples and plain Python."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.ops import anchors, boxes
from cnnjax.ops.assignment import assign
from cnnjax.ops.losses import focal_loss, mined, smooth_l1
from cnnjax.ops.nms import non_max_suppression


def array(*rows):
    return jnp.asarray(rows, jnp.float32)


def random_boxes(rng, count, whole=True):
    low = rng.uniform(0, 40, (count, 2))
    found = np.concatenate([low, low + rng.uniform(1, 30, (count, 2))], axis=1)
    return (np.round(found) if whole else found).astype(np.float32)


def plain_iou(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return width * height / union if union > 0 else 0.0


def test_iou_by_hand():
    first, second = array((0, 0, 40, 40), (0, 0, 10, 10)), array((20, 20, 60, 60), (20, 0, 30, 10))
    np.testing.assert_allclose(jnp.diag(boxes.iou(first, second)), [1 / 7, 0], atol=1e-7)
    giou = [1 / 7 - (3600 - 2800) / 3600, -1 / 3]
    np.testing.assert_allclose(jnp.diag(boxes.giou(first, second)), giou, atol=1e-6)
    assert boxes.iou(array((5, 5, 5, 5)), array((5, 5, 5, 5)))[0, 0] == 0


@given(st.integers(0, 10**6))
def test_forms_and_coding_there_and_back(seed):
    rng = np.random.default_rng(seed)
    found, start = (jnp.asarray(random_boxes(rng, 5, whole=False)) for _ in range(2))
    np.testing.assert_allclose(boxes.from_xywh(boxes.to_xywh(found)), found, atol=1e-4)
    np.testing.assert_allclose(boxes.from_centre(boxes.to_centre(found)), found, atol=1e-4)
    for weights in (boxes.SSD_WEIGHTS, boxes.UNIT_WEIGHTS):
        deltas = boxes.encode(found, start, weights)
        np.testing.assert_allclose(boxes.decode(deltas, start, weights), found, atol=1e-3)


def test_coding_by_hand():
    deltas = boxes.encode(array((10, 4, 50, 36)), array((0, 0, 40, 40)), boxes.SSD_WEIGHTS)
    np.testing.assert_allclose(deltas, array((2.5, 0, 0, -1.1157178)), atol=1e-5)
    huge = boxes.decode(array((0, 0, 1e4, 1e4)), array((0, 0, 16, 16)), boxes.UNIT_WEIGHTS)
    np.testing.assert_allclose(huge[0, 2:] - huge[0, :2], 1000, rtol=1e-4)


def test_numbers_of_anchors():
    assert len(anchors.ssd300_anchors()) == 8732
    assert len(anchors.retinanet_anchors(800, 1344)) == 201_600
    assert len(anchors.rpn_anchors(800, 1344)) == 268_569
    for size, count in ((512, 49_104), (600, 67_995), (640, 76_725)):
        assert len(anchors.retinanet_anchors(size, size)) == count


def test_anchors_as_torchvision_has_them():
    found = anchors.retinanet_anchors(64, 64, "torchvision")
    assert found[:9].tolist()[0] == [
        -23,
        -11,
        23,
        11,
    ]  # 32 px, ratio .5, first centre in the corner
    of_level = [found[start][2] * 2 for start in (0, 9 * 64, 9 * (64 + 16))]
    assert of_level == [46, 90, 182]
    assert anchors.rpn_anchors(64, 64, "torchvision")[1].tolist() == [-16, -16, 16, 16]
    coarsest = anchors.rpn_anchors(800, 1344, "torchvision")[-13 * 21 * 3 :].reshape(13, 21, 3, 4)
    centres = (coarsest[..., :2] + coarsest[..., 2:]) / 2
    assert centres[1, 1, 0].tolist() == [64, 61]  # 1344 // 21 and 800 // 13 pixels, not 64 and 64


def test_anchors_of_the_paper_have_their_areas_and_centres():
    found = anchors.retinanet_anchors(64, 64)[:9]
    sides = found[:, 2:] - found[:, :2]
    np.testing.assert_allclose(
        sides.prod(1) ** 0.5, [32 * 2 ** (k / 3) for k in range(3)] * 3, rtol=1e-5
    )
    np.testing.assert_allclose(sides[:, 1] / sides[:, 0], [0.5] * 3 + [1] * 3 + [2] * 3, rtol=1e-5)
    np.testing.assert_allclose((found[:, :2] + found[:, 2:]) / 2, 4, atol=1e-5)


def greedy(found, scores, classes, valid, threshold):
    kept = []
    for index in sorted(range(len(scores)), key=lambda i: (-scores[i], i)):
        if valid[index] and not any(
            classes[index] == classes[other] and plain_iou(found[index], found[other]) > threshold
            for other in kept
        ):
            kept.append(index)
    return [index in kept for index in range(len(scores))]


@given(st.integers(0, 10**6), st.integers(1, 25))
def test_suppression_is_greedy(seed, count):
    rng = np.random.default_rng(seed)
    found, scores = random_boxes(rng, count), np.round(rng.random(count), 1).astype(np.float32)
    classes, valid = rng.integers(0, 3, count), rng.random(count) < 0.9
    keep = non_max_suppression(*map(jnp.asarray, (found, scores, classes, valid)), 0.4)
    assert keep.tolist() == greedy(found, scores, classes, valid, 0.4)


def test_an_iou_of_just_the_threshold_stays():
    pair = array((0, 0, 40, 40), (0, 0, 20, 40))
    arguments = pair, jnp.asarray([0.9, 0.8]), jnp.zeros(2, int), jnp.ones(2, bool)
    assert non_max_suppression(*arguments, 0.5).tolist() == [True, True]
    assert non_max_suppression(*arguments, 0.49).tolist() == [True, False]


PLACES = array((0, 0, 10, 10), (5, 0, 15, 10), (100, 100, 110, 110), (40, 40, 50, 50))


def test_who_answers_for_what():
    truth, there = array((0, 0, 10, 10), (43, 40, 53, 50), (0, 0, 0, 0)), jnp.asarray([1, 1, 0]) > 0
    rule = {"positive": 0.6, "negative": 0.3}
    found = assign(PLACES, truth, there, **rule, weak="none")
    assert found.positive.tolist() == [True, False, False, False]
    assert found.negative.tolist() == [False, False, True, False]  # 1/3 and 7/13 are not asked
    found = assign(PLACES, truth, there, **rule, weak="forced")
    assert found.positive.tolist() == [True, False, False, True]
    assert found.objects.tolist()[0::3] == [0, 1]


def test_a_forced_anchor_answers_for_the_object_a_restored_one_for_its_own():
    """The anchor is the best one of both objects; it overlaps more with the second."""
    place = array((0, 0, 10, 10), (90, 90, 99, 99))
    truth = array((0, 0, 10, 3), (0, 0, 10, 9), (200, 200, 210, 210))
    there = jnp.ones(3, bool)
    for weak, answers in (("forced", 0), ("restored", 1)):
        found = assign(place, truth, there, positive=0.95, negative=0.4, weak=weak)
        assert found.positive.tolist() == [True, False]  # no overlap is no match
        assert found.objects[0] == answers
    only = truth[:1]
    assert assign(place, only, there[:1], positive=0.95, negative=0.4, weak="none").negative[0]


def test_without_objects_every_anchor_is_negative():
    for weak in ("none", "forced", "restored"):
        found = assign(
            PLACES, jnp.zeros((2, 4)), jnp.zeros(2, bool), positive=0.5, negative=0.5, weak=weak
        )
        assert found.negative.all()
        assert not found.positive.any()


def test_losses_by_hand():
    np.testing.assert_allclose(smooth_l1(jnp.asarray([0.5, -2.0])), [0.125, 1.5])
    np.testing.assert_allclose(smooth_l1(jnp.asarray([0.05, 1.0]), 1 / 9), [0.01125, 1 - 1 / 18])
    prior = jnp.asarray(-math.log(0.99 / 0.01))
    zero = focal_loss(prior, jnp.asarray(0.0))
    np.testing.assert_allclose(zero, 7.537752e-7, rtol=1e-5)
    np.testing.assert_allclose(focal_loss(prior, jnp.asarray(1.0)), 1.1283818, rtol=1e-6)
    assert np.isfinite(jax.grad(focal_loss)(jnp.asarray(-200.0), jnp.asarray(1.0)))


def test_mining_keeps_three_hard_negatives_a_positive():
    losses = jnp.asarray([9.0, 1, 5, 4, 3, 2, 8])
    positive = jnp.asarray([0, 1, 0, 0, 0, 0, 0]) > 0
    negative = ~positive & (jnp.arange(7) != 6)
    assert mined(losses, positive, negative, 3).tolist() == [1, 1, 1, 1, 0, 0, 0]
    nothing = jnp.zeros(7, bool)
    assert mined(losses, nothing, ~nothing, 3).tolist() == [1, 0, 1, 0, 0, 0, 1]


def test_nothing_is_compiled_anew_for_other_boxes():
    compiled = jax.jit(lambda *arguments: non_max_suppression(*arguments, 0.5))
    for seed in range(3):
        rng = np.random.default_rng(seed)
        arguments = random_boxes(rng, 50), rng.random(50), rng.integers(0, 2, 50)
        compiled(*map(jnp.asarray, (*arguments, rng.random(50) < 0.5)))
    assert compiled._cache_size() == 1
