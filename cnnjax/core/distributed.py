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

from cnnjax.core.errors import Failed, PeerLost, Refused, one_line
from cnnjax.core.values import differences, digest

HEARTBEAT_SECONDS = 10  # without a sign of life for so long a process is lost
# What jax says, as one kind of error or another, when a collective fails for want of a peer.
_FAULTS = re.compile(
    r"(UNKNOWN|INTERNAL|UNAVAILABLE|ABORTED|CANCELLED|FAILED_PRECONDITION|DEADLINE_EXCEEDED): .*"
    r"(gloo|nccl|rccl|collective|connection|heartbeat|barrier)",
    re.IGNORECASE | re.DOTALL,
)
_CHUNK = 2**26  # bytes
_NAMED = 3  # of what differs, at most

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)


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

    try:
        jax.distributed.initialize(
            cluster.coordinator,
            cluster.num_processes,
            cluster.process_id,
            initialization_timeout=math.ceil(seconds),
            heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
            shutdown_timeout_seconds=HEARTBEAT_SECONDS,
        )
    except RuntimeError as error:
        if "must be called before" not in str(error):
            raise
        raise Refused(
            "a file of yours computes with jax while it is imported, before the processes have met;"
            " move that into a function"
        ) from error
    everyone([0])  # opens the way between them: later it would be waited for half a minute only


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


def from_all(value: T) -> list[T]:
    """What each process says, in all of them: plain, as numbers, text, lists, dicts, None."""
    if process_count() == 1:
        return [value]
    mine = np.frombuffer(json.dumps(value).encode(), np.uint8)
    lengths = everyone([len(mine)])[:, 0].astype(int)
    from jax.experimental import multihost_utils

    with waiting():
        rows = multihost_utils.process_allgather(np.pad(mine, (0, lengths.max() - len(mine))))
    pairs = zip(np.asarray(rows), lengths, strict=True)
    return [json.loads(bytes(row[:length])) for row, length in pairs]


def in_all(function: Callable[[], T]) -> T:
    """What `function` gives here, once it has given something in every process.

    Raises:
      Refused, Failed: here, or in another process, which says why.
    """
    if process_count() == 1:
        return function()
    found: list[T] = []
    raised: Refused | Failed | None = None
    try:
        found.append(function())
    except (Refused, Failed) as error:
        raised = error
    codes = everyone([0 if raised is None else 1 + isinstance(raised, Refused)])[:, 0]
    if raised is not None:
        raise _told(raised)
    if codes.any():
        kind = Refused if codes.max() == 2 else Failed
        raise _told(kind(f"process {int(np.argmax(codes))} cannot go on, and says why"))
    return found[0]


def from_first(function: Callable[[], T]) -> T:
    """What `function` gives in the first process, on all of them; what it refuses, all refuse.

    Args:
      function: its value is plain: numbers, text, lists, dicts, None.
    """
    if process_count() == 1:
        return function()
    said: dict[str, Any] = {}
    raised: Exception | None = None
    if is_first():
        try:
            said = {"value": function()}
        except Exception as error:
            kind = "Refused" if isinstance(error, Refused) else "Failed"
            text = str(error) if isinstance(error, Refused | Failed) else one_line(error)
            said, raised = {kind: text}, error
    said = json.loads(bytes(broadcast(np.frombuffer(json.dumps(said).encode(), np.uint8))))
    if raised is not None:
        raise _told(raised)
    for kind in (Refused, Failed):
        if kind.__name__ in said:
            raise _told(kind(said[kind.__name__]))
    return said["value"]


def check_alike(given: Mapping[str, Any]) -> None:
    """Refuse, in all processes and with the same words, what one of them was given otherwise.

    Args:
      given: JSON values.
    """
    said = everyone([int(digest(given)[:12], 16)])[:, 0]
    if not (differing := np.flatnonzero(said != said[0])).size:
        return
    every = from_all(given)
    lines = differences(every[0], every[differing[0]])
    raise _told(
        Refused(
            f"process {differing[0]} was given another command than process 0:"
            f" {'; '.join(lines[:_NAMED])}{'; ...' * (len(lines) > _NAMED)}; type the same for"
            " each, but for --process-id"
        )
    )


def broadcast(array: np.ndarray) -> np.ndarray:
    """The first process's bytes, whatever length the others' have."""
    from jax.experimental import multihost_utils

    length = int(everyone([len(array)])[0, 0])
    mine = array if is_first() else np.zeros(length, array.dtype)
    parts = []
    for start in range(0, length, _CHUNK):  # what is sent lies on the devices, too
        with waiting():
            sent = multihost_utils.broadcast_one_to_all(mine[start : start + _CHUNK])
            parts.append(np.asarray(sent))
    return np.concatenate(parts) if parts else mine


def _told(error: E) -> E:
    """An error that every process raises, so none need be left waiting for another."""
    error.told = True  # type: ignore[attr-defined]
    return error


def is_told(error: BaseException) -> bool:
    return getattr(error, "told", False)


# ---------------------------------------------------------------- peers that are lost


@contextlib.contextmanager
def peers_named() -> Iterator[None]:
    """For the block: what a collective raises when a peer is gone becomes `PeerLost`.

    jax learns which one it was when its heartbeat fails to come, and ends this process, which the
    supervisor turns into a line with its name; that is waited for.
    """
    from jax.errors import JaxRuntimeError

    try:
        yield
    except (JaxRuntimeError, ValueError) as error:
        if not is_peer_fault(error):
            raise
        time.sleep(HEARTBEAT_SECONDS + 2)
        raise PeerLost(lost("a process")) from error


def is_peer_fault(error: BaseException) -> bool:
    """Whether it is what a collective or a barrier raises when a peer is gone."""
    return process_count() > 1 and bool(_FAULTS.match(str(error)))


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

        board, late = Blackboard("cnnjax/arrivals"), []
        while not late and not self._ended.wait(min(1.0, self._seconds / 4)):
            with contextlib.suppress(Exception):  # a coordinator that is gone ends us by itself
                arrivals, since = self.arrivals, self.since
                board.write(str(arrivals))
                if since is not None and time.monotonic() - since >= self._seconds:
                    found = board.read().items()
                    late = sorted(one for one, count in found if int(count) < arrivals)
        if late:
            names = ", ".join(f"process {one}" for one in late)
            with contextlib.suppress(Exception):
                self._say(lost(f"{names} has not moved for {self._seconds:g} s and"))
            os._exit(PeerLost.exit_code)


_watch: Watch | None = None  # of the training that goes on in this process


@contextlib.contextmanager
def waiting(*, counted: bool = True) -> Iterator[None]:
    """Around each single place where a process waits for others: what lies between two of them is
    its own.

    Args:
      counted: False where not all processes come at the same times.
    """
    if _watch is None:
        yield
        return
    watch = _watch
    watch.arrivals += counted
    watch.since = time.monotonic()
    try:
        yield
    finally:
        watch.since = None
