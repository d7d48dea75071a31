"""A study's metrics in words and numbers: "train_top1_error" is the training top1 error, in %."""

from collections.abc import Mapping

from cnnjax.tasks.task import Metric


def words(name: str) -> str:
    """A study's metric as a sentence has it: "training error"."""
    return name.replace("train_", "training ", 1).replace("_", " ")


def step_unit(metric: Metric) -> str:
    """Of a difference of two values: points, where they are per cent."""
    return "points" if metric.unit == "%" else metric.unit


def labelled(name: str, metric: Metric) -> str:
    """The metric with its unit, for an axis or a column: "training error (%)"."""
    return f"{words(name)} ({metric.unit})" if metric.unit else words(name)


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
    """A cell's metric as it enters statistics; a diverged cell has the worst value, if any."""
    if result["status"] == "diverged" or result[name] is None:
        return metric.worst
    return result[name]
