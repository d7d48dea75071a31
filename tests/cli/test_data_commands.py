"""`cnnjax data info|preview`: what a set holds, for the eye and as JSON."""

import json

import pytest

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
