"""The probes by name: each registers itself in its own file.

A probe is a pure function (task, state, batch) -> a number, or {layer: number}. It is compiled as a
program of its own and run between steps, so that training keeps its bits.

task: the network's; `task.looked_at(state, batch)` is a forward pass as a step makes it.
state: the training state, with a name for each block.
batch: the first examples of the training set, as many as an update has, normalised and not
  augmented: the same for each seed.
"""

import inspect
from collections.abc import Callable
from typing import Any

from cnnjax.core.errors import Refused
from cnnjax.core.registry import Entry, Registry

Probe = Callable[..., Any]


class _Probes(Registry[Entry]):
    kind, home = "probe", "cnnjax.probes"
    hint = "give one of those that ship, or FILE.py:function"

    def own(self, name: str, thing: Any) -> Entry:
        try:
            inspect.signature(thing).bind(None, None, None)
        except (TypeError, ValueError):
            raise Refused(f"{name} is no probe: give a function(task, state, batch)") from None
        return Entry(name, thing)


PROBES = _Probes()


def register_probe(probe: Probe) -> Probe:
    """Decorator: the function's name is the probe's."""
    PROBES.add(Entry(probe.__name__, probe))
    return probe
