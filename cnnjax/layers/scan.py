"""Blocks of equal shape, compiled once: a scan over their stacked variables.

Outside, each block has its own name and its own parameters. Inside a training program the equal
blocks of a run lie stacked along a leading axis (`stack_blocks`, `unstack_blocks`), so that
neither the network nor the optimiser grows with depth. `apply_blocks` takes both forms.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.core.jax_internals import all_but_params
from cnnjax.layers.context import context, in_context
from cnnjax.layers.freeze import Freeze
from cnnjax.ops.conv import on_accelerator

Runs = Sequence[Sequence[str]]  # names of equal blocks, run by run

_UNROLLED = 9  # cifar_resnet56's

_first_only: ContextVar[bool] = ContextVar("first_only", default=False)


def stacked_name(names: Sequence[str]) -> str:
    """The key of a run in stacked form: "stage1_block2..stage1_block9"."""
    return f"{names[0]}..{names[-1]}"


def is_stacked(path: Sequence[Any]) -> bool:
    """Whether the leaf at a path of jax's lies in a run in stacked form."""
    return any(".." in str(getattr(key, "key", "")) for key in path)


def stack_blocks(tree: Any, runs: Runs) -> Any:
    """`tree` with the entries of each run replaced by one entry of stacked arrays.

    Works on any tree that has the block names as keys somewhere: parameters, batch statistics,
    the optimiser's trace, a whole training state.
    """
    for names in runs:
        tree = _replace(tree, names[0], lambda node, names=names: _stack(node, names))
    return tree


def unstack_blocks(tree: Any, runs: Runs) -> Any:
    """The inverse of `stack_blocks`: ordinary names."""
    for names in runs:
        tree = _replace(tree, stacked_name(names), lambda node, names=names: _unstack(node, names))
    return tree


@contextmanager
def first_of_each_run() -> Iterator[None]:
    """Initialise only the first block of each run in this context: for shapes without depth.

    `repeat_shapes` makes the stacked shapes of it.
    """
    token = _first_only.set(True)
    try:
        yield
    finally:
        _first_only.reset(token)


def repeat_shapes(tree: Any, runs: Runs) -> Any:
    """Shapes of the first block of each run as the run's stacked shapes."""

    def stacked(leaf: Any, names: Sequence[str]) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((len(names), *leaf.shape), leaf.dtype)

    def change(node: dict, names: Sequence[str]) -> dict:
        rest = dict(node)
        first = rest.pop(names[0])
        rest[stacked_name(names)] = jax.tree.map(partial(stacked, names=names), first)
        return rest

    for names in runs:
        tree = _replace(tree, names[0], partial(change, names=names))
    return tree


def unstack_shapes(tree: Any, runs: Runs) -> Any:
    """`unstack_blocks` of shapes."""

    def change(node: dict, names: Sequence[str]) -> dict:
        rest = dict(node)
        stacked = rest.pop(stacked_name(names))
        one = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape[1:], leaf.dtype), stacked)
        return {**rest, **dict.fromkeys(names, one)}

    for names in runs:
        tree = _replace(tree, stacked_name(names), partial(change, names=names))
    return tree


def apply_blocks(
    parent: nn.Module,
    block: nn.Module,
    names: Sequence[str],
    x: Float[Array, "n h w c"],
    *,
    train: bool,
) -> Float[Array, "n h2 w2 c2"]:
    """x through the blocks `names` of `parent`, all equal to `block`.

    Several keep the shape of x and are scanned; a single one may change it. Each block has random
    streams of its own, and what it sows comes back under its own name.

    Args:
      parent: the bound network; it has a submodule for each name.
      block: an unbound block (parent=None), called as block(x, train=train).
      names: the blocks of the run, in order.
    """
    if parent.is_initializing():
        names = names[:1] if _first_only.get() else names
        for name in names:
            x = getattr(parent, name)(x, train=train)
        return x
    for part in _frozen_in(parent).split(names):
        if len(part) == 1:
            x = getattr(parent, part[0])(x, train=train)
        else:
            x = _scan(parent, block, part, x, train=train)
    return x


def _scan(parent: nn.Module, block: nn.Module, names: Sequence[str], x: Array, *, train: bool):
    assert parent.scope is not None, "a network is bound when it is called"
    key = stacked_name(names)
    collections = {
        name: tree for name, tree in parent.variables.items() if key in tree or names[0] in tree
    }
    stacked = {
        name: tree[key] if key in tree else _stack(tree, names)[key]
        for name, tree in collections.items()
    }
    mutable = all_but_params(parent.scope.mutable)
    streams = {name: jax.random.split(parent.make_rng(name), len(names)) for name in _drawn(parent)}
    inside = replace(context(), frozen=_frozen_in(parent).inside(names[0]))

    def step(x, own):
        variables, keys = own
        with in_context(inside):
            return block.apply(variables, x, train=train, rngs=keys, mutable=mutable)

    unroll = _unrolled(len(names))
    if context().remat:  # only a loop's body is never merged with the forward pass
        step = jax.checkpoint(step, prevent_cse=unroll > 1)
    with jax.named_scope(key):
        x, updates = jax.lax.scan(step, x, (stacked, streams), unroll=unroll)
    for name, update in updates.items():
        entries = {key: update}
        if key not in collections.get(name, {}):
            entries = _unstack(entries, names)
        for entry, value in entries.items():
            parent.put_variable(name, entry, value)
    return x


def _unrolled(blocks: int) -> int:
    """Of how many blocks the body of the loop is made.

    An accelerator starts each of these small kernels for itself, and a loop adds its own: unrolled
    a step of cifar_resnet20 takes 2.5 ms for 3.35 (H200, jax 0.11.2). There more than nine blocks
    are a loop again, so that compilation does not grow with depth; on a processor they always are.
    """
    return min(blocks, _UNROLLED) if on_accelerator() else 1


def _frozen_in(parent: nn.Module) -> Freeze:
    """What is frozen, for paths that begin inside `parent`, wherever that lies."""
    frozen = context().frozen
    for name in parent.path:
        frozen = frozen.inside(name)
    return frozen


def _drawn(parent: nn.Module) -> list[str]:
    """The random streams that a call was given."""
    assert parent.scope is not None
    return [name for name in parent.scope.rngs if name != "params"]


def _replace(tree: Any, key: str, change: Callable[[dict], dict]) -> Any:
    def has_key(node: Any) -> bool:
        return isinstance(node, dict) and key in node

    return jax.tree.map(lambda node: change(node) if has_key(node) else node, tree, is_leaf=has_key)


def _stack(node: Any, names: Sequence[str]) -> dict:
    rest = {name: value for name, value in node.items() if name not in names}
    blocks = [node[name] for name in names]
    return {**rest, stacked_name(names): jax.tree.map(_stack_leaves, *blocks)}


def _stack_leaves(*leaves: Any) -> Any:
    """On the host by numpy, so that nothing is compiled for it."""
    host = all(isinstance(leaf, np.ndarray) for leaf in leaves)
    return np.stack(leaves) if host else jnp.stack(leaves)


def _unstack(node: dict, names: Sequence[str]) -> dict:
    rest = dict(node)
    stacked = rest.pop(stacked_name(names))
    for index, name in enumerate(names):
        rest[name] = jax.tree.map(lambda leaf, index=index: leaf[index], stacked)
    return rest
