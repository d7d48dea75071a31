"""A fresh state, and what is kept of a run."""

from typing import Any

import jax.numpy as jnp

from cnnjax.core.random import stream_keys
from cnnjax.core.recipe import Recipe
from cnnjax.tasks.optimizers import hyperparams_of
from cnnjax.tasks.state import TrainState, set_hyperparams
from cnnjax.tasks.task import Task


def fresh_state(task: Task, recipe: Recipe, seed: int) -> TrainState:
    """Random parameters and the recipe's hyper-parameters."""
    state = task.init(stream_keys(seed, recipe.streams)["init"])
    return set_hyperparams(state, **hyperparams_of(recipe.optimizer))


def saved_tree(
    state: TrainState, metrics: dict[str, Any], train_seconds: float = 0.0
) -> dict[str, Any]:
    """What is kept of a run: its state, the epoch's sums so far, the seconds that it took."""
    seconds = jnp.asarray(train_seconds, jnp.float32)
    return {"state": state, "metrics": metrics, "train_seconds": seconds}
