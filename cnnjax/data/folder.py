"""A folder of images: train/ and test/ (or val/), in each a folder for every class."""

import hashlib
import json
from functools import partial
from pathlib import Path

from cnnjax.core.errors import Refused
from cnnjax.core.recipe import Data
from cnnjax.data.dataset import EncodedExamples, StreamedDataset
from cnnjax.data.views import View

PREFIX = "folder:"
_IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_TEST = ("test", "val", "validation")

Files = list[tuple[Path, int]]  # with the label of each


def load_folder(data: Data, view: View) -> StreamedDataset:
    """The set in folder `data.name` ("folder:DIR").

    Raises:
      Refused: no such folder, no classes, no images, classes that differ between the splits.
    """
    root = Path(data.name.removeprefix(PREFIX)).expanduser()
    if not root.is_dir():
        raise Refused(f"--data {data.name}: there is no folder {root}")
    for key, value, fixed in (
        ("train_split", data.train_split, "train"),
        ("test_split", data.test_split, "test"),
    ):
        if value != fixed:
            raise Refused(f"data.{key}={value}: a folder has no slices; leave it out")
    train = root / "train"
    test = next((root / name for name in _TEST if (root / name).is_dir()), root / "test")
    names = _classes(train)
    extra = sorted(set(_classes(test)) - set(names))
    if extra:
        raise Refused(f"{test} has classes that {train} has not: {', '.join(extra[:5])}")
    splits = [_files(split, names) for split in (train, test)]
    return StreamedDataset(
        name=data.name,
        label_names=tuple(names),
        max_value=255,
        augmentation="random_resized_crop",
        source=f"images in {root.name}/",
        train=_examples(splits[0]),
        test=_examples(splits[1]),
        view=view,
        fingerprint=_fingerprint(root, names, splits),
    )


def _classes(split: Path) -> list[str]:
    if not split.is_dir():
        raise Refused(
            f"there is no folder {split}; a folder of images has train/CLASS/*.jpg and"
            " test/CLASS/*.jpg (or val/)"
        )
    names = sorted(path.name for path in split.iterdir() if path.is_dir() and path.name[0] != ".")
    if not names:
        raise Refused(f"{split} holds no folders; it needs one for each class, with its images")
    return names


def _files(split: Path, names: list[str]) -> Files:
    found = [
        (path, label)
        for label, name in enumerate(names)
        for path in sorted((split / name).glob("*"))
        if path.suffix.lower() in _IMAGES
    ]
    if not found:
        raise Refused(f"{split} holds no images ({', '.join(_IMAGES)})")
    return found


def _examples(files: Files) -> EncodedExamples:
    return EncodedExamples(partial(_read, files), len(files), partial(_where, files))


def _read(files: Files, index: int) -> tuple[bytes, int]:
    path, label = files[index]
    return path.read_bytes(), label


def _where(files: Files, index: int) -> str:
    return str(files[index][0])


def _fingerprint(root: Path, names: list[str], splits: list[Files]) -> str:
    """Over names, sizes and labels: reading every byte of a large set would take hours."""
    rows = [
        [str(path.relative_to(root)), path.stat().st_size, label]
        for files in splits
        for path, label in files
    ]
    return hashlib.sha256(json.dumps([names, rows]).encode()).hexdigest()
