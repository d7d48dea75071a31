"""Where a program runs. A placement turns the pure programs of `program` into compiled ones.

The programs see the placement's small functions and nothing else of it; pmap and sharded jit are
other placements with the same interface, and neither step nor loop changes for them.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax


@runtime_checkable
class Placement(Protocol):
    """The contract."""

    @property
    def norm_axis(self) -> str | None:
        """The axis over which batch normalisation synchronises, or None."""
        ...

    def put(self, tree: Any) -> Any:
        """Lay a tree of host arrays where the programs want it."""
        ...

    def local(self, indices: Any) -> Any:
        """This replica's part of a global batch's indices."""
        ...

    def reduce(self, tree: Any) -> Any:
        """Average a tree over replicas that hold equally many examples."""
        ...

    def merge(self, tree: Any) -> Any:
        """Add a tree of sums over replicas."""
        ...

    def compile(
        self, function: Callable, shapes: tuple, donate: tuple[int, ...] = ()
    ) -> tuple[Callable, float]:
        """The function compiled for arguments of these shapes, and the seconds that took."""
        ...


@dataclass(frozen=True)
class Jit:
    """One device, by `jax.jit`: one replica, so there is nothing to split, average or add."""

    norm_axis: str | None = None

    def put(self, tree: Any) -> Any:
        return jax.device_put(tree)

    def local(self, indices: Any) -> Any:
        return indices

    def reduce(self, tree: Any) -> Any:
        return tree

    def merge(self, tree: Any) -> Any:
        return tree

    def compile(
        self, function: Callable, shapes: tuple, donate: tuple[int, ...] = ()
    ) -> tuple[Callable, float]:
        start = time.perf_counter()
        compiled = jax.jit(function, donate_argnums=donate).lower(*shapes).compile()
        return compiled, time.perf_counter() - start
