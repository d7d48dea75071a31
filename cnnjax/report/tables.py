"""The tables of a study's report, as rows of text, and results.csv."""

import csv
import io
from dataclasses import dataclass

from cnnjax.study.cells import Variant
from cnnjax.study.measures import goal_of, labelled, probed, shown, shown_step, value_of, with_unit
from cnnjax.study.outcome import Outcome, figure_names
from cnnjax.study.power import probability
from cnnjax.study.spec import Spread
from cnnjax.study.statistics import EXACT_SEEDS, Summary, expected_sd, sd_interval, summarize
from cnnjax.study.verdict import ALPHA
from cnnjax.tasks.task import Metric

NO_VALUE = "–"
FEWEST = 6  # seeds of which there is a 95 % interval
INTERVAL = "95 % interval of the mean by sign flips (Hartigan 1969)"


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
    measured = (*figure_names(outcome), "steps")
    times = ("train_seconds", "compile_seconds", "init_seconds")
    judged = [name for name in outcome.plan.measures if probed(name)]
    head = ["variant", *factors, "seed", "status", *measured, *judged, "params", "macs", *times]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for cell in outcome.plan.cells:
        result = outcome.results.get((cell.variant.name, cell.seed), {})
        cost = outcome.document["costs"][cell.variant.name]
        levels = [cell.variant.levels.get(factor, "") for factor in factors]
        figures = [_exact(result.get(key)) for key in measured]
        figures += [
            _exact(value_of(result, name, outcome.plan.measures[name]) if result else None)
            for name in judged
        ]
        took = [_exact(result.get(key)) for key in times]
        about = (cell.variant.name, *levels, cell.seed, outcome.status(cell))
        writer.writerow([*about, *figures, cost["params"], cost["macs"], *took])
    return text.getvalue()


def contrast_table(outcome: Outcome) -> Table:
    """What was tested and what came out."""
    rows = []
    for j in outcome.judgements:
        equal, metric = j.expect == "equal", outcome.plan.measures[j.metric]
        expect = f"equal within {j.bound:g}" if equal else (j.expect or "different")
        interval = NO_VALUE
        if j.ci_low is not None:
            interval = f"[{_signed(metric, j.ci_low)}, {_signed(metric, j.ci_high)}]"
        rows.append(
            (
                minus(j.title),
                j.metric,
                expect,
                str(j.n),
                _signed(metric, j.mean_difference),
                interval,
                NO_VALUE if j.effect_size is None else f"{j.effect_size:+.2f}".replace("-", "−"),
                _p(j.p),
                _p(j.p_holm),
                j.verdict,
            )
        )
    return Table(
        "Contrasts: first minus second, in the metric's unit (points, where it is per cent), paired"
        " by seed (of a slope: from a level to the next; of a spread: of variances, over pairs of"
        " seeds, without an interval). 95 % interval and two-sided p are of one"
        f" sign-flip test, exact to {EXACT_SEEDS} seeds, so p is at most .05 where the interval"
        " leaves out 0; p of a declared equality is at most .025 where the interval lies within the"
        " bound. The verdict is by p (Holm), over every statement that the study could make, the"
        f" opposite of each too: any false one at most {100 * ALPHA:.0f} % of the time."
        f"{no_interval(outcome)}",
        ("contrast", "metric", "declared", "n", "difference", "interval", "effect d", "p",
         "p (Holm)", "verdict"),
        rows,
        numeric=(3, 4, 5, 6, 7, 8),
        optional=("effect d", "p", "declared", "n"),
    )  # fmt: skip


def no_interval(outcome: Outcome) -> str:
    """A sentence, with a space before it, where some variant has too few seeds for an interval."""
    counts = [_count(outcome, variant) for variant in outcome.plan.variants]
    judged = [j.n for j in outcome.judgements if j.name not in spreads(outcome)]
    if min(counts + judged) >= FEWEST:
        return ""
    return f" With fewer than {FEWEST} seeds there is no 95 % interval."


def spreads(outcome: Outcome) -> set[str]:
    """Names of the contrasts that are of variances: they have no interval."""
    return {c.name for c in outcome.plan.contrasts if isinstance(c, Spread)}


def minus(title: str) -> str:
    """A contrast's title as it is shown: "plain-56 − plain-8"."""
    return title.replace(" - ", " − ")


def metric_table(outcome: Outcome) -> Table:
    """Final metrics of each variant over its seeds."""
    rows, measures, single = [], outcome.plan.measures, False
    for variant in outcome.plan.variants:
        row = [variant.name, f"{_count(outcome, variant)} of {variant.seeds}"]
        for metric in outcome.plan.metrics:
            found = summarize(values(outcome, variant, metric))
            mean, sd, interval = summary_cells(measures[metric], found)
            if 0 < found.n < _count(outcome, variant):  # the others were not measured
                mean += f" (n = {found.n})"
            if found.n == 1 and (foretold := foretold_sd(outcome, variant, metric)) is not None:
                sd, single = f"≈ {shown(measures[metric], foretold)}", True
            row += [mean, sd, interval]
        rows.append(tuple(row))
    head = ["variant", "seeds"]
    for metric in outcome.plan.metrics:
        unit = measures[metric].unit
        head += [f"{metric} ({unit})" if unit else metric, "sd", "95 % interval"]
    return Table(
        "Final figures, evaluation mode, whole split: mean over seeds, standard deviation (n - 1)"
        f" and {INTERVAL}.{no_interval(outcome)} {worst_values(outcome)}"
        f"{_NOISE_FLOOR if single else ''}",
        tuple(head),
        rows,
        numeric=tuple(range(1, len(head))),
        optional=("sd",),
    )


def spread_table(outcome: Outcome) -> Table | None:
    """How far seeds scatter, beside what a single run foretells; None: no contrast is of that."""
    metrics = {c.metric for c in outcome.plan.contrasts if isinstance(c, Spread)}
    rows = []
    for metric, variant in ((m, v) for m in sorted(metrics) for v in outcome.plan.variants):
        measure, found = outcome.plan.measures[metric], summarize(values(outcome, variant, metric))
        if found.sd is None:
            continue
        low, high = sd_interval(found.sd, found.n)
        foretold = foretold_sd(outcome, variant, metric)
        rows.append(
            (
                *((metric,) if len(metrics) > 1 else ()),
                variant.name,
                str(found.n),
                shown(measure, found.sd),
                f"[{shown(measure, low)}, {shown(measure, high)}]",
                NO_VALUE if foretold is None else shown(measure, foretold),
            )
        )
    if not rows:
        return None
    head = ("variant", "seeds", "sd over seeds", "95 % interval", "sd foretold")
    return Table(
        "How far seeds scatter: standard deviation (n - 1), its interval for normal errors"
        " (chi-squared), and what a single run foretells, mean over the runs: √(error / 2 test"
        " images), of runs that err on each image by themselves and together are calibrated"
        " (Jordan 2023, arXiv:2304.01910; calibrated networks of more than two classes scatter at"
        " most so far, others farther).",
        (*(("metric",) if len(metrics) > 1 else ()), *head),
        rows,
        numeric=tuple(range(len(rows[0]) - 4, len(rows[0]))),
    )


def foretold_sd(outcome: Outcome, variant: Variant, metric: str) -> float | None:
    """The standard deviation over seeds that single runs foretell of a test error, their mean;
    None: it is no such metric, nothing is done, or the data sets differ in their size."""
    found = values(outcome, variant, metric)
    examples = {about["test"] for about in outcome.document["data"].values()}
    decisions = outcome.plan.measures[metric].decisions and metric.startswith("test_")
    if not (decisions and found and len(examples) == 1):
        return None
    (number,) = examples
    return sum(expected_sd(error, number) for error in found) / len(found)


_NOISE_FLOOR = (
    " Of a single seed sd is foretold (≈), from its error and the number of test images"
    " (docs/statistics.md): two runs of the same differ by up to 2.8 times as much by chance."
)


def cost_table(outcome: Outcome) -> Table:
    """Parameters, MACs and measured seconds of each variant."""
    compiled = outcome.compile_seconds
    rows = []
    for variant in outcome.plan.variants:
        cost = outcome.document["costs"][variant.name]
        took = train_seconds(outcome, variant)
        seconds = NO_VALUE if took is None else f"{took:.1f}"
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


def train_seconds(outcome: Outcome, variant: Variant) -> float | None:
    """The median over a variant's seeds; None: none is done."""
    took = sorted(
        outcome.results[variant.name, seed]["train_seconds"]
        for seed in variant.replicates
        if (variant.name, seed) in outcome.results
    )
    return took[len(took) // 2] if took else None


def tuned_table(outcome: Outcome) -> Table:
    """What each variant tried before it was judged, and what it took."""
    tune = outcome.plan.tune
    assert tune is not None
    metric = outcome.plan.measures[tune.metric]
    rows, tried = [], []
    for choice in outcome.document["tuned"]:
        tried = [", ".join(map(str, trial["values"].values())) for trial in choice["trials"]]
        means = [
            NO_VALUE if trial["mean"] is None else shown(metric, trial["mean"])
            for trial in choice["trials"]
        ]
        taken = ", ".join(map(str, choice["values"].values()))
        rows.append((choice["variant"], taken + (" (edge)" if choice["edges"] else ""), *means))
    return Table(
        f"Tuned before anything was judged: {labelled(tune.metric, metric)} on"
        f" {100 * tune.validation_share:g} % of the training images, held out, mean over"
        f" {tune.seeds} seeds that are not judged, by {', '.join(tune.settings)}; (edge): the best"
        " value is the first or last that was tried.",
        ("variant", "taken", *tried),
        rows,
        numeric=tuple(range(2, 2 + len(tried))),
    )


def difference_table(outcome: Outcome) -> Table:
    """The settings in which not all variants are alike, computed from the resolved recipes."""
    settings = outcome.document["settings"]["variants"]
    paths = dict.fromkeys(path for own in settings.values() for path in own)
    varied = [
        path for path in paths if len({repr(own.get(path, "")) for own in settings.values()}) > 1
    ]
    rows = [
        (name, "; ".join(f"{path} = {own[path]}" for path in varied if path in own))
        for name, own in settings.items()
    ]
    return Table("What differs between the variants.", ("variant", "its settings"), rows)


def fixed_table(outcome: Outcome) -> Table:
    """The settings that all variants share."""
    base = outcome.document["settings"]["base"]
    own = list(outcome.document["settings"]["variants"].values())
    unused = outcome.document["settings"]["idle"]
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
    found = [outcome.results.get((variant.name, seed)) for seed in variant.replicates]
    figures = [value_of(r, metric, outcome.plan.measures[metric]) for r in found if r is not None]
    return [figure for figure in figures if figure is not None]


def worst_values(outcome: Outcome) -> str:
    """What a cell without a figure of its own counts as, in a sentence or two."""
    measures = {name: outcome.plan.measures[name] for name in outcome.plan.metrics}
    goals = {name: measures.pop(name) for name in list(measures) if goal_of(name)}
    counts = {
        name: "none" if m.worst is None else with_unit(f"{m.worst:g}", m.unit)
        for name, m in {**measures, **goals}.items()
    }
    said = [f"A cell that never reaches {name} counts as {counts[name]}." for name in goals]
    own = dict.fromkeys(counts[name] for name in measures)
    if len(own) == 1:
        only = next(iter(own))
        has = "has no value" if only == "none" else f"counts as {only}"
        return " ".join([f"A diverged cell {has}.", *said])
    each = ", ".join(f"{name} {counts[name]}" for name in measures)
    return " ".join([*([f"A diverged cell counts as: {each}."] if each else []), *said])


def summary_cells(metric: Metric, summary: Summary) -> tuple[str, str, str]:
    """Mean, standard deviation and interval as text."""
    mean = NO_VALUE if summary.mean is None else shown(metric, summary.mean)
    sd = NO_VALUE if summary.sd is None else shown(metric, summary.sd)
    low, high = summary.interval.low, summary.interval.high
    interval = NO_VALUE
    if low is not None and high is not None:
        interval = f"[{shown(metric, low)}, {shown(metric, high)}]"
    return mean, sd, interval


def _signed(metric: Metric, value: float | None) -> str:
    return NO_VALUE if value is None else shown_step(metric, value)


def _factors(outcome: Outcome) -> list[str]:
    """Names of all factors, those of arms too, in order of appearance."""
    return list(dict.fromkeys(key for v in outcome.plan.variants for key in v.levels))


def _count(outcome: Outcome, variant: Variant) -> int:
    return sum((variant.name, seed) in outcome.results for seed in variant.replicates)


def _exact(value: object) -> str:
    return "" if value is None else repr(value)


def _p(value: float | None) -> str:
    return NO_VALUE if value is None else probability(value)
