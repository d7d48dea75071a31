"""Several processes that train one network together, on one host or on many.

jax.distributed joins them. A peer that dies is noticed by jax, which ends the process from C++, so
a command that joins others runs under `cli.supervisor`; a peer that lives and does not move is
noticed by the watch here.
"""

import contextlib
import json
import math
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from cnnjax.core.errors import Failed, PeerLost, Refused

HEARTBEAT_SECONDS = 10  # without a sign of life for so long a process is lost
_FAULTS = re.compile("gloo|nccl|rccl|collective|connection|unavailable|heartbeat", re.IGNORECASE)

T = TypeVar("T")


@dataclass(frozen=True)
class Cluster:
    """Who trains together.

    Attributes:
      coordinator: "HOST:PORT" of process 0; None: what SLURM or a TPU pod says.
      num_processes: of all hosts; None: likewise.
      process_id: this one's, from 0; None: likewise.
    """

    coordinator: str | None = None
    num_processes: int | None = None
    process_id: int | None = None

    def __post_init__(self):
        given = (self.coordinator, self.num_processes, self.process_id)
        if given == (None, None, None):
            return
        if None in given:
            raise Refused(
                "--coordinator HOST:PORT, --num-processes N and --process-id I go together; under"
                " SLURM and on TPU pods leave out all three"
            )
        assert self.coordinator is not None
        assert self.num_processes is not None
        assert self.process_id is not None
        host, _, port = self.coordinator.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 2**16:
            raise Refused(
                f"--coordinator {self.coordinator}: give HOST:PORT of process 0, a port from 1 to"
                " 65535: --coordinator node0:7777"
            )
        if self.num_processes < 1:
            raise Refused(f"--num-processes {self.num_processes}: give 1 or more")
        if not 0 <= self.process_id < self.num_processes:
            raise Refused(
                f"--process-id {self.process_id}: of {self.num_processes} processes the ids are 0"
                f" to {self.num_processes - 1}"
            )

    def __str__(self) -> str:
        return self.coordinator or "the coordinator that SLURM or the TPU pod names"


def surrounding(environment: Mapping[str, str] = os.environ) -> Cluster | None:
    """The cluster that this process was started in by `srun` or on a TPU pod; None: it is alone."""
    tasks = environment.get("SLURM_STEP_NUM_TASKS", "1")
    workers = [one for one in environment.get("TPU_WORKER_HOSTNAMES", "").split(",") if one]
    in_step = "SLURM_PROCID" in environment and int(tasks) > 1
    return Cluster() if in_step or len(workers) > 1 else None


def join(cluster: Cluster, seconds: float) -> None:
    """Meet the other processes within `seconds`; before jax's devices are started.

    jax ends the process if they do not come in time: see `cli.supervisor`.
    """
    import jax

    jax.distributed.initialize(
        cluster.coordinator,
        cluster.num_processes,
        cluster.process_id,
        initialization_timeout=math.ceil(seconds),
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
    )


def process_count() -> int:
    import jax

    return jax.process_count()


def is_first() -> bool:
    """Whether this process is the one that writes, logs and shows progress; alone it is."""
    import jax

    return jax.process_index() == 0


def everyone(values: Sequence[float | int]) -> np.ndarray:
    """What each process says, a row each, in float64; alone one row. All must ask."""
    mine = np.asarray(values, np.float64)
    if process_count() == 1:
        return mine[None]
    from jax.experimental import multihost_utils

    with waiting():  # as bytes: jax would make float32 of it
        rows = multihost_utils.process_allgather(mine.view(np.uint8))
    return np.ascontiguousarray(rows).view(np.float64)


def from_first(function: Callable[[], T]) -> T:
    """What `function` gives in the first process, on all of them; what it refuses, all refuse.

    Args:
      function: its value is plain: numbers, text, lists, dicts, None.
    """
    if process_count() == 1:
        return function()
    said: dict[str, Any] = {}
    raised: BaseException | None = None
    if is_first():
        try:
            said = {"value": function()}
        except (Refused, Failed) as error:
            said, raised = {type(error).__name__: str(error)}, error
    said = json.loads(bytes(broadcast(np.frombuffer(json.dumps(said).encode(), np.uint8))))
    if raised is not None:
        raise raised
    for kind in (Refused, Failed):
        if kind.__name__ in said:
            raise kind(said[kind.__name__])
    return said["value"]


def broadcast(array: np.ndarray) -> np.ndarray:
    """The first process's array of one axis, whatever length the others' have."""
    from jax.experimental import multihost_utils

    with waiting():
        length = int(multihost_utils.broadcast_one_to_all(np.int32(len(array))))
    mine = array if is_first() else np.zeros(length, array.dtype)
    with waiting():
        return np.asarray(multihost_utils.broadcast_one_to_all(mine))


# ---------------------------------------------------------------- peers that are lost


@contextlib.contextmanager
def peers_named() -> Iterator[None]:
    """For the block: what a collective raises when a peer is gone becomes `PeerLost`.

    jax learns which one it was when its heartbeat fails to come, and ends this process, which the
    supervisor turns into a line with its name; that is waited for.
    """
    try:
        yield
    except (Refused, Failed):
        raise
    except Exception as error:
        if process_count() == 1 or not _FAULTS.search(str(error)):
            raise
        time.sleep(HEARTBEAT_SECONDS + 2)
        raise PeerLost(lost("a process")) from error


def lost(who: str) -> str:
    """The line for a lost peer."""
    return (
        f"{who} is lost; what was saved is whole: type the same commands again, on as many devices"
        " as there are"
    )


class Watch:
    """Ends this process if it waits for others longer than `seconds`, naming those that do not
    come.

    Every process tells the coordinator how often it came to a place where it waits for others. One
    that is stuck came there less often than those that wait.
    """

    def __init__(self, seconds: float, say: Callable[[str], None]):
        self._seconds, self._say = seconds, say
        self.arrivals = 0
        self.since: float | None = None
        self._ended = threading.Event()

    def __enter__(self) -> "Watch":
        global _watch
        if process_count() > 1:
            _watch = self
            threading.Thread(target=self._look, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        global _watch
        _watch = None
        self._ended.set()

    def _look(self) -> None:
        from cnnjax.core.jax_internals import Blackboard

        board = Blackboard("cnnjax/arrivals")
        while not self._ended.wait(min(1.0, self._seconds / 4)):
            with contextlib.suppress(Exception):  # a coordinator that is gone ends us by itself
                board.write(str(self.arrivals))
                since = self.since
                waited = 0.0 if since is None else time.monotonic() - since
                if waited < self._seconds:
                    continue
                found = {process: int(count) for process, count in board.read().items()}
                late = sorted(one for one, count in found.items() if count < self.arrivals)
                if late or waited > 2 * self._seconds:
                    names = ", ".join(f"process {one}" for one in late) or "a process"
                    self._say(lost(f"{names} has not moved for {self._seconds:g} s and"))
                    os._exit(PeerLost.exit_code)


_watch: Watch | None = None  # of the training that goes on in this process


@contextlib.contextmanager
def waiting() -> Iterator[None]:
    """Around each single place where a process waits for others: what lies between two of them is
    its own."""
    if _watch is None:
        yield
        return
    watch = _watch
    watch.arrivals += 1
    watch.since = time.monotonic()
    try:
        yield
    finally:
        watch.since = None
