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
import time
from collections import deque
from collections.abc import Iterator

from cnnjax.core.distributed import Cluster, is_told, lost
from cnnjax.core.errors import PeerLost, Refused

# For the child: where its C++ speaks, and what tells that we live.
_SUPERVISED = "CNNJAX_SUPERVISED"
_UNHEALTHY = re.compile(r"unhealthy[^\n]*:\s*\n((?:\S*\d+\n)+)")  # a task a line
_SERVICE = re.compile("coordination.?service|distributed service", re.IGNORECASE)
_KEPT = 2000  # lines of what C++ said
_TWICE = 0.5  # seconds: one signal may come by two ways

_is_child = False


def supervise(cluster: Cluster, seconds: float) -> None:
    """Run this command in a child and leave with its exit code; in the child return at once.

    Args:
      seconds: that the others have to come.

    Raises:
      Refused, PeerLost: how the child ended, where jax ended it.
    """
    if _is_child:
        return
    errors, theirs = os.pipe()
    life, held = os.pipe()  # the child reads its end when this process is gone
    child = subprocess.Popen(
        [sys.executable, *sys.orig_argv[1:]],
        env={**os.environ, _SUPERVISED: f"{theirs},{life}"},
        pass_fds=(theirs, life),
        start_new_session=True,  # a Ctrl-C comes by this process alone
    )
    os.close(theirs)
    os.close(life)
    _forward_signals(child)
    said: deque[str] = deque(maxlen=_KEPT)
    lines = os.fdopen(errors, errors="replace")
    reader = threading.Thread(target=lambda: said.extend(lines), daemon=True)
    reader.start()
    code = child.wait()
    reader.join(1)  # what the child has started may hold the pipe open
    os.close(held)
    if code == -signal.SIGABRT:
        ended = _why(cluster, seconds, "".join(said))
        if ended is not None:
            raise ended
        sys.stderr.writelines([*said][-20:])  # an abort of its own
    sys.exit(code if code >= 0 else 128 - code)


@contextlib.contextmanager
def leaving_at_once(cluster: Cluster | None) -> Iterator[None]:
    """For the block: an error that this process of a cluster has alone ends it at once, with the
    code that it would have; jax would wait for the others first, and they for this one."""
    try:
        yield
    except Exception as error:
        if cluster is None or is_told(error):
            raise
        from cnnjax.cli.main import report

        code = report(error)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def begin() -> None:
    """At the start of a program: find out whether a supervisor runs it."""
    global _is_child
    if _SUPERVISED in os.environ:
        _is_child = True
        errors, life = map(int, os.environ.pop(_SUPERVISED).split(","))
        _live_with(life)
        _speak_apart(errors)


def _forward_signals(child: "subprocess.Popen") -> None:
    """To the child; a second one ends it, whatever it is at: in C++ it hears none."""
    received: list[float] = []

    def forward(number: int, frame: object) -> None:
        now = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            if not received:
                child.send_signal(number)
            elif now - received[0] > _TWICE:
                child.kill()
                os._exit(128 + number)
        received.append(now)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)


def _why(cluster: Cluster, seconds: float, said: str) -> Refused | PeerLost | None:
    """Of what jax said when it ended the child; None: it was not for a peer."""
    number = os.environ.get("SLURM_PROCID", cluster.process_id)
    if "RegisterTask" in said or "Wait_for_all_tasks_to_register" in said:
        if "ALREADY_EXISTS" in said or "incarnation" in said:
            return Refused(
                f"--process-id {number}: process {number} was started twice; give each its own,"
                " from 0"
            )
        if str(number) == "0":
            return Refused(
                f"not all of the processes came to {cluster} within {seconds:g} s; start each with"
                " its own --process-id"
            )
        return Refused(
            f"nobody answers at {cluster}, or not all of the processes came, within"
            f" {seconds:g} s; start process 0 there, and each with its own --process-id"
        )
    if found := _UNHEALTHY.search(said):
        tasks = re.findall(r"(\d+)$", found[1], re.MULTILINE)
        return PeerLost(lost(", ".join(f"process {task}" for task in tasks)))
    return PeerLost(lost("process 0, the coordinator,")) if _SERVICE.search(said) else None


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
        os._exit(PeerLost.exit_code)

    threading.Thread(target=watch, daemon=True).start()
