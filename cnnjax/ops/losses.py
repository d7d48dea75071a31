"""Losses that tasks beyond classification minimise."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def pixel_cross_entropy(
    logits: Float[Array, "n h w k"], classes: Int[Array, "n h w"], counted: Float[Array, "n h w"]
) -> Float[Array, " n"]:
    """Of each image the mean over its counted pixels, in nats; 0 where none is counted."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), classes[..., None], axis=-1)[..., 0]
    return -jnp.sum(chosen * counted, (1, 2)) / jnp.maximum(jnp.sum(counted, (1, 2)), 1.0)


def dice_loss(
    logits: Float[Array, "n h w k"], classes: Int[Array, "n h w"], counted: Float[Array, "n h w"]
) -> Float[Array, " n"]:
    """1 - the mean over the classes of 2 sum(p y) / (sum p + sum y), of each image.

    Milletari et al. 2016, arXiv:1606.04797, section 3, with sums of p in place of p^2 and 1 pixel
    added above and below, so that a class which is not there and not seen is without loss.
    """
    chances = jax.nn.softmax(logits) * counted[..., None]
    truth = jax.nn.one_hot(classes, logits.shape[-1]) * counted[..., None]
    common, both = (chances * truth).sum((1, 2)), (chances + truth).sum((1, 2))
    return 1 - jnp.mean((2 * common + 1) / (both + 1), axis=-1)
