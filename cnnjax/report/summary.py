"""A study's outcome in one small file that can be kept where its folder cannot: figures, verdicts,
what they were made with. Pages are written from it (`report.study_page`)."""

import re
import shlex
from pathlib import Path
from typing import Any

from cnnjax.core.errors import Refused
from cnnjax.core.files import read_sealed, write_sealed
from cnnjax.report.tables import foretold_sd, train_seconds, values
from cnnjax.study.outcome import Outcome
from cnnjax.study.statistics import summarize
from cnnjax.study.store import Store
from cnnjax.study.tune import TUNING

FORMAT = 1
_JUDGED = (
    *("title", "metric", "unit", "expect", "bound", "n", "mean_difference", "ci_low", "ci_high"),
    *("effect_size", "p", "p_holm", "verdict", "sentence"),
)


def summary_of(outcome: Outcome) -> dict[str, Any]:
    """Plain values; metrics in their own unit, seconds of all sessions together."""
    plan, document = outcome.plan, outcome.document
    statuses = [outcome.status(cell) for cell in plan.cells]
    return {
        "format": FORMAT,
        "study": plan.study,
        "preset": plan.preset,
        "question": plan.question,
        "source": plan.source,
        "command": _for_others(document["command"]),
        "created": document["created"],
        "versions": document["versions"],
        "machine": document["machine"],
        "data": {
            name: {key: about[key] for key in ("train", "test", "image_shape", "fingerprint")}
            for name, about in document["data"].items()
        },
        "cells": {
            status: statuses.count(status) for status in ("done", "diverged", "failed", "missing")
        },
        "seconds": round(seconds_of(outcome), 1),
        "workers": max((session["workers"] for session in outcome.sessions), default=0),
        "measures": {
            name: {"unit": metric.unit, "worst": metric.worst}
            for name, metric in plan.measures.items()
        },
        "variants": {v.name: _of_variant(outcome, v) for v in plan.variants},
        "matched": document.get("matched", []),
        "tuned": document.get("tuned", []),
        "notes": [*outcome.extension_notes, *outcome.mixed_bits],
        "contrasts": [
            {key: _rounded(getattr(judgement, key)) for key in _JUDGED}
            for judgement in outcome.judgements
        ],
    }


def _for_others(command: str) -> str:
    """A command without the folders of one machine: of an absolute path its last part."""
    words = (re.sub(r"(^|[=:])/.*/", r"\1", word) for word in shlex.split(command))
    return shlex.join(words)


def seconds_of(outcome: Outcome) -> float:
    """Of all sessions together, with those that tuned."""
    sessions = list(outcome.sessions)
    if outcome.plan.tune is not None:
        sessions += Store(outcome.folder / TUNING).past_sessions()
    return sum((session["seconds"] for session in sessions), 0.0)


def in_minutes(seconds: float) -> str:
    """ "4 min 10 s"."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s"


def write_summary(summary: dict[str, Any], path: Path) -> None:
    """Write it with its digest."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_sealed(path, summary)


def read_summary(path: Path) -> dict[str, Any]:
    """
    Raises:
      Refused: there is none, it is damaged, or of another version of cnnjax.
    """
    write = "write it anew: cnnjax study page DIR --into PAGE.md"
    try:
        summary = read_sealed(path)
    except FileNotFoundError:
        raise Refused(f"{path}: there is no such summary; {write}") from None
    except (OSError, ValueError) as error:
        raise Refused(f"{path}: {error}; {write}") from None
    if summary.get("format") != FORMAT:
        raise Refused(f"{path}: its format is {summary.get('format')}, not {FORMAT}; {write}")
    return summary


def _of_variant(outcome: Outcome, variant: Any) -> dict[str, Any]:
    cost = outcome.document["costs"][variant.name]
    seconds = train_seconds(outcome, variant)
    metrics = {}
    for name in outcome.plan.measures:
        found = summarize(values(outcome, variant, name))
        metrics[name] = {
            "n": found.n,
            "mean": _rounded(found.mean),
            "sd": _rounded(found.sd),
            "sd_foretold": _rounded(foretold_sd(outcome, variant, name)),
            "interval": [_rounded(found.interval.low), _rounded(found.interval.high)],
        }
    return {
        "params": cost["params"],
        "macs": cost["macs"],
        "train_seconds": None if seconds is None else round(seconds, 2),
        "metrics": metrics,
    }


def _rounded(value: Any) -> Any:
    """Numbers to nine digits: what a mean of equal figures leaves behind is noise."""
    return float(f"{value:.9g}") if isinstance(value, float) else value
