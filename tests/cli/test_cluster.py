"""One training by several processes, each a command as a user types it."""

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import chex
import pytest

from cnnjax import load_run
from tests.data.test_views import photograph

OWN = f"{Path(__file__).parents[1] / 'training' / 'own_network.py'}:Own"
ARGUMENTS = ("train", "--recipe", "small_images", "--model", OWN, "--placement", "sharded")
EPOCHS = 24
LONG = ("--epochs", str(EPOCHS), "--save-every", "0", "--set", "optimizer.learning_rate=0.01")


class Cluster:
    """The processes of one training in `folder`."""

    def __init__(
        self, command, folder, count, *arguments, coordinator=None, ids=None, each=None, below=None
    ):
        if coordinator is None:
            with socket.socket() as free:
                free.bind(("localhost", 0))
                coordinator = f"localhost:{free.getsockname()[1]}"
        self.folder = folder
        self.members = [
            subprocess.Popen(
                [*(below[number] if below else ()), *command, *ARGUMENTS,
                 "--workdir", str(folder), "--coordinator", coordinator,
                 "--num-processes", str(count), "--process-id", str(number), *arguments,
                 *(each[number] if each else ())],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                env={**os.environ, "PJRT_NPROC": "1", "JAX_NUM_CPU_DEVICES": "1"},
            )
            for number in (range(count) if ids is None else ids)
        ]  # fmt: skip

    def ended(self, seconds=120):
        """Exit code, standard output and error of each."""
        texts = [member.communicate(timeout=seconds) for member in self.members]
        return [(m.returncode, *text) for m, text in zip(self.members, texts, strict=True)]

    def trains(self, seconds=120):
        """Wait until it does."""
        until = time.monotonic() + seconds
        while not (self.folder / "metrics.jsonl").exists():
            assert time.monotonic() < until, "it does not begin"
            assert all(member.poll() is None for member in self.members), self.ended()
            time.sleep(0.1)

    def child(self, number):
        """The process that computes, below the one that was typed."""
        path = Path(f"/proc/{self.members[number].pid}/task/{self.members[number].pid}/children")
        return int(path.read_text().split()[0])


def one_process(command, folder, devices, *arguments):
    """The same training by one process of so many devices, to its end."""
    return subprocess.run(
        [*command, *ARGUMENTS, "--workdir", str(folder), *arguments, "--json"],
        env={**os.environ, "PJRT_NPROC": "1", "JAX_NUM_CPU_DEVICES": str(devices)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip


def leaves(folder):
    """Digests of the newest state."""
    newest = max((folder / "checkpoints").glob("*.json"), key=lambda path: int(path.stem))
    sealed = json.loads(newest.read_text())
    found = sealed.get("content", sealed)["leaves"]
    return {name: digest for name, digest in found.items() if name != "train_seconds"}


def test_two_processes_are_one_of_two_devices_to_the_bit(command, tmp_path):
    ended = Cluster(command, tmp_path / "two", 2, "--epochs", "2", "--json").ended()
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert json.loads(ended[0][1])["status"] == "done"
    assert ended[1][1] == ended[1][2] == ""  # the first alone speaks
    one = one_process(command, tmp_path / "one", 2, "--epochs", "2")
    assert leaves(tmp_path / "two") == leaves(tmp_path / "one")
    first, second = json.loads(ended[0][1]), json.loads(one.stdout)
    assert first["bits"] == second["bits"]
    assert first["test_error"] == second["test_error"]


def test_each_process_saves_what_lies_with_it_and_one_goes_on_from_that(command, tmp_path):
    divided = ("--model-shards", "2", *LONG)
    both = Cluster(command, tmp_path, 2, *divided)
    both.trains()
    both.members[0].terminate()
    assert [code for code, _, _ in both.ended()] == [143, 143]
    newest = max((tmp_path / "checkpoints").glob("*.json"), key=lambda path: int(path.stem))
    writers = {path.name for path in newest.with_suffix("").joinpath("state").iterdir()}
    assert {"ocdbt.process_0", "ocdbt.process_1"} <= writers
    in_parts = {name for name, (*_, said) in leaves(tmp_path).items() if ":" in said}
    assert any(name.endswith("params.Conv_0.kernel") for name in in_parts), in_parts
    assert not any(name.endswith("step") for name in in_parts)
    alone = one_process(command, tmp_path, 1, *LONG)
    assert json.loads(alone.stdout)["status"] == "done"
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(set(steps))
    assert "checkpoint" not in alone.stderr  # none was found damaged


@pytest.mark.long
def test_a_folder_that_one_alone_sees_is_saved_by_it(command, tmp_path):
    each = [[], ["--workdir", str(tmp_path / "elsewhere")]]
    ended = Cluster(command, tmp_path / "run", 2, "--model-shards", "2", each=each).ended()
    assert [code for code, _, _ in ended] == [0, 0], ended
    assert "process 0 gathers and saves all" in ended[0][2]
    assert not (tmp_path / "elsewhere").exists()
    assert not any(":" in digest for *_, digest in leaves(tmp_path / "run").values())
    load_run(tmp_path / "run")


@pytest.mark.long
def test_four_processes_save_replicas_and_scanned_blocks_and_go_on(command, tmp_path):
    """Two replicas of two parts each; of the blocks two are stacked on the devices."""
    model = ("--model", "cifar_resnet20", "--set", "model.width=0.25", "--model-shards", "2")
    more = (*model, "--set", "steps=60", *LONG[2:])
    four = Cluster(command, tmp_path / "four", 4, *more)
    four.trains()
    four.members[2].terminate()
    assert [code for code, _, _ in four.ended(240)] == [143] * 4
    newest = max((tmp_path / "four/checkpoints").glob("*.json"), key=lambda path: int(path.stem))
    newest.unlink()  # as if it had been killed before it was sealed: the digests are compared
    again = Cluster(command, tmp_path / "four", 4, *more)
    assert [code for code, _, _ in again.ended(240)] == [0] * 4
    network = load_run(tmp_path / "four").network.variables
    whole = Cluster(command, tmp_path / "whole", 4, *more)
    assert [code for code, _, _ in whole.ended(240)] == [0] * 4
    chex.assert_trees_all_equal(network, load_run(tmp_path / "whole").network.variables)


@pytest.mark.long
def test_a_disk_that_fails_another_is_said_there_and_a_lost_peer_here(command, tmp_path):
    full = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh"]  # it can write no byte
    both = Cluster(command, tmp_path, 2, "--model-shards", "2", *LONG, below=[[], full])
    first, second = both.ended()
    assert (first[0], second[0]) == (75, 1), first[2]
    assert "process 1" in first[2].splitlines()[-1]
    assert "cannot be written" in second[2].splitlines()[-1]


@pytest.mark.long
def test_of_a_streamed_set_each_process_reads_its_own(command, tmp_path):
    for number in range(23):
        for split in ("train", "val"):
            file = tmp_path / "photographs" / split / "ab"[number % 2] / f"{number}.jpg"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(photograph(30 + number, 40, seed=number))
    more = ("--data", f"folder:{tmp_path / 'photographs'}", "--set", "data.image_size=16",
            "--batch-size", "8", "--epochs", "2", "--json")  # fmt: skip
    ended = Cluster(command, tmp_path / "two", 2, *more).ended()
    assert [code for code, _, _ in ended] == [0, 0], ended
    one = one_process(command, tmp_path / "one", 2, *more)
    assert json.loads(ended[0][1])["test_error"] == json.loads(one.stdout)["test_error"]
    networks = [load_run(tmp_path / name).network.variables for name in ("one", "two")]
    # To rounding, measured 4e-8; to the bit only where the set lies in memory.
    chex.assert_trees_all_close(*networks, rtol=0, atol=1e-6)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_peer_ends_the_other_and_the_same_command_goes_on(command, tmp_path, lost):
    both = Cluster(command, tmp_path, 2, *LONG)
    both.trains()
    both.members[lost].kill()
    start = time.monotonic()
    code, _, error = both.ended()[1 - lost]
    assert time.monotonic() - start < 15
    assert code == 75, error
    assert error.splitlines()[-1].startswith(f"Error: process {lost}"), error
    alone = one_process(command, tmp_path, 1, *LONG)
    assert json.loads(alone.stdout)["status"] == "done"
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    epochs = [json.loads(line)["epoch"] for line in lines]
    assert epochs == list(range(1, EPOCHS + 1))


@pytest.mark.long
def test_a_peer_that_is_stopped_is_named(command, tmp_path):
    both = Cluster(command, tmp_path, 2, *LONG)
    both.trains()
    child = both.child(1)
    os.kill(child, signal.SIGSTOP)
    start = time.monotonic()
    try:
        _, error = both.members[0].communicate(timeout=15)
    finally:
        os.kill(child, signal.SIGKILL)
        both.members[1].communicate(timeout=20)
    assert time.monotonic() - start < 15
    assert both.members[0].returncode == 75
    assert error.splitlines()[-1].startswith("Error: process 1 is lost"), error


STUCK = """\
import sys, threading, time
from pathlib import Path

def wait():
    while not Path({flag!r}).exists():
        time.sleep(0.05)
    sys.modules["cnnjax.training.loop"]._shown = lambda *_: time.sleep(1000)

if "--process-id {number} " in Path("/proc/self/cmdline").read_text().replace("\\0", " "):
    threading.Thread(target=wait, daemon=True).start()
"""


@pytest.mark.long
@pytest.mark.parametrize("stuck", [0, 1])
def test_a_peer_that_lives_and_does_not_move_is_named(command, tmp_path, monkeypatch, stuck):
    """Between two dispatches, in code that is its own."""
    flag = tmp_path / "now"
    (tmp_path / "sitecustomize.py").write_text(STUCK.format(flag=str(flag), number=stuck))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    both = Cluster(command, tmp_path / "run", 2, *LONG, "--peer-timeout", "5")
    both.trains()
    flag.touch()
    code, _, error = both.ended(40)[1 - stuck]
    assert code == 75
    assert f"process {stuck} has not moved for 5 s and is lost" in error, error


def test_one_that_is_asked_to_stop_stops_all_and_they_go_on(command, tmp_path):
    both = Cluster(command, tmp_path, 2, *LONG)
    both.trains()
    both.members[1].terminate()
    ended = both.ended()
    assert [code for code, _, _ in ended] == [143, 143], ended
    assert "interrupted at step" in ended[0][2]
    assert [code for code, _, _ in Cluster(command, tmp_path, 2, *LONG).ended()] == [0, 0]


@pytest.mark.long
def test_four_processes_train(command, tmp_path):
    ended = Cluster(command, tmp_path, 4, "--epochs", "2").ended()
    assert [code for code, _, _ in ended] == [0] * 4, ended


def test_an_error_of_one_alone_keeps_its_exit_code(command, tmp_path):
    """Of its own data, before they train."""
    both = [["--data", "nothing.npz"], []]
    refused = Cluster(command, tmp_path / "a", 2, each=both).ended()
    assert [code for code, _, _ in refused] == [2, 2], refused
    assert "nothing.npz" in refused[0][2]
    assert "process 0 cannot go on, and says why" in refused[1][2]


@pytest.mark.long
def test_a_disk_that_fails_the_first_is_no_lost_peer_there(command, tmp_path):
    both = Cluster(command, tmp_path / "b", 2, *LONG)
    both.trains()
    log = tmp_path / "b" / "metrics.jsonl"
    log.unlink()
    log.mkdir()  # it cannot be written
    first, second = both.ended()
    assert (first[0], second[0]) == (1, 75), second[2]
    assert "process 0" in second[2].splitlines()[-1]


@pytest.mark.long
def test_processes_that_were_given_different_seeds_are_refused(command, tmp_path):
    each = [["--seed", "0"], ["--seed", "1", "--set", "optimizer.momentum=0.8"]]
    ended = Cluster(command, tmp_path, 2, each=each).ended()
    assert [code for code, _, _ in ended] == [2, 2], ended
    said = "process 1 was given another command than process 0: optimizer.momentum: null -> 0.8;"
    assert all(f"{said} seed: 0 -> 1; type" in error for _, _, error in ended)


@pytest.mark.long
def test_two_signals_end_it_while_it_waits_for_the_others(command, tmp_path):
    alone = Cluster(command, tmp_path, 2, ids=[0])
    time.sleep(8)
    alone.members[0].terminate()
    time.sleep(1)
    alone.members[0].terminate()
    ((code, _, _),) = alone.ended(10)
    assert code == 143


def test_what_the_first_refuses_all_refuse(command, tmp_path):
    (tmp_path / "file").write_text("not a run")
    ended = Cluster(command, tmp_path, 2).ended()
    assert [code for code, _, _ in ended] == [2, 2], ended
    assert all("run folder" in error for _, _, error in ended), ended


def test_nobody_there_is_said_with_the_address(command, tmp_path):
    address = "localhost:9"
    alone = Cluster(command, tmp_path, 2, "--peer-timeout", "3", coordinator=address, ids=[1])
    ((code, _, error),) = alone.ended()
    assert (code, list(tmp_path.iterdir())) == (2, [])
    assert error.splitlines()[-1].startswith("Error: nobody answers at localhost:9"), error


@pytest.mark.long
def test_an_id_that_was_given_twice_is_said(command, tmp_path):
    three = Cluster(command, tmp_path, 3, "--peer-timeout", "15", ids=[0, 1, 1])
    ended = three.ended()
    assert sorted(code for code, _, _ in ended) == [2, 2, 2], ended
    assert any("--process-id 1: process 1 was started twice" in error for _, _, error in ended)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--coordinator", "localhost:1"), "go together"),
        (("--num-processes", "2"), "go together"),
        (("--coordinator", "localhost", "--num-processes", "2", "--process-id", "0"), "HOST:PORT"),
        (("--coordinator", "a:1", "--num-processes", "0", "--process-id", "0"), "give 1 or more"),
        (("--coordinator", "a:1", "--num-processes", "2", "--process-id", "2"), "the ids are 0 to"),
        (
            ("--placement", "pmap", "--coordinator", "a:1", "--num-processes", "2", "--process-id",
             "0"),
            "need --placement sharded",
        ),
    ],
)  # fmt: skip
def test_a_cluster_that_cannot_be_is_refused(cli, tmp_path, arguments, line):
    code, _, error = cli(*ARGUMENTS, "--workdir", tmp_path / "run", *arguments)
    assert (code, (tmp_path / "run").exists()) == (2, False)
    assert line in error
