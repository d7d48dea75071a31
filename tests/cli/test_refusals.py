"""Bad input: one line on standard error, exit code 2, before any training, nothing written."""

import os

import pytest

SMOKE = ("study", "run", "degradation", "--preset", "smoke")

CASES = [
    (("train", "--model", "cifar_resnet2O"), "did you mean cifar_resnet"),
    (("train", "--model", "cifar_resnet21"), "depth 21 is impossible"),
    (("train", "--data", "digit"), "did you mean digits"),
    (("train", "--data", "digits", "--epochs", "-1"), "epochs=-1: must be 1 or more"),
    (("train", "--data", "digits", "--epochs", "many"), "'many' is not a valid integer"),
    (("train", "--data", "digits", "--batch-size", "5000"), "set batch_size to 1347 or less"),
    (("train", "--data", "digits", "--learning-rate", "-1"), "must be 0 or more"),
    (("train", "--data", "digits", "--recipe", "he2015"), "did you mean he2015_cifar"),
    (("train", "--data", "digits", "--set", "optimizer.momentun=1"), "optimizer.momentum"),
    (("train", "--data", "digits", "--model", "resnet18"), "images of 8x8: 32x32 or more"),
    (("train", "--data", "digits", "--model", "my.py:Net"), "no model file my.py"),
    (("train", "--data", "digits", "--model", "cifar_restnet8"), "did you mean cifar_resnet8"),
    (("train", "--data", "digits", "--save-every", "-1"), "is not in the range x>=0"),
    ((*SMOKE[:-1], "smok"), "did you mean smoke"),
    ((*SMOKE, "--set", "bach_size=3"), "did you mean batch_size"),
    ((*SMOKE, "--data", "digts"), "did you mean digits"),
    ((*SMOKE, "--seeds", "0"), "seeds=0: must be 1 or more"),
    ((*SMOKE, "--set", "model.width=0.01"), "leaves no channel"),
    (("study", "run", "degradatoin", "--preset", "smoke"), "did you mean degradation"),
    (("study", "run", "nothing.py"), "no study file nothing.py"),
]


@pytest.mark.parametrize(("arguments", "message"), CASES)
def test_bad_input_is_refused_in_one_line(cli, tmp_path, arguments, message):
    folder = tmp_path / "work"
    code, out, err = cli(*arguments, "--workdir", folder)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert not any(path.is_file() for path in folder.rglob("*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("study", "status", "."), "is no study"),
        (("study", "report", "."), "is no study"),
        (("study", "repeat", ".", "plain-8-s0"), "is no study"),
        (("eval", "."), "is no run"),
        (("eval", __file__), "is no run"),
        (("study", "status", __file__), "is no study"),
        (("modles",), "did you mean models"),
        (("models", "vggg*"), "no model that matches"),
        (("summary", "vgg61"), "did you mean vgg"),
        (("summary", "vgg16", "--input", "16", "16", "3"), "images of 16x16: 32x32 or more"),
        (("summary", "vgg16", "--input", "0", "16", "3"), "is not in the range 1<=x"),
        (("summary", "vgg16", "--set", "model.kernel=7x7"), "it is one of 3x3x2, 5x5"),
        (("summary", "vgg16", "--set", "epochs=3"), "only model.FIELD=VALUE counts here"),
        (("summary", "no.py:Net"), "no model file no.py"),
        (("summary", "lenet5", "--input", "30", "30", "1"), "LeNet-5 takes 32x32"),
        (("summary", "lenet5", "--set", "model.num_classes=7"), 'set model.output="dense"'),
        (("import-weights", "vgg16", "no.npz", "--out", "w"), "there is no such file"),
        (("export-weights", ".", "out.npz"), "holds neither a run"),
        (("data", "info", "mnits"), "did you mean mnist"),
        (("data", "preview", "digits", "--out", "x.gif"), "ends in .png"),
        (("data", "preview", "digits", "--out", "no/where.png"), "there is no folder no"),
        (("train", "--model", "resnet18"), "Missing option '--workdir'"),
        (("study", "run"), "Missing argument"),
    ],
)
def test_commands_without_a_folder(cli, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, out, err = cli(*arguments)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("command", [("train", "--data", "digits"), SMOKE])
def test_a_folder_that_cannot_be_written_is_refused(cli, tmp_path, command):
    (tmp_path / "file").write_text("mine")
    code, _, err = cli(*command, "--workdir", tmp_path / "file")
    assert code == 2
    assert "cannot be written" in err
    assert (tmp_path / "file").read_text() == "mine"


def test_a_folder_with_other_files_is_refused_and_left_alone(cli, tmp_path):
    for name in ("study.json", "thesis.tex"):
        folder = tmp_path / name[:5]
        folder.mkdir()
        (folder / name).write_text("mine")
        code, _, err = cli(
            "train", "--data", "digits", "--model", "cifar_resnet8", "--workdir", folder
        )
        assert code == 2
        assert f"holds other files ({name})" in err
        assert [path.name for path in folder.iterdir()] == [name]
    code, _, err = cli(*SMOKE, "--workdir", tmp_path / "thesi")
    assert code == 2
    assert "holds other files (thesis.tex)" in err


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_read_only_folder_is_refused(cli, tmp_path):
    tmp_path.chmod(0o500)
    code, _, err = cli(*SMOKE, "--workdir", tmp_path / "sub")
    assert code == 2
    assert "cannot be written (Permission denied)" in err


def test_labels_out_of_range_are_refused_before_training(cli, tmp_path, monkeypatch, digits):
    import dataclasses

    from cnnjax.data.digits import load_digits

    def broken():
        good = load_digits()
        labels = good.train.labels.copy()
        labels[5] = 77
        train = dataclasses.replace(good.train, arrays={**good.train.arrays, "labels": labels})
        return dataclasses.replace(good, train=train)

    monkeypatch.setitem(__import__("cnnjax.data.load").data.load.EMBEDDED, "digits", broken)
    code, _, err = cli("train", "--data", "digits", "--workdir", tmp_path / "run")
    assert code == 2
    assert "1 labels of the training split are out of range (first: 77)" in err


def test_another_recipe_in_a_runs_folder_is_refused(cli, tmp_path):
    common = ("train", "--model", "cifar_resnet8", "--data", "digits", "--set", "model.width=0.25",
              "--set", "steps=2", "--workdir", tmp_path)  # fmt: skip
    assert cli(*common)[0] == 0
    code, _, err = cli(*common, "--seed", "1")
    assert code == 2
    assert "holds another run (seed: 0 -> 1)" in err
