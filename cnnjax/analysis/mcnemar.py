"""Two networks on the same images: McNemar's test (1947), exact."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cnnjax.core.errors import Refused


@dataclass(frozen=True)
class Disagreement:
    """Where one of two networks is wrong and the other is not.

    Attributes:
      examples: that both have seen.
      only_first, only_second: how many the first, the second alone has wrong.
      p: of a difference at least as large where both err alike: two-sided, binomial, exact. It is
        about these two networks and not about how they were made: another seed is another network.
    """

    examples: int
    only_first: int
    only_second: int
    p: float


def mcnemar(
    first: Mapping[str, np.ndarray], second: Mapping[str, np.ndarray], where: str
) -> Disagreement:
    """
    Args:
      first, second: `labels` and `predictions` of every example, in one order.
      where: the second came from, for the message.

    Raises:
      Refused: they are not of the same examples.
    """
    from scipy import stats  # half a second

    if not np.array_equal(first["labels"], second["labels"]):
        raise Refused(
            f"{where} is of other examples ({len(second['labels']):,}, here"
            f" {len(first['labels']):,}): both must be of one split of one data set, in its order"
        )
    wrong, other = (given["predictions"] != given["labels"] for given in (first, second))
    only_first, only_second = int((wrong & ~other).sum()), int((other & ~wrong).sum())
    total = only_first + only_second
    p = float(stats.binomtest(only_first, total).pvalue) if total else 1.0
    return Disagreement(len(wrong), only_first, only_second, min(p, 1.0))


def standard_error(error: float, examples: int) -> float:
    """Of an error in per cent over so many examples, by chance of the images alone (binomial)."""
    share = error / 100
    return 100 * math.sqrt(share * (1 - share) / examples)
