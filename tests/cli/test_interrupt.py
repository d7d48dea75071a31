"""Ctrl-C before a command listens for it: the exit code is 130, wherever it strikes."""

import signal
import subprocess
import sys
import time

import pytest

BEGIN = """
import sys, time
from cnnjax.cli.interrupt import listen
listen()
def wait():
    print("waiting", flush=True)
    time.sleep(30)
"""
PLACES = {
    "an import": "sys.path.insert(0, '.')\nimport slow",
    "a callback of jax": "def _xla_gc_callback(): wait()\n_xla_gc_callback()",
    "a computation": "wait()",
}


@pytest.mark.parametrize("place", PLACES)
def test_an_interrupt_is_never_lost(tmp_path, place):
    (tmp_path / "slow.py").write_text("import time\nprint('waiting', flush=True)\ntime.sleep(30)\n")
    process = subprocess.Popen(
        [sys.executable, "-c", BEGIN + PLACES[place]],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    if place == "a computation":
        assert error.endswith("KeyboardInterrupt\n")
    else:
        assert (process.returncode, error) == (130, "interrupted\n")


@pytest.mark.parametrize("seconds", [0.25, 0.5, 0.9])
def test_a_command_that_begins_is_ended_in_one_line(command, tmp_path, seconds):
    words = ["train", "--recipe", "small_images", "--model", "lenet5", "--set", "steps=200000"]
    process = subprocess.Popen(
        [*command, *words, "--workdir", "run"],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert out == ""
    assert error.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in error


def test_who_is_deaf_to_it_stays_so():
    """As under nohup."""
    deaf = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    end = "print(signal.getsignal(signal.SIGINT) is signal.SIG_IGN)"
    done = subprocess.run(
        [sys.executable, "-c", deaf + BEGIN + end], capture_output=True, text=True, check=True
    )
    assert done.stdout == "True\n"
