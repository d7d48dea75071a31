"""A run's folder: whatever is lost, damaged or edited, each command works, mends, or says how."""

import json
import os
import shutil
import subprocess

import pytest

NET = """\
from flax import linen as nn
class Net(nn.Module):
    num_classes: int = 10
    @nn.compact
    def __call__(self, images, *, train):
        x = nn.relu(nn.Conv(4, (3, 3), strides=4)(images))
        return nn.Dense(self.num_classes)(x.mean((1, 2)))
"""
FIGURES = ("status", "steps", "train_error", "test_error", "train_loss", "test_loss")


@pytest.fixture(scope="module")
def trained(tmp_path_factory, command):
    """A finished run of a user's network, typed in the folder of its file, and its figures."""
    home = tmp_path_factory.mktemp("home")
    (home / "net.py").write_text(NET)
    arguments = ["train", "--recipe", "small_images", "--model", "net.py:Net", "--epochs", "2",
                 "--save-every", "0", "--workdir", "run", "--json"]  # fmt: skip
    done = subprocess.run([*command, *arguments], cwd=home, capture_output=True, check=True)
    return home, arguments, json.loads(done.stdout)


@pytest.fixture
def copy(trained, tmp_path, monkeypatch):
    """A copy of that folder, in which the test runs."""
    home = shutil.copytree(trained[0], tmp_path / "home")
    monkeypatch.chdir(home)
    return home / "run"


def train(cli, trained):
    code, out, err = cli(*trained[1])
    assert code == 0, err
    found = json.loads(out)
    assert {key: found[key] for key in FIGURES} == {key: trained[2][key] for key in FIGURES}
    return err


def figures(cli, *arguments):
    code, out, err = cli("eval", *arguments, "--json")
    assert code == 0, err
    return json.loads(out), err


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def newest(run):
    return max(
        (p for p in (run / "checkpoints").iterdir() if p.is_dir() and p.name.isdigit()),
        key=lambda p: int(p.name),
    )


def drop_checkpoints(run):
    shutil.rmtree(run / "checkpoints")


def drop_newest(run):
    shutil.rmtree(newest(run))


def damage_newest(run):
    flip(max(newest(run).rglob("*"), key=lambda p: p.stat().st_size * p.is_file()))


def damage_seal(run):
    flip(newest(run).with_suffix(".json"))


def drop_seal(run):
    newest(run).with_suffix(".json").unlink()


@pytest.mark.parametrize("damage", [drop_checkpoints, drop_newest, damage_newest, damage_seal])
def test_a_finished_run_without_its_last_state_is_trained_to_it_again(cli, trained, copy, damage):
    damage(copy)
    code, out, err = cli("eval", "run", "--json")
    goes_on = "already trained"
    if damage is drop_checkpoints:
        assert code == 2
        assert "no intact checkpoint; type the run's cnnjax train command" in err
    else:
        assert code == 0
        assert json.loads(out)["step"] < trained[2]["steps"]
        goes_on = f"run: going on from step {json.loads(out)['step']:,}"
        assert "the run's cnnjax train command makes it again" in err
    said = train(cli, trained)
    assert "its last checkpoint is lost or damaged" in said
    assert (goes_on in said) == (damage is not drop_checkpoints)
    assert figures(cli, "run")[0]["top1_error"] == trained[2]["test_error"]
    assert "already trained" in train(cli, trained)


def test_a_save_that_was_not_sealed_any_more_is_used_and_sealed(cli, trained, copy):
    drop_seal(copy)
    assert figures(cli, "run")[0]["top1_error"] == trained[2]["test_error"]
    assert not newest(copy).with_suffix(".json").exists()  # eval writes nothing
    train(cli, trained)
    assert newest(copy).with_suffix(".json").exists()
    assert not list((copy / "checkpoints").glob("damaged-*"))


def test_another_command_never_takes_over_a_run_whose_run_json_is_lost(cli, trained, copy):
    """Neither its result nor its checkpoints, and the run's own command still goes on."""
    (copy / "run.json").unlink()
    code, out, err = cli(*trained[1], "--seed", "7")
    assert (code, out) == (2, "")
    assert "holds the checkpoints of another run, whose run.json is lost" in err
    assert not (copy / "run.json").exists()
    train(cli, trained)


@pytest.mark.parametrize("name", ["run.json", "result.json", "metrics.jsonl", "events"])
@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_every_other_file_of_a_run_may_be_lost_or_damaged(cli, trained, copy, name, how):
    path = copy / name
    if name == "events":
        shutil.rmtree(path)
    elif how == "lost":
        path.unlink()
    else:
        flip(path)
    code, _, err = cli("eval", "run")
    assert code == 2 * (name == "run.json")
    if code:
        assert "cnnjax train command to write it anew" in err
    train(cli, trained)
    assert figures(cli, "run")[0]["top1_error"] == trained[2]["test_error"]


@pytest.fixture
def edited(trained, monkeypatch):
    """The run in its own folder, where its network was edited meanwhile."""
    source = trained[0] / "net.py"
    source.write_text(NET.replace("nn.relu(nn.Conv", "nn.tanh(-nn.Conv"))
    monkeypatch.chdir(trained[0])
    yield source
    source.write_text(NET)


def test_an_edited_network_is_refused_by_all_who_use_its_weights(cli, trained, edited):
    for arguments in (
        ("eval", "run"),
        ("export-weights", "run", "out.npz"),
        ("visualize", "net.py:Net", "--workdir", "run"),
    ):
        code, out, err = cli(*arguments)
        assert (code, out) == (2, "")
        assert "net.py was edited since run was trained" in err
    assert cli(*trained[1])[0] == 2
    edited.write_text(NET)
    assert figures(cli, "run")[0]["top1_error"] == trained[2]["test_error"]


def test_a_run_is_evaluated_from_anywhere(cli, trained, copy, tmp_path, monkeypatch):
    """Its network and its data are looked for where they lay, not in the current folder."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "net.py").write_text(NET.replace("relu", "tanh"))  # a namesake
    monkeypatch.chdir(elsewhere)
    run = trained[0] / "run"
    assert figures(cli, run)[0]["top1_error"] == trained[2]["test_error"]


def test_a_rate_that_overshoots_in_the_last_update_of_all_is_divergence(cli, copy):
    code, out, _ = cli("train", "--recipe", "small_images", "--model", "net.py:Net", "--set",
                       "steps=1", "--set", 'schedule.name="constant"', "--learning-rate", "1e38",
                       "--set", "schedule.warmup=0", "--workdir", "high", "--json")  # fmt: skip
    found = json.loads(out)
    assert (code, found["status"]) == (1, "diverged")
    assert found["train_loss"] is None


def test_a_printing_network_leaves_the_object_alone(cli, copy):
    (copy.parent / "net.py").write_text(
        NET.replace("        x =", "        print('hello')\n        x =")
    )
    code, out, err = cli("train", "--recipe", "small_images", "--model", "net.py:Net", "--set",
                         "steps=1", "--workdir", "loud", "--json")  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["status"] == "done"
    assert "hello" in err


def test_mixed_batches_are_not_called_the_training_error(cli, copy):
    code, out, err = cli("train", "--recipe", "small_images", "--model", "net.py:Net", "--epochs",
                         "1", "--set", "data.mixup=1", "--workdir", "mixed", "--json")  # fmt: skip
    assert code == 0, err
    (line,) = map(json.loads, (copy.parent / "mixed" / "metrics.jsonl").read_text().splitlines())
    assert "train_error" not in line
    assert line["batch_error"] != json.loads(out)["train_error"]


def test_what_cannot_be_read_now_is_not_taken_for_damage(cli, trained, copy, monkeypatch):
    import cnnjax.training.checkpoint as checkpoint

    def failing(folder):
        raise OSError(5, "Input/output error", str(folder))

    monkeypatch.setattr(checkpoint, "file_digests", failing)
    before = sorted(copy.rglob("*"))
    for arguments in (("eval", "run"), trained[1]):
        code, _, err = cli(*arguments)
        assert code == 1
        assert "Input/output error" in err
    assert sorted(copy.rglob("*")) == before


def test_a_run_does_not_import_pytorch(tmp_path, command):
    """TensorBoard's writer would, for a type hint: a second, where it is installed."""
    (tmp_path / "torch.py").write_text("open('imported', 'w')\n")
    (tmp_path / "net.py").write_text(NET)
    given = {**os.environ, "PYTHONPATH": str(tmp_path)}
    arguments = ["--recipe", "small_images", "--model", "net.py:Net", "--epochs", "1"]
    subprocess.run(
        [*command, "train", *arguments, "--workdir", "run"],
        cwd=tmp_path, env=given, capture_output=True, check=True,
    )  # fmt: skip
    assert list((tmp_path / "run" / "events").iterdir())
    assert not (tmp_path / "imported").exists()
