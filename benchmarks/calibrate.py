"""Do the verdicts keep their word? Coverage and false statements over simulated null studies.

    python benchmarks/calibrate.py [--studies 2000] [--seeds 8 ...]     (make calibrate)

Each study has four variants and three contrasts: two declared directions between variants that are
alike, and an equality whose true difference is its bound. So every statement that it could make is
false but one, that the equality's difference lies above -bound. The scheme is judged by the
project's own `judge`; beside it stands the one that it replaced: bootstrap (BCa) intervals, a
one-sided test, then the opposite at the same level, and equality where the 90 % interval lies
within the bound. Prints a table, then one JSON object.
"""

import argparse
import json
import math
import time
from collections.abc import Callable

import numpy as np
from scipy import stats

from cnnjax import Contrast, Study, small_images
from cnnjax.core.environment import versions
from cnnjax.study.cells import Plan, resolve
from cnnjax.study.statistics import SignFlips, holm
from cnnjax.study.verdict import judge

BOUND = 1.0
NAMES = ("a", "b", "c", "d")
Draw = Callable[[np.random.Generator, int], np.ndarray]  # seeds -> errors [variants, seeds]


def outlier(rng: np.random.Generator, n: int) -> np.ndarray:
    """One seed goes wrong, in a variant at random."""
    errors = rng.normal(size=(4, n))
    errors[rng.integers(4), rng.integers(n)] += 10
    return errors


def diverged(rng: np.random.Generator, n: int) -> np.ndarray:
    """One cell counts as 100 %."""
    errors = 20 + rng.normal(size=(4, n))
    errors[rng.integers(4), rng.integers(n)] = 100
    return errors


DRAWS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=(4, n)),
    "skewed": lambda rng, n: rng.lognormal(size=(4, n)),
    "counts": lambda rng, n: rng.binomial(450, 0.03, (4, n)) / 4.5,
    "heavy ties": lambda rng, n: rng.binomial(3, 0.2, (4, n)) / 2.0,
    "outlier seed": outlier,
    "diverged cell": diverged,
}


def design(n: int) -> Plan:
    """The study, as a user would write it."""
    return resolve(
        Study(
            name="null", question="?", source="a simulation", base=small_images,
            factors={"variant": {name: {"batch_size": 8 + i} for i, name in enumerate(NAMES)}},
            seeds=n, metrics=("test_error",),
            contrasts=(
                Contrast("a", "b", expect="lower"),
                Contrast("c", "b", expect="higher"),
                Contrast("d", "b", expect="equal", bound=BOUND),
            ),
        )
    )  # fmt: skip


def now(plan: Plan, errors: np.ndarray) -> tuple[bool, bool]:
    """Whether a false statement was made, and whether the first contrast's interval covers."""
    results = {
        (name, seed): {"status": "done", "test_error": float(error)}
        for name, row in zip(NAMES, errors, strict=True)
        for seed, error in enumerate(row)
    }
    judged = judge(plan, results)
    low, high = judged[0].ci_low, judged[0].ci_high
    assert low is not None and high is not None  # noqa: PT018
    return any(not j.verdict.startswith("not") for j in judged), low <= 0 <= high


def before(errors: np.ndarray) -> tuple[bool, bool]:
    """The same of the scheme that was replaced."""
    a, b, c, d = errors
    first, second, third = a - b, c - b, d - b
    shown = holm([SignFlips(list(first)).p_below(), SignFlips(list(second)).p_above(), 1.0])[:2]
    opposite = [3 * SignFlips(list(first)).p_above(), 3 * SignFlips(list(second)).p_below()]
    low, high = bootstrap(third, 0.90)
    equal = (low >= -BOUND and high <= BOUND) or low > BOUND or high < -BOUND
    low, high = bootstrap(first, 0.95)
    return min(*shown, *opposite) < 0.05 or equal, low <= 0 <= high


def bootstrap(values: np.ndarray, level: float) -> tuple[float, float]:
    if len(set(values.tolist())) == 1:
        return float(values[0]), float(values[0])
    for method in ("BCa", "percentile"):
        with np.errstate(all="ignore"):
            found = stats.bootstrap(
                (values,), np.mean, confidence_level=level, n_resamples=999, method=method,
                rng=np.random.default_rng(0),
            ).confidence_interval  # fmt: skip
        if math.isfinite(found.low) and math.isfinite(found.high):
            return float(found.low), float(found.high)
    raise ValueError(values)


def calibrate(studies: int, seeds: list[int]) -> list[dict]:
    rows = []
    for name, draw in DRAWS.items():
        for n in seeds:
            plan, rng = design(n), np.random.default_rng(0)
            found = []
            for _ in range(studies):
                errors = draw(rng, n)
                errors[3] += BOUND
                found.append((*now(plan, errors), *before(errors)))
            false, covers, old_false, old_covers = np.mean(found, axis=0)
            rows.append(
                {"errors": name, "seeds": n, "false": false, "covers": covers,
                 "old_false": old_false, "old_covers": old_covers}
            )  # fmt: skip
            line = "| {errors} | {seeds} | {false:.1%} | {covers:.1%} | {old_false:.1%} |"
            print((line + " {old_covers:.1%} |").format(**rows[-1]), flush=True)
    return rows


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[8, 12, 16, 20])
    asked = parser.parse_args()
    start = time.perf_counter()
    print("| errors | seeds | a false statement | 95 % covers | before: false | before: covers |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    table = calibrate(asked.studies, asked.seeds)
    error = 100 * math.sqrt(0.05 * 0.95 / asked.studies)
    print(f"\n{asked.studies} studies a row: one standard error is {error:.1f} points at 5 %.\n")
    print(json.dumps({
        "studies": asked.studies, "rows": table, "versions": versions(),
        "seconds": round(time.perf_counter() - start),
    }))  # fmt: skip
