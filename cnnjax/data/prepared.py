"""Prepared sets of tensorflow-datasets on disk: found, opened, read by position, prepared.

A set is found by its folder, NAME/VERSION/dataset_info.json, so that every case has its own answer:
not prepared, prepared as tfrecord (TFDS's default), readable. array_record needs no TensorFlow.
"""

import hashlib
import importlib.util
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from cnnjax.core.environment import quiet_absl
from cnnjax.core.errors import Failed, Refused, one_line, unknown
from cnnjax.core.recipe import Data
from cnnjax.core.user_code import expanded
from cnnjax.data.decode import decode
from cnnjax.data.own import FORMS
from cnnjax.data.split import has_test_part

_READ_WHOLE = 2**20  # bytes of a file of a streamed set that is known by its content
_LISTED = 8  # names in one line, at most
_NOTHING: Mapping[str, Sequence[str]] = MappingProxyType({})


@dataclass(frozen=True)
class Prepared:
    """A set on disk that was opened.

    Attributes:
      builder: TFDS's.
      source: words for where its images come from.
    """

    name: str
    folder: Path
    builder: Any
    source: str

    @property
    def features(self) -> Any:
        """By name, as TFDS describes them."""
        return self.builder.info.features


def open_prepared(name: str, directory: str | Path | None) -> Prepared:
    """The newest version of set `name` (or NAME/CONFIG).

    Raises:
      Refused: it is not there, or cannot be read here.
    """
    folder = find_prepared(name, directory)
    relative = folder.relative_to(data_folder(directory))
    source = f"tensorflow-datasets {relative.as_posix()}"
    return Prepared(name, folder, open_builder(folder), source)


class Records:
    """Position to record, its image encoded; the files are opened where it is first used.

    Args:
      known: what is read beside the image: the names of features, and of their parts.
    """

    def __init__(
        self, folder: Path, split: str, image: str, known: Mapping[str, Sequence[str]] = _NOTHING
    ):
        self._folder, self._split, self._image, self._known = folder, split, image, dict(known)
        self._opened: Any = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_opened": None}  # a worker opens its own

    def __call__(self, position: int) -> dict[str, Any]:
        """
        Raises:
          Failed: it cannot be read.
        """
        import tensorflow_datasets as tfds

        if self._opened is None:
            builder = open_builder(self._folder)
            raw = tfds.decode.DeserializeMethod.RAW_BYTES
            source = builder.as_data_source(split=self._split, deserialize_method=raw)
            self._opened = source, self._features(builder.info.features)
        source, features = self._opened
        encoded = {self._image: tfds.decode.SkipDecoding()}
        try:
            return features.deserialize_example_np(source[position], decoders=encoded)
        except Exception as error:  # of damaged files the reader raises many kinds
            raise Failed(f"it cannot be read: {one_line(error)}") from error

    def _features(self, there: Any) -> Any:
        """Those that are read: to decode others would cost more than the rest (lvis's masks)."""
        from tensorflow_datasets import features

        wanted = {self._image: there[self._image]}
        for name, parts in self._known.items():
            each = {part: there[name].feature[part] for part in parts}
            wanted[name] = features.Sequence(each) if parts else there[name]
        return features.FeaturesDict(wanted)

    def where(self, position: int) -> str:
        return f"{self._folder} [{self._split}], example {position}"


def splits_of(
    data: Data, prepared: Prepared, say: Callable[[str], None] = lambda line: None
) -> dict[str, int]:
    """The sizes of the splits that `data` names, by the names of its settings.

    The test split is left out where it is to be made.

    Args:
      say: is told of images in both.

    Raises:
      Refused: one is not there, or a file of it is missing or damaged.
    """
    wanted = {"train_split": data.train_split, "test_split": data.test_split}
    if data.test_share:
        if data.test_split != Data.test_split:
            raise Refused(
                f"data.test_share={data.test_share}, data.test_split={data.test_split}: the test"
                " part is a share of the training split, or a split; leave one of them out"
            )
        if data.test_split in prepared.builder.info.splits:
            raise has_test_part(data, f"the split {data.test_split}")
        del wanted["test_split"]
    counts = {}
    for key, split in wanted.items():
        counts[key] = _split_size(prepared.builder, split, data.name, key)
        _check_shards(prepared, split)
    if "test_split" in counts and (both := _in_both(prepared, data.train_split, data.test_split)):
        say(f"{data.name}: {both:,} of {counts['test_split']:,} test images are trained on, too")
    return counts


def _in_both(prepared: Prepared, one: str, other: str) -> int:
    """How many examples two splits or slices have in common."""
    ranges = [
        [(part.filename, part.skip, part.skip + part.take) for part in parts]
        for parts in (prepared.builder.info.splits[name].file_instructions for name in (one, other))
    ]
    return sum(
        max(0, min(end, last) - max(start, first))
        for file, start, end in ranges[0]
        for same, first, last in ranges[1]
        if file == same
    )


def check_by_position(prepared: Prepared) -> None:
    """Refuse what can only be read from its beginning."""
    if is_tfrecord(prepared.folder):
        raise Refused(
            f"data set {prepared.name} in {prepared.folder} is tfrecord, which cannot be read by"
            f" position; prepare it as array_record: cnnjax data prepare {prepared.name} --data-dir"
            " ANOTHER"
        )


def image_feature(prepared: Prepared) -> str:
    """The name of the image among a set's features.

    Raises:
      Refused: there is not one, or it has no uint8 form.
    """
    name = feature_of(prepared, "image", "Image")
    image = prepared.features[name]
    if image.np_dtype not in (np.uint8, np.uint16) or len(image.shape) != 3:
        raise Refused(
            f"data set {prepared.name}: its images are {np.dtype(image.np_dtype)} of"
            f" {len(image.shape)} dimensions; uint8 and uint16 of height, width, channels are read"
        )
    return name


def feature_of(prepared: Prepared, name: str, kind: str) -> str:
    """The name of the one feature of a kind of TFDS's; of several the one called `name`.

    Raises:
      Refused: there is none, or which is meant is open.
    """
    import tensorflow_datasets as tfds

    wanted = getattr(tfds.features, kind)
    found = [key for key, feature in prepared.features.items() if isinstance(feature, wanted)]
    if name in found:
        return name
    if len(found) != 1:
        raise Refused(
            f"data set {prepared.name} has {len(found)} features of kind {name}; one is needed"
            f" (it has {', '.join(sorted(prepared.features))})"
        )
    return found[0]


def all_records(
    prepared: Prepared, split: str, count: int, image: str, label: str
) -> Iterator[dict]:
    """Each record: its image encoded, and its label.

    Raises:
      Failed: one cannot be read.
    """
    if not is_tfrecord(prepared.folder):
        yield from map(Records(prepared.folder, split, image, {label: ()}), range(count))
        return
    import tensorflow_datasets as tfds

    encoded = {image: tfds.decode.SkipDecoding()}
    yield from tfds.as_numpy(
        prepared.builder.as_dataset(split=split, shuffle_files=False, decoders=encoded)
    )


def look_at(prepared: Prepared, records: Records, count: int, read: Callable) -> None:
    """Refuse a split whose first, middle or last image cannot be decoded.

    Args:
      read: position to the encoded image and what is known of it.
    """
    for position in sorted({0, count // 2, count - 1}):
        try:
            decode(read(position)[0])
        except Failed as error:
            where = records.where(position)
            raise Refused(f"data set {prepared.name}: {where}: {error}") from error


def files_known(folder: Path, *, times: bool = False) -> list[list]:
    """What tells a prepared set from another: its files by their digests; large ones by their
    size, as reading every byte would take hours.

    Args:
      times: and by when they were written.
    """
    rows = []
    for path in _files(folder):
        status = path.stat()
        content = status.st_size if status.st_size > _READ_WHOLE else _sha(path)
        rows.append([path.name, content, *[status.st_mtime_ns] * times])
    return rows


def data_folder(directory: str | Path | None) -> Path:
    """Where prepared sets lie: given, else $TFDS_DATA_DIR, else ~/tensorflow_datasets."""
    chosen = directory or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    return expanded(chosen)


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
        near = unknown("data set", name, [*listed, *known])
        if "did you mean" in str(near):
            raise Refused(f"{near} Looked in {root}; another folder is given by --data-dir")
        raise unknown("data set", name, (), hint)
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
    if is_tfrecord(folder) and importlib.util.find_spec("tensorflow") is None:
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
        raise Refused(
            f"{folder} holds no set that can be read; copy or prepare it anew ({one_line(error)})"
        ) from error


def prepare(name: str, directory: str | Path | None) -> Path:
    """Download `name` and write it as array_record, if it is not there; needs TensorFlow.

    Raises:
      Refused: unknown, or TensorFlow is not installed.
      Failed: the download or the preparation failed.
    """
    if name.split("/")[0] not in _catalogue():
        raise unknown("data set", name, _catalogue())
    if versions := _versions(data_folder(directory), name):
        if not is_tfrecord(versions[-1]):
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


def _split_size(builder: Any, split: str, name: str, key: str) -> int:
    splits = builder.info.splits
    there = ", ".join(f"{name} ({value.num_examples:,})" for name, value in splits.items())
    try:
        count = splits[split].num_examples
    except (KeyError, ValueError, AssertionError):
        count = 0
        if (whole := split.split("[")[0]) not in splits:
            first = next(iter(splits), "train")
            slices = f'data.train_split="{first}[:80%]" data.test_split="{first}[80%:]"'
            share = ", or hold out a share of each class: data.test_share=0.2"
            raise Refused(
                f"data set {name} has no split {whole!r}; it has {there}; set data.{key} to one or"
                f" to a slice, e.g. {slices}{share * (split == Data.test_split)}"
            ) from None
    if not count:
        raise Refused(
            f"data set {name}: data.{key}={split} holds no example; it has {there}; a slice is"
            " [:80%], [100:] or [20%:40%]"
        )
    return count


def shards_of(prepared: Prepared, split: str) -> dict[Path, int]:
    """The files that a split lies in, with the number of examples in each."""
    parts = prepared.builder.info.splits[split].file_instructions
    return {Path(part.filename): part.examples_in_shard for part in parts}


def _check_shards(prepared: Prepared, split: str) -> None:
    """Refuse a split of which a file is missing, cut, or of another set."""
    shards = shards_of(prepared, split)
    problems = []
    for path, examples in shards.items():
        if not path.is_file():
            problems.append(f"{path.name} is missing")
        elif not is_tfrecord(prepared.folder) and (found := _examples_in(path)) != examples:
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


@lru_cache(maxsize=8)
def content(folder: Path) -> str:
    """SHA-256 over the names and contents of a prepared set's files."""
    files = [[path.name, _sha(path)] for path in _files(folder)]
    return hashlib.sha256(json.dumps(files).encode()).hexdigest()


def _files(folder: Path) -> list[Path]:
    """The files of a prepared set, sorted; not what a file manager put beside them."""
    return sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))


def _sha(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_tfrecord(folder: Path) -> bool:
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
