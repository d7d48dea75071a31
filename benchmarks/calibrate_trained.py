"""Do the verdicts keep their word where networks are really trained?

    python benchmarks/calibrate_trained.py [--seeds 1600] [--workdir DIR]     (make calibrate)

One study of many seeds: "a" and "b" differ in nothing but the salt of their random streams,
"planted" has a lower learning rate too. Its seeds are dealt into many small studies, each judged by
the project's own `judge`: between "a" and "b" every verdict is false, "planted" against "a" shows
how often a true effect is found, beside what `cnnjax study power` announces for it. The mean over
all seeds is taken for a variant's true mean, which its intervals should cover. Interrupt it at any
time; the same command goes on. Prints a table, then one JSON object.
"""

import argparse
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from cnnjax import Contrast, Data, Model, Study, run_study, small_images
from cnnjax.core.environment import versions
from cnnjax.study.cells import resolve
from cnnjax.study.outcome import read_outcome
from cnnjax.study.power import power
from cnnjax.study.statistics import summarize
from cnnjax.study.verdict import ALPHA, judge, statements_of

VARIANTS = {
    "a": {},
    "b": {"streams.salt": 1},
    "planted": {"streams.salt": 2, "optimizer.learning_rate": 0.025},
}
NULL = tuple(Contrast("a", "b", metric, "lower") for metric in ("test_error", "test_loss"))
PLANTED = (Contrast("planted", "a", "test_error", "higher"),)
DEALT = (6, 8, 12)  # seeds of a small study


def design(seeds: int, contrasts: tuple[Contrast, ...]) -> Study:
    network = {"features": (16,), "activation": "relu", "initialization": "he_fan_in"}
    return Study(
        name="trained_null",
        question="Do verdicts on trained networks keep their word?",
        source="a calibration",
        base=small_images.replace(
            model=Model("lenet_300_100", network),
            data=Data("digits", train_examples=100),
            batch_size=25,
            steps=40,
        ),
        factors={"variant": VARIANTS},
        seeds=seeds,
        metrics=("test_error", "test_loss"),
        contrasts=contrasts,
    )


def dealt(results: dict, seeds: int, n: int) -> list[dict]:
    """Small studies of n seeds each, as `judge` takes them."""
    return [
        {(name, seed): results[name, first + seed] for name in VARIANTS for seed in range(n)}
        for first in range(0, seeds - n + 1, n)
    ]


def rates(results: dict, seeds: int, n: int) -> dict[str, Any]:
    """Over the small studies of n seeds: how often what happens."""
    null, planted = (resolve(design(n, contrasts)) for contrasts in (NULL, PLANTED))
    errors = np.array([results["a", seed]["test_error"] for seed in range(seeds)])
    differences = [
        results["planted", seed]["test_error"] - results["a", seed]["test_error"]
        for seed in range(seeds)
    ]
    effect = float(np.mean(differences) / np.std(differences, ddof=1))
    false, covers, means, found = [], [], [], []
    for small in dealt(results, seeds, n):
        judged = judge(null, small)
        false.append(any(not one.verdict.startswith("not") for one in judged))
        low, high = judged[0].ci_low, judged[0].ci_high
        covers.append(low is not None and high is not None and low <= 0 <= high)
        own = summarize([small["a", seed]["test_error"] for seed in range(n)]).interval
        means.append(own.low is not None and own.low <= errors.mean() <= own.high)
        found.append(judge(planted, small)[0].verdict == "shown")
    return {
        "seeds": n,
        "studies": len(false),
        "false": float(np.mean(false)),
        "false_at_most": _upper(sum(false), len(false)),
        "covers_difference": float(np.mean(covers)),
        "covers_mean": float(np.mean(means)),
        "shown": float(np.mean(found)),
        "announced": power(n, effect, ALPHA / statements_of(planted)),
        "effect": effect,
    }


def _upper(count: int, total: int) -> float:
    """Above which the true rate is not, with 97.5 % (Clopper & Pearson 1934)."""
    return float(stats.beta.ppf(0.975, count + 1, total - count)) if count < total else 1.0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=1600)
    parser.add_argument("--workdir", type=Path, default=Path("runs/calibration"))
    asked = parser.parse_args()
    run_study(design(asked.seeds, ()), workdir=asked.workdir)
    results = read_outcome(asked.workdir).results
    rows = [rates(results, asked.seeds, n) for n in DEALT]
    print("| seeds | studies | a false statement | difference covered | mean covered |"
          " planted effect found | announced |")  # fmt: skip
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    line = "| {seeds} | {studies} | {false:.1%} | {covers_difference:.1%} | {covers_mean:.1%} |"
    for row in rows:
        print((line + " {shown:.1%} | {announced:.1%} |").format(**row))
    errors = [f"{100 * math.sqrt(0.05 * 0.95 / row['studies']):.1f}" for row in rows]
    print(f"\nOne standard error of 5 %: {', '.join(errors)} points.")
    print(json.dumps({"seeds": asked.seeds, "rows": rows, "versions": versions()}))
