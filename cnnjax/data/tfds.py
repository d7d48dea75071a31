"""Sets of tensorflow-datasets whose images have a label each, or a box and a class for each object.

A small set with labels is decoded once, in bulk, into uint8 arrays in the user's cache folder,
keyed by the content of its files; a larger one, and one with boxes, is read while training.
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cnnjax.core.errors import Failed, Refused
from cnnjax.core.folders import user_cache
from cnnjax.core.recipe import Data
from cnnjax.core.words import counted
from cnnjax.data.dataset import AnyDataset, Dataset, StreamedDataset, allowed_labels
from cnnjax.data.decode import decode, fit
from cnnjax.data.examples import EncodedExamples, Examples
from cnnjax.data.kept import kept_arrays
from cnnjax.data.prepared import (
    Prepared,
    Records,
    all_records,
    check_by_position,
    content,
    feature_of,
    files_known,
    image_feature,
    look_at,
    open_prepared,
    shards_of,
    splits_of,
)
from cnnjax.data.readable import nothing_to_skip
from cnnjax.data.tfds_boxes import box_features, load_boxes
from cnnjax.data.views import View

# CIFAR's pad 4, crop, flip is right for small natural photographs and wrong for characters.
AUGMENTATION = {"cifar10": "pad_crop_flip", "cifar100": "pad_crop_flip"}
MEMORY_LIMIT = 4 * 2**30  # bytes of decoded images
_LABELS_READ = 2**28, 100_000  # bytes and examples of a streamed split that are read to be counted
_DECODER = 2  # of the pixels in the cache; another decoder, another number


@dataclass(frozen=True)
class _Labelled:
    """A prepared set that is fit for classification: the names of its features, and its classes."""

    prepared: Prepared
    image: str
    label: str
    label_names: tuple[str, ...]


def load_tfds(
    data: Data,
    directory: str | Path | None,
    say: Callable[[str], None] = lambda line: None,
) -> AnyDataset:
    """Read a prepared set; see `cnnjax.data.load.load_dataset`."""
    prepared = open_prepared(data.name, directory)
    if boxes := box_features(prepared):
        return load_boxes(data, prepared, boxes, say)
    if data.unreadable == "skip" and data.streaming != "always":
        raise nothing_to_skip(data.name)
    if data.streaming == "always" and data.image_size is None:
        raise Refused(
            f"data set {data.name} is to be streamed: say to which size, e.g."
            " --set data.image_size=224"
        )
    labelled = _labelled(prepared)
    counts = splits_of(data, prepared, say)
    if data.streaming == "always" and data.image_size is not None:
        return _stream(data, labelled, counts, data.image_size)

    shape = _decoded_shape(prepared.features[labelled.image].shape, data)
    splits = {}
    for key, count in counts.items():
        split = getattr(data, key)
        if count * int(np.prod(shape)) > MEMORY_LIMIT:
            if data.streaming == "auto":
                return _stream(data, labelled, counts, min(shape[:2]))
            raise Refused(
                f"data set {data.name}: {counted(count, 'image')} of {_by(shape)} do not fit"
                f" into {MEMORY_LIMIT >> 30} GiB of memory; take a slice, data.{key}="
                f'"{split.split("[")[0]}[:10%]", or a smaller data.image_size'
            )
        resize = data.image_size is not None
        splits[key] = _decode(labelled, split, count, shape, resize, say)
    train = splits["train_split"]
    return Dataset(
        name=data.name,
        train=train,
        test=splits.get("test_split", train.at(np.arange(0))),
        label_names=labelled.label_names,
        max_value=255,
        augmentation=AUGMENTATION.get(data.name.split("/")[0], "none"),
        source=prepared.source,
    )


def _labelled(prepared: Prepared) -> _Labelled:
    """
    Raises:
      Refused: there are not one image and one label, or the label has no classes.
    """
    image, label = image_feature(prepared), feature_of(prepared, "label", "ClassLabel")
    feature = prepared.features[label]
    if not feature.num_classes:
        raise Refused(
            f"data set {prepared.name} in {prepared.folder}: its feature {label} has no classes (a"
            f" file {label}.labels.txt would name them)"
        )
    return _Labelled(prepared, image, label, tuple(feature.names))


def _stream(data: Data, labelled: _Labelled, counts: dict[str, int], size: int) -> StreamedDataset:
    prepared = labelled.prepared
    check_by_position(prepared)
    tested = data.test_split if "test_split" in counts else ""
    files = files_known(prepared.folder)
    about = ["uint8", 255, labelled.label_names, data.train_split, tested, files]
    look = data.unreadable == "refuse"
    train = _examples(labelled, data.train_split, counts["train_split"], look)
    nothing = train.at(np.arange(0))
    test = _examples(labelled, tested, counts["test_split"], look) if tested else nothing
    return StreamedDataset(
        name=data.name,
        label_names=labelled.label_names,
        max_value=255,
        augmentation="random_resized_crop",
        source=f"{prepared.source}, streamed",
        train=train,
        test=test,
        view=View(size, margin=data.test_crops == 10),
        fingerprint=hashlib.sha256(json.dumps(about).encode()).hexdigest(),
    )


def _examples(labelled: _Labelled, split: str, count: int, look: bool) -> EncodedExamples:
    """A split to be streamed; its first, middle and last example may be looked at."""
    records = Records(labelled.prepared.folder, split, labelled.image, {labelled.label: ()})
    read = partial(_read, records, labelled.image, labelled.label, len(labelled.label_names))
    if look:
        look_at(labelled.prepared, records, count, read)
    size = sum(path.stat().st_size for path in shards_of(labelled.prepared, split))
    cheap = size <= _LABELS_READ[0] and count <= _LABELS_READ[1]
    labels = partial(_labels, read, count) if cheap else None
    return EncodedExamples(read, count, records.where, labels)


# Functions and not closures: a data set goes to other processes.
def _read(
    records: Records, image: str, label: str, num_classes: int, position: int
) -> tuple[bytes, int]:
    record = records(position)
    number = int(record[label])
    if not 0 <= number < num_classes:
        raise Failed(f"label {number} is out of range; {allowed_labels(num_classes)}")
    return record[image], number


def _labels(read: Callable[[int], tuple[bytes, int]], count: int) -> np.ndarray:
    return np.array([read(position)[1] for position in range(count)], np.int32)


def _decode(
    labelled: _Labelled,
    split: str,
    count: int,
    shape: tuple[int, int, int],
    resize: bool,
    say: Callable[[str], None],
) -> Examples:
    folder = labelled.prepared.folder
    doing = (
        f"decoding {counted(count, 'image')} of {folder} [{split}] once, into {user_cache('data')}"
    )
    make = partial(_decoded, labelled, split, count, shape, resize)
    arrays = kept_arrays(_key(labelled, split, shape), make, doing, say)
    return Examples.of(images=arrays["images"], labels=arrays["labels"])


def _decoded(
    labelled: _Labelled, split: str, count: int, shape: tuple[int, int, int], resize: bool
) -> dict[str, np.ndarray]:
    prepared = labelled.prepared
    images = np.empty((count, *shape), np.uint8)
    labels = np.empty(count, np.int64)
    records = all_records(prepared, split, count, labelled.image, labelled.label)
    index = 0
    try:
        for index, record in enumerate(records):
            pixels = decode(record[labelled.image], shape[2])
            if not resize and pixels.shape != shape:
                raise Failed(
                    f"it is {_by(pixels.shape)} and not {_by(shape)} as the set says; set a size:"
                    f" --set data.image_size={shape[0]}"
                )
            images[index] = fit(pixels, shape)
            labels[index] = record[labelled.label]
    except Failed as error:
        where = f"{prepared.folder} [{split}], example {index}"
        raise Refused(f"data set {prepared.name}: {where}: {error}") from error
    return {"images": images, "labels": labels}


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape))


def _decoded_shape(shape: tuple[int | None, ...], data: Data) -> tuple[int, int, int]:
    height, width, channels = shape
    if data.image_size is not None:
        return data.image_size, data.image_size, channels or 3
    if height is None or width is None:
        raise Refused(
            f"data set {data.name}: its images differ in size; set one: --set data.image_size=64"
        )
    return height, width, channels or 3


def _key(labelled: _Labelled, split: str, shape: tuple) -> str:
    folder, features = labelled.prepared.folder, (labelled.image, labelled.label)
    about = (_DECODER, folder.parent.name, split, shape, features, content(folder))
    return f"{folder.parent.name}-{hashlib.sha256(repr(about).encode()).hexdigest()[:32]}"
