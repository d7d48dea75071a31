"""The tasks by name: each registers itself in its own file."""

from collections.abc import Callable, Iterable
from typing import Any

from cnnjax.core.errors import Refused
from cnnjax.core.registry import Entry, Registry
from cnnjax.tasks.task import Metric

_TAKEN = ("seconds", "examples", "nonfinite", "indices")  # of a result or of sums


class _Tasks(Registry[Entry]):
    kind, home = "task", "cnnjax.tasks"
    hint = "give one of those that ship, or FILE.py:Class"

    def own(self, name: str, thing: Any) -> Entry:
        from cnnjax.tasks.network import NetworkTask

        if not isinstance(thing, type) or not issubclass(thing, NetworkTask):
            raise Refused(f"{name} is no task: give a class that derives from cnnjax.NetworkTask")
        if missing := sorted(thing.__abstractmethods__):
            raise Refused(f"{name} does not define {missing[0]}(self, outputs, batch)")
        metrics = thing.metrics
        if not isinstance(metrics, tuple) or not metrics:
            raise Refused(f"{name} declares no metric: metrics = (Metric(...), ...), a tuple")
        for metric in metrics:
            if not isinstance(metric, Metric):
                raise Refused(f"{name}: metrics holds {metric!r}, which is no Metric(...)")
        names = [metric.name for metric in metrics]
        for word in (*names, *thing.aliases):
            if not word.isidentifier() or word in _TAKEN:
                raise Refused(f"{name}: a metric cannot be named {word!r}")
        if len({*names, *thing.aliases}) < len(names) + len(thing.aliases):
            raise Refused(f"{name}: two metrics, or a metric and a short name, are named alike")
        return Entry(name, thing)

    def hidden(self, make: Callable[..., Any]) -> Iterable[str]:
        from cnnjax.tasks.network import NetworkTask

        return NetworkTask.__dataclass_fields__


TASKS = _Tasks()


def register_task(name: str) -> Callable[[type], type]:
    """Class decorator: `recipe.task.name` is `name`."""

    def decorate(task_class: type) -> type:
        TASKS.add(Entry(name, task_class))
        return task_class

    return decorate
