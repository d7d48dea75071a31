"""Runs the cells of a study as jobs of a cluster, which share its folder.

submitit submits the jobs; when and where they run is the cluster's business. Each has its share of
the cells, and is `run_cells` on its node: one worker a core, or one a device. A job that runs into
its time limit, or has to give way, is queued again and goes on. A job that runs does not outlive
the command by more than a few minutes: it looks at a file that the command keeps fresh.
"""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from cnnjax.core.environment import accelerators, cores, has_accelerator, module_paths
from cnnjax.core.errors import Failed, Refused, Say, one_line, unknown
from cnnjax.core.files import atomic_write, write_json
from cnnjax.core.lock import hold
from cnnjax.core.user_code import paths_from
from cnnjax.study.cells import Cell
from cnnjax.study.runner import Session, Status, run_cells, worker_environments
from cnnjax.study.store import CellFiles
from cnnjax.study.worker import Shared
from cnnjax.training.make import program_key

JOBS = "jobs"  # in a study's folder: what they said, by the time of the command
LAUNCHERS = ("slurm", "local")
_POLL_SECONDS = 1.0
_FRESH_SECONDS = 10.0  # between two signs of life of the command
_ALONE_SECONDS = 300.0  # without one, a job ends: shared file systems may be slow to show it
_LEAVE_SECONDS = 60.0
_STOP = "stop"
_REQUEUES = 1000  # of a job that reaches its time limit again and again


@dataclass(frozen=True)
class Launcher:
    """How a study's cells become jobs.

    Attributes:
      name: slurm; or local: processes of this machine, to try what a cluster will do.
      jobs: how many, of which each takes a share of the cells.
      options: of a job, by submitit's names: {"partition": "gpu", "time": 240} (minutes).
    """

    name: Literal["slurm", "local"] = "slurm"
    jobs: int = 1
    options: Mapping[str, Any] = field(default_factory=dict)

    def check(self) -> None:
        """
        Raises:
          Refused: submitit or the cluster is not there, or a job has no such option.
        """
        if self.name not in LAUNCHERS:
            raise unknown("launcher", self.name, LAUNCHERS)
        if self.jobs < 1:
            raise Refused(f"jobs={self.jobs}: give 1 or more")
        try:
            import submitit
        except ImportError:
            raise Refused(
                f"--launcher {self.name} needs submitit; type: pip install 'cnnjax[slurm]'"
            ) from None
        if self.name == "local":
            if self.options:
                raise Refused(f"--job-option {next(iter(self.options))}: launcher local has none")
            return
        for command in ("sbatch", "srun", "sacct", "scancel"):
            if shutil.which(command) is None:
                raise Refused(
                    f"--launcher slurm needs {command}, which is not found; type the command on a"
                    " machine from which jobs are submitted, or leave out --launcher"
                )
        known = submitit.SlurmExecutor._valid_parameters()
        for name in self.options:
            if name not in known:
                raise unknown("--job-option", name, sorted(known))
        minutes = self.options.get("time")
        if not isinstance(minutes, int) or isinstance(minutes, bool) or minutes < 1:
            raise Refused(
                "say how many minutes a job may take, as a whole number: --job-option time=240"
            )
        if self.options.get("nodes", 1) != 1 or self.options.get("ntasks_per_node", 1) != 1:
            raise Refused("a job is one task on one node, which fills it with workers; set --jobs")
        try:
            self.executor(Path(), "check")  # it writes nothing yet
        except (TypeError, ValueError) as error:
            raise Refused(f"--job-option: submitit does not take them: {one_line(error)}") from None

    def executor(self, folder: Path, name: str) -> Any:
        """submitit's, which submits."""
        import submitit

        if self.name == "local":
            cards = [one.get("CUDA_VISIBLE_DEVICES", "") for one in accelerators()]
            shown = tuple(int(card) for card in cards if card.isdigit())
            executor = submitit.LocalExecutor(folder)
            executor.update_parameters(
                timeout_min=60 * 24 * 365, gpus_per_node=len(shown), visible_gpus=shown
            )
            return executor
        executor = submitit.SlurmExecutor(folder, max_num_timeout=_REQUEUES)
        executor.update_parameters(**{"job_name": f"cnnjax-{name}", **self.options})
        return executor


@dataclass(frozen=True)
class Share:
    """What one job does; it is pickled, and called in the job.

    Attributes:
      number: of the job, from 0.
      cells: with their folders.
      shared: see `run_cells`.
      costs: see `run_cells`.
      workers, workers_per_device: see `worker_environments`.
      folder: of this command's jobs.
    """

    number: int
    cells: tuple[tuple[Cell, Path], ...]
    shared: Shared
    costs: Mapping[str, float]
    workers: int | None
    workers_per_device: int
    folder: Path

    @property
    def status(self) -> Path:
        """What the job says of itself; there is none before it begins."""
        return self.folder / f"status-{self.number}.json"

    @property
    def place(self) -> Path:
        """A folder that the job holds while it runs."""
        return self.folder / f"job-{self.number}"

    def __call__(self) -> tuple[Session | None, list[tuple[str, str]], str]:
        """What the job did, the cells that failed with their errors, and why it was refused."""
        self.place.mkdir(exist_ok=True)
        folders = {cell.name: folder for cell, folder in self.cells}
        failed: list[tuple[str, str]] = []
        # A job that was queued again has done some of them.
        left = [cell for cell, folder in self.cells if not self._done(folder)]
        cost = sum(self.costs[cell.variant.name] for cell in left)
        try:
            with hold(self.place, "the job"), paths_from(self.shared.folder):
                session = run_cells(
                    left,
                    lambda cell: folders[cell.name],
                    self.shared,
                    self.costs,
                    environments=worker_environments(self.workers, self.workers_per_device),
                    on_status=_at_most_every(
                        _POLL_SECONDS, lambda status: self._tell(status, self.cost - cost, cost)
                    ),
                    on_failure=lambda cell, error: failed.append((cell.name, error)),
                    stop=Lifeline(self.folder),
                )
        except Refused as error:
            return None, failed, str(error)
        return session, failed, ""

    def checkpoint(self) -> Any:
        """For submitit: what is queued again when the time is up."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _done(self, folder: Path) -> bool:
        try:
            return CellFiles(folder).read(self.shared.identity) is not None
        except ValueError:
            return False

    @property
    def cost(self) -> float:
        """Of all its cells."""
        return sum(self.costs[cell.variant.name] for cell, _ in self.cells)

    def _tell(self, status: Status, before: float, now: float) -> None:
        """`before`: the cost of what an earlier attempt did; `now`: of this one's cells."""
        told = {
            "finished": before + status.part * now,
            "images_per_second": status.images_per_second,
            "current": status.current,
        }
        write_json(self.status, told)


class Lifeline:
    """In a job: whether the command that submitted it is gone, or says stop."""

    def __init__(self, folder: Path, seconds: float = _ALONE_SECONDS):
        self._file, self._seconds = folder / "alive", seconds
        self._seen, self._since = "", time.monotonic()

    def __call__(self) -> bool:
        with contextlib.suppress(OSError):
            found = self._file.read_text()
            if found == _STOP:
                return True
            if found != self._seen:  # of clocks only this machine's counts
                self._seen, self._since = found, time.monotonic()
        return time.monotonic() - self._since > self._seconds


def run_jobs(
    cells: Sequence[Cell],
    folder_of: Callable[[Cell], Path],
    shared: Shared,
    costs: Mapping[str, float],
    *,
    launcher: Launcher,
    folder: Path,
    name: str,
    workers: int | None = None,
    workers_per_device: int = 1,
    say: Say = lambda line: None,
    on_status: Callable[[Status], None] = lambda status: None,
    on_failure: Callable[[Cell, str], None] = lambda cell, error: None,
    stop: Callable[[], bool] = lambda: False,
) -> Session:
    """As `run_cells`, by jobs.

    Args:
      folder: JOBS in the study's folder; an earlier command's jobs that still run end first.
      name: of the study, for the queue.
      say: is told where the jobs' own words are, and which ended early.

    Raises:
      Refused: no cell can run where the jobs run, or an earlier command's job does not end.
      Failed: the cluster does not take the jobs.
    """
    end_earlier(folder, say)
    own = folder.absolute() / datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    own.mkdir(parents=True)
    _freshen(own)
    parts = divide(cells, costs, launcher.jobs)
    if workers is None and launcher.name == "local" and not has_accelerator():
        workers = max(1, cores() // len(parts))  # they share this machine
    shares = [
        Share(
            number,
            tuple((cell, folder_of(cell).absolute()) for cell in part),
            shared,
            costs,
            workers,
            workers_per_device,
            own,
        )
        for number, part in enumerate(parts)
    ]
    start = time.perf_counter()
    try:
        jobs = _submit(launcher, own, name, shares)
    except BaseException:
        atomic_write(own / "alive", _STOP.encode())  # some may have been taken
        raise
    stopped, fresh, progress = False, time.monotonic(), Progress(shares, costs)
    try:
        names = ", ".join(job.job_id for job in jobs)
        say(f"{len(jobs)} jobs ({names}); what they say is in {own}")
        while not all(job.done() for job in jobs):
            if stop():
                stopped = True
                break
            if time.monotonic() - fresh > _FRESH_SECONDS:
                fresh = time.monotonic()
                _freshen(own)
            on_status(progress([job.done() for job in jobs]))
            time.sleep(_POLL_SECONDS)
        stopped = stopped or stop()
    finally:
        _end(own, jobs, shares)
    return _gathered(jobs, shares, stopped, time.perf_counter() - start, say, on_failure)


def divide(cells: Sequence[Cell], costs: Mapping[str, float], jobs: int) -> list[tuple[Cell, ...]]:
    """At most so many shares of about equal cost; cells that share a program stay together."""
    programs = {cell.variant.name: program_key(cell.variant.recipe) for cell in cells}
    weight: dict[str, float] = {}
    for cell in cells:
        key = programs[cell.variant.name]
        weight[key] = weight.get(key, 0.0) + costs[cell.variant.name]
    ordered = sorted(
        cells, key=lambda cell: (-weight[programs[cell.variant.name]], programs[cell.variant.name])
    )
    total, before = sum(weight.values()), 0.0
    parts: dict[int, list[Cell]] = {}
    for place, cell in enumerate(ordered):
        cost = costs[cell.variant.name]
        # Without convolutions and dense layers nothing has a cost: then cells are counted.
        middle = (before + cost / 2) / total if total else (place + 0.5) / len(ordered)
        parts.setdefault(min(int(middle * jobs), jobs - 1), []).append(cell)
        before += cost
    return [tuple(part) for _, part in sorted(parts.items())]


def end_earlier(folder: Path, say: Say) -> None:
    """Tell jobs of an earlier command, which was killed, to end, and wait for them.

    Raises:
      Refused: one does not.
    """
    for alive in sorted(folder.glob("*/alive")):
        if alive.read_text() != _STOP:
            atomic_write(alive, _STOP.encode())
    for place in sorted(folder.glob("*/job-*")):
        for waited in range(int(_LEAVE_SECONDS)):
            try:
                with hold(place, "the job"):
                    break
            except Refused:
                if waited == 0:
                    say(f"a job of an earlier command still runs ({place}); waiting for its end")
                time.sleep(_POLL_SECONDS)
        else:
            raise Refused(f"a job of an earlier command still runs ({place}); end it: scancel")


def _submit(launcher: Launcher, folder: Path, name: str, shares: Sequence[Share]) -> list[Any]:
    from submitit.core.utils import FailedSubmissionError

    try:
        executor = launcher.executor(folder, name)
        with _environment(module_paths()), executor.batch():
            jobs = [executor.submit(share) for share in shares]
    except (FailedSubmissionError, RuntimeError, ValueError, OSError) as error:
        lines = [line for line in str(error).splitlines() if line.strip()] or [repr(error)]
        raise Failed(f"{launcher.name} does not take the jobs: {lines[-1].strip()}") from error
    return jobs


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """These variables, for what is started in the block."""
    before = {key: os.environ.get(key) for key in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                del os.environ[key]
            else:
                os.environ[key] = value


def _freshen(folder: Path) -> None:
    atomic_write(folder / "alive", datetime.now(UTC).isoformat().encode())


def _end(folder: Path, jobs: Sequence[Any], shares: Sequence[Share]) -> None:
    """All jobs: those that run save and leave, those that wait are taken out of the queue."""
    atomic_write(folder / "alive", _STOP.encode())
    for job, share in zip(jobs, shares, strict=True):
        if not job.done() and not share.place.exists():
            job.cancel(check=False)
    until = time.monotonic() + _LEAVE_SECONDS
    while time.monotonic() < until and not all(job.done(force_check=True) for job in jobs):
        time.sleep(_POLL_SECONDS)
    for job in jobs:
        if not job.done():
            job.cancel(check=False)


def _gathered(
    jobs: Sequence[Any],
    shares: Sequence[Share],
    stopped: bool,
    seconds: float,
    say: Say,
    on_failure: Callable[[Cell, str], None],
) -> Session:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    sessions, refused = [], []
    for job, share in zip(jobs, shares, strict=True):
        by_name = {cell.name: cell for cell, _ in share.cells}
        if stopped and not job.paths.result_pickle.exists():
            continue
        try:
            session, failed, why = job.result()
        except FailedJobError as error:
            lines = [line for line in str(error).split("-" * 22)[1].splitlines() if line.strip()]
            say(f"job {job.job_id} failed: {lines[-1].strip()} ({job.paths.stderr})")
            continue
        except UncompletedJobError:
            say(
                f"job {job.job_id} was ended from outside; the same command runs its cells that"
                f" are left (what it said: {job.paths.stderr})"
            )
            continue
        for cell_name, error in failed:
            on_failure(by_name[cell_name], error)
        sessions += [session] if session is not None else []
        refused += [why] if why else []
        if why:
            say(f"job {job.job_id}: {why}")
        if session is not None and session.stopped and not stopped:
            say(f"job {job.job_id} saw no sign of life of this command; type it again")
    if refused and not any(session.cells for session in sessions):
        raise Refused(refused[0])
    workers = sum(session.workers for session in sessions)
    cpu = sum(session.cpu_seconds for session in sessions)
    there = sum(session.workers * session.seconds for session in sessions)
    done = sum(session.cells for session in sessions)
    return Session(seconds, workers, done, cpu, min(1.0, cpu / there) if there else 0.0, stopped)


class Progress:
    """Of all jobs together, by what they tell; the time in the queue is not counted."""

    def __init__(self, shares: Sequence[Share], costs: Mapping[str, float]):
        self._shares, self._costs = shares, costs
        self._since: float | None = None  # the first word of a job
        self._before = 0.0  # what was done then

    def __call__(self, ended: Sequence[bool]) -> Status:
        """`ended`: for each job whether it runs no more."""
        total = sum(share.cost for share in self._shares)
        finished, done, rate, heard = 0.0, 0, 0.0, False
        current: list[str] = []
        for share, over in zip(self._shares, ended, strict=True):
            there = [cell for cell, folder in share.cells if CellFiles(folder).result.exists()]
            cost = sum(self._costs[cell.variant.name] for cell in there)
            done += len(there)
            with contextlib.suppress(OSError, ValueError):
                told = json.loads(share.status.read_bytes())
                heard = True
                if not over:
                    cost = max(cost, told["finished"])
                    rate += told["images_per_second"]
                    current += told["current"]
            finished += cost
        if heard and self._since is None:
            self._since, self._before = time.monotonic(), finished
        made = finished - self._before
        elapsed = time.monotonic() - (self._since or time.monotonic())
        return Status(
            done=done,
            total=sum(len(share.cells) for share in self._shares),
            part=finished / total if total else 0.0,
            images_per_second=rate,
            seconds_left=elapsed * (total - finished) / made if made > 0 else None,
            current=tuple(current),
        )


def _at_most_every(seconds: float, call: Callable[[Status], None]) -> Callable[[Status], None]:
    last = float("-inf")

    def sometimes(status: Status) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            last = time.monotonic()
            call(status)

    return sometimes
