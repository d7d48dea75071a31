"""Run lengths against the tools of COCO, bit for bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax import Refused
from cnnjax.ops.rle import RunLengths

oracle = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed: an oracle")


@st.composite
def masks(draw, count=1):
    size = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    share, seed = draw(st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0])), draw(st.integers(0, 10**6))
    return np.random.default_rng(seed).random((count, *size)) < share


@given(masks())
def test_a_mask_there_and_back(mask):
    (mask,) = mask
    ours, theirs = RunLengths.of_mask(mask), oracle.encode(np.asfortranarray(mask, np.uint8))
    assert ours.text() == theirs["counts"].decode()
    assert ours.area == oracle.area(theirs)
    assert list(ours.box) == oracle.toBbox(theirs).tolist()
    again = RunLengths.of_counts(mask.shape, ours.text())
    np.testing.assert_array_equal(again.decoded(), mask)
    as_list = RunLengths.of_counts(mask.shape, ours.counts.tolist())
    np.testing.assert_array_equal(as_list.decoded(), mask)


@given(masks(count=4))
def test_pixels_in_common(found):
    first, *others = map(RunLengths.of_mask, found)
    wanted = [(found[0] & other).sum() for other in found[1:]]
    assert first.intersections(others).tolist() == wanted


@given(st.integers(0, 10**6), st.integers(3, 8), st.integers(1, 3), st.booleans())
def test_polygons_are_drawn_as_coco_draws_them(seed, corners, parts, whole):
    rng = np.random.default_rng(seed)
    height, width = (int(value) for value in rng.integers(1, 40, 2))
    polygons = rng.uniform(-3, 43, (parts, corners, 2))
    polygons = (np.round(polygons) if whole else polygons).reshape(parts, -1).tolist()
    theirs = oracle.merge(oracle.frPyObjects(polygons, height, width))
    assert RunLengths.of_polygons((height, width), polygons).text() == theirs["counts"].decode()


def test_the_example_of_the_format():
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True
    found = RunLengths.of_mask(mask)
    assert found.counts.tolist() == [5, 2, 2, 2, 2, 2, 5]
    assert found.text() == "5220003"
    assert found.area == 6
    assert found.box == (1, 1, 3, 2)


def test_a_large_mask_of_long_counts():
    mask = np.zeros((3000, 3000), bool)
    mask[2999, 2999] = True
    theirs = oracle.encode(np.asfortranarray(mask, np.uint8))["counts"].decode()
    assert RunLengths.of_mask(mask).text() == theirs
    np.testing.assert_array_equal(RunLengths.of_counts(mask.shape, theirs).decoded(), mask)


@pytest.mark.parametrize(
    ("counts", "what"),
    [
        ("5220003", "add up to 20 are no mask of 4x6"),
        ("522000", "add up to 15 are no mask"),
        ("52R", "cut, or no text"),
        ("", "cut, or no text"),
        ("5é2", "cut, or no text"),
        ("o" * 30 + "0", "more than 40 bits"),
        ([5, 2], "add up to 7"),
        ([30, -6], "a run of 30 pixels in a mask of 4x6"),
        ([20, -6, 10], "a run of -6 pixels"),
        ([2**63], "a run of 9,223,372,036,854,775,808 pixels"),
        ([2**62] * 4 + [24], "a run of 4,611,686,018,427,387,904 pixels"),
        ("ooooooo7" * 3, "broken run lengths"),
        ([], "add up to 0"),
    ],
)
def test_broken_run_lengths_are_refused(counts, what):
    with pytest.raises(Refused, match=what):
        RunLengths.of_counts((4, 6), counts)
