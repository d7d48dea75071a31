"""Boxes: x and y of the near and of the far corner in pixels, the far one outside: its area is
width x height. Other forms are converted at the border."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

Weights = tuple[float, float, float, float]

SSD_WEIGHTS: Weights = (10.0, 10.0, 5.0, 5.0)  # variances .1, .1, .2, .2 (SSD; the box head)
UNIT_WEIGHTS: Weights = (1.0, 1.0, 1.0, 1.0)  # RetinaNet, RPN
_MOST_GROWTH = math.log(1000 / 16)  # of a side in decoding, by which nothing overflows


def from_xywh(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """From x, y, width, height (COCO's files)."""
    return jnp.concatenate([boxes[..., :2], boxes[..., :2] + boxes[..., 2:]], axis=-1)


def to_xywh(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    return jnp.concatenate([boxes[..., :2], boxes[..., 2:] - boxes[..., :2]], axis=-1)


def from_centre(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    """From x and y of the centre, width, height."""
    half = boxes[..., 2:] / 2
    return jnp.concatenate([boxes[..., :2] - half, boxes[..., :2] + half], axis=-1)


def to_centre(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n 4"]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return jnp.concatenate([(low + high) / 2, high - low], axis=-1)


def area(boxes: Float[Array, "*n 4"]) -> Float[Array, "*n"]:
    """In square pixels; 0 where a corner lies before the other."""
    return jnp.prod(jnp.maximum(boxes[..., 2:] - boxes[..., :2], 0), axis=-1)


def iou(boxes: Float[Array, "n 4"], others: Float[Array, "m 4"]) -> Float[Array, "n m"]:
    """Intersection over union of each with each; 0 where both have no area."""
    common, union, _ = _overlap(boxes, others)
    return jnp.where(union > 0, common / jnp.where(union > 0, union, 1), 0.0)


def giou(boxes: Float[Array, "n 4"], others: Float[Array, "m 4"]) -> Float[Array, "n m"]:
    """IoU less the share of the enclosing box that neither covers (Rezatofighi et al. 2019)."""
    _, union, around = _overlap(boxes, others)
    return iou(boxes, others) - jnp.where(
        around > 0, (around - union) / jnp.maximum(around, 1e-12), 0.0
    )


def _overlap(boxes: Array, others: Array) -> tuple[Array, Array, Array]:
    """Areas of intersection, union and enclosing box."""
    a, b = boxes[:, None], others[None]
    inner = jnp.concatenate([jnp.maximum(a, b)[..., :2], jnp.minimum(a, b)[..., 2:]], axis=-1)
    outer = jnp.concatenate([jnp.minimum(a, b)[..., :2], jnp.maximum(a, b)[..., 2:]], axis=-1)
    common = area(inner)
    return common, area(boxes)[:, None] + area(others)[None] - common, area(outer)


def clip(boxes: Float[Array, "*n 4"], height: int, width: int) -> Float[Array, "*n 4"]:
    """What of the boxes lies in the image."""
    most = jnp.asarray([width, height, width, height], boxes.dtype)
    return jnp.clip(boxes, 0, most.reshape((1,) * (boxes.ndim - 1) + (4,)))


def encode(
    boxes: Float[Array, "*n 4"], anchors: Float[Array, "*n 4"], weights: Weights
) -> Float[Array, "*n 4"]:
    """How an anchor must move and grow to be a box (Girshick et al. 2014, appendix C).

    ((x - x_a) / w_a, (y - y_a) / h_a, ln w / w_a, ln h / h_a) x weights, of centres.
    """
    wanted, own = to_centre(boxes), to_centre(anchors)
    moved = (wanted[..., :2] - own[..., :2]) / own[..., 2:]
    grown = jnp.log(jnp.maximum(wanted[..., 2:], 1e-6) / own[..., 2:])
    return jnp.concatenate([moved, grown], axis=-1) * _along(weights, boxes)


def decode(
    deltas: Float[Array, "*n 4"], anchors: Float[Array, "*n 4"], weights: Weights
) -> Float[Array, "*n 4"]:
    """The inverse of `encode`; a side grows 62.5-fold at most."""
    own, scaled = to_centre(anchors), deltas / _along(weights, deltas)
    centre = own[..., :2] + scaled[..., :2] * own[..., 2:]
    sides = own[..., 2:] * jnp.exp(jnp.minimum(scaled[..., 2:], _MOST_GROWTH))
    return from_centre(jnp.concatenate([centre, sides], axis=-1))


def _along(weights: Weights, boxes: Array) -> Array:
    return jnp.asarray(weights, boxes.dtype).reshape((1,) * (boxes.ndim - 1) + (4,))
