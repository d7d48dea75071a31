"""Folders of photographs whose objects or pixels have classes, read while training.

coco:DIR    COCO's layout: instances_NAME.json in DIR or DIR/annotations, the images of NAME in
            DIR/NAME or DIR/images/NAME: boxes, and masks where every object has one
masks:DIR   an image of classes for each photograph: DIR/images/NAME/*.jpg, DIR/masks/NAME/*.png,
            DIR/classes.txt (a name a line, the ground first); or a VOC devkit's year
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from cnnjax.core.errors import Failed, Refused
from cnnjax.core.recipe import Data
from cnnjax.core.user_code import located
from cnnjax.data.coco_json import Annotation, Category, Counts, Image, Instances, read_instances
from cnnjax.data.dataset import LeftOut, StreamedDataset, uncounted
from cnnjax.data.decode import SUFFIXES, check_header
from cnnjax.data.examples import EncodedExamples
from cnnjax.data.folder import check_headers, contents_of, no_example, read_file
from cnnjax.data.scene_views import (
    WRONG_BOXES,
    Mask,
    Objects,
    SceneView,
    check_classes,
    class_numbers,
)
from cnnjax.ops.rle import RunLengths

COCO, MASKS = "coco:", "masks:"
PREFIXES = (COCO, MASKS)
_TESTS = ("test", "val", "validation")  # where data.test_split is "test": the first that is there
_CHECKED_MASKS = 1_000  # that are read before a run, spread over the set
_READER = 2  # of annotations; another one, another number: with 2 crowds are objects, too
_MOST_CLASSES, _MOST_OBJECTS = 254, 254  # beside 0 and 255 in a byte
_VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)  # the numbers of a VOC mask, from 1


@dataclass(frozen=True)
class _Scene:
    """One photograph on disk, and what is known of it."""

    path: Path
    known: Objects
    mask: Path | None = None


@dataclass(frozen=True)
class _Part:
    """A split: its scenes, words for where they lie, and what identifies its annotations."""

    scenes: list[_Scene]
    where: str
    identity: str


def load_scene_folder(
    data: Data, size: int, say: Callable[[str], None] = lambda line: None
) -> StreamedDataset:
    """The set in folder `data.name` ("coco:DIR" or "masks:DIR"), seen at `size` x `size`.

    Args:
      say: is told what is left out.

    Raises:
      Refused: no such folder, no annotations, something wrong in them, images that are missing or
        are none; with data.unreadable=skip what can be left out is.
    """
    kind = next(prefix for prefix in PREFIXES if data.name.startswith(prefix))
    root = located(data.name.removeprefix(kind))
    if not root.is_dir():
        raise Refused(f"--data {data.name}: there is no folder {root}")
    if data.test_crops != 1:
        raise Refused(f"data.test_crops={data.test_crops}: {data.name} is seen whole; leave it out")
    if kind == COCO:
        parts, names, left_out = _coco(data, root, say)
        maps = all(len(s.known.masks) == len(s.known.labels) for p in parts for s in p.scenes)
        most = max(1, *(len(s.known.labels) for p in parts for s in p.scenes))
    else:
        parts, names, left_out = _masks(data, root)
        maps, most = True, 0
    if maps and (most > _MOST_OBJECTS or len(names) > _MOST_CLASSES):
        raise Refused(
            f"--data {data.name}: {most} objects in an image and {len(names)} classes; a map of"
            f" bytes holds {_MOST_OBJECTS} and {_MOST_CLASSES}; leave segmentation out of the file"
            " to have boxes alone"
        )
    files = [(s.path, _bytes(s.path)) for part in parts for s in part.scenes]
    if data.unreadable == "refuse":
        _check_masks(data.name, [s for part in parts for s in part.scenes], len(names))
        check_headers(data.name, files, [s.known.size for part in parts for s in part.scenes])
    for one in left_out:
        say(f"{data.name}: left out: {one}")
    train, test = (
        _examples(part.scenes) if part else EncodedExamples(no_example, 0)
        for part in (parts[0], parts[1] if len(parts) > 1 else None)
    )
    view = SceneView(size, most, maps, len(names))
    about = [_READER, names, most, maps, [part.identity for part in parts]]
    files = [(path, size) for path, size in files if path.is_file()]  # others are left out
    rows = [
        [os.path.relpath(path, root), content]
        for (path, _), content in zip(files, contents_of(files), strict=True)
    ]
    return StreamedDataset(
        name=data.name,
        label_names=names,
        max_value=255,
        augmentation="flip",
        source=f"photographs in {' and '.join(part.where for part in parts)}",
        train=train,
        test=test,
        view=view,
        fingerprint=hashlib.sha256(json.dumps([about, rows]).encode()).hexdigest(),
        left_out=left_out,
    )


def _parts_named(data: Data, known: Sequence[str], what: str) -> list[str]:
    """The names of the parts among those that there are; one where a share is held out of it.

    "train" is a part of that name, or the one that is it with a year: train2017.

    Args:
      what: in words, with {} for the name of a part.
    """

    def called(split: str) -> str | None:
        close = [name for name in known if name == split] or [
            name for name in known if name.startswith(split) and name[len(split) :].isdigit()
        ]
        return close[0] if len(close) == 1 else None

    tests = _TESTS if data.test_split == "test" else (data.test_split,)
    test = next((name for name in map(called, tests) if name), None)
    train = called(data.train_split)
    for setting, names, found in (
        ("train_split", (data.train_split,), train),
        ("test_split", tests, test),
    ):
        if found is None and not (setting == "test_split" and data.test_share):
            there = f"there is {', '.join(sorted(known))}" if known else "there is none"
            out = ", or hold a share out: --set data.test_share=0.2" * (setting == "test_split")
            raise Refused(
                f"--data {data.name}: no single {what.replace('{}', ' or '.join(names))} ({there});"
                f" say which part is meant, --set data.{setting}=NAME{out}"
            )
    assert train is not None
    if test == train:
        raise Refused(f"--data {data.name}: {train} is the training and the test part")
    return [train] if test is None else [train, test]


# ---------------------------------------------------------------- COCO


def _coco(
    data: Data, root: Path, say: Callable[[str], None]
) -> tuple[list[_Part], tuple[str, ...], tuple[LeftOut, ...]]:
    files = {
        path.stem.removeprefix("instances_"): path
        for folder in (root, root / "annotations")  # of two alike the one in annotations/
        for path in sorted(folder.glob("instances_*.json"))
    }
    splits = _parts_named(data, list(files), "file instances_{}.json")
    wrong: list[str] = []
    parts, categories = [], []
    for split in splits:
        path, lenient = files[split], data.unreadable == "skip"
        try:
            instances = read_instances(
                path, f"--data {data.name}:", leave_out=wrong.append if lenient else None
            )
        except Refused as error:
            if "box" not in str(error):
                raise
            raise Refused(f"{error}, or leave such boxes out: --set data.unreadable=skip") from None
        unmasked = [one.id for one in instances.annotations if not one.has_mask]
        if 0 < len(unmasked) < len(instances.annotations):
            say(
                f"{data.name}: {len(unmasked):,} of {len(instances.annotations):,} annotations of"
                f" {split} have no mask (first: {unmasked[0]}), so the set has boxes alone"
            )
        categories.append(sorted(instances.categories, key=lambda one: one.id))
        images = _folder_of(data.name, root, split, instances.images)
        scenes = _coco_scenes(instances, images, categories[-1], masks=not unmasked)
        if not lenient:
            _check_there(data.name, scenes)
        with path.open("rb") as file:
            identity = hashlib.file_digest(file, "sha256").hexdigest()
        parts.append(_Part(scenes, f"{root.name} ({split})", identity))
    if len(categories) > 1 and _named(categories[0]) != _named(categories[1]):
        raise Refused(
            f"--data {data.name}: the categories of {splits[0]} and {splits[1]} differ; both need"
            " the same ids and names"
        )
    left_out = (LeftOut(len(wrong), WRONG_BOXES, wrong[0]),) if wrong else ()
    return parts, tuple(one.name for one in categories[0]), left_out


def _named(categories: list[Category]) -> list[tuple[int, str]]:
    return [(one.id, one.name) for one in categories]


def _folder_of(name: str, root: Path, split: str, images: list[Image]) -> Path:
    """Where the files of a part are named from: the first folder that holds one of them."""
    names = [image.file_name for image in images]
    if far := [one for one in names if os.path.isabs(one) or ".." in Path(one).parts]:
        raise Refused(
            f"--data {name}: {split} names {far[0]}, which is no file below {root}; name images"
            " from there"
        )
    places = [root / split, root / "images" / split, root / "images", root]
    for place in places:
        if any((place / image.file_name).is_file() for image in images):
            return place
    raise Refused(
        f"--data {name}: no image of {split} is there, looked for {images[0].file_name} in"
        f" {', '.join(map(str, places))}"
        if images
        else f"--data {name}: {split} has no image"
    )


def _coco_scenes(
    instances: Instances, folder: Path, categories: list[Category], *, masks: bool
) -> list[_Scene]:
    label_of = {category.id: label for label, category in enumerate(categories)}
    of_image: dict[int, list[Annotation]] = {image.id: [] for image in instances.images}
    for one in instances.annotations:
        of_image[one.image_id].append(one)
    return [
        _Scene(folder / image.file_name, _known(image, of_image[image.id], label_of, masks))
        for image in instances.images
    ]


def _known(
    image: Image, annotations: list[Annotation], label_of: dict[int, int], masks: bool
) -> Objects:
    size = (image.height, image.width) if image.height and image.width else None
    if size is None:
        given = [one.segmentation for one in annotations]
        size = next((mask.size for mask in given if isinstance(mask, Counts)), None)
    drawn = tuple(_mask(one) for one in annotations) if masks else ()
    boxes = np.array([_corners(one) for one in annotations], np.float64).reshape(-1, 4)
    labels = np.array([label_of[one.category_id] for one in annotations], np.int32)
    crowd = np.array([bool(one.iscrowd) for one in annotations], bool)
    if size is not None:  # files round
        boxes = boxes.clip(0, [size[1], size[0]] * 2)
    return Objects(size, boxes, np.where(crowd, uncounted(labels), labels), drawn)


def _mask(one: Annotation) -> Mask:
    mask = one.segmentation
    if isinstance(mask, Counts):
        return RunLengths.of_counts(mask.size, mask.counts)
    return [np.asarray(part, np.float32) for part in mask or []]


def _corners(one: Annotation) -> tuple[float, float, float, float]:
    if one.bbox is not None:
        x, y, width, height = one.bbox
        return x, y, x + width, y + height
    mask = _mask(one)
    if isinstance(mask, RunLengths):
        x, y, width, height = mask.box
        return x, y, x + width, y + height
    corners = np.concatenate([np.reshape(part, (-1, 2)) for part in mask])
    (x, y), (x2, y2) = corners.min(0), corners.max(0)
    return float(x), float(y), float(x2), float(y2)


# ---------------------------------------------------------------- masks of classes


def _masks(data: Data, root: Path) -> tuple[list[_Part], tuple[str, ...], tuple[LeftOut, ...]]:
    if (root / "SegmentationClass").is_dir():
        lists, pairs, names = root / "ImageSets" / "Segmentation", partial(_voc, root), _VOC
        known = [path.stem for path in lists.glob("*.txt")]
        splits = _parts_named(data, known, f"list {lists}/{{}}.txt")
    else:
        if not (root / "masks").is_dir():
            raise Refused(
                f"--data {data.name}: {root} holds neither masks/ (with images/ and classes.txt)"
                " nor SegmentationClass/ (a year of VOC)"
            )
        names, pairs = _class_file(data.name, root), partial(_beside, data.name, root)
        known = [path.name for path in (root / "masks").iterdir() if path.is_dir()]
        splits = _parts_named(data, known, f"folder {root}/masks/{{}}")
    parts, other = [], []
    for split in splits:
        scenes, unmatched = pairs(split)
        if not scenes:
            raise Refused(f"--data {data.name}: no image of {split} has a mask")
        _check_there(data.name, scenes)
        other += unmatched
        masks = [(scene.mask, _bytes(scene.mask)) for scene in scenes if scene.mask]
        identity = hashlib.sha256(json.dumps([*names, *contents_of(masks)]).encode()).hexdigest()
        parts.append(_Part(scenes, f"{root.name} ({split})", identity))
    left_out = (LeftOut(len(other), "images without a mask", other[0]),) if other else ()
    return parts, names, left_out


def _voc(root: Path, split: str) -> tuple[list[_Scene], list[str]]:
    names = _text(root / "ImageSets" / "Segmentation" / f"{split}.txt").split()
    return [
        _Scene(
            root / "JPEGImages" / f"{name}.jpg",
            Objects(),
            root / "SegmentationClass" / f"{name}.png",
        )
        for name in names
    ], []


def _beside(name: str, root: Path, split: str) -> tuple[list[_Scene], list[str]]:
    folder = root / "images" / split
    if not folder.is_dir():
        raise Refused(f"--data {name}: there is no folder {folder} for the masks of {split}")
    scenes, other = [], []
    for path in sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES):
        mask = root / "masks" / split / f"{path.stem}.png"
        if mask.is_file():
            scenes.append(_Scene(path, Objects(), mask))
        else:
            other.append(str(path.relative_to(root)))
    return scenes, other


def _class_file(name: str, root: Path) -> tuple[str, ...]:
    files = sorted(root.glob("*classes.txt"))
    if len(files) != 1:
        raise Refused(
            f"--data {name}: one file classes.txt is needed in {root}: a name a line, the ground"
            f" first (there is {', '.join(f.name for f in files) or 'none'})"
        )
    lines = [line.strip() for line in _text(files[0]).rstrip().splitlines()]
    if "" in lines:
        raise Refused(f"{files[0]}: line {1 + lines.index('')} is empty; each number has a name")
    if len(lines) < 2:
        raise Refused(f"{files[0]}: {len(lines)} names; the ground and a class at least")
    return tuple(lines[1:])


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise Refused(f"{path} is no UTF-8 text") from None


# ---------------------------------------------------------------- both


def _examples(scenes: list[_Scene]) -> EncodedExamples:
    return EncodedExamples(
        partial(_read, scenes),
        len(scenes),
        partial(_where, scenes),
        object_labels=partial(_labels, scenes) if scenes and scenes[0].mask is None else None,
    )


# Functions and not closures: a data set goes to other processes.
def _read(scenes: list[_Scene], index: int) -> tuple[bytes, Objects]:
    scene = scenes[index]
    encoded = read_file(scene.path)
    if scene.mask is None:
        return encoded, scene.known
    return encoded, replace(scene.known, class_map=read_file(scene.mask))


def _where(scenes: list[_Scene], index: int) -> str:
    return str(scenes[index].path)


def _labels(scenes: list[_Scene], index: int) -> np.ndarray:
    return scenes[index].known.labels


def _check_there(name: str, scenes: list[_Scene]) -> None:
    files = [path for scene in scenes for path in (scene.path, scene.mask) if path is not None]
    missing = [path for path in files if not path.is_file()]
    if missing:
        more = f" (and {len(missing) - 1:,} more files)" if len(missing) > 1 else ""
        raise Refused(f"--data {name}: there is no {missing[0]}{more}")


def _check_masks(name: str, scenes: list[_Scene], num_classes: int) -> None:
    """Refuse masks that do not fit their images, or have classes that are not there: of a large set
    some are looked at."""
    chosen = np.linspace(0, len(scenes) - 1, min(len(scenes), _CHECKED_MASKS)).astype(int)
    for scene in (scenes[index] for index in chosen.tolist()):
        if scene.mask is None:
            continue
        try:
            size, classes = check_header(scene.path), class_numbers(read_file(scene.mask))
            check_classes(classes, size, num_classes)
        except Failed as error:
            raise Refused(
                f"--data {name}: {scene.mask}: {error}; mend it, or leave such images out: --set"
                f" data.unreadable=skip (cnnjax data check lists them)"
            ) from None


def _bytes(path: Path | None) -> int:
    try:
        return path.stat().st_size if path else 0
    except OSError:
        return 0
