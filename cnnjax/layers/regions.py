"""The second stage of a detector: the class of each proposed region, and how its box must move.

Fast R-CNN (Girshick 2015, arXiv:1504.08083, section 2): while training some regions of an image are
drawn, a quarter of them objects at most, and the objects themselves stand among the proposed ones.
"""

from abc import abstractmethod
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, Key

from cnnjax.layers.context import example_keys
from cnnjax.layers.detector import Detector
from cnnjax.ops import boxes as box
from cnnjax.ops.assignment import Assignment, assign, sample
from cnnjax.ops.losses import smooth_l1

BETA = 1 / 9  # of smooth L1, torchvision's


class OnRegions(Detector, kw_only=True):
    """Float images [n, h, w, c] to a dict, float32: `regions` [n, r, 4], `there` [n, r] (False on
    padding), `classes` [n, r, num_classes + 1], of which 0 is nothing, and `moves` [n, r,
    num_classes + 1, 4]; a subclass proposes the regions and judges them.

    In an evaluation the loss is that of all proposals, while training that of the drawn regions:
    the two do not compare.

    Attributes:
      proposals: regions of an image that are judged.
      sampled: regions of an image that are judged while training.
      positives: share of objects among these, at most.
    """

    shares: ClassVar[tuple[str, ...]] = (*Detector.shares, "positives")
    counts: ClassVar[tuple[str, ...]] = (*Detector.counts, "proposals", "sampled")

    proposals: int = 1_000
    sampled: int = 512
    positives: float = 0.25
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    candidates: int = 1_000

    @abstractmethod
    def propose(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> tuple[dict[str, Array], Array, Array, Any]:
        """Outputs of its own, regions [n, p, 4], which of them are there, and what `judge` needs;
        nothing is learnt through the regions."""

    @abstractmethod
    def judge(
        self, seen: Any, regions: Float[Array, "n r 4"], *, train: bool
    ) -> tuple[Float[Array, "n r k"], Float[Array, "n r k 4"]]:
        """Logits and moves of each region."""

    def __call__(
        self,
        images: Float[Array, "n h w c"],
        *,
        train: bool,
        boxes: Float[Array, "n m 4"] | None = None,
        box_labels: Int[Array, "n m"] | None = None,
    ) -> dict[str, Array]:
        found, regions, there, seen = self.propose(images, train=train)
        if boxes is not None and box_labels is not None:
            keys = example_keys(self.make_rng("dropout"), len(images))
            regions, there = jax.vmap(self._drawn)(keys, regions, there, boxes, box_labels)
        regions = jax.lax.stop_gradient(regions)
        classes, moves = self.judge(seen, regions, train=train)
        found |= {"regions": regions, "there": there, "classes": classes, "moves": moves}
        return found | self.further_heads(
            found, seen, (images.shape[1], images.shape[2]), boxes, box_labels
        )

    @nn.nowrap
    def further_heads(
        self,
        found: dict[str, Array],
        seen: Any,
        image_size: tuple[int, int],
        boxes: Float[Array, "n m 4"] | None,
        labels: Int[Array, "n m"] | None,
    ) -> dict[str, Array]:
        """Further outputs of a subclass, by what was found so far.

        Args:
          boxes, labels: of the objects, while training.
        """
        return {}

    def _drawn(
        self,
        key: Key[Array, ""],
        regions: Float[Array, "p 4"],
        there: Bool[Array, " p"],
        boxes: Float[Array, "m 4"],
        labels: Int[Array, " m"],
    ) -> tuple[Float[Array, "s 4"], Bool[Array, " s"]]:
        """The regions of one image that are judged while training."""
        regions = jnp.concatenate([regions, boxes.astype(regions.dtype)])
        there = jnp.concatenate([there, labels >= 0])
        chosen = assigned(regions, boxes, labels)
        kept = sample(
            jax.random.uniform(key, there.shape),
            chosen.positive & there,
            chosen.negative & there,
            count=self.sampled,
            positives=self.positives,
        )
        order = jnp.argsort(~kept, stable=True)[: self.sampled]
        return regions[order], kept[order]

    @nn.nowrap
    def region_losses(
        self, outputs: dict[str, Array], boxes: Float[Array, "n m 4"], labels: Int[Array, "n m"]
    ) -> Float[Array, " n"]:
        """Of each image: cross-entropy of the classes and smooth L1 of the objects' boxes, over its
        regions."""

        def one(
            regions: Array, there: Array, classes: Array, moves: Array, boxes: Array, labels: Array
        ) -> Array:
            chosen = assigned(regions, boxes, labels)
            positive = chosen.positive & there
            truth = jnp.where(positive, 1 + labels[chosen.objects], 0)
            chances = jnp.take_along_axis(jax.nn.log_softmax(classes), truth[:, None], axis=1)
            found = -jnp.where(there, chances[:, 0], 0.0).sum()
            own = jnp.take_along_axis(moves, truth[:, None, None], axis=1)[:, 0]
            wanted = box.encode(boxes[chosen.objects], _with_area(regions), box.SSD_WEIGHTS)
            moved = jnp.where(positive[:, None], smooth_l1(own - wanted, BETA), 0.0).sum()
            return (found + moved) / jnp.maximum(there.sum(), 1)

        names = ("regions", "there", "classes", "moves")
        return jax.vmap(one)(*[*(outputs[name] for name in names), boxes, labels])

    @nn.nowrap
    def detections(
        self, outputs: dict[str, Array], image_size: tuple[int, int]
    ) -> dict[str, Array]:
        """`boxes` [n, most, 4] within the image, `scores` and `labels` [n, most] by falling score;
        labels of -1 are padding."""

        def one(regions: Array, there: Array, classes: Array, moves: Array) -> dict[str, Array]:
            scores = jnp.where(there[:, None], jax.nn.softmax(classes)[:, 1:], 0.0)
            top, region, label = self.best(scores)
            moved = box.decode(moves[region, 1 + label], regions[region], box.SSD_WEIGHTS)
            return self.answer(moved, top, label, image_size)

        names = ("regions", "there", "classes", "moves")
        return jax.vmap(one)(*(outputs[name] for name in names))


def assigned(
    regions: Float[Array, "r 4"], boxes: Float[Array, "m 4"], labels: Int[Array, " m"]
) -> Assignment:
    """An IoU of .5 and more with an object: it is that object."""
    return assign(regions, boxes, labels >= 0, positive=0.5, negative=0.5, weak="none")


def _with_area(regions: Float[Array, "r 4"]) -> Float[Array, "r 4"]:
    """Padding, which is no box, as one of a pixel: its logarithm is taken before it is dropped."""
    low, high = regions[:, :2], regions[:, 2:]
    return jnp.concatenate([low, jnp.where(high > low, high, low + 1)], axis=1)
