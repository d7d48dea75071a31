"""A study's cells as jobs of a cluster: with submitit's local executor, and with a small SLURM."""

import csv
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnnjax import Launcher, Refused
from cnnjax.study import launch
from cnnjax.study.cells import Cell, Variant
from cnnjax.study.launch import Lifeline, divide
from cnnjax.study.runner import Status
from cnnjax.study.store import CellFiles
from cnnjax.study.worker import Shared
from cnnjax.training.recipes import small_images
from tests.study import slurm
from tests.test_api import NET

STUDY = """\
from cnnjax import Contrast, Study, small_images
study = Study(
    name="tiny", question="?", source="a test", base=small_images, seeds=2,
    factors={"rate": {"low": {"optimizer.learning_rate": 0.01}, "high": {"optimizer.name": "sgd"}}},
    metrics=("test_error",), contrasts=(Contrast("high", "low"),),
)
"""
SETTINGS = ("--set", "model.name=net.py:Net", "--workers", "1")
SHORT, LONG = ("--set", "steps=14"), ("--set", "batch_size=8", "--set", "epochs=5000")


@pytest.fixture
def typed(tmp_path, command):
    """Type `cnnjax study run` of a small study in a folder where a small SLURM is."""
    (tmp_path / "study.py").write_text(STUDY)
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "cluster").mkdir()
    slurm.install(tmp_path / "bin")
    path = f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "SLURM_TEST": str(tmp_path / "cluster")}

    def type_(folder, *words, workers=True, **variables):
        settings = SETTINGS if workers else ()
        return subprocess.Popen(
            [*command, "study", "run", "study.py", "--workdir", folder, *settings, *words],
            cwd=tmp_path, env={**environment, **variables}, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    return type_


def results(folder: Path) -> list[dict[str, str]]:
    """Of each cell, without the seconds that it took."""
    with (folder / "results.csv").open() as file:
        return [
            {key: value for key, value in row.items() if "seconds" not in key}
            for row in csv.DictReader(file)
        ]


SLURM = ("--launcher", "slurm", "--jobs", "2", "--job-option", "time=10")


def test_jobs_of_a_cluster_give_what_workers_here_give(typed, tmp_path):
    here, there = typed("here", *SHORT), typed("there", *SHORT, *SLURM)
    here.communicate()
    out, said = there.communicate()
    assert (here.returncode, there.returncode) == (0, 0), said
    assert results(tmp_path / "here") == results(tmp_path / "there")
    assert "2 jobs (1000_0, 1000_1)" in said
    assert "4 of 4 cells done" in out
    assert "for 4 cells on 2 workers" in out
    assert "#SBATCH --time=10" in (tmp_path / "cluster" / "1000.sh").read_text()


def test_a_study_over_several_devices_gives_the_figures_of_one(typed, tmp_path):
    alone = typed("alone", *SHORT)
    words = ("--set", "model.name=net.py:Net", "--placement", "pmap", *SHORT)
    alone.communicate()
    over = typed("over", *words, workers=False, JAX_NUM_CPU_DEVICES="2")
    out, said = over.communicate()
    assert over.returncode == 0, said
    assert "4 of 4 cells done" in out
    for one, two in zip(results(tmp_path / "alone"), results(tmp_path / "over"), strict=True):
        assert float(two["train_loss"]) == pytest.approx(float(one["train_loss"]), rel=1e-4)
    again = typed("over", "--set", "model.name=net.py:Net", *SHORT, workers=False)
    _, said = again.communicate()
    assert again.returncode == 2
    assert "was begun under placement pmap over 2 devices" in said


def test_cells_of_a_job_that_is_lost_are_run_by_the_same_command(typed, tmp_path):
    lost = typed("w", *SHORT, *SLURM, SLURM_LOSES="1")
    out, said = lost.communicate()
    assert lost.returncode == 1
    assert "job 1000_1 was ended from outside; the same command runs its cells" in said
    assert "2 of 4 cells done" in out
    again = typed("w", *SHORT, "--launcher", "local")
    out, said = again.communicate()
    assert again.returncode == 0, said
    assert "4 of 4 cells done" in out


def test_an_interrupt_ends_the_jobs_and_says_that_the_command_goes_on(typed, tmp_path):
    process = typed("w", *LONG, *SLURM)
    _wait_for(lambda: any((tmp_path / "w" / "jobs").glob("*/status-*.json")))
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert "interrupted; the same command goes on" in said
    assert not _running(tmp_path)


def test_a_job_that_must_give_way_is_queued_again_and_goes_on(typed, tmp_path):
    process = typed("w", *LONG, "--launcher", "slurm", "--job-option", "time=600")
    _wait_for(lambda: any((tmp_path / "w" / "jobs").glob("*/status-*.json")))
    (pid,) = (tmp_path / "cluster").glob("*.pid")
    first = pid.read_text()
    (status,) = (tmp_path / "w" / "jobs").glob("*/status-0.json")
    os.killpg(int(first), signal.SIGUSR2)  # as a cluster warns a job
    _wait_for(lambda: pid.read_text() != first)
    status.unlink()
    _wait_for(status.exists)  # the second attempt trains
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130, said
    assert not _running(tmp_path)


def test_progress_counts_what_is_done_and_not_the_queue(tmp_path, monkeypatch):
    cells, costs = _cells([1.0, 1.0, 2.0], [True, True, False])
    shared = Shared("a study", {}, None, {}, tmp_path, cached=False)
    shares = [
        launch.Share(number, ((cell, tmp_path / cell.name),), shared, costs, None, 1, tmp_path)
        for number, cell in enumerate(cells)
    ]  # fmt: skip
    clock = [1000.0]
    monkeypatch.setattr(launch.time, "monotonic", lambda: clock[0])
    progress = launch.Progress(shares, costs)
    assert (progress([False] * 3).part, progress([False] * 3).seconds_left) == (0.0, None)
    clock[0] += 7200  # two hours in the queue
    shares[2]._tell(Status(0, 1, 0.0, 50.0, None, ("a",)), 0.0, 2.0)
    assert progress([False] * 3).seconds_left is None
    clock[0] += 60
    shares[2]._tell(Status(0, 1, 0.5, 50.0, None, ("a",)), 0.0, 2.0)
    found = progress([False] * 3)
    assert (found.part, found.images_per_second, found.current) == (0.25, 50.0, ("a",))
    assert found.seconds_left == pytest.approx(180)
    (tmp_path / cells[0].name).mkdir()
    CellFiles(tmp_path / cells[0].name).result.write_text("{}")
    found = progress([True, False, False])
    assert (found.done, found.part) == (1, 0.5)


def test_jobs_whose_command_was_killed_end_before_the_next_one_begins(typed, tmp_path):
    process = typed("w", *LONG, *SLURM)
    _wait_for(lambda: any((tmp_path / "w" / "jobs").glob("*/status-*.json")))
    process.kill()
    process.communicate()
    assert _running(tmp_path)
    launch.end_earlier(tmp_path / "w" / "jobs", lambda line: None)
    _wait_for(lambda: not _running(tmp_path))


def _running(folder: Path) -> list[str]:
    pids = [file.read_text() for file in (folder / "cluster").glob("*.pid")]
    return [pid for pid in pids if slurm._runs(int(pid))]


def _wait_for(happens, seconds=120):
    until = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < until, "it did not happen"
        time.sleep(0.1)


def _cells(costs: list[float], rates: list[bool]) -> tuple[list[Cell], dict[str, float]]:
    """A cell each; those of equal batch size share a program."""
    cells, found = [], {}
    for number, (cost, large) in enumerate(zip(costs, rates, strict=True)):
        recipe = small_images.replace(batch_size=96 if large else 48)
        cells.append(Cell(Variant({"v": str(number)}, recipe, 1), 0))
        found[cells[-1].variant.name] = cost
    return cells, found


@given(
    st.lists(st.tuples(st.floats(0.1, 10), st.booleans()), min_size=1, max_size=20),
    st.integers(1, 8),
)
def test_every_cell_is_in_one_share_and_shares_cost_alike(drawn, jobs):
    cells, costs = _cells(*map(list, zip(*drawn, strict=True)))
    parts = divide(cells, costs, jobs)
    assert sorted(c.name for part in parts for c in part) == sorted(c.name for c in cells)
    assert len(parts) <= jobs
    assert all(parts)
    largest = max(sum(costs[c.variant.name] for c in part) for part in parts)
    assert largest <= sum(costs.values()) / jobs + max(costs.values()) * (1 + 1e-9)


def test_a_job_ends_when_its_command_is_gone_or_says_stop(tmp_path):
    alive = tmp_path / "alive"
    alive.write_text("1")
    gone = Lifeline(tmp_path, seconds=0.2)
    assert not gone()
    time.sleep(0.3)
    alive.write_text("2")
    assert not gone()
    time.sleep(0.3)
    assert gone()
    alive.write_text("stop")
    assert Lifeline(tmp_path)()


@pytest.mark.parametrize(
    ("launcher", "message"),
    [
        (("slorm",), "no launcher 'slorm'; did you mean slurm"),
        (("slurm", 0), "jobs=0: give 1 or more"),
        (("slurm", 1, {"time": 10, "partitoin": "gpu"}), "did you mean partition"),
        (("slurm", 1, {"partition": "gpu"}), "how many minutes a job may take, as a whole number"),
        (("slurm", 1, {"time": "8:00:00"}), "how many minutes a job may take, as a whole number"),
        (("slurm", 1, {"time": 9, "setup": "module load"}), "submitit does not take them: TypeErr"),
        (("slurm", 1, {"time": 10, "nodes": 2}), "one task on one node"),
        (("local", 1, {"time": 10}), "--job-option time: launcher local has none"),
    ],
)
def test_a_launcher_that_cannot_be_is_refused(tmp_path, monkeypatch, launcher, message):
    slurm.install(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    made = Launcher("local")
    for name, value in zip(("name", "jobs", "options"), launcher, strict=False):
        vars(made)[name] = value  # where no type checker stands before it
    with pytest.raises(Refused, match=message):
        made.check()


def test_slurm_is_needed_for_slurm(monkeypatch, tmp_path, cli):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Refused, match="needs sbatch, which is not found"):
        Launcher("slurm", 1, {"time": 10}).check()
    for words, message in (
        (("--jobs", 2), "--jobs 2 has no effect without --launcher"),
        (("--launcher", "slurm"), "needs sbatch, which is not found"),
        (("--launcher", "local", "--job-option", "time"), "write it as KEY=VALUE"),
        (("--launcher", "local", "--placement", "pmap"), "trained on one device; leave it out"),
    ):
        code, _, said = cli("study", "run", "degradation", "--workdir", tmp_path / "w", *words)
        assert (code, message in said) == (2, True), said
        assert not (tmp_path / "w").exists()


def test_without_submitit_it_is_refused_with_what_to_type(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    with pytest.raises(Refused, match=r"needs submitit; type: pip install 'cnnjax\[slurm\]'"):
        Launcher("local").check()
