"""`cnnjax study verify|diff|index|page`: what is done with studies that were run."""

import sys
from dataclasses import asdict
from pathlib import Path

import click

from cnnjax.cli.output import (
    ProgressLine,
    data_dir_option,
    echo,
    json_option,
    print_json,
    print_table,
    print_text,
    say,
)
from cnnjax.core.words import counted


@click.command()
@click.argument("workdir", metavar="DIR")
@click.option(
    "-k",
    "count",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="How many cells, drawn at random among those that are done.",
)
@click.option("--seed", type=int, help="Of the draw.  [default: another one each time]")
@data_dir_option
@json_option
def verify(workdir: str, count: int, seed: int | None, data_dir: str | None, as_json: bool) -> None:
    """Train some cells again and compare them bit by bit.

    Exit code 1 if a figure differs.
    """
    import random

    from cnnjax.core.environment import configure_xla, start_backend
    from cnnjax.core.errors import Refused

    configure_xla(threads=1)
    start_backend()

    from cnnjax.study.repeat import done_cells, repeat_cell
    from cnnjax.study.store import Store

    store = Store(Path(workdir))
    done = done_cells(store, say)
    if not done:
        raise Refused(f"{workdir} has no cell that is done")
    drawn = seed if seed is not None else random.SystemRandom().randrange(2**32)
    chosen = random.Random(drawn).sample(done, min(count, len(done)))
    found = []
    with ProgressLine(f"verifying {store.folder}") as line:
        for index, cell in enumerate(chosen):
            line.update(index / len(chosen), f"{index}/{len(chosen)} cells ({cell.name})")
            found.append(repeat_cell(store, cell, data_dir, say))
    differing = [one for one in found if one.differing]
    if as_json:
        print_json(
            {"seed": drawn, "cells": [
                {"cell": one.cell, "verdict": one.verdict, "differing": one.differing}
                for one in found]}
        )  # fmt: skip
    else:
        rows = [(one.cell, one.verdict, ", ".join(one.differing)) for one in found]
        print_table(("cell", "verdict", "what differs"), rows)
        echo(f"{len(found) - len(differing)} of {len(found)} have the same bits (--seed {drawn})")
    sys.exit(1 if differing else 0)


@click.command()
@click.argument("first", metavar="DIR")
@click.argument("second", metavar="DIR")
@json_option
def diff(first: str, second: str, as_json: bool) -> None:
    """How two studies' folders differ: settings, bits of common cells, verdicts.

    Exit code 0 where nothing differs but versions and machines, else 1.
    """
    from cnnjax.study.diff import compare, versions_of
    from cnnjax.study.outcome import read_outcome

    outcomes = [read_outcome(Path(folder), say) for folder in (first, second)]
    found, versions = compare(*outcomes), versions_of(*outcomes)
    if as_json:
        print_json({**asdict(found), "versions": versions})
        sys.exit(1 if found.any else 0)
    for title, lines in (("settings", found.settings), ("versions", versions)):
        for line in lines:
            print_text(f"{title}: {line}")
    for title, cells in ((first, found.only_first), (second, found.only_second)):
        if cells:
            print_text(f"only in {title}: {', '.join(cells)}")
    if found.changed:
        print_table(("cell", "figure", first, second), found.changed)
    common = len(found.alike) + len({cell for cell, *_ in found.changed})
    echo(f"the same bits in {len(found.alike):,} of {counted(common, 'common cell')}")
    print_table(
        ("contrast", first, second),
        [(name, one or "not declared", two or "not declared") for name, one, two in found.verdicts],
    )
    sys.exit(1 if found.any else 0)


@click.command()
@click.argument("folder", metavar="FOLDER")
@json_option
def index(folder: str, as_json: bool) -> None:
    """Write index.html and index.md over the studies in FOLDER's folders: questions, verdicts."""
    from cnnjax.report.index import write_index

    written, studies = write_index(Path(folder), say)
    if as_json:
        told = [
            {**study, "judgements": [asdict(one) for one in study["judgements"]]}
            for study in studies
        ]
        print_json({"index": str(written), "studies": told})
        return
    rows = [
        (study["name"], study["preset"], f"{study['done']} of {study['total']}", study["time"],
         ", ".join(one.verdict for one in study["judgements"]))
        for study in studies
    ]  # fmt: skip
    print_table(("study", "preset", "cells", "time", "verdicts"), rows)
    echo(written)


@click.command()
@click.argument("workdir", metavar="[DIR]", required=False)
@click.option(
    "--into",
    "page",
    metavar="PAGE.md",
    required=True,
    help="The page; begun with every block if it is not there.",
)
def page(workdir: str | None, page: str) -> None:
    """Write a study's figures into a page of words.

    The outcome in DIR is kept as summaries/STUDY-PRESET.json beside PAGE.md, to be committed with
    it; without DIR the page is written anew from the summaries that it names. A page marks where
    figures stand:

    \b
      <!-- summaries/degradation-quick.json contrasts -->
      <!-- end -->

    Blocks are run, figures, contrasts, verdicts and costs.
    """
    from cnnjax.report.study_page import begin_page, write_page
    from cnnjax.report.summary import summary_of
    from cnnjax.study.outcome import read_outcome

    place, fresh = Path(page), {}
    if workdir is not None:
        outcome = read_outcome(Path(workdir), say)
        name = f"summaries/{outcome.plan.study}-{outcome.plan.preset}.json"
        fresh[name] = summary_of(outcome)
        if not place.exists():
            begin_page(place, fresh[name], name)
    write_page(place, fresh)
    for name in fresh:
        if name not in place.read_text(encoding="utf-8"):
            say(f"{page} shows nothing of {name}; a block of it is: <!-- {name} contrasts -->")
    echo(place)
