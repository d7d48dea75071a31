"""Runs the cells of a study on worker processes, one thread each, and keeps every core busy.

Cells that share a compiled program go to the same worker; a worker without one takes the dearest
program that nobody has, then helps where most is left. No result depends on who ran it.
"""

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from cnnjax.core.environment import accelerators, cores, has_accelerator, module_paths
from cnnjax.core.errors import Refused
from cnnjax.core.place import JIT, Place
from cnnjax.study.cells import Cell
from cnnjax.study.store import CellFiles
from cnnjax.study.worker import Shared
from cnnjax.training.make import program_key

_POLL_SECONDS = 0.25
_LEAVE_SECONDS = 20.0
_MEMORY = 0.9  # of a device's, shared by its workers
_FRACTIONS = ("XLA_PYTHON_CLIENT_MEM_FRACTION", "XLA_CLIENT_MEM_FRACTION")


@dataclass(frozen=True)
class Status:
    """What the runner reports while it works."""

    done: int
    total: int
    part: float  # of the work, 0 to 1
    images_per_second: float  # 0 while nothing trains yet
    seconds_left: float | None
    current: tuple[str, ...]


@dataclass(frozen=True)
class Session:
    """What one session of the runner did."""

    seconds: float
    workers: int
    cells: int
    cpu_seconds: float
    cores_busy: float  # share of the workers' cores, 0 to 1
    stopped: bool


@dataclass(eq=False)
class _Worker:
    process: subprocess.Popen
    connection: Any
    environment: Mapping[str, str]
    program: str = ""
    cell: Cell | None = None
    rate: float = 0.0
    part: float = 0.0  # of the current cell


@dataclass
class _Queue:
    """The cells that are left, by the program that they share."""

    costs: Mapping[str, float]
    programs: Mapping[str, str]  # by variant, as `costs`
    waiting: dict[str, list[Cell]] = field(default_factory=lambda: defaultdict(list))

    def put(self, cells: Sequence[Cell]) -> None:
        for cell in cells:
            self.waiting[self.programs[cell.variant.name]].append(cell)

    def take(self, program: str, taken: set[str]) -> Cell | None:
        """The next cell for a worker that has `program`, while others have `taken`."""
        left = {key: self.cost(cells) for key, cells in self.waiting.items() if cells}
        if not left:
            return None
        if program not in left:
            free = {key: cost for key, cost in left.items() if key not in taken} or left
            program = max(free, key=lambda key: free[key])
        return self.waiting[program].pop(0)

    def cost(self, cells: Sequence[Cell]) -> float:
        return float(sum(self.costs[cell.variant.name] for cell in cells))

    def __iter__(self):
        return (cell for cells in self.waiting.values() for cell in cells)


def check_workers(workers: int | None, per_device: int) -> None:
    """Refuse numbers of workers that cannot be anywhere."""
    for name, count in (("workers", workers), ("workers_per_device", per_device)):
        if count is not None and count < 1:
            raise Refused(f"{name}={count}: give 1 or more")
    if workers is not None and per_device > 1:
        raise Refused("--workers and --workers-per-device: give one of them")


def worker_environments(
    workers: int | None = None, per_device: int = 1, place: Place = JIT
) -> tuple[Mapping[str, str], ...]:
    """What the environment shows each worker of a study: one a core, or `per_device` for each
    accelerator, which sees that one alone.

    Args:
      workers: how many in all, if not that.
      place: on several devices a cell has them all, and there is one worker.

    Raises:
      Refused: several workers would share the devices of one cell.
    """
    check_workers(workers, per_device)
    if place.placement != "jit":
        if (workers or 1) > 1 or per_device > 1:
            raise Refused(
                f"--placement {place.placement} trains one cell at a time; leave out --workers"
                " and --workers-per-device"
            )
        return ({},)
    devices = accelerators()
    if not devices:
        if per_device > 1:
            raise Refused(
                "--workers-per-device is for accelerators, and there is none here; type: --workers"
            )
        # One that cannot be counted is shared by no two.
        return ({},) * (workers or (1 if has_accelerator() else cores()))
    count = workers or per_device * len(devices)
    share = -(-count // len(devices))  # workers on the fullest device
    own = any(name in os.environ for name in _FRACTIONS)
    fraction = {} if own else {_FRACTIONS[0]: f"{_MEMORY / share:.3f}"}
    return tuple(devices[n % len(devices)] | fraction for n in range(count))


def run_cells(
    cells: Sequence[Cell],
    folder_of: Callable[[Cell], Path],
    shared: Shared,
    costs: Mapping[str, float],
    *,
    environments: Sequence[Mapping[str, str]] | None = None,
    on_status: Callable[[Status], None] = lambda status: None,
    on_failure: Callable[[Cell, str], None] = lambda cell, error: None,
    stop: Callable[[], bool] = lambda: False,
) -> Session:
    """Train `cells`; each result is put in place by its worker.

    Args:
      cells: what is left to do.
      folder_of: where a cell's files go.
      shared: what every cell needs.
      costs: relative cost of one cell of each variant, for order and ETA.
      environments: of the workers, of which no more start than there are cells; default
        `worker_environments()`.
      on_status: called a few times a second at most.
      on_failure: called for each cell that raised an error, or whose worker died twice.
      stop: asked a few times a second; if true, workers are ended and a session is returned.

    Raises:
      Refused: a worker cannot start jax on the platform that is chosen.
    """
    environments = (environments or worker_environments())[: max(1, len(cells))]
    count = len(environments)
    # Once: a user's file may be edited while cells run.
    programs = {cell.variant.name: program_key(cell.variant.recipe) for cell in cells}
    queue = _Queue(costs, programs)
    queue.put(cells)
    total, done, stopped = len(cells), 0, False
    start, before = time.perf_counter(), _children_seconds()
    cost_done = 0.0
    deaths: dict[str, int] = defaultdict(int)
    lifeline, held = Pipe(duplex=False)

    def spawn(environment: Mapping[str, str]) -> _Worker:
        worker = _start_worker(lifeline, environment)
        with contextlib.suppress(OSError):
            worker.connection.send(shared)
        return worker

    def feed(worker: _Worker) -> None:
        taken = {other.program for other in team if other is not worker}
        worker.cell = queue.take(worker.program, taken)
        job = None
        worker.program, worker.part, worker.rate = "", 0.0, 0.0
        if worker.cell is not None:
            worker.program = programs[worker.cell.variant.name]
            job = worker.cell, folder_of(worker.cell)
        with contextlib.suppress(OSError):  # a worker that is dead is noticed by `wait`
            worker.connection.send(job)

    team: list[_Worker] = []
    try:
        for environment in environments:
            worker = spawn(environment)
            team.append(worker)
            feed(worker)
        while any(worker.cell for worker in team):
            if stop():
                stopped = True
                break
            for ready in wait([w.connection for w in team if w.cell], timeout=_POLL_SECONDS):
                worker = next(w for w in team if w.connection is ready)
                cell = worker.cell
                assert cell is not None, "only busy workers are waited for"
                kind, value = _receive(worker.connection)
                if kind == "progress":
                    worker.rate, worker.part = value.images_per_second, value.part
                    continue
                if kind == "unusable":
                    raise Refused(value)
                if kind == "died":
                    worker.process.wait()
                    worker.connection.close()
                    deaths[cell.name] += 1
                    team[team.index(worker)] = worker = spawn(worker.environment)
                    if deaths[cell.name] < 2:
                        queue.put([cell])
                        feed(worker)
                        continue
                    kind, value = "failed", "its worker process died twice (out of memory?)"
                    CellFiles(folder_of(cell)).fail(value)
                if kind == "failed":
                    on_failure(cell, value)
                done += 1
                cost_done += costs[cell.variant.name]
                feed(worker)
            on_status(_status(team, queue, costs, done, total, cost_done, start))
    finally:
        for worker in team:
            if stopped or worker.cell is not None:
                worker.process.terminate()
        for worker in team:
            try:
                worker.process.wait(_LEAVE_SECONDS)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
            worker.connection.close()
        held.close()
        lifeline.close()
    seconds = time.perf_counter() - start
    cpu = _children_seconds() - before
    return Session(seconds, count, done, cpu, min(1.0, cpu / (count * seconds)), stopped)


def _start_worker(lifeline: Any, environment: Mapping[str, str]) -> _Worker:
    """A process of its own; it finds modules where this one does, and has one thread."""
    ours, theirs = Pipe()
    descriptors = theirs.fileno(), lifeline.fileno()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "cnnjax.study.worker", *map(str, descriptors)],
        env={**os.environ, **module_paths(), "PJRT_NPROC": "1", **environment},
        pass_fds=descriptors,
        stdin=subprocess.DEVNULL,
    )
    theirs.close()
    return _Worker(process, ours, environment)


def _receive(connection: Connection) -> tuple[str, Any]:
    """A worker's message, or ("died", None)."""
    try:
        return connection.recv()
    except (EOFError, OSError):
        return "died", None


def _status(
    team: list[_Worker],
    queue: _Queue,
    costs: Mapping[str, float],
    done: int,
    total: int,
    cost_done: float,
    start: float,
) -> Status:
    running = [worker for worker in team if worker.cell is not None]
    parts = sum(w.part * costs[w.cell.variant.name] for w in running if w.cell)
    whole = sum(costs[w.cell.variant.name] for w in running if w.cell)
    finished = cost_done + parts
    left = queue.cost(list(queue)) + whole - parts
    elapsed = time.perf_counter() - start
    return Status(
        done=done,
        total=total,
        part=finished / (finished + left) if finished + left else 1.0,
        images_per_second=float(sum(worker.rate for worker in running)),
        seconds_left=elapsed * left / finished if finished > 0 else None,
        current=tuple(worker.cell.name for worker in running if worker.cell),
    )


def _children_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
