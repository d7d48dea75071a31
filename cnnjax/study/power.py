"""What a design can show, told before it runs."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnnjax.core.words import counted
from cnnjax.study.cells import Plan
from cnnjax.study.spec import Contrast
from cnnjax.study.statistics import EXACT_SEEDS, POWER, fewest_seeds, smallest_p, subsets
from cnnjax.study.verdict import ALPHA, statements_of

if TYPE_CHECKING:
    import numpy as np

DRAWS = 1_000  # of simulated studies
MOST_SEEDS = 400  # that are looked at


@dataclass(frozen=True)
class Power:
    """What one contrast of a design can show.

    Attributes:
      seeds: that all its variants have.
      smallest_p: that can be reached, after Holm over all statements.
      fewest_seeds: with which the contrast can be shown at all; None: with no number.
      power: how often it is shown, were it the only effect; None: not asked for, or of a trend or a
        spread.
      seeds_for_power: the fewest for 80 %; None: more than 400.
    """

    name: str
    expect: str | None
    seeds: int
    smallest_p: float
    fewest_seeds: int | None
    power: float | None = None
    seeds_for_power: int | None = None


def power_note(plan: Plan) -> str:
    """One line on what the design can show, told before it runs."""
    k, total = len(plan.contrasts), statements_of(plan)
    if not k:
        return f"{counted(plan.seeds, 'seed')} and no contrast: nothing is tested"
    weakest = max(powers(plan), key=lambda found: found.smallest_p)
    text = (
        f"{counted(weakest.seeds, 'paired seed')}, {counted(k, 'contrast')} with {total} possible"
        " statements (Holm): the smallest adjusted p that can be reached is"
        f" {probability(weakest.smallest_p)}"
    )
    if weakest.smallest_p < ALPHA:
        return text
    fewest = weakest.fewest_seeds
    cure = f"{counted(fewest, 'seed')} could" if fewest else "declare fewer contrasts"
    others = sum(found.smallest_p >= ALPHA for found in powers(plan)) - 1
    more = f" and {others} more" if others else ""
    return f"{text}: {weakest.name}{more} cannot be shown; {cure}"


def powers(plan: Plan, sd: float | None = None, effect: float | None = None) -> list[Power]:
    """What each contrast can show.

    Args:
      sd: of the paired differences, in the metric's unit, as a pilot has it.
      effect: the true difference, in the same unit; of a declared equality it is 0.
    """
    total = statements_of(plan)
    level = ALPHA / max(1, total)
    found = []
    for contrast in plan.contrasts:
        groups = plan.groups(contrast)
        n, fewest = len(groups), fewest_seeds(level)
        of_each = contrast.seeds_each
        told: dict = {}
        if sd is not None and effect is not None and isinstance(contrast, Contrast):
            equal = contrast.expect == "equal"
            bound = float(contrast.bound or 0) / sd if equal else None
            size = 0.0 if equal else effect / sd
            told = {
                "power": power(n, size, level, bound),
                "seeds_for_power": seeds_for_power(size, level, bound),
            }
        found.append(
            Power(
                contrast.name,
                contrast.expect,
                of_each * n,
                min(1.0, total * smallest_p(n)),
                None if fewest is None else of_each * fewest,
                **told,
            )
        )
    return found


def probability(p: float) -> str:
    """A p value as text, never as a nought."""
    return f"{p:.4f}" if p >= 0.0001 else f"{p:.1e}"


def power(n: int, effect: float, level: float, bound: float | None = None) -> float:
    """How often n seeds show it, of 1,000 simulated studies with normal differences of sd 1.

    Args:
      effect: the true mean difference, in standard deviations of the paired differences.
      level: of the one-sided test.
      bound: what is shown is that the centre lies within +-bound, in the same unit; None: that it
        has the effect's sign.
    """
    import numpy as np

    draws = np.random.default_rng(0).normal(abs(effect), 1.0, (DRAWS, n))
    shown = []
    for part in np.array_split(draws, math.ceil(DRAWS * 2**EXACT_SEEDS / 2**23)):
        if bound is None:
            shown.append(_p_above(part) <= level)
        else:
            shown.append(np.maximum(_p_above(part + bound), _p_above(bound - part)) <= level)
    return float(np.mean(np.concatenate(shown)))


def _p_above(values: "np.ndarray") -> "np.ndarray":
    """`SignFlips.p_above` of each row."""
    return (subsets(values)[0] <= 0).mean(axis=1)


def seeds_for_power(effect: float, level: float, bound: float | None = None) -> int | None:
    """The fewest seeds with 80 % power by `power`; None: more than 400 would be needed."""
    n = low = fewest_seeds(level)
    if n is None or low is None:
        return None
    while power(n, effect, level, bound) < POWER:
        if n == MOST_SEEDS:
            return None
        low, n = n + 1, min(2 * n, MOST_SEEDS)
    while low < n:  # power rises with n, but for the steps of a discrete test
        middle = (low + n) // 2
        low, n = (low, middle) if power(middle, effect, level, bound) >= POWER else (middle + 1, n)
    return n
