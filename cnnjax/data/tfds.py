"""Sets of tensorflow-datasets, read by position from array_record, without TensorFlow.

A set on disk is found by its folder, NAME/VERSION/dataset_info.json, so that every case has its
own answer: not prepared, prepared as tfrecord (TFDS's default), readable. A small set is decoded
once, in bulk, into uint8 arrays in the user's cache folder, keyed by the content of its files.
"""

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.arrays import pack, unpack
from cnnjax.core.environment import quiet_absl
from cnnjax.core.errors import Failed, Refused, one_line, unknown
from cnnjax.core.files import atomic_write
from cnnjax.core.folders import user_cache
from cnnjax.core.recipe import Data
from cnnjax.data.dataset import (
    AnyDataset,
    Dataset,
    EncodedExamples,
    Examples,
    StreamedDataset,
)
from cnnjax.data.views import View

# CIFAR's pad 4, crop, flip is right for small natural photographs and wrong for characters.
AUGMENTATION = {"cifar10": "pad_crop_flip", "cifar100": "pad_crop_flip"}
MEMORY_LIMIT = 4 * 2**30  # bytes of decoded images


def data_folder(directory: str | Path | None) -> Path:
    """Where prepared sets lie: given, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    chosen = directory or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return Path(chosen).expanduser()


def load_tfds(
    data: Data,
    directory: str | Path | None,
    view: View | None,
    say: Callable[[str], None] = lambda line: None,
) -> AnyDataset:
    """Read a prepared set; see `cnnjax.data.load.load_dataset`.

    Args:
      view: of a set that is to be streamed; None: it is held in memory if it fits.
    """
    folder = find_prepared(data.name, directory)
    builder = open_builder(folder)
    image, label = classification_features(builder, data.name)
    names = tuple(builder.info.features[label].names)
    counts = {
        key: _split_size(builder, split, data.name, key)
        for key, split in (("train_split", data.train_split), ("test_split", data.test_split))
    }
    if view is not None:
        return _stream(data, folder, builder, (image, label), names, counts, view)

    shape = _decoded_shape(builder.info.features[image].shape, data)
    splits = {}
    for key, split in (("train_split", data.train_split), ("test_split", data.test_split)):
        count = counts[key]
        if count * int(np.prod(shape)) > MEMORY_LIMIT:
            if data.streaming == "auto":
                view = View(min(shape[:2]), margin=data.test_crops == 10)
                return _stream(data, folder, builder, (image, label), names, counts, view)
            raise Refused(
                f"data set {data.name}: {count:,} images of {'x'.join(map(str, shape))} do not fit"
                f" into {MEMORY_LIMIT >> 30} GiB of memory; take a slice, data.{key}="
                f'"{split.split("[")[0]}[:10%]", or a smaller data.image_size'
            )
        splits[key] = _decode(folder, builder, split, count, shape, (image, label), say)
    return Dataset(
        name=data.name,
        train=splits["train_split"],
        test=splits["test_split"],
        label_names=names,
        max_value=255,
        augmentation=AUGMENTATION.get(data.name.split("/")[0], "none"),
        source=f"tensorflow-datasets {builder.info.full_name}",
    )


class _Encoded:
    """Position to (encoded image, label); the files are opened where it is first used."""

    def __init__(self, folder: Path, split: str, features: tuple[str, str], num_classes: int):
        self._folder, self._split, self._features = folder, split, features
        self._num_classes = num_classes
        self._source: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_source": None}  # a worker opens its own

    def __call__(self, position: int) -> tuple[bytes, int]:
        if self._source is None:
            import tensorflow_datasets as tfds

            self._source = open_builder(self._folder).as_data_source(
                split=self._split, decoders={self._features[0]: tfds.decode.SkipDecoding()}
            )
        record = self._source[position]
        label = int(record[self._features[1]])
        if not 0 <= label < self._num_classes:
            raise Failed(
                f"{self._folder} [{self._split}], example {position}: label {label} is out of"
                f" range; {self._num_classes} classes allow 0 to {self._num_classes - 1}"
            )
        return record[self._features[0]], label


def _stream(
    data: Data,
    folder: Path,
    builder: Any,
    features: tuple[str, str],
    names: tuple[str, ...],
    counts: dict[str, int],
    view: View,
) -> StreamedDataset:
    if _is_tfrecord(folder):
        raise Refused(
            f"data set {data.name} in {folder} is tfrecord, which cannot be read by position;"
            f" prepare it as array_record: cnnjax data prepare {data.name} --data-dir ANOTHER"
        )
    train = _Encoded(folder, data.train_split, features, len(names))
    test = _Encoded(folder, data.test_split, features, len(names))
    files = [[path.name, path.stat().st_size] for path in sorted(folder.iterdir())]
    about = [data.train_split, data.test_split, files]
    about += [(folder / "dataset_info.json").read_text()]
    return StreamedDataset(
        name=data.name,
        label_names=names,
        max_value=255,
        augmentation="random_resized_crop",
        source=f"tensorflow-datasets {builder.info.full_name}, streamed",
        train=EncodedExamples(train, counts["train_split"]),
        test=EncodedExamples(test, counts["test_split"]),
        view=view,
        fingerprint=hashlib.sha256(json.dumps(about).encode()).hexdigest(),
    )


def find_prepared(name: str, directory: str | Path | None) -> Path:
    """The folder of the newest prepared version of `name` (or of NAME/CONFIG).

    Raises:
      Refused: not there, in one of three ways.
    """
    root = data_folder(directory)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?", name):
        raise Refused(f"no data set {name!r}; a name is letters, digits, _ and one / at most")
    if versions := _versions(root, name):
        return versions[-1]

    known = _catalogue()
    prepared = sorted(path.parent.parent.name for path in root.glob("*/*/dataset_info.json"))
    if known and name.split("/")[0] not in known:
        raise unknown("data set", name, ["digits", *known, *prepared])
    where = f"{root}/{name}" if root.is_dir() else f"{root} (there is no such folder)"
    there = f" ({', '.join(prepared)} are there)" if prepared else ""
    option = f" --data-dir {directory}" if directory else ""
    raise Refused(
        f"data set {name} is not prepared: looked in {where}{there};"
        f" give its folder with --data-dir, or type: cnnjax data prepare {name}{option}"
    )


def open_builder(folder: Path) -> Any:
    """TFDS's builder for a prepared folder; a tfrecord set only where TensorFlow is installed."""
    if _is_tfrecord(folder) and importlib.util.find_spec("tensorflow") is None:
        name = folder.parent.name
        raise Refused(
            f"data set {name} in {folder} is prepared as tfrecord, which only TensorFlow reads;"
            " type: pip install tensorflow, or prepare it as array_record elsewhere:"
            f" cnnjax data prepare {name} --data-dir ANOTHER"
        )
    quiet_absl()
    import tensorflow_datasets as tfds

    return tfds.builder_from_directory(folder)


def classification_features(builder: Any, name: str) -> tuple[str, str]:
    """The names of the image and of the label among a set's features."""
    import tensorflow_datasets as tfds

    kinds = {"image": tfds.features.Image, "label": tfds.features.ClassLabel}
    found = {
        kind: [key for key, value in builder.info.features.items() if isinstance(value, feature)]
        for kind, feature in kinds.items()
    }
    for kind, keys in found.items():
        if kind in keys:
            found[kind] = [kind]
        elif len(keys) != 1:
            raise Refused(
                f"data set {name} has {len(keys)} features of kind {kind}; one is needed"
                f" (it has {', '.join(builder.info.features)})"
            )
    return found["image"][0], found["label"][0]


def prepare(name: str, directory: str | Path | None) -> Path:
    """Download `name` and write it as array_record, if it is not there; needs TensorFlow.

    Raises:
      Refused: unknown, or TensorFlow is not installed.
      Failed: the download or the preparation failed.
    """
    if name.split("/")[0] not in _catalogue():
        raise unknown("data set", name, _catalogue())
    if versions := _versions(data_folder(directory), name):
        if not _is_tfrecord(versions[-1]):
            return versions[-1]
        raise Refused(
            f"{name} is already prepared as tfrecord in {data_folder(directory)}; with TensorFlow"
            " it is read as it is; to have array_record, give another --data-dir"
        )
    missing = [m for m in ("tensorflow", "importlib_resources") if not importlib.util.find_spec(m)]
    if missing:
        raise Refused(
            f"preparing {name} needs {' and '.join(missing)}; type: pip install {' '.join(missing)}"
        )
    import tensorflow_datasets as tfds

    builder = tfds.builder(name, data_dir=data_folder(directory), file_format="array_record")
    try:
        builder.download_and_prepare()
    except Exception as error:  # a download, a checksum, a full disk: TFDS raises many kinds
        raise Failed(f"preparing {name} failed: {one_line(error)}") from error
    return Path(builder.data_dir)


def _decode(
    folder: Path,
    builder: Any,
    split: str,
    count: int,
    shape: tuple[int, int, int],
    features: tuple[str, str],
    say: Callable[[str], None],
) -> Examples:
    cached = user_cache("data") / f"{_key(folder, split, shape, features)}.arrays"
    try:
        arrays = unpack(cached.read_bytes())
        return Examples(arrays["images"], arrays["labels"])
    except FileNotFoundError:
        say(f"decoding {count:,} images of {folder} [{split}] once, into {cached.parent}")
    except (OSError, ValueError, KeyError) as error:
        say(f"{cached}: {error}; decoding again")
    images = np.empty((count, *shape), np.uint8)
    labels = np.empty(count, np.int32)
    for index, record in enumerate(_records(builder, split, count)):
        images[index] = fit(np.asarray(record[features[0]]), shape)
        labels[index] = record[features[1]]
    try:
        atomic_write(cached, pack({"images": images, "labels": labels}))
    except OSError as error:  # a full disk costs the cache, not the run
        say(f"{cached}: {error.strerror}; it will be decoded again next time")
    return Examples(images, labels)


def _records(builder: Any, split: str, count: int) -> Iterable[dict]:
    if str(builder.info.file_format.value) == "tfrecord":
        import tensorflow_datasets as tfds

        return tfds.as_numpy(builder.as_dataset(split=split, shuffle_files=False))
    source = builder.as_data_source(split=split)
    return (source[index] for index in range(count))


def fit(image: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """A uint8 image at height, width: shorter side resized (antialiased), centre cropped."""
    if image.shape == shape:
        return image
    from PIL import Image, ImageOps

    channels = image.shape[-1]
    picture = Image.fromarray(image[..., 0] if channels == 1 else image)
    resized = ImageOps.fit(picture, (shape[1], shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(resized).reshape(shape)


def _decoded_shape(shape: tuple[int | None, ...], data: Data) -> tuple[int, int, int]:
    height, width, channels = shape
    if data.image_size is not None:
        return data.image_size, data.image_size, channels or 3
    if height is None or width is None:
        raise Refused(
            f"data set {data.name}: its images differ in size; set one: --set data.image_size=64"
        )
    return height, width, channels or 3


def _split_size(builder: Any, split: str, name: str, key: str) -> int:
    try:
        return builder.info.splits[split].num_examples
    except (KeyError, ValueError, AssertionError):
        there = ", ".join(
            f"{key} ({value.num_examples:,})" for key, value in builder.info.splits.items()
        )
        first = next(iter(builder.info.splits), "train")
        raise Refused(
            f"data set {name} has no split {split!r}; it has {there}; set data.{key} to one"
            f' or to a slice, e.g. data.train_split="{first}[:80%]" data.test_split="{first}[80%:]"'
        ) from None


def _key(folder: Path, split: str, shape: tuple, features: tuple[str, str]) -> str:
    about = (folder.parent.name, split, shape, features, _content(folder))
    return f"{folder.parent.name}-{hashlib.sha256(repr(about).encode()).hexdigest()[:32]}"


@lru_cache(maxsize=8)
def _content(folder: Path) -> str:
    """SHA-256 over the names and contents of a prepared set's files."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            digest.update(path.name.encode())
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _is_tfrecord(folder: Path) -> bool:
    """Whether a prepared set is in TFDS's default format."""
    try:
        about = json.loads((folder / "dataset_info.json").read_bytes())
        return about.get("fileFormat", "tfrecord") == "tfrecord"
    except (OSError, ValueError, AttributeError) as error:
        raise Refused(f"{folder}/dataset_info.json cannot be read ({error})") from None


def _versions(root: Path, name: str) -> list[Path]:
    """Folders of the prepared versions of NAME or NAME/CONFIG, the newest last."""
    found = list((root / name).glob("*/dataset_info.json"))
    if not found and "/" not in name:  # a set with one default configuration
        found = list((root / name).glob("*/*/dataset_info.json"))
    numbers = {path.parent: tuple(map(int, re.findall(r"\d+", path.parent.name))) for path in found}
    return sorted(numbers, key=lambda folder: numbers[folder])


def _catalogue() -> list[str]:
    quiet_absl()
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)
