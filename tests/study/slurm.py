"""A small SLURM for tests: its commands over a folder, $SLURM_TEST.

An array of jobs runs at once, each as a process group; $SLURM_LOSES names the numbers of those that
the cluster loses before they begin.
"""

import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct", "scancel", "scontrol")


def install(folder: Path) -> None:
    """The four commands, in a folder for PATH."""
    folder.mkdir()
    for name in COMMANDS:
        file = folder / name
        file.write_text(f'#!/bin/sh\nexec {sys.executable} {__file__} {name} "$@"\n')
        file.chmod(file.stat().st_mode | stat.S_IEXEC)


def sbatch(file: str) -> None:
    here, text = Path(os.environ["SLURM_TEST"]), Path(file).read_text()
    number = str(1000 + len(list(here.glob("*.sh"))))
    (here / f"{number}.sh").write_text(text)
    array = re.search(r"#SBATCH --array=0-(\d+)", text)
    for index in range(int(array[1]) + 1 if array else 1):
        job = f"{number}_{index}" if array else number
        own = {"SLURM_JOB_ID": job, "SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
        if array:
            own |= {"SLURM_ARRAY_JOB_ID": number, "SLURM_ARRAY_TASK_ID": str(index)}
        command = ["bash", here / f"{number}.sh"]
        if str(index) in os.environ.get("SLURM_LOSES", "").split(","):
            command = ["false"]
        with open(here / f"{job}.out", "wb") as out:
            process = subprocess.Popen(
                command, env={**os.environ, **own}, start_new_session=True, stdout=out, stderr=out
            )
        (here / f"{job}.pid").write_text(str(process.pid))
    print(f"Submitted batch job {number}")


def srun(*words: str) -> None:
    given, rest = {}, list(words)
    while rest[0].startswith("--"):
        word = rest.pop(0)
        if word in ("--output", "--error"):
            given[word] = rest.pop(0)
    for option, descriptor in (("--output", 1), ("--error", 2)):
        path = given[option].replace("%t", "0").replace("%j", os.environ["SLURM_JOB_ID"])
        path = path.replace("%A_%a", os.environ["SLURM_JOB_ID"])
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.execvp(rest[0], rest)


def sacct(*_: str) -> None:
    print("JobID|State|NodeList")
    for file in sorted(Path(os.environ["SLURM_TEST"]).glob("*.pid")):
        print(f"{file.stem}|{'RUNNING' if _runs(int(file.read_text())) else 'FAILED'}|here")


def scancel(job: str) -> None:
    for file in Path(os.environ["SLURM_TEST"]).glob(f"{job}*.pid"):
        if _runs(int(file.read_text())):
            os.killpg(int(file.read_text()), signal.SIGKILL)


def scontrol(word: str, job: str) -> None:
    """A job that is queued again begins a little later, when its first attempt has ended."""
    assert word == "requeue", word
    here = Path(os.environ["SLURM_TEST"])
    command = ["bash", "-c", f"sleep 3; exec bash {here / job.partition('_')[0]}.sh"]
    with open(here / f"{job}.out", "ab") as out:
        process = subprocess.Popen(command, start_new_session=True, stdout=out, stderr=out)
    (here / f"{job}.pid").write_text(str(process.pid))


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
