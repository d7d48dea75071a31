"""`cnnjax data info|preview`: what a set holds, for the eye and as JSON."""

import json

import pytest

from tests.cli.user_files import GOOD
from tests.data.prepared_set import write_prepared
from tests.data.test_decode import GREY, pillow
from tests.data.test_folder import write


@pytest.fixture
def root(tmp_path):
    for place in ("train/cat/1", "train/cat/2", "train/dog/3", "val/cat/4"):
        write(tmp_path / f"{place}.png", 9)
    (tmp_path / "train/cat/._1.png").write_bytes(b"")
    (tmp_path / "train/cat/x.heic").write_bytes(b"")
    (tmp_path / "val/empty").mkdir()
    return tmp_path


def test_info_of_a_folder_counts_and_names_what_is_left_out(cli, root):
    (root / "train/empty").mkdir()
    code, out, err = cli("data", "info", f"folder:{root}", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["train_per_class"] == {"cat": 2, "dog": 1}
    assert facts["test_per_class"] == {"cat": 1, "dog": 0}
    assert [(one["count"], one["first"]) for one in facts["left_out"]] == [
        (1, "train/cat/._1.png"),
        (1, "train/cat/x.heic"),
        (2, "train/empty"),
    ]
    assert "2 of 6 files are left out" in err
    assert "1 of 2 classes have no image in val/: dog" in err
    code, out, _ = cli("data", "info", f"folder:{root}")
    assert code == 0
    assert "1 .heic: no image that is read (train/cat/x.heic)" in out
    assert any(line.split() == ["1", "dog", "1", "0"] for line in out.splitlines())


def test_info_of_a_streamed_set_that_is_too_large_to_count(cli, tmp_path, monkeypatch):
    monkeypatch.setattr("cnnjax.data.tfds._LABELS_READ", (0, 0))
    examples = [(pillow(GREY, "PNG"), 0)] * 2
    write_prepared(tmp_path, "made", {"train": examples, "test": examples})
    command = ["data", "info", "made", "--data-dir", tmp_path, "--set", "data.streaming=always"]
    command += ["--set", "data.image_size=8"]
    code, out, _ = cli(*command, "--json")
    assert code == 0
    assert json.loads(out)["train_per_class"] is None
    assert "not counted" in cli(*command)[1]


@pytest.mark.parametrize("name", ["train_split", "test_split"])
def test_what_is_read_may_be_set(cli, tmp_path, name):
    examples = [(pillow(GREY, "PNG"), 0)] * 4
    write_prepared(tmp_path, "made", {"train": examples, "test": examples})
    code, out, _ = cli("data", "info", "made", "--data-dir", tmp_path, "--json", "--set",
                       f"data.{name}=train[:1]")  # fmt: skip
    assert code == 0
    assert json.loads(out)[name.replace("split", "examples")] == 1


@pytest.mark.parametrize("command", [("info",), ("preview",)])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["model.width=2"], "has no effect: the set is digits"),
        (["batch_size=2"], "has no effect: the set is digits"),
        (["data.mixup=1"], "has no effect: the set is digits"),
        (["data.normalization=channel"], "has no effect: the set is digits"),
        (["data.test_crops=10"], "has no effect: the set is digits"),
        (["data.name=mnist"], "has no effect: the set is digits"),
        (["data.train_split=train", "data.train_split=train"], "both set data.train_split"),
        (["data.image_siz=3"], "did you mean data.image_size"),
    ],
)
def test_a_setting_without_effect_is_refused(cli, command, settings, message):
    options = [part for setting in settings for part in ("--set", setting)]
    code, out, err = cli("data", *command, "digits", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


OWN = """\
import numpy as np
from cnnjax import Dataset


def part(count):
    labels = np.arange(count) % 2
    noise = np.random.default_rng(count).integers(0, 50, (count, 8, 8))
    images = noise + 99 * labels[:, None, None]
    return {"images": images, "labels": labels, "weights": np.ones(count)}


def two():
    return Dataset.from_arrays(part(40), part(10), label_names=["dark", "bright"])


def one():
    return Dataset.from_arrays(part(40))
"""


@pytest.fixture
def own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(OWN)
    return tmp_path


def test_data_of_ones_own_is_shown(cli, own):
    code, out, _ = cli("data", "info", "mine.py:two", "--json")
    facts = json.loads(out)
    assert code == 0
    assert facts["fields"]["weights"] == {"shape": [], "dtype": "float32"}
    assert facts["train_per_class"] == {"dark": 20, "bright": 20}
    code, out, _ = cli("data", "info", "mine.py:one", "--set", "data.test_share=0.25")
    assert code == 0
    assert "images uint8 8x8x1, labels int32, weights float32" in out
    assert "mine.py:one (test_share=0.25, split_seed=0)" in out
    code, out, _ = cli("data", "preview", "mine.py:two", "--out", "sheet.png")
    assert code == 0
    assert (own / "sheet.png").read_bytes().startswith(b"\x89PNG")


def test_data_of_ones_own_is_trained_on_and_evaluated(cli, own, monkeypatch):
    (own / "net.py").write_text(GOOD)
    common = ["train", "--model", "net.py:Net", "--set", "steps=2",
              "--batch-size", 8, "--set", "data.test_share=0.25"]  # fmt: skip
    code, _, err = cli(*common, "--data", "mine.py:two", "--workdir", "w")
    assert code == 2
    assert "has a test part (10 images)" in err
    assert cli(*common, "--data", "mine.py:one", "--workdir", "w")[0] == 0
    monkeypatch.chdir(own.parent)
    code, out, _ = cli("eval", own / "w", "--json")
    assert (code, json.loads(out)["examples"]) == (0, 10)
    (own / "mine.py").write_text(OWN.replace("99", "98"))
    code, _, err = cli("eval", own / "w")
    assert code == 2
    assert "is not the one that" in err


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("mine.py:tow", (), "did you mean two?"),
        ("mine.py:one", (), "--set data.test_share=0.2"),
        ("mine.npz", (), "there is no file mine.npz"),
        ("digits", ("data.test_share=0.2",), "leave it out, or hold back a part"),
        ("digits", ("data.test_share=1.5",), "test_share=1.5: a share"),
        ("digits", ("data.split_seed=1",), "has no effect: nothing is split"),
        ("digits", ("data.unreadable=skip",), "has no effect: digits is read into memory"),
        ("digits", ("data.unreadable=drop",), "it is one of refuse, skip"),
        ("digits", ("data.train_examples=9",), "10 classes to choose from; set 10 to 1347"),
    ],
)
@pytest.mark.parametrize("command", ["info", "preview"])
def test_what_is_no_set_is_refused_in_a_line(cli, own, command, name, settings, message):
    code, out, err = cli("data", command, name, *[x for s in settings for x in ("--set", s)])
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
