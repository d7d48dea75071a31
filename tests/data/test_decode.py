"""Every kind of image that people have, through both paths: the pixels that were written."""

import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cnnjax.core.errors import Failed
from cnnjax.data.decode import check_header, decode
from cnnjax.data.views import View, example_generator, fixed_view, random_view
from tests.data.test_views import photograph

SIDE = 9  # a view of 8 scales to 9: the images are not resized
rng = np.random.default_rng(0)
COLOUR = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
GREY = COLOUR[..., 0]
OPACITY = rng.integers(0, 256, (SIDE, SIDE), np.uint8)
DEEP = rng.integers(0, 65536, (SIDE, SIDE, 3), np.uint16)
BITS = np.where(GREY > 127, 255, 0).astype(np.uint8)
PALETTE = Image.fromarray(COLOUR).quantize(16)
PALETTE_COLOURS = np.asarray(PALETTE.convert("RGB"))


def halved(deep):
    """The nearest of 256 levels; 65,535 is 255."""
    return np.round(deep / 257.0).astype(np.uint8)


def rgb(grey):
    return np.repeat(grey[..., None], 3, axis=2)


def pillow(picture, kind, **options):
    if isinstance(picture, np.ndarray):
        picture = Image.fromarray(picture)
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def opencv(kind, array, *options):
    array = array[..., [2, 1, 0, 3][: array.shape[2]]] if array.ndim == 3 else array
    return cv2.imencode(kind, array, options)[1].tobytes()


def frames(kind):
    others = [Image.fromarray(255 - COLOUR)]
    return pillow(COLOUR, kind, save_all=True, append_images=others, lossless=True)


def decoded_by_pillow(encoded):
    return np.asarray(Image.open(io.BytesIO(encoded)).convert("RGB"))


with_opacity = np.dstack([COLOUR, OPACITY])
grey_with_opacity = np.dstack([GREY, OPACITY])
deep_with_opacity = np.dstack([DEEP, rng.integers(0, 65536, (SIDE, SIDE), np.uint16)])
CMYK = pillow(Image.fromarray(COLOUR).convert("CMYK"), "JPEG", quality=95)
ANIMATED = frames("GIF")
WEBP = pillow(COLOUR, "WEBP", quality=80)
JPEG = pillow(COLOUR, "JPEG", quality=90)
turned = Image.Exif()
turned[274] = 6  # orientation
PGM = b"P5 9 9 65535\n"

EXACT = {
    "png": (pillow(COLOUR, "PNG"), COLOUR),
    "png grey": (pillow(GREY, "PNG"), rgb(GREY)),
    "png grey with opacity": (pillow(grey_with_opacity, "PNG"), rgb(GREY)),
    "png with opacity": (pillow(with_opacity, "PNG"), COLOUR),
    "png with a transparent colour": (pillow(COLOUR, "PNG", transparency=(1, 2, 3)), COLOUR),
    "png grey with a transparent grey": (pillow(GREY, "PNG", transparency=3), rgb(GREY)),
    "png 1 bit": (pillow(Image.fromarray(BITS).convert("1"), "PNG"), rgb(BITS)),
    "png palette": (pillow(PALETTE, "PNG"), PALETTE_COLOURS),
    "png palette 4 bits": (pillow(PALETTE, "PNG", bits=4), PALETTE_COLOURS),
    "png palette with opacities": (
        pillow(PALETTE, "PNG", transparency=bytes(range(16))),
        PALETTE_COLOURS,
    ),
    "png palette with one transparent": (
        pillow(PALETTE, "PNG", transparency=2),
        PALETTE_COLOURS,
    ),
    "png 16 bits grey": (pillow(DEEP[..., 0], "PNG"), rgb(halved(DEEP[..., 0]))),
    "png 16 bits colour": (opencv(".png", DEEP), halved(DEEP)),
    "png 16 bits with opacity": (opencv(".png", deep_with_opacity), halved(DEEP)),
    "png animated": (frames("PNG"), COLOUR),
    "bmp": (pillow(COLOUR, "BMP"), COLOUR),
    "bmp palette": (pillow(PALETTE, "BMP"), PALETTE_COLOURS),
    "bmp 1 bit": (pillow(Image.fromarray(BITS).convert("1"), "BMP"), rgb(BITS)),
    "tiff": (pillow(COLOUR, "TIFF"), COLOUR),
    "tiff lzw": (pillow(COLOUR, "TIFF", compression="tiff_lzw"), COLOUR),
    "tiff grey": (pillow(GREY, "TIFF"), rgb(GREY)),
    "tiff 1 bit": (pillow(Image.fromarray(BITS).convert("1"), "TIFF"), rgb(BITS)),
    "tiff with opacity": (pillow(with_opacity, "TIFF"), COLOUR),
    "tiff palette": (pillow(PALETTE, "TIFF"), PALETTE_COLOURS),
    "tiff 16 bits grey": (pillow(DEEP[..., 0], "TIFF"), rgb(halved(DEEP[..., 0]))),
    "tiff 16 bits grey, white is 0": (
        pillow(DEEP[..., 0], "TIFF", tiffinfo={262: 0}),
        rgb(255 - halved(DEEP[..., 0])),
    ),
    "tiff 16 bits grey, the other byte order": (
        pillow(Image.fromarray(DEEP[..., 0].astype(">u2")), "TIFF"),
        rgb(halved(DEEP[..., 0])),
    ),
    "tiff 16 bits colour": (opencv(".tiff", DEEP), halved(DEEP)),
    "tiff of two pages": (frames("TIFF"), COLOUR),
    "ppm": (pillow(COLOUR, "PPM"), COLOUR),
    "pgm": (pillow(GREY, "PPM"), rgb(GREY)),
    "pbm": (pillow(Image.fromarray(BITS).convert("1"), "PPM"), rgb(BITS)),
    "pgm 16 bits": (PGM + DEEP[..., 0].astype(">u2").tobytes(), rgb(halved(DEEP[..., 0]))),
    "ppm 16 bits": (b"P6 9 9 65535\n" + DEEP.astype(">u2").tobytes(), halved(DEEP)),
    "webp": (pillow(COLOUR, "WEBP", lossless=True), COLOUR),
    "webp with opacity": (
        pillow(np.dstack([COLOUR, OPACITY | 1]), "WEBP", lossless=True, exact=True),
        COLOUR,
    ),
    "webp animated": (frames("WEBP"), COLOUR),
    "gif": (pillow(PALETTE, "GIF"), PALETTE_COLOURS),
    "gif animated": (ANIMATED, decoded_by_pillow(ANIMATED)),
    "webp lossy": (WEBP, decoded_by_pillow(WEBP)),
    "jpeg cmyk": (CMYK, decoded_by_pillow(CMYK)),
}
WITHIN_A_LEVEL = {  # of Pillow's pixels: two builds of libjpeg
    "jpeg": JPEG,
    "jpeg grey": pillow(GREY, "JPEG"),
    "jpeg progressive": pillow(COLOUR, "JPEG", progressive=True),
    "jpeg without subsampling": pillow(COLOUR, "JPEG", subsampling=0),
    "jpeg turned": pillow(COLOUR, "JPEG", exif=turned),
    "jpeg with bytes behind it": JPEG + b"more",
}  # fmt: skip


def seen_in_training(encoded):
    """All windows of 8 of 9 pixels that scale_crop_flip shows, laid where they came from."""
    whole = np.zeros((SIDE, SIDE, 3), np.uint8)
    view, windows = View(8, "scale_crop_flip"), {}
    for index in range(100):
        generator = example_generator((0, 0), 0, index)
        image = random_view(encoded, view, generator)
        again = example_generator((0, 0), 0, index)
        top, left = (int(offset) for offset in again.integers(0, 2, 2))
        windows[top, left] = image[:, ::-1] if again.random() < 0.5 else image
    for (top, left), window in windows.items():
        whole[top : top + 8, left : left + 8] = window
    assert len(windows) == 4
    return whole


@pytest.mark.parametrize("kind", EXACT)
def test_training_and_testing_see_the_pixels_that_were_written(kind):
    encoded, expected = EXACT[kind]
    np.testing.assert_array_equal(decode(encoded), expected)
    np.testing.assert_array_equal(fixed_view(encoded, View(8, margin=True)), expected)
    np.testing.assert_array_equal(seen_in_training(encoded), expected)


@pytest.mark.parametrize("kind", WITHIN_A_LEVEL)
def test_jpeg_is_decoded_as_by_pillow_and_alike_for_training_and_testing(kind):
    encoded = WITHIN_A_LEVEL[kind]
    expected = decoded_by_pillow(encoded).astype(int)
    pixels = decode(encoded)
    assert np.abs(pixels - expected).max() <= 1
    np.testing.assert_array_equal(fixed_view(encoded, View(8, margin=True)), pixels)
    np.testing.assert_array_equal(seen_in_training(encoded), pixels)


def test_photographs_are_decoded_as_by_pillow():
    for seed in range(5):
        encoded = photograph(150 + seed, 110, seed)
        assert np.abs(decode(encoded) - decoded_by_pillow(encoded).astype(int)).max() <= 1


@pytest.mark.parametrize(
    ("encoded", "channels", "expected"),
    [
        (EXACT["png grey"][0], 1, GREY[..., None]),
        (EXACT["png 16 bits grey"][0], 1, halved(DEEP[..., :1])),
        (EXACT["png grey with opacity"][0], 2, grey_with_opacity),
        (EXACT["png grey with opacity"][0], 1, GREY[..., None]),
        (EXACT["png with opacity"][0], 4, with_opacity),
        (EXACT["png 16 bits with opacity"][0], 4, halved(deep_with_opacity)),
        (EXACT["png"][0], 4, np.dstack([COLOUR, np.full_like(GREY, 255)])),
        (EXACT["png"][0], 1, np.asarray(Image.fromarray(COLOUR).convert("L"))[..., None]),
    ],
)
def test_other_numbers_of_channels(encoded, channels, expected):
    np.testing.assert_array_equal(decode(encoded, channels), expected)


def with_tag(tiff, old, new):
    """A TIFF with one of its short values (tag, value) replaced."""
    entry = b"%b\x03\0\1\0\0\0%b\0"
    old, new = (entry % (tag.to_bytes(2, "little"), bytes([value])) for tag, value in (old, new))
    assert tiff.count(old) == 1
    return tiff.replace(old, new)


REFUSED = {
    "float": (pillow(rng.random((9, 9)).astype(np.float32), "TIFF"), "floats"),
    "32 bits": (pillow(GREY.astype(np.int32), "TIFF"), "32-bit integers"),
    "float map": (b"Pf\n9 9\n-1.0\n" + bytes(4 * 81), "floats"),
    "12 bits": (with_tag(EXACT["tiff 16 bits grey"][0], (258, 16), (258, 12)), "12 bits"),
    "turned": (with_tag(EXACT["tiff 16 bits colour"][0], (284, 1), (274, 6)), "orientation mark"),
    "nothing": (b"", "no decoder knows it"),
    "text": (b"not an image", "no decoder knows it"),
    "a page": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no decoder knows it"),
    "a cut jpeg": (photograph()[:-200], "cannot be decoded"),
    "half a jpeg": (photograph()[:1500], "cannot be decoded"),
    "half a png": (photograph(kind="PNG")[:5000], "cannot be decoded"),
    "half a tiff": (EXACT["tiff lzw"][0][:150], "cannot be decoded"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_has_no_pixels_is_refused_alike_for_training_and_testing(kind):
    encoded, message = REFUSED[kind]
    with pytest.raises(Failed, match=message):
        fixed_view(encoded, View(8))
    with pytest.raises(Failed, match=message):
        random_view(encoded, View(8, "scale_crop_flip"), example_generator((0, 0), 0, 0))


def test_a_header_is_checked_without_reading_the_pixels(tmp_path):
    for number, (encoded, _) in enumerate(EXACT.values()):
        (tmp_path / f"{number}.png").write_bytes(encoded)
        check_header(tmp_path / f"{number}.png")
    for kind in ("float", "32 bits", "12 bits", "nothing", "text"):
        (tmp_path / "bad").write_bytes(REFUSED[kind][0])
        with pytest.raises(Failed, match=REFUSED[kind][1]):
            check_header(tmp_path / "bad")


SOURCES = [encoded for encoded, _ in EXACT.values()] + [*WITHIN_A_LEVEL.values()]


@pytest.mark.filterwarnings("ignore")
@settings(max_examples=150)
@given(st.sampled_from(SOURCES), st.integers(0, 10**6), st.integers(0, 7), st.booleans())
def test_a_damaged_image_gives_pixels_or_one_line(encoded, place, bit, cut):
    damaged = bytearray(encoded)
    damaged[place % len(damaged)] ^= 1 << bit
    damaged = bytes(damaged[: place % len(damaged)] if cut else damaged)
    message = ""
    try:
        assert decode(damaged).dtype == np.uint8
    except Failed as error:
        message = str(error)
    assert "\n" not in message
