"""index.html and index.md over a folder of studies: every question with its verdicts."""

from collections import Counter
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cnnjax.core.errors import Refused, Say
from cnnjax.core.files import atomic_write
from cnnjax.core.words import counted
from cnnjax.report.page import render
from cnnjax.report.summary import in_minutes, seconds_of
from cnnjax.study.outcome import Outcome, read_outcome


def write_index(folder: Path, say: Say = lambda line: None) -> tuple[Path, list[dict[str, Any]]]:
    """Write the index of the studies in the folders of `folder`.

    Returns:
      index.html, and of each study what it tells: plain values, "judgements" as they are.

    Raises:
      Refused: there is no study.
    """
    found = sorted(path.parent for path in folder.glob("*/study.json"))
    if not found:
        raise Refused(
            f"{folder} has no folder of a study in it; give the folder above those of cnnjax study"
            " run, e.g. runs"
        )
    studies, unreadable = [], []
    for each in found:
        try:
            studies.append(_entry(read_outcome(each, say), each.relative_to(folder)))
        except Refused as error:  # one that is damaged does not hide the others
            unreadable.append(str(error))
    verdicts = [_kind(judgement.verdict) for study in studies for judgement in study["judgements"]]
    tally = ", ".join(f"{number} {kind}" for kind, number in Counter(verdicts).most_common())
    context = {
        "studies": studies,
        "unreadable": unreadable,
        "tally": f"{counted(len(verdicts), 'contrast')}: {tally}" if verdicts else "No contrast",
    }
    for name in ("index.md", "index.html"):
        atomic_write(folder / name, render(name, context).encode())
    return folder / "index.html", studies


def _entry(outcome: Outcome, folder: Path) -> dict[str, Any]:
    written = (outcome.folder / "report.html").exists()
    return {
        "name": outcome.plan.study,
        "preset": outcome.plan.preset,
        "question": outcome.plan.question,
        "source": outcome.plan.source,
        "report": quote(f"{folder}/report.html") if written else None,
        "done": len(outcome.plan.cells) - len(outcome.missing),
        "total": len(outcome.plan.cells),
        "time": in_minutes(seconds_of(outcome)),
        "judgements": outcome.judgements,
    }


def _kind(verdict: str) -> str:
    """A verdict without its numbers."""
    for kind in ("not shown", "not judged", "equal"):
        if verdict.startswith(kind):
            return kind
    return verdict
