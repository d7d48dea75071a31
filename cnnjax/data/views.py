"""What the network sees of an encoded photograph: decode, crop, resize, flip, on the host.

Randomness comes from a counter: the stream's key, the epoch and the example's index give one
generator (`example_generator`), so an example looks the same whoever reads it, in whatever order.
Both views decode alike (`data.decode`). Random views are resized by OpenCV, which is several times
as fast; a test image by Pillow with antialiasing, within one grey level of torchvision, because
published errors were measured so.
"""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from cnnjax.data.decode import decode, fitted_part
from cnnjax.data.examples import LABELS, Field

HostAugmentation = Literal[
    "none", "random_resized_crop", "scale_crop_flip", "flip", "scale_jitter_flip"
]
IMAGE_SIZE = 224  # of photographs, where none is given
RESIZE = 256 / 224  # the shorter side over the crop's: Krizhevsky et al. 2012, section 4.1

Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels
Pixels = UInt8[np.ndarray, "h w 3"]


@runtime_checkable
class AnyView(Protocol):
    """The contract: how a streamed set's images and what is known of them become its fields.

    Attributes:
      augmentations: those that it has beside "none".
    """

    augmentations: ClassVar[tuple[str, ...]]

    @property
    def size(self) -> int:
        """Height and width of what a network is trained on."""
        ...

    @property
    def crops(self) -> int:
        """How many are taken of a test image, on the device."""
        ...

    @property
    def pixels(self) -> int:
        """Height and width that come out."""
        ...

    @property
    def fields(self) -> dict[str, Field]:
        """Of an example as a network is trained on it."""
        ...

    def training(self, augmentation: HostAugmentation) -> "AnyView":
        """The view of a training image."""
        ...

    def fixed(self, encoded: bytes, known: Any) -> dict[str, np.ndarray]:
        """An example as the network is tested on it.

        Raises:
          Failed: the bytes are no image, or what is known does not belong to it.
        """
        ...

    def random(
        self, encoded: bytes, known: Any, generator: np.random.Generator
    ) -> dict[str, np.ndarray]:
        """An example as the network sees it while training; raises as `fixed`."""
        ...

    def image(self, encoded: bytes) -> UInt8[np.ndarray, "h w 3"]:
        """An image of which nothing is known, as a test image is seen, of `pixels`."""
        ...

    def part(self, original: tuple[int, int]) -> tuple[float, float, float, float]:
        """Left, top, width and height of what `image` shows, in pixels of the original, which has
        this height and width."""
        ...

    def check(self, encoded: bytes, known: Any) -> None:
        """
        Raises:
          Failed: it cannot be read.
        """
        ...


@dataclass(frozen=True)
class View:
    """How an image with a label is brought to `size` x `size` pixels.

    random_resized_crop: a box of 8 to 100 % of the area, aspect 3/4 to 4/3, resized; a flip
      (Szegedy et al. 2014, section 6; the form of torchvision).
    scale_crop_flip: the central square, of 256/224 of the size, a crop of it at random, a flip
      (Krizhevsky et al. 2012, section 4.1); the crop is taken before it is resized.
    none: the shorter side to 256/224 of the size, its centre; with `margin` the whole square of
      256/224, from which ten crops can be taken.
    """

    size: int
    augmentation: HostAugmentation = "none"
    margin: bool = False

    augmentations: ClassVar[tuple[str, ...]] = ("random_resized_crop", "scale_crop_flip")

    @property
    def scaled(self) -> int:
        """Pixels of the shorter side before a crop: 256 for 224."""
        return round(self.size * RESIZE)

    @property
    def pixels(self) -> int:
        """Height and width that come out."""
        return self.scaled if self.margin else self.size

    @property
    def crops(self) -> int:
        return 10 if self.margin else 1

    @property
    def fields(self) -> dict[str, Field]:
        return {"images": Field((self.size, self.size, 3), np.dtype(np.uint8)), "labels": LABELS}

    def training(self, augmentation: HostAugmentation) -> "View":
        return replace(self, augmentation=augmentation, margin=False)

    def fixed(self, encoded: bytes, known: int) -> dict[str, np.ndarray]:
        return {"images": fixed_view(encoded, self), "labels": np.asarray(known, np.int32)}

    def random(
        self, encoded: bytes, known: int, generator: np.random.Generator
    ) -> dict[str, np.ndarray]:
        image = random_view(encoded, self, generator)
        return {"images": image, "labels": np.asarray(known, np.int32)}

    def image(self, encoded: bytes) -> Pixels:
        return fixed_view(encoded, self)

    def part(self, original: tuple[int, int]) -> tuple[float, float, float, float]:
        left, top, width, height = fitted_part(original, (self.scaled, self.scaled))
        margin = (1 - self.pixels / self.scaled) / 2
        inner = 1 - 2 * margin
        return left + margin * width, top + margin * height, inner * width, inner * height

    def check(self, encoded: bytes, known: int) -> None:
        decode(encoded)


def example_generator(key: tuple[int, int], epoch: int, index: int) -> np.random.Generator:
    """The random numbers of one example in one epoch; `key` is a stream's key data.

    Philox is a counter: epoch and index are its high words, so no two examples share numbers, as
    seed + index would let them.
    """
    counter = np.array([0, 0, epoch, index], np.uint64)
    return np.random.Generator(np.random.Philox(key=np.array(key, np.uint64), counter=counter))


def random_view(encoded: bytes, view: View, generator: np.random.Generator) -> Pixels:
    """An encoded image as the network sees it while training, RGB.

    Args:
      generator: of this example and epoch.

    Raises:
      Failed: the bytes are no image.
    """
    import cv2

    image = decode(encoded)
    if view.augmentation == "random_resized_crop":
        left, top, right, bottom = random_box((image.shape[1], image.shape[0]), generator)
        image = image[top:bottom, left:right]
    else:
        side = min(image.shape[:2])
        extent = max(round(side * view.size / view.scaled), 1)
        offsets = generator.integers(0, side - extent + 1, 2)
        centre = [(n - side) // 2 for n in image.shape[:2]]
        top, left = (int(c + offset) for c, offset in zip(centre, offsets, strict=True))
        image = image[top : top + extent, left : left + extent]
    # Averaging where it shrinks much, else bilinear: close to Pillow's antialiased filter.
    shrink = min(image.shape[:2]) / view.size
    how = cv2.INTER_AREA if shrink > 1.5 else cv2.INTER_LINEAR
    image = cv2.resize(image, (view.size, view.size), interpolation=how)
    return image[:, ::-1] if generator.random() < 0.5 else image


def fixed_view(encoded: bytes, view: View) -> Pixels:
    """An encoded image as the network is tested on it, RGB: resized, the centre cropped.

    As torchvision's Resize and CenterCrop: bilinear, antialiased; within one grey level.

    Raises:
      Failed: the bytes are no image.
    """
    scaled, pixels = (view.scaled, view.scaled), (view.pixels, view.pixels)
    return _centre(decode(encoded), scaled, pixels)


def central_view(encoded: bytes, image_shape: tuple[int, int, int]) -> UInt8[np.ndarray, "h w c"]:
    """An encoded image for a network of which only the input is known: as `fixed_view`.

    An image of just that size is taken as it is.

    Args:
      image_shape: height, width, channels (1 grey, 3 red green blue).

    Raises:
      Failed: the bytes are no image.
    """
    height, width, channels = image_shape
    image = decode(encoded, channels)
    if image.shape == image_shape:
        return image
    return _centre(image, (round(height * RESIZE), round(width * RESIZE)), (height, width))


def _centre(image: np.ndarray, cover: tuple[int, int], crop: tuple[int, int]) -> np.ndarray:
    """The centre of an image, resized as little as covers `cover`; all are height, width."""
    from PIL import Image

    over, under = max(zip(cover, image.shape[:2], strict=True), key=lambda pair: pair[0] / pair[1])
    height, width = (n * over // under for n in image.shape[:2])
    left, top = round((width - crop[1]) / 2), round((height - crop[0]) / 2)
    x, y = image.shape[1] / width, image.shape[0] / height
    box = (left * x, top * y, (left + crop[1]) * x, (top + crop[0]) * y)
    picture = Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)
    resized = picture.resize((crop[1], crop[0]), Image.Resampling.BILINEAR, box)
    return np.asarray(resized).reshape(*crop, image.shape[2])


def random_box(size: tuple[int, int], generator: np.random.Generator, attempts: int = 10) -> Box:
    """A box of 8 to 100 % of the area and an aspect of 3/4 to 4/3, at a random place.

    Where ten draws do not fit, the centre at the nearest allowed aspect (torchvision's rule).

    Args:
      size: width, height.
    """
    width, height = size
    area = generator.uniform(0.08, 1.0, attempts) * width * height
    aspect = np.exp(generator.uniform(np.log(3 / 4), np.log(4 / 3), attempts))
    places = generator.random((attempts, 2))
    for a, r, (x, y) in zip(area, aspect, places, strict=True):
        w, h = round((a * r) ** 0.5), round((a / r) ** 0.5)
        if 0 < w <= width and 0 < h <= height:
            left, top = int(x * (width - w + 1)), int(y * (height - h + 1))
            return left, top, left + w, top + h
    w = min(width, round(height * 4 / 3))
    h = min(height, round(width * 4 / 3))
    left, top = (width - w) // 2, (height - h) // 2
    return left, top, left + w, top + h


def crops_and_flips(scaled: int, size: int) -> int:
    """How many images scale_crop_flip makes of a square one: every offset, flipped or not.

    2,178 = 33 x 33 x 2 for 256 and 224; the paper says 2,048, which counts 32 x 32 offsets.
    """
    return (scaled - size + 1) ** 2 * 2
