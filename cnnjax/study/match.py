"""Settings that are found by counting, so that variants cost the same."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from cnnjax.core.config import Assignment, override_all
from cnnjax.core.errors import Refused, Say, refused_at
from cnnjax.core.recipe import Data, Recipe
from cnnjax.data.dataset import AnyDataset
from cnnjax.study.cells import Plan, Variant

_SIDES = 64.0  # a value is looked for between its default over this and its default times this
_CLOSE = 1.0005  # two values whose ratio is below are one


@dataclass(frozen=True)
class Matched:
    """What was found, and what is left unmatched."""

    variant: str
    path: str
    value: float
    cost: str
    found: int
    wanted: int
    of: str

    @property
    def sentence(self) -> str:
        rest = 100 * (self.found / self.wanted - 1)
        return (
            (
                f"{self.variant}: {self.path} = {self.value:g} gives {self.found:,} {self.cost},"
                f" {rest:+.2f} % of the {self.wanted:,} of {self.of}."
            )
            .replace("+0.00 % of", "as many as")
            .replace("-0.00 % of", "as many as")
        )


def match_costs(
    plan: Plan, datasets: Mapping[Data, AnyDataset], say: Say
) -> tuple[Plan, list[Matched]]:
    """The plan with every matched setting found.

    Raises:
      Refused: no value comes near.
    """
    by_name = {variant.name: variant for variant in plan.variants}
    found: dict[str, Variant] = {}
    notes = []
    for variant in plan.variants:
        if not variant.matches:
            continue
        ((path, match),) = variant.matches.items()
        with refused_at(f"variant {variant.name}"):
            other = by_name[match.variant].recipe
            wanted = _cost(other, datasets[other.data], match.cost)
            value, got = _nearest(variant.recipe, path, match.cost, datasets, wanted)
        notes.append(Matched(variant.name, path, value, match.cost, got, wanted, match.variant))
        recipe = _with(variant.recipe, path, value)
        found[variant.name] = replace(variant, recipe=recipe, matches={})
        say(notes[-1].sentence)
    variants = tuple(found.get(variant.name, variant) for variant in plan.variants)
    return replace(plan, variants=variants), notes


def _nearest(
    recipe: Recipe,
    path: str,
    cost: str,
    datasets: Mapping[Data, AnyDataset],
    wanted: int,
) -> tuple[float, int]:
    """The value with which a network costs most nearly `wanted`, and what it costs then.

    Costs rise with the value, in steps, as channels are whole.
    """

    def count(value: float) -> int:
        try:
            return _cost(_with(recipe, path, value), datasets[recipe.data], cost)
        except Refused:  # no channel is left, say
            return 0 if value < start else 2**63

    group, _, name = path.partition(".")
    start = float(getattr(getattr(recipe, group), name))
    if not start > 0:
        raise Refused(f"{path}={start:g}: a match is looked for around a value above 0")
    low, high = start / _SIDES, start * _SIDES
    if not count(low) < wanted < count(high):
        raise Refused(f"no {path} from {low:g} to {high:g} gives {wanted:,} {cost}")
    low, high = _bracket(count, low, high, wanted)
    ends = [(rounded, count(rounded)) for rounded in (_rounded(low), _rounded(high))]
    return min(ends, key=lambda end: abs(end[1] - wanted))


def _bracket(
    count: Callable[[float], int], low: float, high: float, wanted: int
) -> tuple[float, float]:
    while high / low > _CLOSE:
        middle = (low * high) ** 0.5
        low, high = (middle, high) if count(middle) < wanted else (low, middle)
    return low, high


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _with(recipe: Recipe, path: str, value: Any) -> Recipe:
    return override_all(recipe, [Assignment(path, value, f"{path}={value:g}")])


def _cost(recipe: Recipe, dataset: AnyDataset, cost: str) -> int:
    from cnnjax.analysis.cost import model_cost
    from cnnjax.training.make import make_task

    task = make_task(recipe, dataset)
    return int(getattr(model_cost(task.model, task.data.image_shape), cost))
