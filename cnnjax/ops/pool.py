"""Pooling over windows, with padding in pixels."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float


def max_pool(
    images: Float[Array, "n h w c"], window: int, strides: int, padding: int = 0
) -> Float[Array, "n h2 w2 c"]:
    """The largest value in each square window; padding never wins."""
    return lax.reduce_window(
        images,
        -jnp.inf,
        lax.max,
        (1, window, window, 1),
        (1, strides, strides, 1),
        ((0, 0), (padding, padding), (padding, padding), (0, 0)),
    )
