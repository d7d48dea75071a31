"""Pages about studies: words by hand, figures from summaries.

A page marks where figures stand, and of which summary (its path from the page):

    <!-- summaries/degradation-quick.json contrasts -->
    <!-- end -->

What lies between is written anew from the summary; the rest of the page is its author's.
"""

import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cnnjax.core.errors import Refused, refused_at, unknown
from cnnjax.core.files import atomic_write
from cnnjax.core.words import counted
from cnnjax.report.summary import in_minutes, read_summary, write_summary
from cnnjax.report.tables import NO_VALUE, minus
from cnnjax.study.measures import labelled, shown, shown_step, words
from cnnjax.study.power import probability
from cnnjax.study.statistics import sd_interval
from cnnjax.tasks.task import Metric

NOTHING: Mapping[str, Any] = MappingProxyType({})
_BLOCK = re.compile(r"(<!-- (\S+\.json) (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def filled(text: str, read: Callable[[str], dict[str, Any]]) -> str:
    """A page with every block written anew.

    Args:
      read: the summary under a path, as the page names it.

    Raises:
      Refused: a block of an unknown kind, or one that does not end.
    """
    opened = len(re.findall(r"<!-- \S+\.json \w+ -->", text))
    if opened != len(_BLOCK.findall(text)):
        raise Refused("a block of figures does not end: write <!-- end --> behind it")

    def write(match: re.Match) -> str:
        head, path, kind, _, end = match.groups()
        if kind not in BLOCKS:
            raise unknown("block", kind, BLOCKS)
        return f"{head}{BLOCKS[kind](read(path))}{end}"

    return _BLOCK.sub(write, text)


def write_page(page: Path, fresh: Mapping[str, dict[str, Any]] = NOTHING) -> None:
    """Write every block of a page anew from the summaries that it names.

    Args:
      fresh: summaries by path, that are written beside the page once it is known to be well.

    Raises:
      Refused: it is not there or is no text; as `filled` and `read_summary`. Nothing is written.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise Refused(f"{page}: {reason}; give a page of words, e.g. docs/mine.md") from None
    with refused_at(str(page)):
        done = filled(text, lambda path: dict(fresh.get(path) or read_summary(page.parent / path)))
    for path, summary in fresh.items():
        write_summary(summary, page.parent / path)
    atomic_write(page, done.encode())


def begin_page(page: Path, summary: dict[str, Any], path: str) -> None:
    """A page with every block of a summary, for its author to go on from."""
    spreads = ("spreads",) * any(one["unit"].endswith("²") for one in summary["contrasts"])
    blocks = "\n".join(
        f"<!-- {path} {kind} -->\n<!-- end -->\n"
        for kind in ("run", "figures", *spreads, "contrasts", "verdicts", "costs")
    )
    text = (
        f"# `{summary['study']}`\n\n**Question.** {summary['question']}\n\n"
        f"**Source.** {summary['source']}.\n\n## Found\n\n{blocks}\n## What this does not show\n"
    )
    page.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(page, text.encode())


def _run(summary: dict[str, Any]) -> str:
    """The command, and what it took."""
    cells, machine, versions = summary["cells"], summary["machine"], summary["versions"]
    total = sum(cells.values())
    said = [
        f"{cells['done'] + cells['diverged']} of {counted(total, 'cell')}"
        + (f", {cells['diverged']} of them diverged" if cells["diverged"] else ""),
        f"{in_minutes(summary['seconds'])} on"
        f" {counted(summary['workers'], 'worker')} of one thread",
        f"{machine['processor']}, {counted(machine['cores'], 'core')}",
        f"jax {versions['jax']}, Python {versions['python']}, cnnjax {versions['cnnjax']}",
    ]
    notes = "".join(f"\n{note}\n" for note in (*summary["matched"], *summary["notes"]))
    data = "".join(
        f"\nData {name}: {counted(about['train'], 'image')} for training,"
        f" {about['test']:,} for testing, {'x'.join(map(str, about['image_shape']))}; SHA-256"
        f" {about['fingerprint'][:12]}.\n"
        for name, about in summary["data"].items()
    )
    return (
        f"\n<!-- skip: next -->\n```console\n$ {summary['command']}\n```\n\n{'; '.join(said)}.\n"
        f"{data}{notes}\n"
    )


def _figures(summary: dict[str, Any]) -> str:
    """Mean and standard deviation of everything that was measured."""
    measures = _measures(summary)
    counts = sorted({m["n"] for v in summary["variants"].values() for m in v["metrics"].values()})
    seeds = " to ".join(dict.fromkeys(str(n) for n in (counts[0], counts[-1])))
    rows = []
    for name, variant in summary["variants"].items():
        row = [name]
        for key, metric in measures.items():
            found = variant["metrics"][key]
            row.append(_spread(metric, found["mean"], found["sd"]))
        rows.append(row)
    head = ["variant", *(labelled(key, metric) for key, metric in measures.items())]
    table = _table(head, rows, right=range(1, len(head)))
    return f"\nMean ± standard deviation over {seeds} seeds.\n\n{table}\n"


def _spreads(summary: dict[str, Any]) -> str:
    """Standard deviations over seeds, beside those that single runs foretell."""
    rows = []
    for name, variant in summary["variants"].items():
        for key, metric in _measures(summary).items():
            found = variant["metrics"][key]
            if found["sd"] is None or found.get("sd_foretold") is None:
                continue
            low, high = sd_interval(found["sd"], found["n"])
            bounds = f"{shown(metric, low)} to {shown(metric, high)}"
            figures = [shown(metric, found["sd"]), bounds, shown(metric, found["sd_foretold"])]
            rows.append([name, labelled(key, metric), str(found["n"]), *figures])
    head = ["variant", "metric", "seeds", "sd over seeds", "95 % interval", "sd foretold"]
    return f"\n{_table(head, rows, right=(2, 3, 5))}\n"


def _contrasts(summary: dict[str, Any]) -> str:
    rows = []
    for one in summary["contrasts"]:
        metric = _measures(summary)[one["metric"]]
        equal = f"equal within {one['bound']:g}" if one["expect"] == "equal" else None
        mean = one["mean_difference"]
        rows.append(
            [
                minus(one["title"]),
                equal or one["expect"] or "different",
                words(one["metric"]),
                NO_VALUE if mean is None else shown_step(metric, mean) + _squared(one),
                _interval(one, metric) or NO_VALUE,
                NO_VALUE if one["p_holm"] is None else probability(one["p_holm"]),
                one["verdict"],
            ]
        )
    head = ["contrast", "declared", "metric", "difference", "95 % interval", "p (Holm)", "verdict"]
    return f"\n{_table(head, rows, right=(3, 5))}\n"


def _squared(one: dict[str, Any]) -> str:
    """The unit of a difference of variances, which stands beside deviations."""
    return f" {one['unit']}" if one["unit"].endswith("²") else ""


def _verdicts(summary: dict[str, Any]) -> str:
    """Each in a sentence, with its interval, and of what."""
    lines = []
    for one in summary["contrasts"]:
        interval = _interval(one, _measures(summary)[one["metric"]])
        more = [f"95 % interval {interval}"] if interval else []
        more += [f"p {probability(one['p_holm'])} after Holm"] if one["p_holm"] is not None else []
        more += [f"n = {one['n']}"]
        lines.append(f"- {one['sentence'].removesuffix('.')}; {', '.join(more)}.\n")
    data = dict.fromkeys(name.partition(" (")[0] for name in summary["data"])
    return f"\n{''.join(lines)}\n`{summary['command']}`, on {' and '.join(data)}.\n\n"


def _interval(one: dict[str, Any], metric: Metric) -> str:
    low, high = one["ci_low"], one["ci_high"]
    if low is None or high is None:
        return ""
    return f"{shown_step(metric, low)} to {shown_step(metric, high)}"


def _costs(summary: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{variant['params']:,}",
            f"{variant['macs']:,}",
            NO_VALUE if variant["train_seconds"] is None else f"{variant['train_seconds']:.1f}",
            *_taken(summary, name),
        ]
        for name, variant in summary["variants"].items()
    ]
    head = ["variant", "parameters", "MACs", "seconds a run"]
    if summary["tuned"]:
        head += list(summary["tuned"][0]["values"])
    return f"\n{_table(head, rows, right=range(1, len(head)))}\n"


def _taken(summary: dict[str, Any], name: str) -> list[str]:
    """What a variant took of what it tuned."""
    return [
        f"{value} (edge)" if path in choice["edges"] else str(value)
        for choice in summary["tuned"]
        if choice["variant"] == name
        for path, value in choice["values"].items()
    ]


BLOCKS: dict[str, Callable[[dict[str, Any]], str]] = {
    "run": _run,
    "figures": _figures,
    "spreads": _spreads,
    "contrasts": _contrasts,
    "verdicts": _verdicts,
    "costs": _costs,
}


def _measures(summary: dict[str, Any]) -> dict[str, Metric]:
    return {
        name: Metric(name, about["unit"], "lower", "", about["worst"])
        for name, about in summary["measures"].items()
    }


def _spread(metric: Metric, mean: float | None, sd: float | None) -> str:
    if mean is None:
        return NO_VALUE
    if metric.unit == "%" or not sd:
        return shown(metric, mean) + ("" if sd is None else f" ± {shown(metric, sd)}")
    digits = max(0, 1 - math.floor(math.log10(sd)))  # two of the deviation, the mean as many
    return f"{mean:.{digits}f} ± {sd:.{digits}f}".replace("-", "−")


def _table(head: list[str], rows: list[list[str]], right: Any = ()) -> str:
    marks = ["---:" if index in right else "---" for index in range(len(head))]
    lines = [head, marks, *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n"
                   for line in lines)  # fmt: skip
