"""A study of a user's own network: its paths, its divergence, its edits, its process."""

import json
import subprocess
import sys

import pytest

NET = """\
from flax import linen as nn
class Net(nn.Module):
    num_classes: int = 10
    features: int = 4
    @nn.compact
    def __call__(self, images, *, train):
        print("a network that prints")
        x = nn.relu(nn.Conv(self.features, (3, 3), strides=4)(images))
        return nn.Dense(self.num_classes)(x.mean((1, 2)))
"""
STUDY = """\
from cnnjax import Contrast, Model, Preset, Study, small_images
study = Study(
    name="mine", question="?", source="a test",
    base=small_images.replace(model=Model("net.py:Net")),
    factors={"rate": {"low": {"optimizer.learning_rate": 0.1},
                      "high": {"optimizer.learning_rate": 1e30}}},
    seeds=2, metrics=("train_error",),
    contrasts=(Contrast("high", "low", "train_error", expect="higher"),),
    presets={"quick": Preset(settings={"epochs": 2})},
)
"""


@pytest.fixture(scope="module")
def finished(tmp_path_factory, command):
    """The study of a file in one folder, typed in another that has a namesake of its network."""
    there, here = tmp_path_factory.mktemp("there"), tmp_path_factory.mktemp("here")
    (there / "net.py").write_text(NET)
    (there / "my_study.py").write_text(STUDY)
    (here / "net.py").write_text("raise RuntimeError('the wrong file')\n")

    def run(*more):
        done = subprocess.run(
            [*command, "study", "run", there / "my_study.py", "--workdir", "work", "--json", *more],
            cwd=here, capture_output=True, text=True, check=False,
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    code, out, err = run("--workers", "1")
    assert code == 0, err
    return there, here, json.loads(out), run


def test_its_network_lies_beside_it_and_may_print(finished):
    found = finished[2]
    assert [cell["status"] for cell in found["cells"]] == ["done", "diverged"] * 2


def test_a_run_that_ends_before_its_first_record_is_counted_at_the_worst(finished):
    _, here, found, run = finished
    (contrast,) = found["contrasts"]
    assert contrast["diverged"] == ["high-s0", "high-s1"]
    assert contrast["mean_difference"] > 0
    lines = {p.parent.name[:4]: p.read_text() for p in here.rglob("metrics.jsonl")}
    assert lines["high"] == ""
    assert "batch_error" in lines["low-"]
    before = {p: p.stat().st_mtime_ns for p in here.rglob("result.json")}
    code, _, err = run()
    assert code == 0
    assert "every cell was done already" in err
    assert {p: p.stat().st_mtime_ns for p in here.rglob("result.json")} == before
    for name in ("report.html", "report.md", "results.csv"):
        assert (here / "work" / name).stat().st_size > 0


def test_its_cells_are_repeated_from_another_folder(finished, command, tmp_path):
    _, here, _, _ = finished
    done = subprocess.run(
        [*command, "study", "repeat", here / "work", "low-s1", "--json"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "same bits"


def test_the_network_of_a_cell_is_kept_as_a_run(finished, command, tmp_path):
    _, here, _, _ = finished

    def typed(*arguments):
        done = subprocess.run(
            [*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout and json.loads(done.stdout), done.stderr

    code, told, error = typed(
        "study", "repeat", here / "work", "low-s1", "--workdir", "run/low", "--json"
    )
    assert (code, told and told["verdict"]) == (0, "same bits"), error
    assert "record" in told
    code, judged, error = typed("eval", "run/low", "--json")
    assert code == 0, error
    assert judged["top1_error"] == told["test_error"]
    code, _, error = typed(
        "study", "repeat", here / "work", "low-s1", "--workdir", "run/low", "--json"
    )
    assert code == 2
    assert "a run has ended there" in error


def test_an_edit_makes_it_another_study_and_a_repetition_is_refused(finished, command):
    there, here, _, run = finished
    try:
        (there / "net.py").write_text(NET.replace("relu", "tanh"))
        code, _, err = run()
        assert code == 2
        assert "holds another study (sources.net.py" in err
        done = subprocess.run(
            [*command, "study", "repeat", "work", "low-s1"],
            cwd=here, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 2
        assert "net.py was edited since work was run" in done.stderr
    finally:
        (there / "net.py").write_text(NET)


def test_an_edit_while_it_runs_fails_its_cell(finished, digits):
    """A worker trains what the study was begun with, or nothing."""
    from pathlib import Path

    from cnnjax import Refused
    from cnnjax.core.user_code import paths_from
    from cnnjax.data.load import reading
    from cnnjax.study.cells import resolve
    from cnnjax.study.store import CellFiles
    from cnnjax.study.worker import Datasets, Shared, train_cell

    there = finished[0]
    scope: dict = {}
    with paths_from(there):
        exec(STUDY, scope)
        plan = resolve(scope["study"])
        cell = plan.cells[0]
        shared = Shared("0", {}, None, {"net.py": "0" * 64}, there, False)
        datasets = Datasets(shared, {reading(cell.variant.recipe.data): digits})
        with pytest.raises(Refused, match=r"net.py was edited since the study began"):
            train_cell(cell, CellFiles(Path("nowhere")), shared, datasets)


def test_run_study_leaves_the_callers_jax_alone(finished, command, tmp_path):
    """The process that calls keeps its platform, and its own signals until cells run; weights to
    start from are looked at elsewhere."""
    there = finished[0]
    subprocess.run(
        [*command, "train", "--recipe", "small_images", "--model", "net.py:Net", "--workdir", "pre",
         "--set", "steps=1"],
        cwd=there, check=True, capture_output=True,
    )  # fmt: skip
    (tmp_path / "script.py").write_text(
        "from pathlib import Path\n"
        "import jax, signal\n"
        "from cnnjax.core.config import Assignment\n"
        "from cnnjax.core.user_code import paths_from\n"
        "from cnnjax.study.cells import resolve\n"
        "from cnnjax.study.run import run_study\n"
        f"there = {str(there)!r}\n"
        "if __name__ == '__main__':\n"
        "    scope = {}\n"
        "    exec(Path(there, 'my_study.py').read_text(), scope)\n"
        "    before = jax.config.jax_platforms, signal.getsignal(signal.SIGINT)\n"
        "    with paths_from(there):\n"
        "        start = Assignment('init.weights', 'pre', '')\n"
        "        plan = resolve(scope['study'], seeds=1, settings=(start,))\n"
        "        session = run_study(plan, Path('work'), command='a script', workers=1)\n"
        "    assert session.cells == 2, session\n"
        "    from jax._src import xla_bridge\n"
        "    assert not xla_bridge._backends, 'the devices are the workers alone'\n"
        "    assert (jax.config.jax_platforms, signal.getsignal(signal.SIGINT)) == before\n"
    )
    subprocess.run([sys.executable, "script.py"], cwd=tmp_path, check=True)


@pytest.mark.core  # a study through the command line, on every Python
def test_more_seeds_are_told_everywhere(finished, command):
    _, here, _, run = finished
    code, out, err = run("--seeds", "3")
    assert code == 0, err
    assert json.loads(out)["extensions"][0]["to"] == 3
    for arguments in (["status", "work"], ["status", "work", "--json"]):
        done = subprocess.run(
            [*command, "study", *arguments], cwd=here, capture_output=True, text=True, check=True
        )
        assert "extension" in done.stdout or "Extended from 2 seeds to 3" in done.stdout
    for name in ("report.md", "report.html"):
        assert "Extended from 2 seeds to 3" in (here / "work" / name).read_text()
