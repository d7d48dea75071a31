"""The loss around trained parameters (Li et al. 2018, arXiv:1712.09913, section 4)."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from cnnjax.tasks.network import NetworkTask
from cnnjax.tasks.state import TrainState
from cnnjax.tasks.task import Batch


def loss_surface(
    task: NetworkTask,
    state: TrainState,
    batch: Batch,
    key: PRNGKeyArray,
    places: Float[Array, " k"],
) -> Float[Array, "k k"]:
    """Mean loss in evaluation mode at parameters + places[i] d1 + places[j] d2.

    d1 and d2 are random and filter-normalised, so that 1 is as far as the filters themselves are
    long, and nets whose filters differ in scale can be compared. Running statistics stay.
    """
    first, second = (filter_normalized(k, state.params) for k in jax.random.split(key))

    def loss(place: Array) -> Array:
        moved = jax.tree.map(
            lambda p, one, two: p + place[0] * one + place[1] * two, state.params, first, second
        )
        variables = {"params": moved, **state.model_state}
        outputs = task.model.apply(variables, batch["images"], train=False)
        return jnp.mean(task.losses(outputs, batch))

    grid = jnp.stack(jnp.meshgrid(places, places, indexing="ij"), axis=-1)
    return lax.map(loss, grid.reshape(-1, 2)).reshape(grid.shape[:2])


def filter_normalized(key: PRNGKeyArray, params: Any) -> Any:
    """A random direction, each filter of which is as long as the parameters' own; biases and what
    normalises have none."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))

    def direction(key: Array, leaf: Array) -> Array:
        if leaf.ndim < 2:
            return jnp.zeros_like(leaf)
        drawn = jax.random.normal(key, leaf.shape, leaf.dtype)
        axes = tuple(range(leaf.ndim - 1))  # outputs lie in the last
        lengths = jnp.sqrt(jnp.sum(drawn**2, axes, keepdims=True))
        return drawn * jnp.sqrt(jnp.sum(leaf**2, axes, keepdims=True)) / lengths

    return jax.tree.unflatten(structure, list(map(direction, keys, leaves)))
