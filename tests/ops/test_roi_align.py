"""RoIAlign by hand, against plain Python, and its gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax.ops.conv import formulation
from cnnjax.ops.paste import paste_mask
from cnnjax.ops.roi_align import align_masks, pyramid_levels, pyramid_roi_align, roi_align

PLANE = jnp.asarray(10.0 * np.arange(8)[:, None] + np.arange(8))[..., None].astype(jnp.float32)


@pytest.mark.parametrize(
    ("box", "scale", "aligned", "wanted"),
    [
        ((1, 1, 5, 5), 1.0, True, [[16.5, 18.5], [36.5, 38.5]]),
        ((1, 1, 5, 5), 1.0, False, [[22, 24], [42, 44]]),
        ((2, 4, 10, 8), 0.5, True, [[21.5, 23.5], [31.5, 33.5]]),
        ((2, 4, 10, 8), 0.5, False, [[27, 29], [37, 39]]),
        ((3.2, 3.2, 3.6, 3.6), 1.0, True, [[30.8, 31], [32.8, 33]]),
        ((3.2, 3.2, 3.6, 3.6), 1.0, False, [[37.95, 38.45], [42.95, 43.45]]),
    ],
)
def test_by_hand(box, scale, aligned, wanted):
    boxes = jnp.asarray([box], jnp.float32)
    found = roi_align(PLANE, boxes, output_size=2, scale=scale, aligned=aligned)
    np.testing.assert_allclose(found[0, :, :, 0], wanted, rtol=1e-5)


def plain(features, box, size, samples, aligned):
    """One box, sample by sample."""
    height, width, channels = features.shape
    x, y, x2, y2 = (value - 0.5 * aligned for value in box)
    wide, high = (x2 - x, y2 - y) if aligned else (max(x2 - x, 1), max(y2 - y, 1))

    def at(row, column):
        if not -1 <= row <= height or not -1 <= column <= width:
            return np.zeros(channels)
        row, column = min(max(row, 0), height - 1), min(max(column, 0), width - 1)
        top, left = int(row), int(column)
        bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
        a, b = row - top, column - left
        upper = (1 - b) * features[top, left] + b * features[top, right]
        lower = (1 - b) * features[bottom, left] + b * features[bottom, right]
        return (1 - a) * upper + a * lower

    found = np.zeros((size, size, channels))
    for i in range(size):
        for j in range(size):
            values = [
                at(
                    y + (i + (p + 0.5) / samples) * high / size,
                    x + (j + (q + 0.5) / samples) * wide / size,
                )
                for p in range(samples)
                for q in range(samples)
            ]
            found[i, j] = np.mean(values, axis=0)
    return found


@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(1, 3), st.booleans())
def test_as_sample_by_sample(seed, size, samples, aligned):
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(5, 7, 2)).astype(np.float32)
    low = rng.uniform(-3, 7, (3, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.1, 6, (3, 2))], axis=1).astype(np.float32)
    options = {"output_size": size, "sampling_ratio": samples, "aligned": aligned}
    found = roi_align(jnp.asarray(features), jnp.asarray(boxes), scale=1.0, **options)
    wanted = [plain(features, box.tolist(), size, samples, aligned) for box in boxes]
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_gradients_against_finite_differences():
    """Of the sum of squares, in float64 by plain Python."""
    rng = np.random.default_rng(0)
    features, box = rng.normal(size=(5, 5, 1)), np.array([0.8, 1.1, 3.7, 4.2])

    def total(features, box):
        return (plain(features, box.tolist(), 2, 2, True) ** 2).sum()

    def ours(features, boxes):
        return (roi_align(features, boxes, output_size=2, scale=1.0, aligned=True) ** 2).sum()

    given_ = jnp.asarray(features, jnp.float32), jnp.asarray(box[None], jnp.float32)
    by_map, by_box = jax.grad(ours, (0, 1))(*given_)
    for index in np.ndindex(features.shape):
        step = np.zeros_like(features)
        step[index] = 1e-5
        slope = (total(features + step, box) - total(features - step, box)) / 2e-5
        np.testing.assert_allclose(by_map[index], slope, atol=1e-4)
    for place in range(4):
        step = 1e-6 * (np.arange(4) == place)
        slope = (total(features, box + step) - total(features, box - step)) / 2e-6
        np.testing.assert_allclose(by_box[0, place], slope, atol=1e-3)


@pytest.mark.parametrize("form", [None, "library"])
def test_each_box_on_its_own_map(form):
    rng = np.random.default_rng(0)
    maps = [jnp.asarray(rng.normal(size=(*size, 3)), jnp.float32) for size in ((8, 12), (4, 6))]
    low = rng.uniform(0, 20, (5, 2))
    boxes = jnp.asarray(np.concatenate([low, low + rng.uniform(4, 20, (5, 2))], axis=1))
    boxes, levels = boxes.astype(jnp.float32), jnp.asarray([0, 1, 1, 0, 1])
    with formulation(form):
        found = pyramid_roi_align(maps, boxes, levels, output_size=3, scales=[1 / 4, 1 / 8])
        alone = [
            roi_align(maps[level], boxes[i : i + 1], output_size=3, scale=1 / (4 * 2**level))
            for i, level in enumerate(levels.tolist())
        ]
    np.testing.assert_allclose(found, jnp.concatenate(alone), atol=1e-6)


def test_both_forms_and_their_gradients_are_equal():
    rng = np.random.default_rng(1)
    features = jnp.asarray(rng.normal(size=(6, 5, 2)), jnp.float32)
    low = rng.uniform(-4, 20, (7, 2))
    boxes = jnp.asarray(np.concatenate([low, low + rng.uniform(0, 30, (7, 2))], axis=1))
    given_ = features, boxes.astype(jnp.float32)

    def total(features, boxes):
        return (roi_align(features, boxes, output_size=2, scale=0.25) ** 3).sum()

    products = jax.value_and_grad(total, (0, 1))(*given_)
    with formulation("library"):
        indices = jax.value_and_grad(total, (0, 1))(*given_)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), products, indices)


def test_a_box_of_224_pixels_is_looked_at_at_stride_16():
    sides = jnp.asarray([10.0, 112, 223, 224, 447, 448, 5000])
    boxes = jnp.stack([0 * sides, 0 * sides, sides, sides], axis=1)
    assert pyramid_levels(boxes, 2, 5).tolist() == [0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("aligned", [False, True])
def test_a_mask_is_aligned_as_the_map_of_its_pixels(aligned):
    draw = np.random.default_rng(0)
    numbers = jnp.asarray(draw.integers(0, 4, (12, 17)), jnp.uint8)
    low = draw.uniform(-2, 9, (6, 2))
    boxes = jnp.asarray(np.concatenate([low, low + draw.uniform(0.5, 8, (6, 2))], 1), jnp.float32)
    which = jnp.asarray([1, 2, 3, 1, 2, 3])
    found = align_masks(numbers, boxes, which, output_size=5, aligned=aligned)
    for row, number in enumerate(which.tolist()):
        plane = (numbers == number).astype(jnp.float32)[..., None]
        expected = roi_align(plane, boxes[row : row + 1], output_size=5, scale=1.0, aligned=aligned)
        np.testing.assert_allclose(found[row], expected[0, ..., 0], atol=1e-6)


@given(st.tuples(st.floats(0, 20), st.floats(0, 20)), st.tuples(st.floats(1, 15), st.floats(1, 15)))
def test_a_whole_mask_fills_its_box_and_nothing_else(corner, sides):
    box = np.array([*corner, corner[0] + sides[0], corner[1] + sides[1]])
    found = paste_mask(np.ones((7, 7)), box, (24, 30))
    y, x = np.mgrid[:24, :30] + 0.5
    expected = (x >= box[0]) & (x <= box[2]) & (y >= box[1]) & (y <= box[3])
    np.testing.assert_array_equal(found, expected)


def test_half_of_a_mask_is_half_of_its_box():
    mask = np.zeros((8, 8))
    mask[:, :4] = 1.0
    found = paste_mask(mask, np.array([4.0, 2, 20, 18]), (20, 24))
    assert found[2:18, 4:12].all()
    assert found.sum() == 16 * 8
