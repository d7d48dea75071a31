"""A folder of images: train/ and test/ (or val/), in each a folder for every class; or one part.

A class is a folder that holds images, itself or in folders below it. What lies beside them is left
out with a word, never in silence.
"""

import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.errors import Failed, Refused
from cnnjax.core.recipe import Data
from cnnjax.core.user_code import located
from cnnjax.data.dataset import LeftOut, StreamedDataset
from cnnjax.data.decode import SUFFIXES, check_header
from cnnjax.data.examples import EncodedExamples
from cnnjax.data.views import View

PREFIX = "folder:"
_TEST = ("test", "val", "validation")
_CHECKED = 10_000  # headers that are read before a run, spread over the set: about a second
_READ_WHOLE = 2**28  # bytes: a set up to here is known by its content, a larger by its sizes
_NO_CLASS = "folders without an image, which are no classes"

Files = list[tuple[Path, int]]  # with the label of each


@dataclass(frozen=True)
class _Split:
    """What lies in train/ or test/.

    Attributes:
      images: of each class, sorted; with their sizes in bytes.
      empty: folders that hold no image.
      other: files that are no images, with the reason.
    """

    folder: Path
    images: dict[str, list[tuple[Path, int]]]
    empty: list[Path]
    other: list[tuple[Path, str]]

    @property
    def folders(self) -> list[str]:
        return sorted([*self.images, *(path.name for path in self.empty)])


def load_folder(
    data: Data, view: View, say: Callable[[str], None] = lambda line: None
) -> StreamedDataset:
    """The set in folder `data.name` ("folder:DIR").

    Args:
      say: is told what is left out, and which classes have no test image.

    Raises:
      Refused: no such folder, no classes, no images, classes that differ between the splits, a file
        that is no image of a kind that is read (of a large set some are looked at; none where
        those are to be skipped).
    """
    root = located(data.name.removeprefix(PREFIX))
    if not root.is_dir():
        raise Refused(f"--data {data.name}: there is no folder {root}")
    for key, value, fixed in (
        ("train_split", data.train_split, "train"),
        ("test_split", data.test_split, "test"),
    ):
        if value != fixed:
            raise Refused(f"data.{key}={value}: a folder has no slices; leave it out")
    splits = tuple(_look(folder) for folder in _parts(root, data.test_share > 0))
    train, test = splits[0], splits[-1]
    names = tuple(train.images)
    known = {*names, *(path.name for path in train.empty if path.name not in test.images)}
    if extra := [name for name in test.folders if name not in known]:
        raise Refused(
            f"{test.folder} has classes that {train.folder} has not: {_some(extra)}; each needs"
            " training images"
        )
    for split in splits:
        if not split.images:
            raise Refused(f"{split.folder} holds no images ({', '.join(SUFFIXES)})")
    if data.unreadable == "refuse":
        check_headers(data.name, [f for s in splits for files in s.images.values() for f in files])
    left_out = _left_out(root, splits)
    _tell(data.name, splits, left_out, say)
    places = [f"{(root.name / split.folder.relative_to(root)).as_posix()}/" for split in splits]
    tested = _examples(test, names) if len(splits) > 1 else EncodedExamples(no_example, 0)
    return StreamedDataset(
        name=data.name,
        label_names=names,
        max_value=255,
        augmentation="random_resized_crop",
        source=f"images in {' and '.join(places)}",
        train=_examples(train, names),
        test=tested,
        view=view,
        fingerprint=_fingerprint(root, splits),
        left_out=left_out,
    )


def _parts(root: Path, divided: bool) -> tuple[Path, ...]:
    """The folders of the training and of the test images; one where it is to be divided."""
    train = root / "train"
    test = next((root / name for name in _TEST if (root / name).is_dir()), None)
    if divided and test is None:
        return (train if train.is_dir() else root,)
    return train, test or root / "test"


def _look(folder: Path) -> _Split:
    if not folder.is_dir():
        raise Refused(
            f"there is no folder {folder}; a folder of images has train/CLASS/*.jpg and"
            " test/CLASS/*.jpg (or val/); of one part (CLASS/*.jpg) a share can be held out: --set"
            " data.test_share=0.2"
        )
    classes = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != ".")
    if not classes:
        raise Refused(f"{folder} holds no folders; it needs one for each class, with its images")
    images = {path.name: [] for path in classes}
    other: list[tuple[Path, str]] = []
    for top in [*classes, *(path for path in folder.iterdir() if path not in classes)]:
        for path in _files(top):
            reason, size = _judge(path, folder)
            if reason is None:
                images[top.name].append((path, size))
            elif reason:
                other.append((path, reason))
    return _Split(
        folder,
        {name: sorted(paths) for name, paths in images.items() if paths},
        [folder / name for name, paths in images.items() if not paths],
        sorted(other),
    )


def _files(top: Path) -> Iterator[Path]:
    """Every file in `top` or below it, or itself; links to folders below it count as files."""
    if not top.is_dir():
        yield top
        return
    for folder, below, names in os.walk(top, onerror=_unreadable):
        yield from (Path(folder, name) for name in names)
        yield from (Path(folder, name) for name in below if Path(folder, name).is_symlink())


def _unreadable(error: OSError) -> None:
    raise Refused(f"{error.filename} cannot be read ({error.strerror})")


def _judge(path: Path, split: Path) -> tuple[str | None, int]:
    """Why a file is left out (None: it is read; "": not worth a word) and its size in bytes."""
    parts, suffix = path.relative_to(split).parts, path.suffix.lower()
    if any(part.startswith(".") for part in parts):  # ._x.jpg of macOS, thumbnails
        return ("hidden" if suffix in SUFFIXES else ""), 0
    if len(parts) == 1:
        return "in no class's folder", 0
    try:
        status = path.stat()
    except OSError:
        return "a link to nothing, or not to be read", 0
    if stat.S_ISDIR(status.st_mode):
        return "a link to a folder inside a class", 0
    if suffix not in SUFFIXES:
        return f"{suffix}: no image that is read" if suffix else "without a suffix", 0
    return (None, status.st_size) if stat.S_ISREG(status.st_mode) else ("no file", 0)


def check_headers(
    name: str, paths: list[tuple[Path, int]], sizes: Sequence[tuple[int, int] | None] = ()
) -> None:
    """Refuse a set with files that are no images, as far as the headers of some of them tell.

    Args:
      paths: with their sizes in bytes.
      sizes: height and width that each is said to have; None: not said.
    """
    spread = {int(i) for i in np.linspace(0, len(paths) - 1, min(len(paths), _CHECKED))}
    bad = []
    for index, (path, size) in enumerate(paths):
        if index in spread or not size:
            try:
                found = check_header(path)
            except Failed as error:
                bad.append(f"{path}: {error}")
                continue
            said = sizes[index] if sizes else None
            if said is not None and said != found:
                bad.append(f"{path} is of {_by(found)}, and its annotations say {_by(said)}")
    if bad:
        more = f" (and {len(bad) - 1:,} more files)" if len(bad) > 1 else ""
        raise Refused(f"--data {name}: {bad[0]}{more}; mend, convert or remove it")


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]} (height x width)"


def _left_out(root: Path, splits: tuple[_Split, ...]) -> tuple[LeftOut, ...]:
    """By reason, the most frequent first."""
    found: dict[str, list[Path]] = {}
    for split in splits:
        for path, reason in split.other:
            found.setdefault(reason, []).append(path)
    most = sorted(found, key=lambda reason: -len(found[reason]))
    if empty := [path for split in splits for path in split.empty]:
        found[_NO_CLASS], most = empty, [*most, _NO_CLASS]
    return tuple(
        LeftOut(len(found[reason]), reason, str(found[reason][0].relative_to(root)))
        for reason in most
    )


def _tell(
    name: str,
    splits: tuple[_Split, ...],
    left_out: tuple[LeftOut, ...],
    say: Callable[[str], None],
) -> None:
    train, test = splits[0], splits[-1]
    files = [one for one in left_out if one.reason != _NO_CLASS]
    if files:
        count = sum(one.count for one in files)
        read = sum(len(i) for split in splits for i in split.images.values())
        shown = "; ".join(map(str, files[:5])) + ("; ..." if len(files) > 5 else "")
        say(f"{name}: {count:,} of {count + read:,} files are left out: {shown}")
    for one in left_out[len(files) :]:
        say(f"{name}: {one}")
    if missing := [one for one in train.images if one not in test.images]:
        say(
            f"{name}: {len(missing):,} of {len(train.images):,} classes have no image in"
            f" {test.folder.name}/: {_some(missing)}"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def _examples(split: _Split, names: tuple[str, ...]) -> EncodedExamples:
    files = [
        (path, label) for label, name in enumerate(names) for path, _ in split.images.get(name, [])
    ]
    return EncodedExamples(
        partial(_read, files), len(files), partial(_where, files), partial(_labels, files)
    )


def no_example(index: int) -> tuple[bytes, Any]:
    """To read a split that is empty."""
    raise IndexError(f"there is no example {index}")


def read_file(path: Path) -> bytes:
    """
    Raises:
      Failed: it was removed, or became unreadable, since it was found.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise Failed(f"{error.strerror}") from error


def _read(files: Files, index: int) -> tuple[bytes, int]:
    path, label = files[index]
    return read_file(path), label


def _where(files: Files, index: int) -> str:
    return str(files[index][0])


def _labels(files: Files) -> np.ndarray:
    return np.array([label for _, label in files], np.int32)


def _fingerprint(root: Path, splits: tuple[_Split, ...]) -> str:
    """Over the classes, and each file's name, class and content; of a large set its size instead.

    Reading every byte of a large set would take hours.
    """
    entries = [
        (name, path, size)
        for split in splits
        for name, images in split.images.items()
        for path, size in images
    ]
    about = ["uint8", 255, list(splits[0].images)]
    contents = contents_of([(path, size) for _, path, size in entries])
    rows = [
        [str(path.relative_to(root)), name, content]
        for (name, path, _), content in zip(entries, contents, strict=True)
    ]
    return hashlib.sha256(json.dumps([about, rows]).encode()).hexdigest()


def contents_of(files: list[tuple[Path, int]]) -> list[str | int]:
    """What tells a set of files from another: their SHA-256, of a large set their sizes in bytes.

    Args:
      files: with their sizes.
    """
    if sum(size for _, size in files) > _READ_WHOLE:
        return [size for _, size in files]
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path, _ in files]
