"""A folder of images as people have them: every file is read, or left out with a word."""

import os

import numpy as np
import pytest
from PIL import Image

from cnnjax import Data, Refused, load_dataset
from cnnjax.data import folder as folder_module
from cnnjax.data.dataset import LeftOut, images_per_class
from cnnjax.data.decode import SUFFIXES, decode

WRITTEN_AS = {".jfif": "JPEG", ".jpe": "JPEG", ".dib": "BMP", ".pgm": "PPM", ".pbm": "PPM"}
WRITTEN_AS |= {".pnm": "PPM"}


def write(path, value=0, kind=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(np.full((9, 12, 3), value, np.uint8))
    picture.save(path, kind or WRITTEN_AS.get(path.suffix.lower()))


@pytest.fixture
def root(tmp_path):
    """Two classes, 2 + 1 images each."""
    for place in ("train/cat/1", "train/cat/2", "train/dog/3", "train/dog/4"):
        write(tmp_path / f"{place}.png", int(place[-1]))
    for place in ("val/cat/5", "val/dog/6"):
        write(tmp_path / f"{place}.png", int(place[-1]))
    return tmp_path


def load(root):
    lines = []
    return load_dataset(Data(f"folder:{root}", image_size=8), say=lines.append), lines


def values(examples):
    """The grey that each image was written with, and its label."""
    read = map(examples.read, range(len(examples)))
    return [(int(decode(image)[0, 0, 0]), label) for image, label in read]


def test_a_set_without_anything_beside_is_silent(root):
    dataset, lines = load(root)
    assert (lines, dataset.left_out) == ([], ())
    assert values(dataset.train) == [(1, 0), (2, 0), (3, 1), (4, 1)]
    assert values(dataset.test) == [(5, 0), (6, 1)]
    assert "train/" in dataset.source
    assert "val/" in dataset.source
    assert images_per_class(dataset.train, 2).tolist() == [2, 2]
    assert images_per_class(dataset.test, 2).tolist() == [1, 1]


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".JPG", ".Tiff"])
def test_every_suffix_of_an_image_is_read(root, suffix):
    write(root / "train" / "dog" / f"new{suffix}", 255)
    dataset, lines = load(root)
    assert lines == []
    assert (255, 1) in values(dataset.train)


def test_folders_inside_a_class_belong_to_it(root):
    write(root / "train/dog/puppies/7.png", 7)
    write(root / "train/dog/puppies/small/8.tif", 8)
    dataset, lines = load(root)
    assert lines == []
    assert values(dataset.train)[2:] == [(3, 1), (4, 1), (7, 1), (8, 1)]


def test_what_is_no_image_is_left_out_with_a_word(root):
    (root / "train/cat/._1.png").write_bytes(b"\0\5\26\7")
    (root / "train/.cache").mkdir()
    (root / "train/.cache/x.png").write_bytes(b"")
    (root / "train/.DS_Store").write_bytes(b"")  # of no one's concern
    (root / "train/cat/a.heic").write_bytes(b"")
    (root / "train/cat/b.heic").write_bytes(b"")
    (root / "val/dog/labels").write_bytes(b"")
    write(root / "train/loose.png")
    (root / "train/cat/gone.png").symlink_to(root / "nowhere.png")
    (root / "train/cat/again").symlink_to(root / "train" / "dog")
    os.mkfifo(root / "train/cat/pipe.png")
    dataset, lines = load(root)
    assert len(dataset.train) == 4
    (line,) = lines
    assert line.startswith(f"folder:{root}: 9 of 15 files are left out: 2 ")
    for one in dataset.left_out[:5]:
        assert str(one) in line
    assert set(dataset.left_out) == {
        LeftOut(2, ".heic: no image that is read", "train/cat/a.heic"),
        LeftOut(2, "hidden", "train/.cache/x.png"),
        LeftOut(1, "in no class's folder", "train/loose.png"),
        LeftOut(1, "a link to nothing, or not to be read", "train/cat/gone.png"),
        LeftOut(1, "a link to a folder inside a class", "train/cat/again"),
        LeftOut(1, "no file", "train/cat/pipe.png"),
        LeftOut(1, "without a suffix", "val/dog/labels"),
    }


def test_a_folder_without_images_is_no_class(root):
    (root / "train" / "empty").mkdir()
    (root / "train" / "notes").mkdir()
    (root / "train" / "notes" / "._a.jpg").write_bytes(b"")
    (root / "val" / "empty").mkdir()
    dataset, lines = load(root)
    assert dataset.label_names == ("cat", "dog")
    assert [(one.count, one.first) for one in dataset.left_out] == [
        (1, "train/notes/._a.jpg"),
        (3, "train/empty"),
    ]
    assert "3 folders without an image, which are no classes (train/empty, ...)" in lines[1]


def test_a_class_that_is_never_tested_is_mentioned(root):
    write(root / "train/bird/7.png", 7)
    dataset, lines = load(root)
    assert dataset.label_names == ("bird", "cat", "dog")
    assert lines == [f"folder:{root}: 1 of 3 classes have no image in val/: bird"]
    assert images_per_class(dataset.test, 3).tolist() == [0, 1, 1]
    assert values(dataset.test) == [(5, 1), (6, 2)]


def test_a_class_that_is_never_trained_is_refused(root):
    (root / "train" / "bird").mkdir()
    write(root / "val/bird/7.png")
    with pytest.raises(Refused, match=r"has classes that .*train has not: bird"):
        load(root)


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0\0\x10JFIF"])
def test_a_file_that_is_no_image_is_refused_before_compute(root, content):
    (root / "train/dog/bad.jpg").write_bytes(content)
    (root / "val/dog/bad.jpg").write_bytes(content)
    with pytest.raises(Refused, match=r"train/dog/bad\.jpg: .*and 1 more files.*remove it"):
        load(root)


def test_floats_are_refused_before_compute(root):
    Image.fromarray(np.zeros((9, 9), np.float32)).save(root / "train/dog/depth.tif")
    with pytest.raises(Refused, match=r"depth\.tif: its pixels are floats"):
        load(root)


def test_of_a_large_set_some_headers_and_no_empty_file_are_passed_over(root, monkeypatch):
    monkeypatch.setattr(folder_module, "_CHECKED", 2)  # the first and the last
    (root / "train/dog/bad.jpg").write_bytes(b"no image")
    load(root)
    (root / "train/dog/bad.jpg").write_bytes(b"")
    with pytest.raises(Refused, match=r"bad\.jpg"):
        load(root)


@pytest.mark.parametrize("whole", [2**28, 0])
def test_a_fingerprint_knows_classes_files_and_content(root, monkeypatch, whole):
    monkeypatch.setattr(folder_module, "_READ_WHOLE", whole)
    seen = [load(root)[0].fingerprint]
    assert load(root)[0].fingerprint == seen[0]
    (root / "train/cat").rename(root / "train/tiger")
    (root / "val/cat").rename(root / "val/tiger")
    seen.append(load(root)[0].fingerprint)
    write(root / "train/dog/7.bmp", 7)
    seen.append(load(root)[0].fingerprint)
    write(root / "train/dog/7.bmp", 8)  # as many bytes
    if whole:
        seen.append(load(root)[0].fingerprint)
    (root / "train/dog/7.bmp").rename(root / "train/tiger/7.bmp")
    seen.append(load(root)[0].fingerprint)
    assert len(set(seen)) == len(seen)
