"""The effective receptive field: from where in an image a unit really draws."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.probes.registry import register_probe
from cnnjax.tasks.network import NetworkTask
from cnnjax.tasks.state import TrainState
from cnnjax.tasks.task import Batch

_SHARE = 1 - 0.9545  # of the largest influence: two standard deviations of a Gaussian


@register_probe
def effective_receptive_field(
    task: NetworkTask, state: TrainState, batch: Batch
) -> Float[Array, ""]:
    """Side in pixels of the square with as many pixels as have more than 4.55 % of the strongest
    influence on the middle of the last feature map (Luo et al. 2016, arXiv:1701.04128, section
    3.2); influence is the gradient's size, mean over the images and summed over channels."""
    influence = influence_map(task, state, batch)
    return jnp.sqrt(jnp.sum(influence > _SHARE * jnp.max(influence)))


def influence_map(task: NetworkTask, state: TrainState, batch: Batch) -> Float[Array, "h w"]:
    """How much each pixel sways the middle unit of the last feature map."""
    if not hasattr(task.model, "feature_maps"):
        raise ValueError(f"{type(task.model).__name__} has no feature_maps(images, *, train)")

    def middle(images: Array) -> Array:
        variables = {"params": state.params, **state.model_state}
        maps = task.model.apply(variables, images, train=False, method="feature_maps")
        last = maps[max(maps)]
        return jnp.sum(last[:, last.shape[1] // 2, last.shape[2] // 2])

    return jnp.mean(jnp.sum(jnp.abs(jax.grad(middle)(batch["images"])), axis=-1), axis=0)
