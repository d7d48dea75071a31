"""The training state, its hyperparameters and its names."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Int


class TrainState(struct.PyTreeNode):
    """All that a run needs to go on, beside its position. Fields are trees of arrays."""

    step: Any  # int32 scalar: updates made
    params: Any
    model_state: Any  # {"batch_stats": ...} or {}
    opt_state: Any  # `tasks.optimizers.OptState`
    average: Any = None  # {"params", "model_state"}: their moving average, if one is kept


def set_hyperparams(state: TrainState, **values: Any) -> TrainState:
    """`state` with hyper-parameters replaced, as float32 arrays.

    Rates are arrays, not constants: one compiled step serves them all.
    """
    arrays = {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}
    old = state.opt_state
    return state.replace(opt_state=old._replace(hyperparams={**old.hyperparams, **arrays}))


def leaf_names(tree: Any) -> list[str]:
    """The path of each leaf, in order: "params.stage1_block1.conv1.conv.kernel"."""
    paths, _ = jax.tree.flatten_with_path(tree)
    return [".".join(path_part(key) for key in path) for path, _ in paths]


def nonfinite_leaves(tree: Any) -> Int[Array, " leaves"]:
    """For each leaf 1 if it holds a NaN or an infinity, else 0."""
    bad = [~jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]
    return jnp.stack(bad).astype(jnp.int32)


def path_part(key: Any) -> str:
    """One key of a path of jax's, as a word."""
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)
