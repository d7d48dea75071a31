"""Losses that tasks beyond classification minimise."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

PRIOR_BIAS = -math.log(99)  # of a logit: at first a probability of .01 (Lin et al. 2017, 4.1)


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


def smooth_l1(differences: Float[Array, "*n"], beta: float = 1.0) -> Float[Array, "*n"]:
    """d^2 / (2 beta) below beta, d - beta / 2 above (Girshick 2015, equation 3, with beta 1)."""
    size = jnp.abs(differences)
    return jnp.where(size < beta, 0.5 * size**2 / beta, size - 0.5 * beta)


def binary_cross_entropy(
    logits: Float[Array, "*n"], truth: Float[Array, "*n"]
) -> Float[Array, "*n"]:
    """-ln of the probability given to the truth, which is 0 or 1, in nats."""
    return jnp.maximum(logits, 0) - logits * truth + jnp.log1p(jnp.exp(-jnp.abs(logits)))


def focal_loss(
    logits: Float[Array, "*n"],
    truth: Float[Array, "*n"],
    alpha: float = 0.25,
    gamma: float = 2.0,
) -> Float[Array, "*n"]:
    """alpha_t (1 - p_t)^gamma x the binary cross-entropy (Lin et al. 2017, equation 5)."""
    entropy = binary_cross_entropy(logits, truth)
    chance = jax.nn.sigmoid(logits)
    right = jnp.where(truth > 0.5, chance, 1 - chance)
    weight = jnp.where(truth > 0.5, alpha, 1 - alpha)
    return weight * (1 - right) ** gamma * entropy


def mined(
    losses: Float[Array, " a"], positive: Bool[Array, " a"], negative: Bool[Array, " a"], ratio: int
) -> Float[Array, " a"]:
    """1 on the positives and on the `ratio` times as many negatives of largest loss, else 0
    (Liu et al. 2016, section 2.2: hard negative mining). Of none positive, `ratio` negatives."""
    count = ratio * jnp.maximum(jnp.sum(positive), 1)
    order = jnp.argsort(-jnp.where(negative, losses, -jnp.inf), stable=True)
    rank = jnp.argsort(order)
    return (positive | (negative & (rank < count))).astype(losses.dtype)
