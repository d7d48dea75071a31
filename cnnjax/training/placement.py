"""Where a program runs. A placement turns the pure programs of `program` into compiled ones.

The programs see the placement's small functions and nothing else of it; pmap and sharded jit are
other placements with the same interface, and neither step nor loop changes for them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax

from cnnjax.core import environment
from cnnjax.tasks.network import OneReplica
from cnnjax.tasks.task import Collectives


@runtime_checkable
class Placement(Collectives, Protocol):
    """The contract: collectives for the step, and how programs and arrays are laid out."""

    def put(self, tree: Any) -> Any:
        """Lay a tree of host arrays where the programs want it."""
        ...

    def local(self, indices: Any) -> Any:
        """This replica's part of a global batch's indices."""
        ...

    def compile(
        self, function: Callable, shapes: tuple, donate: tuple[int, ...] = ()
    ) -> tuple[Callable, float]:
        """The function compiled for arguments of these shapes, and the seconds that took."""
        ...


@dataclass(frozen=True)
class Jit(OneReplica):
    """One device, by `jax.jit`: one replica, so there is nothing to split, average or add."""

    def put(self, tree: Any) -> Any:
        return jax.device_put(tree)

    def local(self, indices: Any) -> Any:
        return indices

    def compile(
        self, function: Callable, shapes: tuple, donate: tuple[int, ...] = ()
    ) -> tuple[Callable, float]:
        start = time.perf_counter()
        lowered = jax.jit(function, donate_argnums=donate).lower(*shapes)
        compiled = lowered.compile(environment.compiler_options())
        return compiled, time.perf_counter() - start
