"""Which anchor answers for which object while training."""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cnnjax.ops.boxes import iou

Weak = Literal["none", "forced", "restored"]


class Assignment(NamedTuple):
    """Of each anchor the object with which it overlaps most, and whether it is to find it.

    positive: it is; negative: there is nothing for it to find. Neither: it is not asked.
    """

    objects: Int[Array, " a"]
    positive: Bool[Array, " a"]
    negative: Bool[Array, " a"]


def assign(
    anchors: Float[Array, "a 4"],
    boxes: Float[Array, "m 4"],
    there: Bool[Array, " m"],
    *,
    positive: float,
    negative: float,
    weak: Weak,
) -> Assignment:
    """By IoU: `positive` or more is positive, below `negative` is negative.

    Args:
      boxes: padded; `there` is False on the padding. None at all: every anchor is negative.
      weak: what becomes of the anchors of highest IoU with an object, all that are tied, where that
        is above 0: they are positive too and answer for it ("forced", SSD) or for the object with
        which they themselves overlap most ("restored", RetinaNet and RPN).
    """
    overlap = jnp.where(there[None], iou(anchors, boxes), -1.0)
    objects, best = jnp.argmax(overlap, axis=1), jnp.max(overlap, axis=1)
    found = best >= positive
    if weak != "none":
        highest = jnp.max(overlap, axis=0)
        tied = (overlap == highest[None]) & (highest > 0)[None] & there[None]
        if weak == "forced":
            objects = jnp.where(tied.any(1), jnp.argmax(tied, axis=1), objects)
        found = found | tied.any(1)
    return Assignment(objects, found, (best < negative) & ~found)


def sample(
    draws: Float[Array, " a"],
    positive: Bool[Array, " a"],
    negative: Bool[Array, " a"],
    *,
    count: int,
    positives: float,
) -> Bool[Array, " a"]:
    """`count` at random: of the positives this share at most, the rest from the negatives.

    Fewer, where there are not enough of them (Girshick 2015, section 2.3; Ren et al. 2015, 3.1.3).

    Args:
      draws: uniform, 0 to 1.
    """
    few = _lowest(draws, positive, round(count * positives))
    return few | _lowest(draws, negative, count - few.sum())


def _lowest(draws: Array, among: Array, count: Any) -> Array:
    """Which of `among` have the `count` lowest draws; of equal ones the lower index first."""
    order = jnp.argsort(jnp.where(among, draws, jnp.inf), stable=True)
    return among & (jnp.argsort(order) < count)
