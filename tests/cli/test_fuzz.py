"""Random command lines over every command and option: never a traceback, never "our fault"."""

import json
import random
import shlex

import click
import pytest

from cnnjax.analysis.catalogue import catalogue_row
from cnnjax.cli.main import COMMANDS, cnnjax
from cnnjax.core.errors import Failed

NASTY = (
    "", " ", "-1", "0", "1", "7", "nan", "-inf", "1e400", "9" * 30, "2.5", "é", "\udcff", "=",
    "a=b", "[", "{}", "[1]", "null", "true", '"x"', ".", "..", "/", "no/where", "file", "folder",
    "a b",
    "net.py:Net", "net.py:Nat", "net.py", "no.py:Net", "folder:folder", "folder:", "lenet5",
    "cifar_resnet8", "cifar_resnet9", "digits", "mnist", "train", "run", "x.png", "x.npz", "%s",
    "jit", "pmap", "sharded",
)  # fmt: skip
SETTINGS = (
    "model.width", "model.name", "model.num_classes", "model", "model.depth", "data.name", "data",
    "data.image_size", "data.train_split", "data.streaming", "data.mixup", "optimizer", "epochs",
    "optimizer.learning_rate", "schedule.name", "schedule.boundaries", "schedule", "steps",
    "streams.order", "batch_size", "loss.name", "loss.label_smoothing", "source", "x", "", "a.b.c",
)  # fmt: skip
NET = """\
from flax import linen as nn
class Net(nn.Module):
    num_classes: int = 10
    width: int = 2
    @nn.compact
    def __call__(self, images, *, train):
        return nn.Dense(self.num_classes)(nn.Dense(self.width)(images.mean((1, 2))))
"""


def leaves() -> list[tuple[list[str], click.Command]]:
    """The words of each command, and the command."""
    found = []
    for name in COMMANDS:
        command = cnnjax.get_command(click.Context(cnnjax), name)
        inner = getattr(command, "commands", None)
        found += [([name, n], c) for n, c in inner.items()] if inner else [([name], command)]
    return [(words, command) for words, command in found if words != ["compare"]]  # no arguments


def command_line(rng: random.Random) -> list[str]:
    words, command = rng.choice(leaves())
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            if rng.random() < 0.95:
                words = [*words, rng.choice(NASTY)]
            continue
        times = rng.choices((0, 1, 2), (6, 3, 1))[0] or int(parameter.required)
        for _ in range(times):
            words = [*words, rng.choice(parameter.opts)]
            if getattr(parameter, "is_flag", False):
                continue
            choices = getattr(parameter.type, "choices", ())
            for _ in range(parameter.nargs):
                value = rng.choice([*NASTY, *choices])
                if "--set" in parameter.opts:
                    value = f"{rng.choice(SETTINGS)}={value}"
                words = [*words, value]
    return words


def test_every_command_is_tried():
    names = {words[0] for words, _ in leaves()}
    assert names == set(COMMANDS) - {"compare"}


def tried(cli, monkeypatch, tmp_path, seed, count):
    """Type `count` lines; the exit codes."""

    def no_training(*arguments, **options):
        raise Failed("nothing is trained here")

    for computes in (
        "training.run.fit", "study.run.run_cells", "study.run.run_jobs", "bench.step.prepare",
        "bench.compile.fresh_state", "bench.data._of_stream", "bench.data._in_memory",
        "report.visualize.draw",
    ):  # fmt: skip
        monkeypatch.setattr(f"cnnjax.{computes}", no_training)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "sets"))
    rng, codes = random.Random(seed), []
    for number in range(count):
        here = tmp_path / str(number)
        here.mkdir()
        (here / "net.py").write_text(NET)
        (here / "file").write_text("x")
        (here / "folder").mkdir()
        monkeypatch.chdir(here)
        words = command_line(rng)
        code, out, err = cli(*words)
        shown = shlex.join(words).encode(errors="backslashreplace").decode()
        assert code in (0, 1, 2), f"{shown}: {code}\n{err}"
        assert "Traceback" not in out + err, f"{shown}\n{err}"
        assert "fault of cnnjax" not in err, f"{shown}\n{err}"
        if code == 2:
            assert err.splitlines()[-1].startswith(("Error: ", "Usage", "  ")), f"{shown}\n{err}"
            assert out == "", shown
        if code == 0 and "--json" in words and "--help" not in words:
            json.loads(out)
        codes.append(code)
    return codes


def test_random_command_lines(cli, monkeypatch, tmp_path):
    """The rows of `models` are one network's: to count them all takes a minute each time."""
    row = catalogue_row("lenet5")
    monkeypatch.setattr(
        "cnnjax.analysis.catalogue.catalogue_row", lambda name: {**row, "name": name}
    )
    codes = tried(cli, monkeypatch, tmp_path, seed=0, count=75)
    assert codes.count(2) > 35


@pytest.mark.long
@pytest.mark.parametrize("seed", range(1, 11))
def test_more_random_command_lines(cli, monkeypatch, tmp_path, seed):
    tried(cli, monkeypatch, tmp_path, seed, 300)
