"""`cnnjax study run|status|report|repeat|power|list`; the rest stands in `cli.study_tools`."""

import inspect
import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cnnjax.cli.options import launcher_from, launcher_options, place_options
from cnnjax.cli.output import (
    Folder,
    ProgressLine,
    data_dir_option,
    duration,
    echo,
    json_option,
    print_json,
    print_table,
    print_text,
    say,
    set_option,
)
from cnnjax.cli.study_tools import diff, index, page, verify
from cnnjax.core.words import counted

if TYPE_CHECKING:
    from cnnjax.core.place import Place
    from cnnjax.study.outcome import Outcome
    from cnnjax.study.power import Power
    from cnnjax.study.runner import Status
    from cnnjax.study.spec import Study

ENTRY_POINTS = "cnnjax.studies"


@click.group()
def study() -> None:
    """Answer a question with seeds, tests and a report.

    \b
      cnnjax study list
      cnnjax study run degradation --workdir runs/degradation
      cnnjax study run my_study.py --preset smoke --workdir runs/mine
    """


@study.command()
@click.argument("name", metavar="NAME|FILE.py")
@click.option(
    "--workdir",
    type=Folder(),
    metavar="DIR",
    help="Folder of the study.  [default: runs/NAME-PRESET]",
)
@click.option("--preset", default="quick", show_default=True, help="Size; see: cnnjax study list.")
@click.option(
    "--data",
    help="Another data set for all cells: a name, folder:DIR, coco:DIR, masks:DIR,"
    " FILE.npz or FILE.py:function.",
)
@data_dir_option
@set_option
@click.option(
    "--seeds",
    type=int,
    help="Replicates of each variant; more extend a study (decide before you look: added"
    " after a look, they make p values too small).",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    help="Processes, one thread each.  [default: one a core, or one a device]",
)
@click.option(
    "--workers-per-device",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Processes that share an accelerator, for small networks.",
)
@place_options
@click.option(
    "--mixed-bits", is_flag=True, help="Go on under another placement than the study began with."
)
@launcher_options
@click.option("--no-compile-cache", is_flag=True, help="Compile everything anew.")
@json_option
def run(name: str, **options) -> None:
    """Run the cells that the folder lacks, then tests and report.

    Kill it at any moment; the same command finishes what is missing, with the same bits. Exit code
    0 even if cells diverged (they are counted as 100 %), 1 if a cell failed.
    """
    found, folder = find_study(name)
    sys.exit(_run(found, name, folder, **options))


@study.command()
@click.argument("workdir", metavar="DIR")
@json_option
def status(workdir: str, as_json: bool) -> None:
    """What is done in a study's folder, and what the tests say so far. Runs nothing."""
    from cnnjax.study.outcome import as_json as outcome_json
    from cnnjax.study.outcome import read_outcome

    outcome = read_outcome(Path(workdir), say)
    if as_json:
        print_json(outcome_json(outcome, Path(workdir) / "report.html"))
    else:
        _print_outcome(outcome)


@study.command()
@click.argument("workdir", metavar="DIR")
@json_option
def report(workdir: str, as_json: bool) -> None:
    """Write the report anew, at any moment of a study.

    That is report.html, report.md, report.tex (tables for a paper), results.csv and figures/ in the
    study's folder.
    """
    from cnnjax.report.page import write_report

    written = write_report(Path(workdir), say)
    if as_json:
        print_json({"study": written.outcome.plan.study, "report": str(written.html)})
    else:
        echo(written.html)


@study.command()
@click.argument("folder", metavar="DIR")
@click.argument("cell", metavar="CELL")
@click.option(
    "--workdir",
    metavar="RUN",
    help="Keep the network in this folder, a run for eval, analyze, predict.",
)
@data_dir_option
@json_option
def repeat(
    folder: str, cell: str, workdir: str | None, data_dir: str | None, as_json: bool
) -> None:
    """Train one CELL again and compare it bit by bit.

    A cell is a variant and a seed, e.g. plain-56-s3. Exit code 1 if a figure differs.
    """
    from cnnjax.core.environment import configure_xla, start_backend

    configure_xla(threads=1)
    start_backend()

    from cnnjax.study.repeat import find_cell, repeat_cell
    from cnnjax.study.store import Store

    store = Store(Path(folder))
    kept = None if workdir is None else Path(workdir)
    found = repeat_cell(store, find_cell(store, cell), data_dir, say, kept)
    again, old, compared = found.again, found.earlier, found.compared
    if as_json:
        print_json({"cell": cell, "verdict": found.verdict, **{k: again[k] for k in compared},
                    "earlier": old and {key: old[key] for key in compared}})  # fmt: skip
    else:
        print_table(("", "again", "in the study"),
                    [(key, again[key], old[key] if old else "") for key in compared])  # fmt: skip
        echo(found.verdict)
    sys.exit(1 if found.differing else 0)


@study.command()
@click.argument("name", metavar="NAME|FILE.py")
@click.option("--preset", default="quick", show_default=True, help="Size; see: cnnjax study list.")
@click.option("--seeds", type=int, help="Replicates of each variant.  [default: the preset's]")
@click.option(
    "--sd",
    type=click.FloatRange(min=0, min_open=True),
    help="Standard deviation of the paired differences, in the metric's unit, as a pilot has it.",
)
@click.option(
    "--effect",
    type=click.FloatRange(min=0, min_open=True),
    help="The true difference that should be found, in the metric's unit (points).",
)
@json_option
def power(
    name: str,
    preset: str,
    seeds: int | None,
    sd: float | None,
    effect: float | None,
    as_json: bool,
) -> None:
    """What a study's design can show. Runs nothing.

    \b
      cnnjax study power degradation
      cnnjax study power degradation --seeds 12 --sd 0.5 --effect 1.0
    """
    from cnnjax.core.errors import Refused
    from cnnjax.core.user_code import paths_from
    from cnnjax.study.cells import resolve
    from cnnjax.study.power import power_note, powers

    if (sd is None) != (effect is None):
        raise Refused("give both --sd and --effect, or neither")
    found, folder = find_study(name)
    with paths_from(folder):
        plan = resolve(found, preset, seeds=seeds)
    told = powers(plan, sd, effect)
    if as_json:
        print_json(
            {"study": plan.study, "preset": preset, "sd": sd, "effect": effect,
             "contrasts": [asdict(one) for one in told]}
        )  # fmt: skip
        return
    _print_power(told, asked=sd is not None)
    print_text(power_note(plan))


def _print_power(told: "list[Power]", *, asked: bool) -> None:
    from cnnjax.study.power import DRAWS, MOST_SEEDS, probability

    head = ["contrast", "declared", "seeds", "smallest p (Holm)", "seeds at least"]
    rows = []
    for one in told:
        row = [one.name, one.expect or "different", one.seeds, probability(one.smallest_p)]
        row.append("no number" if one.fewest_seeds is None else one.fewest_seeds)
        if asked:
            row.append("" if one.power is None else f"{100 * one.power:.0f} %")
            most = "" if one.power is None else f"> {MOST_SEEDS}"
            row.append(one.seeds_for_power or most)
        rows.append(tuple(row))
    print_table((*head, *(("power", "seeds for 80 %") if asked else ())), rows, (2, 3, 4, 5, 6))
    if asked:
        print_text(
            f"Power of each contrast alone, of {DRAWS:,} simulated studies with normal differences;"
            " of a declared equality where there is no difference; a trend's is not told."
        )


@study.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """The studies that are installed, with their presets."""
    from cnnjax.study.cells import resolve

    found = {name: load() for name, load in installed_studies().items()}
    if as_json:
        print_json(
            {
                "studies": [
                    {
                        "name": s.name,
                        "question": s.question,
                        "source": s.source,
                        "presets": {name: preset.about for name, preset in s.presets.items()},
                    }
                    for s in found.values()
                ]
            }
        )
        return
    for s in found.values():
        echo(f"{s.name}: {s.question}\n  {s.source}\n")
        rows = [(n, len(resolve(s, n).cells), p.about) for n, p in s.presets.items()]
        print_table(("  preset", "cells", ""), [(f"  {row[0]}", *row[1:]) for row in rows], (1,))


for each in (verify, diff, index, page):
    study.add_command(each)


def study_command(study: "Study") -> None:
    """`cnnjax study run` for a study at hand: the main of a study's file."""
    from cnnjax.cli.main import run as run_command

    name = study.name if study.name in installed_studies() else sys.argv[0]
    folder = Path(sys.argv[0]).resolve().parent if name == sys.argv[0] else None
    command = click.Command(
        study.name,
        params=[p for p in run.params if p.name != "name"],
        callback=lambda **options: sys.exit(_run(study, name, folder, **options)),
        help=f"{study.question}\n\n{inspect.cleandoc(run.help or '')}",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    run_command(command)


def installed_studies() -> dict:
    """Name and loader of each study among the entry points."""
    from importlib.metadata import entry_points

    return {entry.name: entry.load for entry in entry_points(group=ENTRY_POINTS)}


def find_study(name: str) -> "tuple[Study, Path | None]":
    """An installed study, the `study` of FILE.py, or what package.module:NAME is.

    Returns:
      It, and the folder where its relative paths start: that of the file; None: the current one.

    Raises:
      Refused: there is none.
    """
    from cnnjax.core.errors import Refused, unknown
    from cnnjax.core.user_code import is_own, load_file, load_object, located
    from cnnjax.study.spec import Study

    if name.endswith(".py"):
        found = getattr(load_file(name, "study"), "study", None)
        if not isinstance(found, Study):
            raise Refused(f"{name} has no `study = Study(...)` at its top level")
        return found, located(name).resolve().parent
    if is_own(name):
        found, _ = load_object(name, "study")
        if not isinstance(found, Study):
            raise Refused(f"{name} is no study: give a Study(...)")
        file = name.rpartition(":")[0]
        return found, located(file).resolve().parent if file.endswith(".py") else None
    studies = installed_studies()
    if name not in studies:
        hint = "see: cnnjax study list, or give FILE.py or package.module:NAME"
        raise unknown("study", name, studies, hint)
    return studies[name](), None


def _run(
    found: "Study",
    name: str,
    base: Path | None,
    *,
    workdir: str | None,
    preset: str,
    data: str | None,
    data_dir: str | None,
    settings: tuple[str, ...],
    seeds: int | None,
    workers: int | None,
    workers_per_device: int,
    placement: str,
    devices: int | None,
    model_shards: int,
    mixed_bits: bool,
    launcher: str | None,
    jobs: int | None,
    job_options: tuple[str, ...],
    no_compile_cache: bool,
    as_json: bool,
) -> int:
    """`base`: where the relative paths of the study start; None: in the current folder."""
    from cnnjax.core.environment import configure_xla, use_processor
    from cnnjax.core.errors import EXIT_DONE, EXIT_FAILED
    from cnnjax.core.place import Place
    from cnnjax.core.user_code import paths_from
    from cnnjax.study.cells import resolve

    configure_xla(threads=1)  # of this process and, by inheritance, of each worker
    place = Place(placement, devices, model_shards)
    jobs_of = launcher_from(launcher, jobs, job_options)
    folder = Path(workdir or f"runs/{found.name}-{preset}")
    command = (name, preset, folder, data, data_dir, settings)  # as it was typed
    if base is not None:  # what is typed is meant from here
        data = data and _from_here(data)
        settings = tuple(_setting_from_here(text) for text in settings)

    from cnnjax.report.page import write_report
    from cnnjax.study.outcome import as_json as outcome_json
    from cnnjax.study.run import run_study
    from cnnjax.study.store import Store
    from cnnjax.training.signals import StopRequest

    stop = StopRequest()
    with paths_from(base), ProgressLine(f"{found.name} ({preset})") as line:
        plan = resolve(found, preset, data=data, settings=settings, seeds=seeds)
        use_processor()  # the workers own the devices
        session = run_study(
            plan,
            folder,
            command=_command(*command, plan.seeds, place),
            data_dir=data_dir,
            workers=workers,
            workers_per_device=workers_per_device,
            place=place,
            mixed_bits=mixed_bits,
            cached=not no_compile_cache,
            launcher=jobs_of,
            say=say,
            on_begin=stop.listen,
            on_status=lambda status: line.update(status.part, words_of(status)),
            stop=stop,
        )
    if session is not None and session.stopped and not Store(folder).document.exists():
        say("interrupted while tuning; the same command goes on")
        return stop.exit_code
    written = write_report(folder)
    if session is None:
        say(f"{folder}: every cell was done already")
    if as_json:
        print_json(outcome_json(written.outcome, written.html))
    else:
        _print_outcome(written.outcome)
        echo(f"\nreport: {written.html}")
    if session is not None and session.stopped:
        say("interrupted; the same command goes on")
        return stop.exit_code
    return EXIT_FAILED if written.outcome.missing else EXIT_DONE


def _from_here(value: str) -> str:
    """A folder:DIR, FILE.py:name or FILE.npz with its path made absolute."""
    from cnnjax.core.user_code import expanded

    mark = "folder:" if value.startswith("folder:") else ""
    if not mark and ".py:" not in value and not value.endswith(".npz"):
        return value
    return f"{mark}{expanded(value.removeprefix(mark)).absolute()}"


# Settings that may name a file.
_PLACES = ("model.name", "data.name", "task.name", "optimizer.name", "init.weights")


def _setting_from_here(text: str) -> str:
    from cnnjax.core.config import assignment
    from cnnjax.core.user_code import expanded

    given = assignment(text)
    if given.path not in _PLACES or not isinstance(given.value, str):
        return text
    value = given.value
    if given.path == "init.weights":
        return f"{given.path}={expanded(value).absolute()}"
    return f"{given.path}={_from_here(value)}"


def words_of(status: "Status") -> str:
    """How far a study is: for its progress line."""
    speed = f"{status.images_per_second:,.0f} img/s" if status.images_per_second else "compiling"
    left = "" if status.seconds_left is None else f", {duration(status.seconds_left)} left"
    cells = f"{status.done}/{counted(status.total, 'cell')}"
    if not status.current:
        return f"{cells}, finishing"
    return f"{cells}, {speed}{left} ({', '.join(status.current)})"


def _command(
    name: str,
    preset: str,
    folder: Path,
    data: str | None,
    data_dir: str | None,
    settings: tuple[str, ...],
    seeds: int,
    place: "Place",
) -> str:
    words = ["cnnjax", "study", "run", name, "--preset", preset, "--workdir", str(folder)]
    words += ["--data", data] if data else []
    words += ["--data-dir", data_dir] if data_dir else []
    for assignment in settings:
        words += ["--set", assignment]
    where = [] if place.placement == "jit" else shlex.split(place.options)
    return shlex.join([*words, "--seeds", str(seeds), *where])


def _print_outcome(outcome: "Outcome") -> None:
    from cnnjax.report.tables import contrast_table, metric_table, spread_table

    plan = outcome.plan
    cells = plan.cells
    print_text(f"{plan.question}\n({plan.source}; preset {plan.preset})\n")
    for table in (metric_table(outcome), spread_table(outcome), contrast_table(outcome)):
        if table is None or not table.rows:
            continue
        print_text(table.caption)
        print_table(table.head, table.rows, table.numeric, table.optional)
        echo("")
    for judgement in outcome.judgements:
        print_text(f"* {judgement.sentence}")
    for note in (*outcome.extension_notes, *outcome.mixed_bits):
        print_text(note)
    echo(f"\n{len(cells) - len(outcome.missing)} of {counted(len(cells), 'cell')} done")
    for cell in outcome.missing:
        reason = outcome.failures.get((cell.variant.name, cell.seed))
        if reason:
            print_text(f"failed: {cell.name}: {reason}")
    for session in outcome.sessions:
        print_text(
            f"{session['seconds']:.0f} s for {counted(session['cells'], 'cell')} on"
            f" {counted(session['workers'], 'worker')},"
            f" {100 * session['cores_busy']:.0f} % of their cores busy"
        )
