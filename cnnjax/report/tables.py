"""The tables of a study's report, as rows of text, and results.csv."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass

from cnnjax.core.config import plain
from cnnjax.study.cells import Variant
from cnnjax.study.outcome import Outcome
from cnnjax.study.statistics import Summary, summarize
from cnnjax.study.verdict import points, value_of

NO_VALUE = "–"


@dataclass(frozen=True)
class Table:
    """A caption, a head and rows of text.

    Attributes:
      numeric: indices of columns that are set flush right.
      optional: heads of the columns that a narrow terminal leaves out, the first to go first.
    """

    caption: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]]
    numeric: tuple[int, ...] = ()
    optional: tuple[str, ...] = ()


def results_csv(outcome: Outcome) -> str:
    """One row a cell, in the plan's order. Columns of time end in `_seconds`."""
    factors = _factors(outcome)
    measured = ("train_error", "test_error", "train_loss", "test_loss", "steps")
    times = ("train_seconds", "compile_seconds", "init_seconds")
    head = ["variant", *factors, "seed", "status", *measured, "params", "macs", *times]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for cell in outcome.plan.cells:
        result = outcome.results.get((cell.variant.name, cell.seed), {})
        cost = outcome.document["costs"][cell.variant.name]
        levels = [cell.variant.levels.get(factor, "") for factor in factors]
        figures = [_exact(result.get(key)) for key in measured]
        took = [_exact(result.get(key)) for key in times]
        about = (cell.variant.name, *levels, cell.seed, outcome.status(cell))
        writer.writerow([*about, *figures, cost["params"], cost["macs"], *took])
    return text.getvalue()


def contrast_table(outcome: Outcome) -> Table:
    """What was tested and what came out."""
    rows = []
    for j in outcome.judgements:
        equal = j.expect == "equal"
        expect = f"equal within {j.bound:g}" if equal else (j.expect or "different")
        low, high = (j.ci90_low, j.ci90_high) if equal else (j.ci_low, j.ci_high)
        rows.append(
            (
                f"{j.first} − {j.second}",
                j.metric,
                expect,
                str(j.n),
                _signed(j.mean_difference),
                f"[{_signed(low)}, {_signed(high)}]",
                _signed(j.effect_size),
                NO_VALUE if equal else _p(j.p),
                NO_VALUE if equal else _p(j.p_holm),
                j.verdict,
            )
        )
    return Table(
        "Contrasts: first minus second, in points, paired by seed; exact sign-flip test, one-sided"
        " where a direction was declared, p (Holm) over all contrasts; 95 % bootstrap interval, for"
        " equality the 90 % one that decides.",
        ("contrast", "metric", "declared", "n", "difference", "interval", "effect d", "p",
         "p (Holm)", "verdict"),
        rows,
        numeric=(3, 4, 5, 6, 7, 8),
        optional=("effect d", "p", "declared", "n"),
    )  # fmt: skip


def error_table(outcome: Outcome) -> Table:
    """Final errors of each variant over its seeds."""
    rows = []
    for variant in outcome.plan.variants:
        row = [variant.name, f"{_count(outcome, variant)} of {variant.seeds}"]
        for metric in outcome.plan.metrics:
            row += summary_cells(summarize(values(outcome, variant, metric)))
        rows.append(tuple(row))
    head = ["variant", "seeds"]
    for metric in outcome.plan.metrics:
        head += [f"{metric} (%)", "sd", "95 % interval"]
    return Table(
        "Final errors in per cent, evaluation mode, whole split: mean over seeds. A diverged cell"
        " counts as 100 %.",
        tuple(head),
        rows,
        numeric=tuple(range(1, len(head))),
        optional=("sd",),
    )


def cost_table(outcome: Outcome) -> Table:
    """Parameters, MACs and measured seconds of each variant."""
    compiled = outcome.compile_seconds
    rows = []
    for variant in outcome.plan.variants:
        cost = outcome.document["costs"][variant.name]
        took = [
            outcome.results[variant.name, seed]["train_seconds"]
            for seed in range(variant.seeds)
            if (variant.name, seed) in outcome.results
        ]
        seconds = f"{sorted(took)[len(took) // 2]:.1f}" if took else NO_VALUE
        compile_text = f"{compiled[variant.name]:.1f}" if compiled.get(variant.name) else NO_VALUE
        rows.append(
            (variant.name, f"{cost['params']:,}", f"{cost['macs']:,}", seconds, compile_text)
        )
    return Table(
        "Cost: parameters; MACs of convolution and dense layers for one image (FLOPs = 2 x MACs);"
        " median seconds of one training on one thread; seconds to compile its programs (or to load"
        f" them from the cache; {NO_VALUE}: shared with another variant).",
        ("variant", "parameters", "MACs", "train s", "compile s"),
        rows,
        numeric=(1, 2, 3, 4),
    )


def difference_table(outcome: Outcome) -> Table:
    """What each variant changes, computed from the resolved recipes."""
    base = _leaves(plain(outcome.plan.base))
    rows = []
    for variant in outcome.plan.variants:
        own = _leaves(plain(variant.recipe))
        changed = [f"{key} = {value}" for key, value in own.items() if base.get(key) != value]
        rows.append((variant.name, "; ".join(changed) or "nothing"))
    return Table("What differs between the variants.", ("variant", "its own settings"), rows)


def fixed_table(outcome: Outcome) -> Table:
    """The settings that all variants share."""
    base = _leaves(plain(outcome.plan.base))
    own = [_leaves(plain(variant.recipe)) for variant in outcome.plan.variants]
    unused = {"epochs"} if base["steps"] else set()
    if base["schedule.name"] != "he2015":
        unused.add("schedule.boundaries")
    rows = [
        (path, str(value))
        for path, value in base.items()
        if value not in (None, "")
        and path not in unused
        and all(leaves.get(path) == value for leaves in own)
    ]
    return Table("What is the same in all variants.", ("setting", "value"), rows)


def values(outcome: Outcome, variant: Variant, metric: str) -> list[float]:
    """A variant's metric over the seeds that are done."""
    found = [outcome.results.get((variant.name, seed)) for seed in range(variant.seeds)]
    return [value_of(result, metric) for result in found if result is not None]


def summary_cells(summary: Summary) -> tuple[str, str, str]:
    """Mean, standard deviation and interval as text."""
    mean = NO_VALUE if summary.mean is None else f"{summary.mean:.2f}"
    sd = NO_VALUE if summary.sd is None else f"{summary.sd:.2f}"
    low, high = summary.interval.low, summary.interval.high
    interval = NO_VALUE if low is None or high is None else f"[{low:.2f}, {high:.2f}]"
    return mean, sd, interval


def _signed(value: float | None) -> str:
    return NO_VALUE if value is None else points(value)


def _factors(outcome: Outcome) -> list[str]:
    """Names of all factors, those of arms too, in order of appearance."""
    return list(dict.fromkeys(key for v in outcome.plan.variants for key in v.levels))


def _count(outcome: Outcome, variant: Variant) -> int:
    return sum((variant.name, seed) in outcome.results for seed in range(variant.seeds))


def _exact(value: object) -> str:
    return "" if value is None else repr(value)


def _p(value: float | None) -> str:
    return NO_VALUE if value is None else f"{value:.4f}" if value >= 0.0001 else f"{value:.1e}"


def _leaves(tree: Mapping, path: str = "") -> dict[str, object]:
    """Values by path, as `--set` takes them: a model's fields stand directly under `model`."""
    found: dict[str, object] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            found |= _leaves(value, path if key == "fields" else f"{path}{key}.")
        else:
            found[f"{path}{key}"] = value
    return found
