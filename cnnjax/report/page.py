"""report.html, .md and .tex, results.csv, figures/: derived from the store, rebuilt at will."""

import html
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from cnnjax.core.files import atomic_write
from cnnjax.core.words import counted
from cnnjax.report.canvas import Picture
from cnnjax.report.figures import pictures
from cnnjax.report.latex import tables_tex
from cnnjax.report.tables import (
    Table,
    contrast_table,
    cost_table,
    difference_table,
    fixed_table,
    metric_table,
    results_csv,
    spread_table,
    tuned_table,
    worst_values,
)
from cnnjax.study.cells import Cell
from cnnjax.study.outcome import Outcome, read_outcome
from cnnjax.study.tune import TUNING


@dataclass(frozen=True)
class Report:
    """Where a report was written, and the outcome that it tells of."""

    html: Path
    outcome: Outcome


def write_report(folder: Path, say: Callable[[str], None] = lambda line: None) -> Report:
    """Write every derived file of the study in `folder`, at any moment of it.

    Raises:
      Refused: it is no study.
    """
    outcome = read_outcome(folder, say)
    if outcome.plan.tune is not None and (folder / TUNING / "study.json").exists():
        write_report(folder / TUNING, say)
    drawn = pictures(outcome)
    (folder / "figures").mkdir(exist_ok=True)
    for picture in drawn:
        atomic_write(folder / "figures" / f"{picture.name}.png", picture.png)
        atomic_write(folder / "figures" / f"{picture.name}.svg", picture.svg)
    atomic_write(folder / "results.csv", results_csv(outcome).encode())
    context = report_context(outcome, drawn)
    for name in ("report.md", "report.html"):
        atomic_write(folder / name, render(name, context).encode())
    tables = [context["contrasts"], *context["tables"]]
    question, command = outcome.plan.question, outcome.document["command"]
    atomic_write(folder / "report.tex", tables_tex(tables, question, command).encode())
    return Report(folder / "report.html", outcome)


def render(name: str, context: dict[str, Any]) -> str:
    """A template with its values; HTML is escaped."""
    environment = Environment(
        loader=PackageLoader("cnnjax.report"),
        autoescape=name.endswith(".html"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|")
    environment.filters["badge"] = badge
    environment.filters["counted"] = counted
    return environment.get_template(f"{name}.jinja").render(context)


def report_context(outcome: Outcome, drawn: list[Picture]) -> dict[str, Any]:
    """Everything that the templates show."""
    plan, document = outcome.plan, outcome.document
    cells = plan.cells
    statuses = {cell.name: outcome.status(cell) for cell in cells}
    tables: list[Table] = [
        metric_table(outcome),
        *([spread] if (spread := spread_table(outcome)) else []),
        cost_table(outcome),
        *([tuned_table(outcome)] if "tuned" in document else []),
        difference_table(outcome),
        fixed_table(outcome),
    ]
    return {
        "plan": plan,
        "document": document,
        "judgements": outcome.judgements,
        "extension_notes": outcome.extension_notes,
        "mixed_bits": outcome.mixed_bits,
        "costs_matched": document.get("matched", []),
        "tuned": document.get("tuned", []),
        "contrasts": contrast_table(outcome),
        "tables": tables,
        "pictures": [
            {
                "name": picture.name,
                "caption": picture.caption,
                "wide": picture.wide,
                "svg": inline_svg(picture),
            }
            for picture in drawn
        ],
        "done": sum(status in ("done", "diverged") for status in statuses.values()),
        "total": len(cells),
        "missing": [name for name, status in statuses.items() if status == "missing"],
        "failed": [
            (cell.name, outcome.failures[cell.variant.name, cell.seed])
            for cell in cells
            if statuses[cell.name] == "failed"
        ],
        "diverged": [
            (cell.name, outcome.results[cell.variant.name, cell.seed]["diverged"])
            for cell in cells
            if statuses[cell.name] == "diverged"
        ],
        "worst": worst_values(outcome),
        "sessions": outcome.sessions,
        "repeat": [(cell.name, repeat_command(outcome, cell)) for cell in cells],
        "seeds": {v.name: ", ".join(map(str, v.replicates)) for v in plan.variants},
    }


def inline_svg(picture: Picture) -> str:
    """A figure as an element of a page: without a prolog, with ids and a style of its own."""
    text = picture.svg[picture.svg.index(b"<svg") :].decode()
    gone = r"<metadata>.*?</metadata>|<!--.*?-->|<style.*?</style>"
    text = re.sub(gone, "", text, flags=re.DOTALL)
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{picture.name}-", text)
    head, rest = text.split(">", 1)
    head = re.sub(r' (?:width|height)="[^"]*"', "", head)
    label = html.escape(picture.caption, quote=True)
    style = "stroke-linejoin: round; stroke-linecap: butt"
    return f'{head} role="img" aria-label="{label}" style="{style}">{rest}'


def repeat_command(outcome: Outcome, cell: Cell) -> str:
    """What to type to train one cell again and compare its bits."""
    words = ["cnnjax", "study", "repeat", str(outcome.folder), cell.name]
    if data_dir := outcome.document["data_dir"]:
        words += ["--data-dir", data_dir]
    return shlex.join(words)


def badge(verdict: str) -> str:
    """The class of a verdict in the page: good, bad or open."""
    if verdict == "shown" or verdict.startswith("equal"):
        return "good"
    return "bad" if verdict == "the opposite" else "open"
