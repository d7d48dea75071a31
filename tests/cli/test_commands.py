"""Commands as a user types them."""

import json
import subprocess
import sys
import time

import click
import pytest

from cnnjax.cli.main import COMMANDS, cnnjax

TINY = ("train", "--recipe", "small_images", "--model", "cifar_resnet8", "--set",
        "model.width=0.25", "--epochs", "2")  # fmt: skip


def test_help_is_fast_and_imports_no_jax(command):
    start = time.perf_counter()
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 1.5
    assert done.stderr == ""
    assert all(name in done.stdout for name in COMMANDS)
    code = (
        "import sys, cnnjax, cnnjax.cli.main;"
        "heavy = {'jax', 'flax', 'numpy', 'scipy', 'matplotlib', 'rich', 'tensorflow'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_help_that_teaches(cli, name):
    code, out, _ = cli(name, "--help")
    assert code == 0
    assert len(out.splitlines()) > 8
    assert "Options:" in out


def test_every_command_is_importable():
    for name in COMMANDS:
        assert cnnjax.get_command(click.Context(cnnjax), name) is not None


def test_models_lists_counts_beside_the_published_ones(cli):
    code, out, err = cli("models", "cifar_resnet[25]*", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    rows = {row["name"]: row for row in found["models"]}
    assert set(rows) == {"cifar_resnet20", "cifar_resnet56"}
    assert rows["cifar_resnet20"]["params"] == rows["cifar_resnet20"]["published_params"]
    assert rows["cifar_resnet20"]["macs"] == 40_551_040
    assert rows["cifar_resnet20"]["flops"] == 81_102_080
    assert rows["cifar_resnet20"]["input"] == [32, 32, 3]
    assert "FLOPs = 2 x MACs" in found["convention"]


def test_models_takes_a_depth_that_is_not_listed(cli):
    code, out, _ = cli("models", "cifar_plain14")
    assert code == 0
    assert "cifar_plain14" in out


def test_train_eval_and_again(cli, tmp_path):
    arguments = (*TINY, "--data", "digits", "--workdir", tmp_path, "--json")
    code, out, err = cli(*arguments)
    assert code == 0, err
    result = json.loads(out)
    assert (result["status"], result["steps"]) == ("done", 28)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2]
    assert list((tmp_path / "events").glob("events.out.tfevents.*"))

    code, out, _ = cli("eval", tmp_path, "--json")
    figures = json.loads(out)
    assert code == 0
    assert figures["examples"] == 450
    assert figures["top1_error"] == result["test_error"]
    assert figures["loss"] == result["test_loss"]
    code, out, _ = cli("eval", tmp_path, "--split", "train", "--json")
    assert json.loads(out)["top1_error"] == result["train_error"]

    code, out, err = cli(*arguments)
    assert code == 0
    assert "already trained" in err
    assert json.loads(out)["test_error"] == result["test_error"]


def test_a_run_that_blows_up_ends_with_its_step_and_leaf(cli, tmp_path):
    code, out, err = cli(*TINY, "--data", "digits", "--learning-rate", "1e18", "--workdir",
                         tmp_path, "--json")  # fmt: skip
    assert code == 1
    assert json.loads(out)["status"] == "diverged"
    assert "is not finite" in err


def test_a_users_network_trains(cli, tmp_path):
    (tmp_path / "my_net.py").write_text(
        "from flax import linen as nn\n"
        "class MyNet(nn.Module):\n"
        "    num_classes: int = 10\n"
        "    @nn.compact\n"
        "    def __call__(self, images, *, train):\n"
        "        x = nn.relu(nn.Conv(8, (3, 3), strides=2)(images))\n"
        "        x = nn.Dropout(0.1, deterministic=not train)(x)\n"
        "        return nn.Dense(self.num_classes)(x.reshape(x.shape[0], -1))\n"
    )
    train = ("train", "--recipe", "small_images", "--epochs", "2", "--workdir", tmp_path / "run")
    code, out, err = cli(*train, "--model", f"{tmp_path}/my_net.py:MyNet", "--json")
    assert code == 0, err
    assert json.loads(out)["train_error"] < 40
    with (tmp_path / "my_net.py").open("a") as file:
        file.write("# edited\n")
    code, _, err = cli(*train, "--model", f"{tmp_path}/my_net.py:MyNet")
    assert code == 2
    assert "holds another run (sources." in err
    code, _, err = cli("train", "--model", f"{tmp_path}/my_net.py:Net", "--data", "digits",
                       "--workdir", tmp_path / "other")  # fmt: skip
    assert code == 2
    assert "did you mean MyNet" in err


def test_data_info_and_preview(cli, tmp_path):
    code, out, _ = cli("data", "info", "digits", "--json")
    facts = json.loads(out)
    assert code == 0
    assert (facts["train_examples"], facts["test_examples"]) == (1347, 450)
    assert facts["augmentation"] == "none"
    path = tmp_path / "sheet.png"
    code, out, _ = cli("data", "preview", "digits", "--out", path)
    assert code == 0
    assert path.read_bytes().startswith(b"\x89PNG")


def test_the_list_of_studies(cli):
    code, out, _ = cli("study", "list", "--json")
    assert code == 0
    (found,) = (s for s in json.loads(out)["studies"] if s["name"] == "degradation")
    assert list(found["presets"]) == ["smoke", "quick", "thorough", "cifar", "paper"]


def test_real_cifar10_trains_from_the_command_line(cli, real_data, tmp_path):
    code, out, err = cli("train", "--model", "cifar_resnet8", "--data", "cifar10", "--data-dir",
                         real_data, "--set", "data.train_split=train[:512]", "--set",
                         "data.test_split=test[:100]", "--set", "steps=3", "--batch-size", "64",
                         "--workdir", tmp_path, "--json")  # fmt: skip
    assert code == 0, err
    assert json.loads(out)["data"] == "cifar10"
