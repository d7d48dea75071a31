"""Images that cannot be decoded: found, listed, and left out where that is wanted."""

import json
import re

import pytest

from cnnjax import Data, Refused, load_dataset
from cnnjax.data import readable as readable_module
from cnnjax.data.dataset import LeftOut, images_per_class
from cnnjax.data.load import load_encoded
from cnnjax.data.readable import find_unreadable
from cnnjax.testing import check_dataset
from tests.data.prepared_set import write_prepared
from tests.data.test_decode import GREY, pillow
from tests.data.test_folder import values, write


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def root(tmp_path):
    """Two classes, 4 + 2 images; one of each split is cut behind its header."""
    for index in range(8):
        write(tmp_path / "train" / ("cat" if index % 2 else "dog") / f"{index}.png", index)
    for index in range(4):
        write(tmp_path / "test" / ("cat" if index % 2 else "dog") / f"{index}.png", index)
    for path in ("train/cat/3.png", "test/dog/2.png"):
        file = tmp_path / path
        file.write_bytes(file.read_bytes()[:45])
    return tmp_path


def data(root, **settings):
    return Data(f"folder:{root}", image_size=8, **settings)


def load(root, **settings):
    lines = []
    return load_dataset(data(root, **settings), say=lines.append), lines


@pytest.mark.parametrize("threads", [1, 3])
def test_every_image_of_both_splits_is_decoded(root, threads, monkeypatch):
    monkeypatch.setattr(readable_module, "_AT_ONCE", 1)
    (root / "train/dog/0.png").write_bytes(b"")  # of no image at all
    parts = []
    found = find_unreadable(
        load_encoded(data(root), None), lambda *part: parts.append(part), threads
    )
    assert [(one.split, one.position, one.where) for one in found] == [
        ("train", 1, f"{root}/train/cat/3.png"),
        ("train", 4, f"{root}/train/dog/0.png"),
        ("test", 3, f"{root}/test/dog/2.png"),
    ]
    assert all("cannot be decoded" in one.reason for one in found)
    assert parts[-1] == (12, 12)
    assert parts == sorted(parts)


def test_unreadable_images_are_left_out_with_a_word(root, cache):
    dataset, lines = load(root, unreadable="skip")
    assert values(dataset.train) == [(1, 0), (5, 0), (7, 0), (0, 1), (2, 1), (4, 1), (6, 1)]
    assert values(dataset.test) == [(1, 0), (3, 0), (0, 1)]
    assert images_per_class(dataset.train, 2).tolist() == [3, 4]
    out = LeftOut(2, "images that cannot be decoded", f"{root}/train/cat/3.png")
    assert dataset.left_out == (out,)
    assert "decoding 12 images once" in lines[0]
    assert lines[1].endswith(f"left out: {out}; to list them: cnnjax data check folder:{root}")
    assert dataset.fingerprint != load(root)[0].fingerprint
    assert len(check_dataset(dataset)) == 6

    again, lines = load(root, unreadable="skip")
    assert len(lines) == 1  # nothing was decoded again
    assert again.fingerprint == dataset.fingerprint
    (kept,) = cache.glob("cnnjax/data/unreadable-*.json")
    kept.write_text(kept.read_text().replace("1", "2"))
    again, lines = load(root, unreadable="skip")
    assert "damaged" in lines[0]
    assert again.fingerprint == dataset.fingerprint
    write(root / "train/cat/3.png", 3)
    write(root / "test/dog/2.png", 2)
    mended, lines = load(root, unreadable="skip")
    assert (mended.left_out, len(lines)) == ((), 1)
    assert mended.fingerprint == load(root)[0].fingerprint


def test_what_is_left_is_divided(root):
    dataset, _ = load(root, unreadable="skip", train_examples=4)
    assert images_per_class(dataset.train, 2).tolist() == [2, 2]
    assert len(dataset.test) == 3


def test_a_class_or_a_split_without_a_readable_image_is_refused(root):
    for path in (root / "train/cat").iterdir():
        path.write_bytes(b"")
    with pytest.raises(Refused, match="class cat would have no training image: 5 images that cann"):
        load(root, unreadable="skip")
    for path in (root / "test").glob("*/*"):
        path.write_bytes(b"")
    with pytest.raises(Refused, match="no test image can be decoded: 8 images"):
        load(root, unreadable="skip")


def test_a_cache_that_cannot_be_written_costs_a_word(root, monkeypatch):
    def full(path, value):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(readable_module, "write_sealed", full)
    dataset, lines = load(root, unreadable="skip")
    assert "No space left on device; they will be looked for again" in lines[1]
    assert len(dataset.left_out) == 1


BROKEN = [
    (b"no image", 0),
    *[(pillow(image, "PNG"), index % 2) for index, image in enumerate(GREY)],
]


def test_a_prepared_set_that_is_streamed_skips_too(tmp_path):
    write_prepared(tmp_path, "made", {"train": BROKEN, "test": BROKEN[1:]})
    settings = {"streaming": "always", "image_size": 9}
    with pytest.raises(Refused, match=r"\[train\], example 0: .*cannot be decoded"):
        load_dataset(Data("made", **settings), tmp_path)
    dataset = load_dataset(Data("made", unreadable="skip", **settings), tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (len(GREY), len(GREY))
    assert len(check_dataset(dataset)) == 6
    with pytest.raises(Refused, match=r"unreadable=skip has no effect: .*data.streaming=always"):
        load_dataset(Data("made", unreadable="skip"), tmp_path)


def test_check_lists_what_cannot_be_read(cli, root, tmp_path):
    code, out, err = cli("data", "check", f"folder:{root}", "--json")
    assert code == 1
    facts = json.loads(out)
    assert (facts["images"], len(facts["unreadable"])) == (12, 2)
    assert facts["unreadable"][1]["where"] == f"{root}/test/dog/2.png"
    assert re.search(r"%, \d+/12 images, \d:\d\d left", err)
    code, out, _ = cli("data", "check", f"folder:{root}")
    assert code == 1
    assert "12 images, 2 of them cannot be read" in out
    assert f"{root}/train/cat/3.png" in out
    write(root / "train/cat/3.png", 3)
    write(root / "test/dog/2.png", 2)
    assert cli("data", "check", f"folder:{root}")[0] == 0


@pytest.mark.parametrize("name", ["digits", "made"])
def test_check_of_sets_by_name(cli, tmp_path, name):
    write_prepared(tmp_path, "made", {"train": BROKEN, "test": BROKEN[1:]})
    code, out, _ = cli("data", "check", name, "--data-dir", tmp_path, "--json")
    found = json.loads(out)["unreadable"]
    assert (code, len(found)) == ((1, 1) if name == "made" else (0, 0))
    if found:
        assert found[0]["where"].endswith("[train], example 0")


def test_check_refuses_settings_without_effect(cli):
    code, _, err = cli("data", "check", "digits", "--set", "data.unreadable=skip")
    assert code == 2
    assert "has no effect: the set is digits, and of its settings count data.train_split" in err
