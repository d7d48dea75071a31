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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.arrays import pack, unpack
from cnnjax.core.environment import quiet_absl
from cnnjax.core.errors import Failed, Refused, one_line, unknown
from cnnjax.core.files import atomic_write
from cnnjax.core.folders import user_cache
from cnnjax.core.recipe import Data
from cnnjax.core.user_code import expanded
from cnnjax.data.dataset import AnyDataset, Dataset, StreamedDataset, allowed_labels
from cnnjax.data.decode import decode, fit
from cnnjax.data.examples import EncodedExamples, Examples
from cnnjax.data.own import FORMS
from cnnjax.data.split import has_test_part
from cnnjax.data.views import View

# CIFAR's pad 4, crop, flip is right for small natural photographs and wrong for characters.
AUGMENTATION = {"cifar10": "pad_crop_flip", "cifar100": "pad_crop_flip"}
MEMORY_LIMIT = 4 * 2**30  # bytes of decoded images
_READ_WHOLE = 2**20  # bytes of a file of a streamed set that is known by its content
_LABELS_READ = 2**28, 100_000  # bytes and examples of a streamed split that are read to be counted
_DECODER = 2  # of the pixels in the cache; another decoder, another number
_LISTED = 8  # names in one line, at most


def data_folder(directory: str | Path | None) -> Path:
    """Where prepared sets lie: given, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    chosen = directory or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return expanded(chosen)


@dataclass(frozen=True)
class _Prepared:
    """A set on disk that was opened, and found fit for classification."""

    name: str
    folder: Path
    builder: Any
    image: str  # the names of the features
    label: str
    label_names: tuple[str, ...]
    source: str


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
    prepared = _open(data.name, directory)
    counts, wanted = {}, _wanted(data, prepared.builder)
    for key, split in wanted.items():
        counts[key] = _split_size(prepared.builder, split, data.name, key)
        _check_shards(prepared, split)
    if view is not None:
        return _stream(data, prepared, counts, view)

    shape = _decoded_shape(prepared.builder.info.features[prepared.image].shape, data)
    splits = {}
    for key, split in wanted.items():
        if counts[key] * int(np.prod(shape)) > MEMORY_LIMIT:
            if data.streaming == "auto":
                view = View(min(shape[:2]), margin=data.test_crops == 10)
                return _stream(data, prepared, counts, view)
            raise Refused(
                f"data set {data.name}: {counts[key]:,} images of {_by(shape)} do not fit"
                f" into {MEMORY_LIMIT >> 30} GiB of memory; take a slice, data.{key}="
                f'"{split.split("[")[0]}[:10%]", or a smaller data.image_size'
            )
        resize = data.image_size is not None
        splits[key] = _decode(prepared, split, counts[key], shape, resize, say)
    train = splits["train_split"]
    return Dataset(
        name=data.name,
        train=train,
        test=splits.get("test_split", train.at(np.arange(0))),
        label_names=prepared.label_names,
        max_value=255,
        augmentation=AUGMENTATION.get(data.name.split("/")[0], "none"),
        source=prepared.source,
    )


def _wanted(data: Data, builder: Any) -> dict[str, str]:
    """The splits to read, by their setting; the test split is left out where it is to be made."""
    if not data.test_share:
        return {"train_split": data.train_split, "test_split": data.test_split}
    if data.test_split != Data.test_split or data.test_split in builder.info.splits:
        raise has_test_part(data, f"the split {data.test_split}")
    return {"train_split": data.train_split}


def _open(name: str, directory: str | Path | None) -> _Prepared:
    folder = find_prepared(name, directory)
    builder = open_builder(folder)
    image, label = classification_features(builder, name)
    feature = builder.info.features[label]
    if not feature.num_classes:
        raise Refused(
            f"data set {name} in {folder}: its feature {label} has no classes (a file"
            f" {label}.labels.txt would name them)"
        )
    relative = folder.relative_to(data_folder(directory))
    source = f"tensorflow-datasets {relative.as_posix()}"
    return _Prepared(name, folder, builder, image, label, tuple(feature.names), source)


class _Encoded:
    """Position to (encoded image, label); the files are opened where it is first used."""

    def __init__(self, prepared: _Prepared, split: str):
        self._folder, self._split = prepared.folder, split
        self._image, self._label = prepared.image, prepared.label
        self._num_classes = len(prepared.label_names)
        self._source: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_source": None}  # a worker opens its own

    def __call__(self, position: int) -> tuple[bytes, int]:
        if self._source is None:
            self._source = _encoded_source(open_builder(self._folder), self._split, self._image)
        try:
            record = self._source[position]
        except Exception as error:  # of damaged files the reader raises many kinds
            raise Failed(f"it cannot be read: {one_line(error)}") from error
        label = int(record[self._label])
        if not 0 <= label < self._num_classes:
            raise Failed(f"label {label} is out of range; {allowed_labels(self._num_classes)}")
        return record[self._image], label

    def where(self, position: int) -> str:
        return f"{self._folder} [{self._split}], example {position}"


def _stream(data: Data, prepared: _Prepared, counts: dict[str, int], view: View) -> StreamedDataset:
    folder = prepared.folder
    if _is_tfrecord(folder):
        raise Refused(
            f"data set {data.name} in {folder} is tfrecord, which cannot be read by position;"
            f" prepare it as array_record: cnnjax data prepare {data.name} --data-dir ANOTHER"
        )
    # Large files are known by their size: reading every byte would take hours.
    files = [
        [path.name, size if size > _READ_WHOLE else _sha(path)]
        for path, size in ((path, path.stat().st_size) for path in _files(folder))
    ]
    tested = data.test_split if "test_split" in counts else ""
    about = ["uint8", 255, prepared.label_names, data.train_split, tested, files]
    look = data.unreadable == "refuse"
    train = _examples(prepared, data.train_split, counts["train_split"], look)
    nothing = train.at(np.arange(0))
    test = _examples(prepared, tested, counts["test_split"], look) if tested else nothing
    return StreamedDataset(
        name=data.name,
        label_names=prepared.label_names,
        max_value=255,
        augmentation="random_resized_crop",
        source=f"{prepared.source}, streamed",
        train=train,
        test=test,
        view=view,
        fingerprint=hashlib.sha256(json.dumps(about).encode()).hexdigest(),
    )


def _examples(prepared: _Prepared, split: str, count: int, look: bool) -> EncodedExamples:
    """A split to be streamed; its first, middle and last example may be looked at."""
    read = _Encoded(prepared, split)
    for position in sorted({0, count // 2, count - 1}) if look else ():
        try:
            decode(read(position)[0])
        except Failed as error:
            raise Refused(f"data set {prepared.name}: {read.where(position)}: {error}") from error
    size = sum(path.stat().st_size for path in _shards(prepared, split))
    cheap = size <= _LABELS_READ[0] and count <= _LABELS_READ[1]
    labels = partial(_labels, read, count) if cheap else None
    return EncodedExamples(read, count, read.where, labels)


def _labels(read: _Encoded, count: int) -> np.ndarray:
    return np.array([read(position)[1] for position in range(count)], np.int32)


def find_prepared(name: str, directory: str | Path | None) -> Path:
    """The folder of the newest prepared version of `name` (or of NAME/CONFIG).

    Raises:
      Refused: not there, in one of three ways, or there in several configurations.
    """
    root = data_folder(directory)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)?", name):
        raise Refused(
            f"no data set {name!r}; a name is letters, digits, _ and one / at most; {FORMS}"
        )
    if versions := _versions(root, name):
        return versions[-1]

    known = _catalogue()
    prepared = _prepared_names(root)
    if known and name.split("/")[0] not in known:
        listed = ["digits", *prepared]
        shown = ", ".join(listed[:_LISTED]) + (", ..." if len(listed) > _LISTED else "")
        hint = (
            f"there is {shown}, and to be prepared any of {len(known)} of tensorflow-datasets"
            f" (https://www.tensorflow.org/datasets/catalog); {FORMS}"
        )
        raise unknown("data set", name, [*listed, *known], hint)
    where = f"{root}/{name}" if root.is_dir() else f"{root} (there is no such folder)"
    shown = ", ".join(prepared[:_LISTED]) + (", ..." if len(prepared) > _LISTED else "")
    there = f" ({shown} are there)" if prepared else ""
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

    try:
        return tfds.builder_from_directory(folder)
    except Exception as error:  # of damaged or missing descriptions TFDS raises many kinds
        raise Refused(f"{folder} holds no set that can be read: {one_line(error)}") from error


def classification_features(builder: Any, name: str) -> tuple[str, str]:
    """The names of the image and of the label among a set's features.

    Raises:
      Refused: there are not one of each, or the image has no uint8 form.
    """
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
    image = builder.info.features[found["image"][0]]
    if image.np_dtype not in (np.uint8, np.uint16) or len(image.shape) != 3:
        raise Refused(
            f"data set {name}: its images are {np.dtype(image.np_dtype)} of"
            f" {len(image.shape)} dimensions; uint8 and uint16 of height, width, channels are read"
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
    prepared: _Prepared,
    split: str,
    count: int,
    shape: tuple[int, int, int],
    resize: bool,
    say: Callable[[str], None],
) -> Examples:
    folder = prepared.folder
    cached = user_cache("data") / f"{_key(prepared, split, shape)}.arrays"
    try:
        arrays = unpack(cached.read_bytes())
        return Examples.of(images=arrays["images"], labels=arrays["labels"])
    except FileNotFoundError:
        say(f"decoding {count:,} images of {folder} [{split}] once, into {cached.parent}")
    except (OSError, ValueError, KeyError) as error:
        say(f"{cached}: {error}; decoding again")
    images = np.empty((count, *shape), np.uint8)
    labels = np.empty(count, np.int64)
    index = 0
    try:
        for index, record in enumerate(_records(prepared.builder, split, count, prepared.image)):
            pixels = decode(record[prepared.image], shape[2])
            if not resize and pixels.shape != shape:
                raise Failed(
                    f"it is {_by(pixels.shape)} and not {_by(shape)} as the set says; set a size:"
                    f" --set data.image_size={shape[0]}"
                )
            images[index] = fit(pixels, shape)
            labels[index] = record[prepared.label]
    except Failed as error:
        where = f"{folder} [{split}], example {index}"
        raise Refused(f"data set {prepared.name}: {where}: {error}") from error
    try:
        atomic_write(cached, pack({"images": images, "labels": labels}))
    except OSError as error:  # a full disk costs the cache, not the run
        say(f"{cached}: {error.strerror}; it will be decoded again next time")
    return Examples.of(images=images, labels=labels)


def _records(builder: Any, split: str, count: int, image: str) -> Iterator[dict]:
    """Each record, its image encoded."""
    if str(builder.info.file_format.value) == "tfrecord":
        import tensorflow_datasets as tfds

        encoded = {image: tfds.decode.SkipDecoding()}
        yield from tfds.as_numpy(
            builder.as_dataset(split=split, shuffle_files=False, decoders=encoded)
        )
        return
    source = _encoded_source(builder, split, image)
    for index in range(count):
        try:
            record = source[index]
        except Exception as error:  # of damaged files the reader raises many kinds
            raise Failed(f"it cannot be read: {one_line(error)}") from error
        yield record


def _encoded_source(builder: Any, split: str, image: str) -> Any:
    """Position to record, its image encoded."""
    import tensorflow_datasets as tfds

    return builder.as_data_source(split=split, decoders={image: tfds.decode.SkipDecoding()})


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


def _split_size(builder: Any, split: str, name: str, key: str) -> int:
    there = ", ".join(
        f"{key} ({value.num_examples:,})" for key, value in builder.info.splits.items()
    )
    try:
        if count := builder.info.splits[split].num_examples:
            return count
        raise Refused(f"data set {name}: data.{key}={split} holds no example; it has {there}")
    except (KeyError, ValueError, AssertionError):
        first = next(iter(builder.info.splits), "train")
        raise Refused(
            f"data set {name} has no split {split!r}; it has {there}; set data.{key} to one"
            f' or to a slice, e.g. data.train_split="{first}[:80%]" data.test_split="{first}[80%:]"'
            ", or hold out a share of each class: data.test_share=0.2"
        ) from None


def _shards(prepared: _Prepared, split: str) -> dict[Path, int]:
    """The files that a split lies in, with the number of examples in each."""
    parts = prepared.builder.info.splits[split].file_instructions
    return {Path(part.filename): part.examples_in_shard for part in parts}


def _check_shards(prepared: _Prepared, split: str) -> None:
    """Refuse a split of which a file is missing, cut, or of another set."""
    shards = _shards(prepared, split)
    problems = []
    for path, examples in shards.items():
        if not path.is_file():
            problems.append(f"{path.name} is missing")
        elif not _is_tfrecord(prepared.folder) and (found := _examples_in(path)) != examples:
            problems.append(f"{path.name} holds {found}, not {examples:,} examples")
    if problems:
        raise Refused(
            f"data set {prepared.name} in {prepared.folder}: {len(problems):,} of {len(shards):,}"
            f" files of {split} are missing or damaged ({problems[0]}); copy or prepare it anew"
        )


def _examples_in(path: Path) -> int | str:
    from array_record.python.array_record_module import ArrayRecordReader

    try:
        reader = ArrayRecordReader(str(path))
        count = reader.num_records()
        reader.close()
    except RuntimeError:
        return "what cannot be read"
    return count


def _key(prepared: _Prepared, split: str, shape: tuple) -> str:
    folder, features = prepared.folder, (prepared.image, prepared.label)
    about = (_DECODER, folder.parent.name, split, shape, features, _content(folder))
    return f"{folder.parent.name}-{hashlib.sha256(repr(about).encode()).hexdigest()[:32]}"


@lru_cache(maxsize=8)
def _content(folder: Path) -> str:
    """SHA-256 over the names and contents of a prepared set's files."""
    files = [[path.name, _sha(path)] for path in _files(folder)]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    """The files of a prepared set, sorted; not what a file manager put beside them."""
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


def _sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_tfrecord(folder: Path) -> bool:
    """Whether a prepared set is in TFDS's default format."""
    try:
        about = json.loads((folder / "dataset_info.json").read_bytes())
        return about.get("fileFormat", "tfrecord") == "tfrecord"
    except (OSError, ValueError, AttributeError) as error:
        raise Refused(f"{folder}/dataset_info.json cannot be read ({error})") from None


def _versions(root: Path, name: str) -> list[Path]:
    """Folders of the prepared versions of NAME or NAME/CONFIG, the newest last.

    Raises:
      Refused: NAME has several configurations.
    """
    found = _complete((root / name).glob("*/dataset_info.json"))
    if found or "/" in name:
        return found
    found = _complete((root / name).glob("*/*/dataset_info.json"))
    configurations = sorted({f"{name}/{folder.parent.name}" for folder in found})
    if len(configurations) > 1:
        raise Refused(
            f"data set {name} has {len(configurations)} configurations: give one of"
            f" {', '.join(configurations)}"
        )
    return found


def _complete(descriptions: Iterable[Path]) -> list[Path]:
    """The folders among these that are versions, by number; TFDS leaves incomplete.* behind."""
    numbers = {
        path.parent: tuple(map(int, path.parent.name.split(".")))
        for path in descriptions
        if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)
    }
    return sorted(numbers, key=lambda folder: numbers[folder])


def _prepared_names(root: Path) -> list[str]:
    found = (*root.glob("*/*/dataset_info.json"), *root.glob("*/*/*/dataset_info.json"))
    return sorted({f.parent.relative_to(root).as_posix() for f in _complete(found)})


def _catalogue() -> list[str]:
    quiet_absl()
    import tensorflow_datasets as tfds

    return tfds.list_builders(with_community_datasets=False)
