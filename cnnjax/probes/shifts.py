"""What a network makes of an image that has moved: pooling is said to make it not care."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnnjax.probes.registry import register_probe
from cnnjax.tasks.network import NetworkTask
from cnnjax.tasks.state import TrainState
from cnnjax.tasks.task import Batch

_STEPS = ((1, 0), (-1, 0), (0, 1), (0, -1))  # rows, columns


@register_probe
def shift_sensitivity(task: NetworkTask, state: TrainState, batch: Batch) -> Float[Array, ""]:
    """Share of the images whose likeliest class changes when the image moves by one pixel, mean
    over the four directions; what leaves is lost, and zeros (the mean image) come in."""

    def classes(images: Array) -> Array:
        variables = {"params": state.params, **state.model_state}
        return jnp.argmax(task.model.apply(variables, images, train=False), axis=-1)

    images = batch["images"]
    still = classes(images)
    return jnp.mean(jnp.stack([classes(moved(images, *step)) != still for step in _STEPS]) * 1.0)


def moved(images: Float[Array, "n h w c"], down: int, right: int) -> Float[Array, "n h w c"]:
    """Images moved by so many pixels, zeros behind them."""
    height, width = images.shape[1:3]
    padded = jnp.pad(
        images,
        (
            (0, 0),
            (max(down, 0), max(-down, 0)),
            (max(right, 0), max(-right, 0)),
            (0, 0),
        ),
    )
    top, left = max(-down, 0), max(-right, 0)
    return padded[:, top : top + height, left : left + width]
