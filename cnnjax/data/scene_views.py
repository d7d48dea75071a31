"""What the network sees of a photograph whose objects or pixels have classes, on the host.

The whole photograph is seen, not its centre: its longer side becomes the view's, what is left of
the square is grey (ImageNet's mean) and of no class. Boxes and masks go where the pixels go.
"""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8

from cnnjax.core.errors import Failed
from cnnjax.data.decode import decode
from cnnjax.data.examples import Field
from cnnjax.data.views import HostAugmentation
from cnnjax.ops.rle import RunLengths

GREY = (124, 116, 104)  # ImageNet's mean: about 0 once it is normalised
WRONG_BOXES = "boxes without area or outside their image"  # that are left out
NOT_COUNTED = 255  # of a map of classes
JITTER = (0.5, 2.0)  # times the size at which the whole photograph is seen

Polygons = list[Float[np.ndarray, " _"]]  # x, y, x, y, ... of the corners of each
Mask = RunLengths | Polygons


@dataclass(frozen=True, eq=False)
class Objects:
    """What is known of one photograph, in its own pixels.

    Attributes:
      size: height and width that it is said to have; None: not said.
      boxes: x and y of the near and of the far corner of each object.
      labels: their classes; that of one that does not count (a crowd, one that is hard to see)
        through `uncounted`.
      masks: of each object; none where the set has only boxes.
      relative: boxes are in parts of the width and of the height.
      class_map: an encoded image of classes, 0 the ground, in the place of masks.
    """

    size: tuple[int, int] | None = None
    boxes: Float[np.ndarray, "k 4"] = field(default_factory=lambda: np.zeros((0, 4)))
    labels: Int[np.ndarray, " k"] = field(default_factory=lambda: np.zeros(0, np.int32))
    masks: tuple[Mask, ...] = ()
    relative: bool = False
    class_map: bytes | None = None


@dataclass(frozen=True)
class _Frame:
    """Where a photograph lies in its view.

    Attributes:
      original: its height and width.
      resized: those that it gets.
      offset: row and column of its first pixel in the view; may be negative.
      flipped: whether the view is mirrored.
    """

    original: tuple[int, int]
    resized: tuple[int, int]
    offset: tuple[int, int] = (0, 0)
    flipped: bool = False

    @property
    def scale(self) -> Float[np.ndarray, " 2"]:
        """Of y and x."""
        return np.divide(self.resized, self.original)

    def visible(self, size: int) -> tuple[slice, slice]:
        """Of the view, where the photograph is seen."""
        return tuple(  # type: ignore[return-value]
            slice(max(start, 0), max(0, min(start + extent, size)))
            for start, extent in zip(self.offset, self.resized, strict=True)
        )

    def pasted(
        self, resized: UInt8[np.ndarray, "a b *c"], ground: UInt8[np.ndarray, "s s *c"]
    ) -> None:
        """Lay what is seen of a resized picture over `ground`."""
        rows, columns = self.visible(len(ground))
        top, left = self.offset
        ground[rows, columns] = resized[
            rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
        ]
        if self.flipped:
            ground[:] = ground[:, ::-1].copy()


@dataclass(frozen=True)
class SceneView:
    """How a photograph and its objects are brought to `size` x `size` pixels.

    flip: mirrored or not. scale_jitter_flip: .5 to 2 times as large at random, cut out or laid down
      at a random place, mirrored or not (the large-scale jitter of Ghiasi et al. 2021, section 3,
      in a narrower range); an object whose centre is cut off is none any more.

    Attributes:
      most: places for boxes; 0: the set has none.
      maps: whether it has maps of classes, and with boxes of objects.
      num_classes: of its maps, without the ground.
    """

    size: int
    most: int = 0
    maps: bool = False
    num_classes: int = 0
    augmentation: HostAugmentation = "none"

    augmentations: ClassVar[tuple[str, ...]] = ("flip", "scale_jitter_flip")

    @property
    def pixels(self) -> int:
        return self.size

    @property
    def crops(self) -> int:
        return 1

    @property
    def fields(self) -> dict[str, Field]:
        """As of `scattered_digits`: a map has 0 on the ground, 1 + the class, or 1 + the object's
        place, on an object; a label is -1 where there is no box, `uncounted` of an object that does
        not count, whose pixels have class 255."""
        side, byte = (self.size, self.size), np.dtype(np.uint8)
        found = {"images": Field((*side, 3), byte)}
        if self.most:
            found["boxes"] = Field((self.most, 4), np.dtype(np.float32))
            found["box_labels"] = Field((self.most,), np.dtype(np.int32))
        if self.maps:
            found["class_map"] = Field(side, byte)
        if self.maps and self.most:
            found["object_map"] = Field(side, byte)
        return found

    def training(self, augmentation: HostAugmentation) -> "SceneView":
        return replace(self, augmentation=augmentation)

    def fixed(self, encoded: bytes, known: Objects) -> dict[str, np.ndarray]:
        image = decode(encoded)
        return {"images": self._seen(image), **self._known(known, self._whole(image.shape[:2]))}

    def random(
        self, encoded: bytes, known: Objects, generator: np.random.Generator
    ) -> dict[str, np.ndarray]:
        import cv2

        image = decode(encoded)
        frame = self._drawn(image.shape[:2], generator)
        shrunk = frame.scale.mean() < 1 / 1.5  # averaging where it shrinks much, else bilinear
        how = cv2.INTER_AREA if shrunk else cv2.INTER_LINEAR
        ground = self._ground(GREY)
        frame.pasted(cv2.resize(image, frame.resized[::-1], interpolation=how), ground)
        return {"images": ground, **self._known(known, frame)}

    def image(self, encoded: bytes) -> UInt8[np.ndarray, "h w 3"]:
        return self._seen(decode(encoded))

    def part(self, original: tuple[int, int]) -> tuple[float, float, float, float]:
        height, width = self.size / self._whole(original).scale
        return 0.0, 0.0, float(width), float(height)

    def check(self, encoded: bytes, known: Objects) -> None:
        frame = self._whole(decode(encoded).shape[:2])
        _check_size(known, frame)
        if known.class_map is not None:
            self._classes(known.class_map, frame)

    def _seen(self, image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "s s 3"]:
        """The whole of it, as a test image is seen."""
        frame, ground = self._whole(image.shape[:2]), self._ground(GREY)
        frame.pasted(_antialiased(image, frame.resized), ground)
        return ground

    def _ground(self, colour: Any) -> UInt8[np.ndarray, "..."]:
        shape = (self.size, self.size, *np.shape(colour))
        return np.broadcast_to(np.asarray(colour, np.uint8), shape).copy()

    def _whole(self, original: tuple[int, ...]) -> _Frame:
        return _Frame(_pair(original), self._fitted(original, 1.0))

    def _fitted(self, original: tuple[int, ...], times: float) -> tuple[int, int]:
        scale = times * self.size / max(original)
        return _pair([max(1, round(side * scale)) for side in original])

    def _drawn(self, original: tuple[int, ...], generator: np.random.Generator) -> _Frame:
        offset = (0, 0)
        resized = self._fitted(original, 1.0)
        if self.augmentation == "scale_jitter_flip":
            resized = self._fitted(original, generator.uniform(*JITTER))
            free = [self.size - side for side in resized]
            offset = _pair([generator.integers(min(one, 0), max(one, 0) + 1) for one in free])
        flipped = self.augmentation != "none" and bool(generator.random() < 0.5)
        return _Frame(_pair(original), resized, offset, flipped)

    def _known(self, known: Objects, frame: _Frame) -> dict[str, np.ndarray]:
        """The fields beside the image.

        Raises:
          Failed: they are of another image.
        """
        _check_size(known, frame)
        found, kept = {}, np.arange(0)
        if self.most:
            extent = np.tile(frame.original[::-1], 2) if known.relative else 1
            boxes, kept = self._boxes(known.boxes * extent, frame)
            found["boxes"] = np.zeros((self.most, 4), np.float32)
            found["box_labels"] = np.full(self.most, -1, np.int32)
            found["boxes"][: len(kept)] = boxes[kept]
            found["box_labels"][: len(kept)] = known.labels[kept]
        if self.maps:
            found |= self._maps(known, frame, kept)
        return found

    def _boxes(
        self, boxes: Float[np.ndarray, "k 4"], frame: _Frame
    ) -> tuple[Float[np.ndarray, "k 4"], Int[np.ndarray, " _kept"]]:
        """Boxes in the view, cut to it, and which of them have their centre there."""
        moved = boxes * np.tile(frame.scale[::-1], 2) + np.tile(frame.offset[::-1], 2)
        if frame.flipped:
            moved = np.stack(
                [self.size - moved[:, 2], moved[:, 1], self.size - moved[:, 0], moved[:, 3]], axis=1
            )
        centres = (moved[:, :2] + moved[:, 2:]) / 2
        cut = moved.clip(0, self.size).astype(np.float32)
        kept = ((centres >= 0) & (centres <= self.size)).all(1) & (cut[:, 2:] > cut[:, :2]).all(1)
        return cut, np.flatnonzero(kept)

    def _maps(
        self, known: Objects, frame: _Frame, kept: Int[np.ndarray, " k"]
    ) -> dict[str, np.ndarray]:
        """The class of each pixel, and its object; what is small lies above what is large."""
        if known.class_map is not None:
            return {"class_map": self._classes(known.class_map, frame)}
        drawn = [_part_of(mask, frame) for mask in known.masks]
        place = {int(index): 1 + number for number, index in enumerate(kept)}
        ground = np.zeros(frame.resized, np.uint8)
        classes, objects = ground, ground.copy()
        # What does not count lies below all.
        sizes = [int(pixels.sum()) for _, pixels in drawn]
        above = [(label >= 0, -size) for label, size in zip(known.labels, sizes, strict=True)]
        for index in sorted(range(len(drawn)), key=above.__getitem__):
            label = int(known.labels[index])
            _paint(classes, drawn[index], 1 + label if label >= 0 else NOT_COUNTED)
            _paint(objects, drawn[index], place.get(index, 0))
        found = {"class_map": self._ground(NOT_COUNTED), "object_map": self._ground(0)}
        frame.pasted(classes, found["class_map"])
        frame.pasted(objects, found["object_map"])
        return {name: found[name] for name in self.fields if name in found}

    def _classes(self, encoded: bytes, frame: _Frame) -> UInt8[np.ndarray, "s s"]:
        classes = class_numbers(encoded)
        check_classes(classes, frame.original, self.num_classes)
        ground = self._ground(NOT_COUNTED)
        frame.pasted(_nearest(classes, frame), ground)
        return ground


def _check_size(known: Objects, frame: _Frame) -> None:
    if known.size is not None and known.size != frame.original:
        raise Failed(
            f"the image is of {_by(frame.original)}, its annotations are of one of"
            f" {_by(known.size)} (height x width)"
        )


def check_classes(
    classes: UInt8[np.ndarray, "h w"], size: tuple[int, int], num_classes: int
) -> None:
    """
    Raises:
      Failed: a mask is not of its image's size, or has a class that is not there.
    """
    if classes.shape != size:
        raise Failed(
            f"the mask is of {_by(classes.shape)}, its image of {_by(size)} (height x width)"
        )
    wrong = classes[(classes > num_classes) & (classes != NOT_COUNTED)]
    if len(wrong):
        raise Failed(
            f"its mask has pixels of class {wrong[0]}; they are 0 (the ground) to {num_classes}, or"
            f" {NOT_COUNTED} (not counted)"
        )


def class_numbers(encoded: bytes) -> UInt8[np.ndarray, "h w"]:
    """A mask of classes as its file has it: grey, or the numbers of a palette.

    Raises:
      Failed: it cannot be read, or is in colour.
    """
    import io

    from PIL import Image

    try:
        with Image.open(io.BytesIO(encoded), formats=("PNG", "BMP", "GIF", "TIFF")) as picture:
            if picture.mode in ("P", "L"):
                return np.asarray(picture)
            mode = picture.mode
    except Exception as error:  # of damaged files the library raises many kinds
        raise Failed(f"its mask cannot be read: {type(error).__name__}") from error
    raise Failed(f"its mask is an image of mode {mode}: grey of 8 bits, or a palette, is needed")


def _antialiased(image: UInt8[np.ndarray, "h w 3"], size: tuple[int, int]) -> np.ndarray:
    """As torchvision's Resize: bilinear, antialiased; within one grey level."""
    from PIL import Image

    return np.asarray(Image.fromarray(image).resize((size[1], size[0]), Image.Resampling.BILINEAR))


Part = tuple[tuple[slice, slice], Bool[np.ndarray, "a b"]]


def _part_of(mask: Mask, frame: _Frame) -> Part:
    """Which pixels of the resized photograph are of a mask: a part of it, and which of that."""
    if isinstance(mask, RunLengths):
        whole = (slice(0, frame.resized[0]), slice(0, frame.resized[1]))
        return whole, _nearest(mask.decoded().astype(np.uint8), frame) > 0
    scale = frame.scale[::-1]
    corners = [np.reshape(part, (-1, 2)) * scale for part in mask]
    every = np.concatenate(corners)
    low = np.floor(every.min(0)).astype(int).clip(0) - 1
    high = np.ceil(every.max(0)).astype(int) + 1
    left, top = (int(value) for value in low.clip(0))
    right, bottom = np.minimum(high, frame.resized[::-1]).tolist()
    if right <= left or bottom <= top:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool)
    # By whole pixels, so that the outline falls on the same ones as in the whole.
    moved = [(part - [left, top]).ravel().tolist() for part in corners]
    drawn = RunLengths.of_polygons((bottom - top, right - left), moved).decoded()
    return (slice(top, bottom), slice(left, right)), drawn


def _paint(ground: UInt8[np.ndarray, "h w"], part: Part, value: int) -> None:
    where, mask = part
    ground[where][mask] = value


def _nearest(array: UInt8[np.ndarray, "h w"], frame: _Frame) -> UInt8[np.ndarray, "a b"]:
    """The value below the middle of each pixel."""
    rows, columns = (
        ((np.arange(new) + 0.5) * old / new).astype(np.intp)
        for new, old in zip(frame.resized, frame.original, strict=True)
    )
    return array[rows[:, None], columns[None]]


def _pair(values: Any) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))
