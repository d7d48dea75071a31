"""Non-maximum suppression with fixed shapes: of boxes that overlap, the one of highest score."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cnnjax.ops.boxes import iou


def non_max_suppression(
    boxes: Float[Array, "k 4"],
    scores: Float[Array, " k"],
    classes: Int[Array, " k"],
    valid: Bool[Array, " k"],
    threshold: float,
) -> Bool[Array, " k"]:
    """Which boxes stay: greedy by falling score, of equal ones the lower index first.

    A box goes where one of its class that stays has an IoU with it *above* the threshold. Found as
    the fixed point of keep[i] = no j before i stays and overlaps, in as many rounds as the longest
    chain of boxes that decide on each other.
    """
    order = jnp.argsort(-jnp.where(valid, scores, -jnp.inf), stable=True)
    rank = jnp.argsort(order)
    before = rank[:, None] < rank[None, :]
    alike = classes[:, None] == classes[None, :]
    ousts = before & alike & (iou(boxes, boxes) > threshold) & valid[:, None] & valid[None]

    def goes_on(carry: tuple[Array, Array]) -> Array:
        return carry[1]

    def once(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        keep, _ = carry
        new = valid & ~jnp.any(ousts & keep[:, None], axis=0)
        return new, jnp.any(new != keep)

    keep, _ = jax.lax.while_loop(goes_on, once, (valid, jnp.any(valid)))
    return keep


def best_of_each(
    boxes: Float[Array, "*c k 4"],
    scores: Float[Array, "*c k"],
    classes: Int[Array, "*c k"],
    valid: Bool[Array, "*c k"],
    threshold: float,
    most: int,
) -> dict[str, Array]:
    """A detector's answer for an image: what non-maximum suppression leaves of each class.

    Args:
      boxes: [k, 4], in any order, or [c, k, 4], each row of one class alone: one row at a time, as
        k x k values of every class at once fill the memory.

    Returns:
      `boxes` [most, 4], `scores` and `labels` [most] by falling score, of equal ones the earlier
      first; labels of -1 are padding.
    """

    def stay(row: tuple[Array, Array, Array, Array]) -> Array:
        return non_max_suppression(row[0], row[1], row[2], row[3], threshold)

    given = (boxes, scores, classes, valid)
    kept = stay(given) if scores.ndim == 1 else jax.lax.map(stay, given).reshape(-1)
    boxes, scores, classes = boxes.reshape(-1, 4), scores.reshape(-1), classes.reshape(-1)
    order = jnp.argsort(-jnp.where(kept, scores, -jnp.inf), stable=True)[:most]
    there = kept[order]
    return {
        "boxes": jnp.where(there[:, None], boxes[order], 0.0),
        "scores": jnp.where(there, scores[order], 0.0),
        "labels": jnp.where(there, classes[order], -1).astype(jnp.int32),
    }
