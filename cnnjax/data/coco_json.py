"""Files of annotations and of detections in COCO's format, read and checked whole."""

import contextlib
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import msgspec

from cnnjax.core.errors import Refused
from cnnjax.ops.rle import RunLengths

_OUTSIDE = 1.0  # pixels by which a box may leave its image: files round
_NAMED = 3  # of what is wrong, at most

# Bounds are wide; what lies beyond them would overflow.
Id = Annotated[int, msgspec.Meta(ge=-(2**53), le=2**53)]
Side = Annotated[int, msgspec.Meta(ge=1, le=10**5)]
Pixels = Annotated[float, msgspec.Meta(ge=-1e9, le=1e9)]
Corner = Annotated[float, msgspec.Meta(ge=-1e5, le=2e5)]  # of a polygon, which is drawn
Area = Annotated[float, msgspec.Meta(ge=0, le=1e18)]
Box = tuple[Pixels, Pixels, Pixels, Pixels]  # x, y, width, height; (0, 0) is the outer corner


class Counts(msgspec.Struct):
    """A mask as run lengths; see `ops.rle`."""

    size: tuple[Side, Side]
    counts: str | list[int]


Segmentation = list[list[Corner]] | Counts | None
_SEGMENTATION = msgspec.json.Decoder(Segmentation)


class Image(msgspec.Struct):
    id: Id
    width: Side | None = None
    height: Side | None = None
    file_name: str = ""


class Category(msgspec.Struct):
    id: Id
    name: str


class Annotation(msgspec.Struct):
    """One object that is there.

    Attributes:
      iscrowd: a region of many that are not told apart: to find one of them there is no error.
      difficult: as VOC's files have it; `iscrowd` to a protocol of VOC.
      undecoded: its segmentation as the file has it; as Python's numbers those of COCO's train2017
        would be gigabytes.
    """

    id: Id
    image_id: Id
    category_id: Id
    bbox: Box | None = None
    undecoded: msgspec.Raw = msgspec.field(name="segmentation", default=msgspec.Raw(b"null"))
    area: Area | None = None
    iscrowd: int = 0
    difficult: int = 0

    @property
    def segmentation(self) -> Segmentation:
        """Decoded anew each time.

        Raises:
          DecodeError: it is neither polygons nor run lengths.
        """
        return _SEGMENTATION.decode(self.undecoded)

    @property
    def has_mask(self) -> bool:
        return bytes(self.undecoded).translate(None, b" \t\r\n") not in (b"null", b"[]")


class Instances(msgspec.Struct):
    """A file of annotations: images, categories, and the objects of each image."""

    images: list[Image]
    annotations: list[Annotation]
    categories: list[Category]


class Detection(msgspec.Struct):
    """One object that a detector believes to be there."""

    image_id: Id
    category_id: Id
    score: float
    bbox: Box | None = None
    segmentation: Segmentation = None


def read_instances(
    path: Path, where: str = "", *, leave_out: Callable[[str], None] | None = None
) -> Instances:
    """A file of annotations, with nothing wrong in it.

    Args:
      where: the option that named it, for messages.
      leave_out: is told of each annotation whose box has no area or leaves its image, which is
        dropped; default: it is refused.

    Raises:
      Refused: it is no such file, or something in it is wrong; the text says how much, and what
        comes first.
    """
    where = f"{where} {path}".strip()
    found: Instances = _read(path, Instances, where, "images, annotations and categories")
    if leave_out is not None:
        found.annotations = list(_with_right_boxes(found, leave_out))
    problems = list(wrong_in(found))
    if problems:
        more = f" and {len(problems) - _NAMED:,} more" if len(problems) > _NAMED else ""
        raise Refused(f"{where}: {'; '.join(problems[:_NAMED])}{more}; mend the file")
    return found


def wrong_in(instances: Instances) -> Iterator[str]:
    """What is wrong with annotations, a line each."""
    for kind, known in (
        ("image", instances.images),
        ("category", instances.categories),
        ("annotation", instances.annotations),
    ):
        for number, times in Counter(one.id for one in known).items():
            if times > 1:
                yield f"{kind} id {number} is there {times} times"
    if not instances.categories:
        yield "there is no category"
    images = _sized(instances)
    categories = {category.id for category in instances.categories}
    for one in instances.annotations:
        try:
            mask = one.segmentation
        except msgspec.DecodeError as error:
            yield f"annotation {one.id}: a segmentation is polygons or run lengths ({error})"
            continue
        if one.image_id not in images:
            yield f"annotation {one.id} is of image {one.image_id}, which is not there"
        elif one.category_id not in categories:
            yield f"annotation {one.id} is of category {one.category_id}, which is not there"
        elif one.bbox is None and not mask:
            yield f"annotation {one.id} has neither bbox nor segmentation"
        else:
            if one.bbox is not None:
                yield from _wrong_box(one.bbox, images[one.image_id], one.id)
            words = f"annotation {one.id}"
            yield from _wrong_mask(mask, images[one.image_id], words, may_be_empty=False)


def _with_right_boxes(
    instances: Instances, leave_out: Callable[[str], None]
) -> Iterator[Annotation]:
    images = _sized(instances)
    for one in instances.annotations:
        wrong = []
        if one.bbox is not None and one.image_id in images:
            wrong = list(_wrong_box(one.bbox, images[one.image_id], one.id))
        for words in wrong:
            leave_out(words)
        if not wrong:
            yield one


def _sized(instances: Instances) -> dict[int, Image]:
    """The images by id; one of unknown size has that of its first mask."""
    found = {image.id: image for image in instances.images}
    for one in instances.annotations:
        image = found.get(one.image_id)
        if image is None or image.height:
            continue
        with contextlib.suppress(msgspec.DecodeError):  # of which `wrong_in` tells
            if isinstance(mask := one.segmentation, Counts):
                height, width = mask.size
                found[image.id] = Image(image.id, width, height, image.file_name)
    return found


def _wrong_box(box: Box, image: Image, number: int) -> Iterator[str]:
    x, y, width, height = box
    words = f"annotation {number} of image {image.id}: the box {_numbers(box)}"
    if width <= 0 or height <= 0:
        yield f"{words} has no area (x, y, width, height)"
    elif image.width and image.height:
        beyond = max(-x, -y, x + width - image.width, y + height - image.height)
        if beyond > _OUTSIDE:
            yield f"{words} leaves its image of {image.width}x{image.height}"


def _wrong_mask(
    given: Segmentation, image: Image, words: str, *, may_be_empty: bool = True
) -> Iterator[str]:
    """What is wrong with the mask of an annotation or a detection."""
    if isinstance(given, Counts):
        height, width = given.size
        if image.height and image.width and (height, width) != (image.height, image.width):
            yield (
                f"{words}: the mask is of {height}x{width}, its image {image.id} of"
                f" {image.height}x{image.width} (height x width)"
            )
            return
        try:
            if not RunLengths.of_counts((height, width), given.counts).area and not may_be_empty:
                yield f"{words}: its mask is empty"
        except Refused as error:
            yield f"{words}: {error}"
    elif given is not None and not all(len(part) >= 6 and len(part) % 2 == 0 for part in given):
        yield f"{words}: a polygon is x, y of three corners or more"


def read_detections(path: Path, instances: Instances, where: str = "") -> list[Detection]:
    """A file of detections on the images of `instances`.

    A box may leave its image, and one without area finds nothing; both are a detector's matter.

    Raises:
      Refused: it is no such file, or names images and categories that are not there.
    """
    where = f"{where} {path}".strip()
    found: list[Detection] = _read(path, list[Detection], where, "a list of detections")
    images = _sized(instances)
    categories = {category.id for category in instances.categories}
    for number, one in enumerate(found):
        at = f"{where}: detection {number}"
        if one.image_id not in images:
            raise Refused(
                f"{at} is of image {one.image_id}, which the truth does not hold ({len(images):,}"
                " images); give the truth of the same images"
            )
        if one.category_id not in categories:
            listed = ", ".join(map(str, sorted(categories)[:8]))
            raise Refused(
                f"{at} is of category {one.category_id}; the truth has"
                f" {listed}{', ...' * (len(categories) > 8)}"
            )
        if one.bbox is None and one.segmentation is None:
            raise Refused(f"{at} has neither bbox nor segmentation")
        if one.bbox is not None and min(one.bbox[2:]) < 0:
            raise Refused(
                f"{at}: the box {_numbers(one.bbox)} has a negative size; it is x, y, width, height"
            )
        for problem in _wrong_mask(one.segmentation, images[one.image_id], f"detection {number}"):
            raise Refused(f"{where}: {problem}")
    return found


def mask_of(one: Annotation | Detection, image: Image, where: str) -> RunLengths:
    """
    Raises:
      Refused: there is none, or a polygon in an image of unknown size.
    """
    mask = one.segmentation
    if isinstance(mask, Counts):
        return RunLengths.of_counts(mask.size, mask.counts)
    if not mask:
        raise Refused(f"{where} has no mask: no segmentation, or an empty one")
    if not image.height or not image.width:
        raise Refused(f"{where}: image {image.id} has no height and width to draw its polygon in")
    return RunLengths.of_polygons((image.height, image.width), mask)


def _read(path: Path, kind: Any, where: str, wanted: str) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Refused(f"{where} cannot be read: {error.strerror}") from None
    try:
        return msgspec.json.decode(data, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        if found := re.search(rb"(?:[:\[,]\s*)(NaN|-?Infinity)\b", data):
            raise Refused(
                f"{where}: {found[1].decode()} at byte {found.start(1):,}; numbers are finite"
            ) from None
        raise Refused(f"{where} is no file of {wanted} ({error})") from None


def _numbers(box: Box) -> str:
    return f"({', '.join(f'{value:g}' for value in box)})"
