"""A study as a user runs it: killed, damaged, shared, extended; the same bytes in the end."""

import csv
import io
import json
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest

from cnnjax.core.files import read_sealed, write_sealed
from cnnjax.study.cells import resolve
from cnnjax.study.runner import _Queue
from cnnjax.training.make import program_key
from experiments.degradation import study as degradation

# The smallest study that has two programs and two workers.
SMALL = ["--preset", "smoke", "--set", "steps=14", "--workers", "2"]


def untimed(path):
    """results.csv without its columns of time."""
    rows = list(csv.DictReader(io.StringIO(path.read_text())))
    return [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in rows]


@pytest.fixture(scope="module")
def cnnjax(command):
    """Start `cnnjax study run degradation` in a folder."""

    def start(folder, *more, study="degradation", cwd=None):
        small = SMALL if study == "degradation" else []
        return subprocess.Popen(
            [*command, "study", "run", study, "--workdir", folder, *small, *more],
            cwd=cwd,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


@pytest.fixture(scope="module")
def whole(cnnjax, tmp_path_factory):
    """An uninterrupted study."""
    folder = tmp_path_factory.mktemp("whole") / "study"
    process = cnnjax(folder, "--json")
    out, err = process.communicate()
    assert process.returncode == 0, err
    return folder, json.loads(out), err


def test_a_study_ends_with_one_object_and_its_report(whole):
    folder, found, err = whole
    assert found["study"] == "degradation"
    assert (found["cells_total"], found["cells_done"], found["cells_diverged"]) == (8, 8, 0)
    assert found["cells"][0]["variant"] == {"shortcut": "plain", "depth": "8"}
    assert found["report"] == str(folder / "report.html")
    assert "2 paired seeds, 1 contrast" in err
    assert found["sessions"][0]["workers"] == 2
    assert 0 < found["sessions"][0]["cores_busy"] <= 1
    assert all(cell["train_seconds"] > 0 for cell in found["cells"])
    assert sum(cell["compile_seconds"] > 0 for cell in found["cells"]) >= 4
    for name in ("report.html", "report.md", "results.csv"):
        assert (folder / name).stat().st_size > 0


def test_a_finished_study_runs_nothing_again(whole, cnnjax):
    folder, _, _ = whole
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("result.json")}
    process = cnnjax(folder)
    out, err = process.communicate()
    assert process.returncode == 0
    assert "every cell was done already" in err
    assert "report:" in out
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("result.json")} == before


def finish(cnnjax, folder):
    process = cnnjax(folder)
    _, err = process.communicate()
    assert process.returncode == 0, err
    return err


def kill_when(cnnjax, folder, results):
    """Start, wait for so many results, kill -9."""
    process = cnnjax(folder)
    while len(list(folder.rglob("result.json"))) < results and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL, "it ended before it could be killed"


def test_killed_and_damaged_it_ends_with_the_same_results(whole, cnnjax, tmp_path):
    expected, _, _ = whole
    folder = tmp_path / "study"
    kill_when(cnnjax, folder, 2)
    assert 2 <= len(list(folder.rglob("result.json"))) < 8
    finish(cnnjax, folder)
    assert untimed(folder / "results.csv") == untimed(expected / "results.csv")

    path = sorted(folder.rglob("result.json"))[3]
    damaged = bytearray(path.read_bytes())
    damaged[50] ^= 2
    path.write_bytes(damaged)
    err = finish(cnnjax, folder)
    assert [line for line in err.splitlines() if str(path) in line]
    assert untimed(folder / "results.csv") == untimed(expected / "results.csv")


def test_two_processes_never_share_a_folder(cnnjax, tmp_path):
    first = cnnjax(tmp_path, "--seeds", "20")
    deadline = time.monotonic() + 60
    while not (tmp_path / ".lock-holder").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    second = cnnjax(tmp_path)
    _, err = second.communicate()
    first.send_signal(signal.SIGTERM)
    first.communicate()
    assert second.returncode == 2
    assert f"is in use by process {first.pid} on" in err
    assert err.strip().count("\n") == 0
    assert first.returncode == 143


def test_more_seeds_extend(whole, cnnjax):
    folder, _, _ = whole
    before = untimed(folder / "results.csv")
    process = cnnjax(folder, "--seeds", "3", "--json")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert json.loads(out)["cells_total"] == 12
    assert untimed(folder / "results.csv")[:8] == before


def test_a_cell_is_repeated_with_the_same_bits(whole, command):
    folder, _, _ = whole
    done = subprocess.run(
        [*command, "study", "repeat", folder, "plain-8-s1", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["verdict"] == "same bits"


def test_cells_drawn_at_random_are_verified_and_a_changed_figure_is_found(whole, command, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(whole[0], folder)
    result = next(folder.glob("cells/residual-8-s1-*/result.json"))
    value = read_sealed(result)
    write_sealed(result, {**value, "test_error": value["test_error"] + 1e-12})
    cells = [cell for cell in folder.glob("cells/*") if "residual-8-s" not in cell.name]
    for cell in cells:
        (cell / "result.json").unlink()
    done = subprocess.run(
        [*command, "study", "verify", folder, "-k", "9", "--seed", "3", "--json"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    found = {cell["cell"]: cell for cell in json.loads(done.stdout)["cells"]}
    assert found["residual-8-s1"]["differing"] == ["test_error"]
    assert found["residual-8-s0"]["verdict"] == "same bits"


def test_a_cell_that_fails_is_named_and_the_others_are_done(cnnjax, tmp_path):
    (tmp_path / "my_net.py").write_text(
        "import os, sys\n"
        "from flax import linen as nn\n"
        "class Net(nn.Module):\n"
        "    deadly: bool = False\n"
        "    @nn.compact\n"
        "    def __call__(self, images, *, train):\n"
        "        if self.deadly and sys.argv[0].endswith('worker.py'):\n"
        "            os._exit(9)\n"
        "        return nn.Dense(10)(images.mean((1, 2)))\n"
    )
    (tmp_path / "my_study.py").write_text(
        "from cnnjax import Contrast, Preset, Study, small_images\n"
        "net = 'my_net.py:Net'\n"
        "study = Study(name='mine', question='?', source='a test', base=small_images,\n"
        "    factors={'net': {'good': {'model.name': net},\n"
        "                     'bad': {'model.name': net, 'model.deadly': True}}},\n"
        "    seeds=1, metrics=('train_error',), contrasts=(),\n"
        "    presets={'quick': Preset(settings={'steps': 2})})\n"
    )
    process = cnnjax("work", "--json", study="my_study.py", cwd=tmp_path)
    out, err = process.communicate()
    assert process.returncode == 1, err
    found = {cell["variant"]["net"]: cell["status"] for cell in json.loads(out)["cells"]}
    assert found == {"good": "done", "bad": "failed"}
    assert "bad-s0 failed: its worker process died twice" in err


def test_a_study_is_a_program_of_its_own(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "experiments.degradation", "--preset", "smok"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr == "Error: no preset 'smok'; did you mean smoke?\n"


@pytest.mark.long
def test_ten_kills_at_random_moments(whole, cnnjax, tmp_path):
    expected, _, _ = whole
    rng = random.Random(1)
    for _ in range(10):
        process = cnnjax(tmp_path / "study")
        time.sleep(rng.uniform(1, 15))
        process.kill()
        process.communicate()
    finish(cnnjax, tmp_path / "study")
    assert untimed(tmp_path / "study" / "results.csv") == untimed(expected / "results.csv")[:8]


def test_workers_share_programs_and_help_where_most_is_left():
    plan = resolve(degradation)
    programs = {v.name: program_key(v.recipe) for v in plan.variants}
    queue = _Queue({v.name: float(v.levels["depth"]) for v in plan.variants}, programs)
    queue.put(plan.cells)
    first = queue.take("", set())
    second = queue.take("", {program_key(first.variant.recipe)})
    assert {first.variant.levels["depth"], second.variant.levels["depth"]} == {"56"}
    assert program_key(first.variant.recipe) != program_key(second.variant.recipe)
    assert queue.take(program_key(first.variant.recipe), set()).variant == first.variant
    taken = 3
    while queue.take("", set()) is not None:
        taken += 1
    assert taken == 64
