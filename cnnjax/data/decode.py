"""One decoder for training and testing, streamed or in memory: encoded bytes to uint8 pixels.

Ordinary 8-bit JPEG and PNG are decoded by OpenCV, which is twice as fast, the rest by Pillow; of an
ordinary image both give the same pixels (another build of libjpeg may differ by a grey level).
  16 bits a channel: divided by 257 and rounded, so that 65,535 is 255 (torchvision cuts 16-bit grey
    off at 255). Pillow itself halves the depth of 16-bit TIFF with transparency or in CMYK, by its
    high byte: within one level.
  transparency: dropped, the colour below it stays, as in Pillow's convert("RGB").
  palette, 1 bit, CMYK, grey: as Pillow's convert.
  several frames (GIF, WebP, APNG, TIFF): the first.
  orientation marks: ignored, but for TIFF, where Pillow turns the image.
Floats, 32-bit and signed integers have no brightest value, and are refused.
"""

import io
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from cnnjax.core.errors import Failed, one_line

SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".bmp", ".dib", ".gif", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm"),
)
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM")
_MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # Pillow's name of so many channels
_JPEG_BEGIN, _JPEG_END, _PNG_BEGIN = b"\xff\xd8", b"\xff\xd9", b"\x89PNG\r\n\x1a\n"
_JPEG_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers before bits, size, channels
_PNG_DEPTH, _PNG_COLOUR = 24, 25  # positions of the bits a channel and of the kind of colour
_TIFF_BITS, _TIFF_INVERTED, _TIFF_ORIENTATION = 258, 262, 274


def decode(encoded: bytes, channels: int = 3) -> UInt8[np.ndarray, "h w c"]:
    """The pixels of an encoded image; see above.

    Args:
      channels: 1 grey, 2 grey and opacity, 3 red green blue, 4 with opacity.

    Raises:
      Failed: the bytes are no image, or of a kind that has no uint8 form.
    """
    from PIL import Image

    try:
        there = _ordinary_channels(encoded)
        if there == channels or (there, channels) == (1, 3):
            image = _opencv(encoded, channels)
            if image is not None:
                return image
        with Image.open(io.BytesIO(encoded), formats=_FORMATS) as picture:
            _check(picture)
            return _pillow(picture, encoded, channels)
    except Failed:
        raise
    except Exception as error:  # of damaged files the libraries raise many kinds
        reason = "no decoder knows it" if type(error).__name__ == "UnidentifiedImageError" else ""
        raise Failed(
            f"an image of {len(encoded):,} bytes cannot be decoded: {reason or one_line(error)}"
        ) from error


def check_header(path: Path) -> tuple[int, int]:
    """Height and width of a file that begins as an image that `decode` knows; its pixels are not
    read.

    Raises:
      Failed: it does not.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=_FORMATS) as picture:
            _check(picture)
            return picture.height, picture.width
    except Failed:
        raise
    except Image.UnidentifiedImageError:
        raise Failed("no decoder knows it") from None
    except Exception as error:
        raise Failed(one_line(error)) from error


def eight_bits(values: np.ndarray) -> np.ndarray:
    """uint16 to uint8, 65,535 to 255; uint8 as it is."""
    if values.dtype == np.uint8:
        return values
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def fit(image: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """A uint8 image at height, width: shorter side resized (antialiased), centre cropped."""
    if image.shape == shape:
        return image
    from PIL import Image, ImageOps

    channels = image.shape[-1]
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    resized = ImageOps.fit(picture, (shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(shape)


def fitted_part(
    original: tuple[int, int], shape: tuple[int, int]
) -> tuple[float, float, float, float]:
    """Of `fit`: left, top, width and height of the part that is shown, in pixels of the original.

    Args:
      original, shape: height, width.
    """
    height, width = original
    scale = min(height / shape[0], width / shape[1])
    shown = scale * shape[1], scale * shape[0]
    return (width - shown[0]) / 2, (height - shown[1]) / 2, *shown


def _check(picture: Any) -> None:
    mode, bits = picture.mode, _tiff(picture, _TIFF_BITS, (8,))
    if mode == "F":
        raise Failed("its pixels are floats; 8 and 16 bits a channel are read")
    if mode == "I" and picture.format != "PPM":  # Pillow scales a PGM's greys to 16 bits
        raise Failed("its pixels are signed or 32-bit integers; 8 and 16 bits a channel are read")
    if max(bits) > 8 and set(bits) != {16}:
        raise Failed(f"its pixels have {max(bits)} bits; 8 and 16 bits a channel are read")


def _ordinary_channels(encoded: bytes) -> int | None:
    """1 or 3 of an 8-bit JPEG or PNG that is whole and of one frame; else None.

    From a few bytes: asking Pillow takes a tenth of the time of decoding a photograph.
    """
    if encoded.startswith(_PNG_BEGIN) and len(encoded) > _PNG_COLOUR:
        animated = encoded.find(b"acTL", 0, encoded.find(b"IDAT")) > 0
        channels = {0: 1, 2: 3}.get(encoded[_PNG_COLOUR])
        return channels if encoded[_PNG_DEPTH] == 8 and not animated else None
    # OpenCV before 5 fills up a cut JPEG with grey.
    if not (encoded.startswith(_JPEG_BEGIN) and encoded.endswith(_JPEG_END)):
        return None
    at = len(_JPEG_BEGIN)
    while at + 10 < len(encoded) and encoded[at] == 0xFF:
        if encoded[at + 1] in _JPEG_FRAMES:
            bits, channels = encoded[at + 4], encoded[at + 9]
            return channels if bits == 8 and channels in (1, 3) else None
        at += 2 + int.from_bytes(encoded[at + 2 : at + 4])
    return None


def _opencv(encoded: bytes, channels: int) -> np.ndarray | None:
    import cv2

    colour = cv2.IMREAD_COLOR_RGB if channels == 3 else cv2.IMREAD_GRAYSCALE
    how = colour | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), how)
    return None if image is None else image.reshape(*image.shape[:2], channels)


def _pillow(picture: Any, encoded: bytes, channels: int) -> np.ndarray:
    from PIL import Image

    if picture.mode.startswith("I"):
        grey = eight_bits(np.asarray(picture).astype(np.uint16))
        inverted = _tiff(picture, _TIFF_INVERTED, 1) == 0
        picture = Image.fromarray(255 - grey if inverted else grey)
    elif _is_deep_colour(picture, encoded):
        picture = Image.fromarray(_deep_colour(picture, encoded))
    elif picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")  # the only way that Pillow does not warn of
    elif picture.mode in ("RGBa", "La"):
        picture = picture.convert("RGBA" if picture.mode == "RGBa" else "LA")
    image = np.asarray(picture.convert(_MODES[channels]))
    return image.reshape(*image.shape[:2], channels)


def _is_deep_colour(picture: Any, encoded: bytes) -> bool:
    """16 bits a channel that Pillow gives as 8."""
    if picture.format == "PNG":
        return encoded[_PNG_DEPTH] == 16
    return picture.mode == "RGB" and max(_tiff(picture, _TIFF_BITS, (8,))) == 16


def _deep_colour(picture: Any, encoded: bytes) -> np.ndarray:
    import cv2

    if _tiff(picture, _TIFF_ORIENTATION, 1) != 1:
        raise Failed("a 16-bit TIFF in colour with an orientation mark is not read; turn it")
    image = cv2.imdecode(np.frombuffer(encoded, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None or image.dtype != np.uint16:
        raise Failed(f"an image of {len(encoded):,} bytes cannot be decoded: it is cut or damaged")
    order = [2, 1, 0, 3][: image.shape[2]]
    return eight_bits(image[..., order])


def _tiff(picture: Any, tag: int, default: Any) -> Any:
    return picture.tag_v2.get(tag, default) if picture.format == "TIFF" else default
