"""Where a program runs. A placement turns the pure programs of `program` into compiled ones.

The contract that lets others follow (pmap, sharded jit) without touching step or loop:
  norm_axis   the axis over which batch normalisation synchronises, or None
  put         lays a tree of host arrays where the programs want it
  compile     (function, arguments' shapes) -> a compiled function; the placement hands the
              function its `reduce`, donates what `donate` names, and splits the global batch
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax


@runtime_checkable
class Placement(Protocol):
    """See the module's text."""

    @property
    def norm_axis(self) -> str | None: ...

    def put(self, tree: Any) -> Any: ...

    def reduce(self, tree: Any) -> Any: ...

    def compile(
        self, function: Callable, arguments: tuple, donate: tuple[int, ...] = ()
    ) -> tuple[Callable, float]: ...


@dataclass(frozen=True)
class Jit:
    """One device, by `jax.jit`."""

    norm_axis: str | None = None

    def put(self, tree: Any) -> Any:
        return jax.device_put(tree)

    def reduce(self, tree: Any) -> Any:
        """There is one replica: nothing to average."""
        return tree

    def compile(
        self, function: Callable, arguments: tuple, donate: tuple[int, ...] = ()
    ) -> tuple[Callable, float]:
        """The function compiled for arguments of these shapes, and the seconds that took."""
        start = time.perf_counter()
        shapes = jax.tree.map(_shape, arguments)
        compiled = jax.jit(function, donate_argnums=donate).lower(*shapes).compile()
        return compiled, time.perf_counter() - start


def _shape(leaf: Any) -> jax.ShapeDtypeStruct:
    array = jax.numpy.asarray(leaf) if not hasattr(leaf, "dtype") else leaf
    return jax.ShapeDtypeStruct(array.shape, array.dtype)
