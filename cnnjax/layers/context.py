"""What a layer must know of the computation that it is in, and not of its network.

The task says it around each call of the network; inside it is in force for every layer, also in
scanned blocks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Key

from cnnjax.layers.freeze import NOTHING, Freeze


@dataclass(frozen=True, eq=False)
class Context:
    """One call of a network while training.

    Attributes:
      norm_axis: over which replicas share batch statistics, or None.
      norm_group: examples that are normalised together; None: the whole batch.
      indices: of the examples in the training set, int32 [n]; None: their places in the batch.
      frozen: what does not learn.
      part: of a batch that is computed in parts, which one it is, int32; None: it is whole.
      remat: compute a scanned block again for its gradients, instead of keeping what is inside.
    """

    norm_axis: str | None = None
    norm_group: int | None = None
    indices: Any = None
    frozen: Freeze = NOTHING
    part: Any = None
    remat: bool = False


_outside = Context()
_context: ContextVar[Context] = ContextVar("context", default=_outside)


def context() -> Context:
    """The one that is in force."""
    return _context.get()


@contextmanager
def in_context(wanted: Context) -> Iterator[None]:
    """Put `wanted` in force for the block."""
    token = _context.set(wanted)
    try:
        yield
    finally:
        _context.reset(token)


def example_keys(key: Key[Array, ""], examples: int) -> Key[Array, " {examples}"]:
    """A key for each example, from the step's and its index in the training set: however a batch is
    split over devices, an example draws the same."""
    indices = context().indices
    indices = jnp.arange(examples) if indices is None else indices
    return jax.vmap(lambda index: jax.random.fold_in(key, index))(indices)
