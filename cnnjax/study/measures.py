"""A study's metrics in words and numbers: "train_top1_error" is the training top1 error, in %."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from cnnjax.tasks.task import Metric


def probed(name: str) -> tuple[str, str] | None:
    """Of a metric that a probe gives, what the probe saw and of which layer ("": it is a number).

    "gradient_norm/stem@0.1" is ("gradient_norm@0.1", "stem"); None: it is a metric of the task.
    """
    what, at, share = name.rpartition("@")
    if not at:
        return None
    label, _, layer = what.partition("/")
    return f"{label}@{share}", layer


@dataclass(frozen=True)
class Goal:
    """A metric that counts epochs: until a figure of the epochs is at most (or at least) a value.

    Attributes:
      figure: "batch_error" (of an epoch's batches as they were trained on), "test_loss", ...
      sign: "<=" or ">=".
    """

    figure: str
    sign: str
    value: float

    def is_measured(self, lines: Iterable[Mapping]) -> bool:
        """Whether any epoch has its figure."""
        return any(line.get(self.figure) is not None for line in lines)

    def epochs(self, lines: Iterable[Mapping]) -> float | None:
        """The first epoch that reaches it; None: none does.

        Args:
          lines: a run's figures of each epoch that was judged.
        """
        for line in lines:
            found = line.get(self.figure)
            if found is None:
                continue
            if found <= self.value if self.sign == "<=" else found >= self.value:
                return float(line["epoch"])
        return None


def goal_of(name: str) -> Goal | None:
    """What "batch_error<=25" counts epochs to; None: it is another metric."""
    match = re.fullmatch(r"((?:batch|test)_\w+)(<=|>=)(\d+(?:\.\d+)?)", name)
    return Goal(match[1], match[2], float(match[3])) if match else None


def words(name: str) -> str:
    """A study's metric as a sentence has it: "training error", "gradient norm of stem at 10 %"."""
    of_probe = probed(name)
    if goal := goal_of(name):
        return f"epochs until {words(goal.figure)} {goal.sign} {goal.value:g}"
    if of_probe is None:
        return name.replace("train_", "training ", 1).replace("_", " ")
    label, _, share = of_probe[0].rpartition("@")
    when = {"0": "before training", "1": "at the end"}.get(share, f"at {100 * float(share):g} %")
    layer = f" of {of_probe[1]}" if of_probe[1] else ""
    return f"{label.replace('_', ' ')}{layer} {when}"


def step_unit(metric: Metric) -> str:
    """Of a difference of two values: points, where they are per cent."""
    return "points" if metric.unit == "%" else metric.unit


def labelled(name: str, metric: Metric) -> str:
    """The metric with its unit, for an axis or a column: "training error (%)"."""
    counts = goal_of(name) is not None  # its words have the unit
    return f"{words(name)} ({metric.unit})" if metric.unit and not counts else words(name)


def shown(metric: Metric, value: float) -> str:
    """A value: per cent with two digits behind the point, others with four digits."""
    return f"{value:.2f}" if metric.unit == "%" else f"{value:.4g}"


def shown_step(metric: Metric, value: float) -> str:
    """A signed difference, with a minus sign."""
    text = f"{value:+.2f}" if metric.unit == "%" else f"{value:+.3g}"
    return text.replace("-", "−")


def with_unit(text: str, unit: str) -> str:
    """ "+1.20 points", or the number alone where there is no unit."""
    return f"{text} {unit}" if unit else text


def value_of(result: Mapping, name: str, metric: Metric) -> float | None:
    """A cell's metric as it enters statistics; a diverged cell has the worst value, if any, and so
    has one that never reached a goal. None: it was not measured."""
    if (of_probe := probed(name)) is not None:
        moment, layer = of_probe
        seen = result.get("probes", {}).get(moment)  # None: it diverged before
        return seen.get(layer) if layer and seen is not None else seen
    never_there = name in result and result[name] is None and goal_of(name) is not None
    return metric.worst if result["status"] == "diverged" or never_there else result.get(name)
