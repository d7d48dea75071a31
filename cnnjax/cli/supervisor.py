"""A process of a training by several: run by another one, which says what became of it.

jax ends a process from C++, by SIGABRT, when a peer is lost or does not come; that cannot be caught
from within. What jax's C++ says goes to the supervisor, what Python says where it always goes.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading

from cnnjax.core.distributed import Cluster, lost
from cnnjax.core.errors import EXIT_PEER_LOST, EXIT_REFUSED, PeerLost, Refused

_ERRORS = "CNNJAX_SUPERVISED"  # tells the child that it is one, and where its C++ speaks
_LIFE = "CNNJAX_SUPERVISOR_LIVES"
_UNHEALTHY = re.compile(r"unhealthy[^\n]*:\s*\n((?:\S*\d+\n)+)")  # a task a line


def supervise(cluster: Cluster, seconds: float) -> None:
    """Run this command in a child, with the same arguments, and leave with its exit code.

    Returns in the child, at once.

    Args:
      seconds: that the others have to come.

    Raises:
      Refused, PeerLost: how the child ended, where jax ended it.
    """
    if _supervised:
        return
    errors, theirs = os.pipe()
    life, held = os.pipe()  # the child reads its end when this process is gone
    child = subprocess.Popen(
        [sys.executable, *sys.argv],
        env={**os.environ, _ERRORS: str(theirs), _LIFE: str(life)},
        pass_fds=(theirs, life),
        start_new_session=True,  # a Ctrl-C comes by this process alone
    )
    os.close(theirs)
    os.close(life)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, frame: _forward(child, number))
    said: list[str] = []
    with os.fdopen(errors, errors="replace") as lines:
        said.extend(lines)
    code = child.wait()
    os.close(held)
    if code == -signal.SIGABRT:
        raise _why(cluster, seconds, "".join(said))
    if code not in (0, EXIT_REFUSED):
        sys.stderr.writelines(said[-20:])
    sys.exit(code if code >= 0 else 128 - code)


_supervised = False


def begin() -> None:
    """At the start of a program: find out whether a supervisor runs it."""
    global _supervised
    if _ERRORS in os.environ:
        _supervised = True
        _live_with(int(os.environ.pop(_LIFE)))
        _speak_apart(int(os.environ.pop(_ERRORS)))


def _forward(child: "subprocess.Popen", number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        child.send_signal(number)


def _why(cluster: Cluster, seconds: float, said: str) -> Refused | PeerLost:
    """Of what jax said when it ended the child."""
    who = f"process {cluster.process_id}"
    if "RegisterTask" in said or "Wait_for_all_tasks_to_register" in said:
        if "ALREADY_EXISTS" in said or "incarnation" in said:
            return Refused(f"--process-id {cluster.process_id}: {who} was started twice; give each"
                           " its own, from 0")  # fmt: skip
        if cluster.process_id == 0:
            return Refused(
                f"not all of {cluster.num_processes} processes came to {cluster} within"
                f" {seconds:g} s; start each with its own --process-id"
            )
        return Refused(
            f"nobody answers at {cluster}, or not all of the processes came, within"
            f" {seconds:g} s; start process 0 there, and each with its own --process-id"
        )
    found = _UNHEALTHY.search(said)
    others = re.findall(r"(\d+)$", found[1], re.MULTILINE) if found else []
    names = ", ".join(f"process {task}" for task in others)
    return PeerLost(lost(names or "process 0, the coordinator,"))


def _speak_apart(elsewhere: int) -> None:
    """From now on file descriptors 1 and 2 are the supervisor's; Python keeps the old ones."""
    for number, name in ((1, "stdout"), (2, "stderr")):
        getattr(sys, name).flush()
        kept = os.fdopen(os.dup(number), "w", buffering=1, errors="backslashreplace")
        setattr(sys, name, kept)
        os.dup2(elsewhere, number)
    os.close(elsewhere)


def _live_with(life: int) -> None:
    """End when the supervisor does, however that ends."""

    def watch() -> None:
        os.read(life, 1)
        os._exit(EXIT_PEER_LOST)

    threading.Thread(target=watch, daemon=True).start()
