"""From an encoded photograph to what the network sees."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cnnjax.core.errors import Failed
from cnnjax.data.views import (
    View,
    crops_and_flips,
    example_generator,
    fixed_view,
    random_box,
    random_view,
)


def photograph(width=150, height=110, seed=0, kind="JPEG", mode="RGB"):
    """A smooth random picture, encoded."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (9, 12, 3), np.uint8)
    picture = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    out = io.BytesIO()
    picture.convert(mode).save(out, kind)
    return out.getvalue()


@pytest.mark.parametrize(("width", "height"), [(150, 110), (91, 240), (40, 40)])
@pytest.mark.parametrize("margin", [False, True])
def test_a_test_image_is_resized_and_its_centre_cropped_as_torchvision_does(width, height, margin):
    encoded = photograph(width, height)
    view = View(56, margin=margin)
    assert view.scaled == 64
    picture = Image.open(io.BytesIO(encoded))
    shorter = min(width, height)
    whole = picture.resize(
        (width * 64 // shorter, height * 64 // shorter), Image.Resampling.BILINEAR
    )
    left, top = (round((n - view.pixels) / 2) for n in whole.size)
    expected = np.asarray(whole.crop((left, top, left + view.pixels, top + view.pixels)), int)
    assert np.abs(fixed_view(encoded, view) - expected).max() <= 1


@pytest.mark.parametrize("kind", ["random_resized_crop", "scale_crop_flip"])
def test_a_random_view_depends_on_key_epoch_and_index_alone(kind):
    encoded, view = photograph(), View(32, kind)

    def look(key, epoch, index):
        return random_view(encoded, view, example_generator(key, epoch, index)).tobytes()

    assert look((1, 2), 3, 4) == look((1, 2), 3, 4)
    others = {look(*where) for where in (((1, 3), 3, 4), ((1, 2), 4, 4), ((1, 2), 3, 5))}
    assert look((1, 2), 3, 4) not in others
    assert len(others) == 3


def test_seed_plus_index_does_not_collide():
    drawn = {
        example_generator((0, seed), epoch, index).random()
        for seed in range(4)
        for epoch in range(4)
        for index in range(4)
    }
    assert len(drawn) == 64


@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 10_000))
def test_a_random_box_lies_inside_and_has_the_area_and_aspect_that_were_asked(width, height, seed):
    left, top, right, bottom = random_box((width, height), example_generator((0, 0), 0, seed))
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    w, h = right - left, bottom - top
    if min(width, height) >= 50:
        assert 0.07 <= w * h / (width * height) <= 1
        fallback = w == width or h == height
        assert 0.7 <= w / h <= 1.4 or fallback


def test_boxes_are_spread_over_areas():
    areas = [
        np.prod(np.subtract(box[2:], box[:2])) / 40_000
        for box in (random_box((200, 200), example_generator((0, 0), 0, i)) for i in range(500))
    ]
    assert min(areas) < 0.12
    assert max(areas) > 0.85
    assert 0.42 < np.mean(areas) < 0.58


def test_every_offset_and_flip_of_a_crop_occurs():
    """scale_crop_flip of a picture that already has the resized size: plain windows of it."""
    pixels = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    view = View(8, "scale_crop_flip")  # scaled: 9
    windows = {
        pixels[y : y + 8, x : x + 8][:, ::flip].tobytes()
        for y in range(2)
        for x in range(2)
        for flip in (1, -1)
    }
    drawn = {
        random_view(out.getvalue(), view, example_generator((0, 0), 0, i)).tobytes()
        for i in range(200)
    }
    assert drawn == windows
    assert len(windows) == crops_and_flips(9, 8) == 8


def test_the_papers_count_of_crops():
    assert crops_and_flips(256, 224) == 2178  # 33 x 33 x 2; the paper says 2,048 = 32 x 32 x 2


def test_a_random_resized_crop_is_close_to_pillows():
    encoded = photograph(200, 150)
    view = View(64, "random_resized_crop")
    for index in range(20):
        generator = example_generator((0, 0), 0, index)
        picture = Image.open(io.BytesIO(encoded))
        box = random_box(picture.size, generator)
        expected = np.asarray(picture.crop(box).resize((64, 64), Image.Resampling.BILINEAR), int)
        if generator.random() < 0.5:
            expected = expected[:, ::-1]
        found = random_view(encoded, view, example_generator((0, 0), 0, index))
        assert np.abs(found - expected).mean() < 2


@pytest.mark.parametrize(("kind", "mode"), [("PNG", "L"), ("PNG", "RGBA"), ("JPEG", "L")])
def test_grey_and_transparent_images_become_rgb(kind, mode):
    encoded = photograph(kind=kind, mode=mode)
    assert fixed_view(encoded, View(32)).shape == (32, 32, 3)
    generator = example_generator((0, 0), 0, 0)
    assert random_view(encoded, View(32, "random_resized_crop"), generator).shape == (32, 32, 3)


@pytest.mark.parametrize("encoded", [b"", b"not an image", photograph()[:200]])
def test_what_is_no_image_is_named(encoded):
    with pytest.raises(Failed, match="cannot be decoded"):
        fixed_view(encoded, View(32))
    with pytest.raises(Failed, match="cannot be decoded"):
        random_view(encoded, View(32, "scale_crop_flip"), example_generator((0, 0), 0, 0))


def test_a_crop_lies_in_the_central_square():
    """Krizhevsky et al. 2012, section 4.1: of a wide picture only the middle is seen."""
    wide = np.zeros((18, 54, 3), np.uint8)
    wide[:, 18:36] = 200
    out = io.BytesIO()
    Image.fromarray(wide).save(out, "PNG")
    view = View(16, "scale_crop_flip")
    for index in range(50):
        image = random_view(out.getvalue(), view, example_generator((0, 0), 0, index))
        assert (image == 200).all()
