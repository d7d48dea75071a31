"""Pictures of a network at work, at their extremes: any name, any value, no warning."""

import io

import numpy as np
import pytest
from PIL import Image

from cnnjax.report.visualize import _range, _scaled, channels_picture, maps_picture

IMAGE = np.linspace(0, 1, 8 * 8 * 3, dtype=np.float32).reshape(8, 8, 3)


def size(png):
    return Image.open(io.BytesIO(png)).size


@pytest.mark.parametrize("name", ["cost in $ of $x^", "犬", "a long name, " * 20])
def test_a_class_may_have_any_name(name):
    assert size(channels_picture(IMAGE, name))[0] == size(channels_picture(IMAGE, "cat"))[0]


def test_a_long_title_makes_the_picture_higher():
    long, short = (size(channels_picture(IMAGE, name)) for name in ("a long name, " * 20, "cat"))
    assert long[1] > short[1] + 20


def test_a_map_that_is_not_finite_is_drawn_and_said():
    values = np.array([[np.inf, -np.inf], [np.nan, 1.0], [0.0, 0.5]])
    assert _scaled(values).tolist() == [[1, 0], [0, 1], [0, 0.5]]
    assert _range(values) == "0 to 1, nan, inf"
    assert _range(np.full((2, 2), np.nan)) == "not finite"
    assert size(maps_picture({1: values.reshape(1, 3, 2, 1)}, "a map"))


def test_the_largest_floats_do_not_overflow():
    values = np.array([[3e38, -3e38, 0.0]], np.float32)
    assert _scaled(values) == pytest.approx(np.array([[1, 0, 0.5]]))
