"""What is written is read as it was, whatever its dtype and layout, or refused when written."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cnnjax.core.arrays import pack, unpack
from cnnjax.core.errors import Refused

pytestmark = pytest.mark.core  # also on every other Python: make test-core

NUMBERS = [np.dtype(code) for code in "?bhiqBHIQefdFD"]
SMALL = [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, ml_dtypes.int4]
SHAPES = [(), (0,), (3,), (2, 0, 3), (2, 3, 4)]


def again(array):
    return unpack(pack({"a": array}))["a"]


def check(array):
    found = again(array)
    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.shape == array.shape
    assert found.tobytes() == array.astype(found.dtype).tobytes()
    np.testing.assert_array_equal(found.astype(complex), array.astype(complex))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("dtype", NUMBERS)
def test_every_number_in_either_byte_order(dtype, order, shape):
    values = np.random.default_rng(0).integers(0, 100, shape)
    check(np.asarray(values).astype(dtype.newbyteorder(order)))


@pytest.mark.parametrize("dtype", SMALL)
def test_the_small_floats_and_integers_of_accelerators(dtype):
    check(np.arange(-3, 3).reshape(2, 3).astype(dtype))


@given(hnp.arrays(st.sampled_from([np.float64, np.int16, ">f4", ">u2"]), (3, 4, 2)))
def test_every_layout_in_memory(array):
    for view in (array, array.T, array[::2, ::-1], array[:, 1], np.asfortranarray(array)):
        np.testing.assert_array_equal(again(view), view)
    np.testing.assert_array_equal(again(np.broadcast_to(array[0, 0], (5, 2))), [array[0, 0]] * 5)


@pytest.mark.parametrize(
    "array",
    [
        np.array([None, 1], object),
        np.array(["text"]),
        np.array([b"bytes"]),
        np.array(["2020-01-01"], "datetime64[D]"),
        np.array([1], "timedelta64[s]"),
        np.zeros(2, [("x", "f4"), ("y", "i4")]),
        np.zeros(2, "V3"),
        np.zeros(2, np.longdouble),
    ],
)
def test_what_cannot_be_read_back_is_refused_when_written(array):
    with pytest.raises(Refused, match="array state is of dtype"):
        pack({"state": array})
