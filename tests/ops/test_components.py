"""Connected components against scipy's."""

import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from cnnjax.ops.components import component_boxes, connected_components

EIGHT = np.ones((3, 3))


@given(st.integers(0, 10**6), st.floats(0, 1))
def test_numbers_and_boxes_as_scipy_s(seed, share):
    mask = np.random.default_rng(seed).random((1, 9, 13)) < share
    found = np.asarray(connected_components(jnp.asarray(mask)))[0]
    wanted, count = ndimage.label(mask[0], EIGHT)
    pairs = set(zip(found.ravel().tolist(), wanted.ravel().tolist(), strict=True))
    assert len(pairs) == len(np.unique(found)) == len(np.unique(wanted))
    boxes, there = component_boxes(jnp.asarray(found), 117, 1)
    slices = ndimage.find_objects(wanted)
    expected = sorted((c.start, r.start, c.stop, r.stop) for r, c in slices)
    assert int(there.sum()) == count
    assert sorted(map(tuple, np.asarray(boxes[there]).astype(int).tolist())) == expected


def test_a_winding_one_is_one():
    """A spiral of 40 x 40 pixels: its ends are 800 pixels apart."""
    mask = np.zeros((1, 41, 41), bool)
    mask[0, ::2] = True
    mask[0, 1::4, -1] = True
    mask[0, 3::4, 0] = True
    assert len(np.unique(connected_components(jnp.asarray(mask)))) == 2


def test_the_largest_first_and_none_too_small():
    numbers = jnp.asarray([[1, 1, 0, 4], [1, 0, 0, 4], [0, 0, 0, 0], [9, 0, 0, 0]])
    boxes, there = component_boxes(numbers, 3, 2)
    assert there.tolist() == [True, True, False]
    assert boxes.tolist() == [[0, 0, 2, 2], [3, 0, 4, 2], [0, 0, 0, 0]]
