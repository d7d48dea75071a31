"""Two-stage detection (Ren et al. 2015, arXiv:1506.01497): a network proposes regions, and looks at
each of them again.

backbone     maps by stride, of any network that has them; its pyramid (Lin et al. 2017,
             arXiv:1612.03144), or they as they are
proposals    3x3 convolution; 1x1: whether an anchor has an object, and how it must move
regions      RoIAlign on the map for their size, dense layers; classes + 1, 4 moves for each

faster_rcnn         resnet50, a pyramid of 256 channels, 7x7, dense 1024, 1024
tiny_faster_rcnn    vgg_small, 12-24-48-96 channels, its map of stride 8, 3x3, no hidden layer
"""

from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from cnnjax.core.architectures import Variant, register_models
from cnnjax.core.errors import Refused
from cnnjax.layers.context import example_keys
from cnnjax.layers.conv_norm import Conv
from cnnjax.layers.layer import Initialization
from cnnjax.layers.pyramid import FeaturePyramid
from cnnjax.layers.regions import BETA, OnRegions
from cnnjax.ops import boxes as box
from cnnjax.ops.anchors import Variant as AnchorVariant
from cnnjax.ops.anchors import check_shapes, pyramid_anchors
from cnnjax.ops.assignment import assign, sample
from cnnjax.ops.losses import binary_cross_entropy, smooth_l1
from cnnjax.ops.nms import non_max_suppression
from cnnjax.ops.roi_align import pyramid_levels, pyramid_roi_align

_NMS = 0.7  # IoU above which the lower one of two proposals goes
_SMALLEST = 1e-3  # pixels that a side of a proposal has at least, torchvision's


LARGE = {"backbone_fields": {"normalization": "frozen"}}
TINY = {
    "num_classes": 10,
    "backbone": "vgg_small",
    "backbone_fields": {"features": (12, 24, 48, 96), "units": 1},
    "strides": (8,),
    "pyramid": 0,
    "sizes": ((13.0, 20.0),),
    "ratios": (1.0, 1.5, 2.0),
    "anchors": "paper",
    "rpn_features": 96,
    "rpn_initialization": "he_fan_in",
    "asked": 64,
    "proposals": 32,
    "sampled": 32,
    "region_size": 3,
    "aligned": True,
    "hidden": (),
    "score_threshold": 0.01,
    "candidates": 200,
}


@register_models(
    task="detection",
    paper="Ren et al. 2015, arXiv:1506.01497",
    year=2015,
    input_shape=(800, 1344, 3),
    variants=(
        Variant(
            "faster_rcnn",
            LARGE,
            41_755_286,
            "torchvision's documentation: resnet50, pyramid, 90 classes",
            departs="torchvision's fasterrcnn_resnet50_fpn: the pyramid of Lin et al. 2017 and"
            " RoIAlign; normalisation is frozen, so it is to begin from weights, kernels are not;"
            " non-maximum suppression is given the 1,000 best of all classes",
            year=2017,
        ),
        Variant(
            "tiny_faster_rcnn",
            TINY,
            298_585,
            "own; the sum over its layers",
            departs="a small backbone and one map, for small images",
            input_shape=(64, 64, 1),
        ),
    ),
)
class FasterRCNN(OnRegions, kw_only=True):
    """Float images [n, h, w, c] to what the regions are (`layers.regions.OnRegions`), and
    `anchor_scores` [n, a], `anchor_moves` [n, a, 4] and `draws` [n, a], by which some are asked.

    strides: of the backbone's maps.
    pyramid: channels of a pyramid over them, with one more map for large proposals; 0: none.
    sizes: sides of the anchors on each map, pixels.
    ratios: of height to width, of every anchor.
    anchors: where they stand: paper, or torchvision, in whole pixels.
    rpn_features: channels of the 3x3 convolution that proposes.
    rpn_initialization: of its kernels; by default of deviation .01 (section 3.1.3).
    considered: proposals of each map that non-maximum suppression is given, at most; while training
      twice as many.
    asked: anchors of an image that are asked while training, half of them objects at most.
    region_size: of the map of a region.
    aligned: pixel centres lie at half pixels (detectron2), or at whole ones (torchvision).
    hidden: of the dense layers behind it.

    Raises:
      Refused: no map of such a stride, or another number of sizes than of maps.
    """

    counts: ClassVar[tuple[str, ...]] = (
        *OnRegions.counts,
        *("considered", "asked", "region_size", "rpn_features"),
    )

    num_classes: int = 90
    backbone: str = "resnet50"
    strides: tuple[int, ...] = (4, 8, 16, 32)
    pyramid: int = 256
    sizes: tuple[tuple[float, ...], ...] = ((32.0,), (64.0,), (128.0,), (256.0,), (512.0,))
    ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    anchors: AnchorVariant = "torchvision"
    rpn_features: int = 256
    rpn_initialization: Initialization = "krizhevsky2012"
    considered: int = 1_000
    asked: int = 256
    region_size: int = 7
    aligned: bool = False
    hidden: tuple[int, ...] = (1024, 1024)

    def __post_init__(self):
        if not self.strides or list(self.strides) != [
            2 ** (int(np.log2(max(self.strides[0], 1))) + index)
            for index in range(len(self.strides))
        ]:
            raise Refused(f"strides={list(self.strides)}: powers of two, each twice the one before")
        if self.pyramid < 0 or (not self.pyramid and len(self.strides) > 1):
            raise Refused(f"pyramid={self.pyramid}: several maps need one, of 1 channel or more")
        if len(self.sizes) != len(self.map_strides) or not all(self.sizes):
            raise Refused(
                f"sizes={list(map(list, self.sizes))}: give sizes for each of the"
                f" {len(self.map_strides)} maps"
            )
        if len({len(of_map) for of_map in self.sizes}) > 1:
            raise Refused(
                f"sizes={list(map(list, self.sizes))}: as many on each map, as one head serves all"
            )
        if min(self.hidden, default=1) < 1:
            raise Refused(f"hidden={list(self.hidden)}: 1 or more")
        check_shapes(self.sizes, self.ratios)
        super().__post_init__()

    @property
    def map_strides(self) -> tuple[int, ...]:
        """Of the maps on which there are anchors."""
        return (*self.strides, 2 * self.strides[-1]) if self.pyramid else self.strides

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least."""
        return max(self.map_strides)

    def setup(self):
        self.body = self.make_body()
        if self.pyramid:
            self.fpn = FeaturePyramid(self.strides, self.pyramid, "pool", **self.numerics)
        shapes = len(self.ratios) * len(self.sizes[0])
        small = {**self.numerics, "initialization": self.rpn_initialization}
        self.rpn_conv = Conv(self.rpn_features, use_bias=True, **small)
        self.rpn_scores = Conv(shapes, 1, use_bias=True, **small)
        self.rpn_moves = Conv(4 * shapes, 1, use_bias=True, **small)
        for index, width in enumerate(self.hidden, start=1):
            setattr(self, f"dense{index}", self.dense(width))
        self.classes = self.dense(self.num_classes + 1, dtype="float32")
        self.moves = self.dense(4 * (self.num_classes + 1), dtype="float32")

    def propose(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> tuple[dict[str, Array], Array, Array, Any]:
        maps = self.feature_maps(images, train=train)
        self.check_strides(maps, self.strides)
        self.check_covered(images, maps, self.strides)
        maps = self.fpn(maps) if self.pyramid else {stride: maps[stride] for stride in self.strides}
        scores, moves = [], []
        for x in maps.values():
            x = nn.relu(self.rpn_conv(x))
            scores.append(self.rpn_scores(x).reshape(len(x), -1).astype(float))
            moves.append(self.rpn_moves(x).reshape(len(x), -1, 4).astype(float))
        places = [of_map.shape[1] for of_map in scores]
        size = (images.shape[1], images.shape[2])
        found = {
            "anchor_scores": jnp.concatenate(scores, axis=1),
            "anchor_moves": jnp.concatenate(moves, axis=1),
        }
        find = partial(self._proposals, places=places, size=size, train=train)
        regions, there = jax.vmap(find)(*map(jax.lax.stop_gradient, found.values()))
        found["draws"] = self._draws(sum(places), len(images), train)
        return found, regions, there, {stride: maps[stride] for stride in self.strides}

    def _draws(self, anchors: int, images: int, train: bool) -> Float[Array, "{images} {anchors}"]:
        """Uniform, by which anchors are asked; in an evaluation the same for each image."""
        if train and self.has_rng("dropout"):
            keys = example_keys(self.make_rng("dropout"), images)
            return jax.vmap(lambda key: jax.random.uniform(key, (anchors,)))(keys)
        alike = jax.random.uniform(jax.random.key(0), (1, anchors))
        return jnp.broadcast_to(alike, (images, anchors))

    def _proposals(
        self,
        scores: Float[Array, " a"],
        moves: Float[Array, "a 4"],
        *,
        places: list[int],
        size: tuple[int, int],
        train: bool,
    ) -> tuple[Float[Array, "p 4"], Bool[Array, " p"]]:
        """The best of each map, without those that overlap; then the best of all maps.

        Args:
          places: anchors of each map.
        """
        anchors, start = jnp.asarray(self.anchor_boxes(*size), moves.dtype), 0
        found, ranks = [], []
        for count in places:
            few = min(count, self.considered * (1 + train))
            score, best = jax.lax.top_k(scores[start : start + count], few)
            best = start + best
            boxes = box.clip(box.decode(moves[best], anchors[best], box.UNIT_WEIGHTS), *size)
            large = (boxes[:, 2:] - boxes[:, :2] >= _SMALLEST).all(1)
            kept = non_max_suppression(boxes, score, jnp.zeros(few, int), large, _NMS)
            found.append(boxes)
            ranks.append(jnp.where(kept, score, -jnp.inf))
            start += count
        boxes, rank = jnp.concatenate(found), jnp.concatenate(ranks)
        ranked, order = jax.lax.top_k(rank, min(self.proposals * (1 + train), len(rank)))
        there = ranked > -jnp.inf
        return jnp.where(there[:, None], boxes[order], 0.0), there

    def judge(
        self, seen: dict[int, Array], regions: Float[Array, "n r 4"], *, train: bool
    ) -> tuple[Float[Array, "n r k"], Float[Array, "n r k 4"]]:
        x = self.pooled(seen, regions, self.region_size).reshape(*regions.shape[:2], -1)
        for index in range(1, len(self.hidden) + 1):
            x = nn.relu(getattr(self, f"dense{index}")(x))
        x = x.astype(float)
        moves = self.moves(x)
        return self.classes(x), moves.reshape(*moves.shape[:2], -1, 4)

    @nn.nowrap
    def pooled(
        self, seen: dict[int, Array], regions: Float[Array, "n r 4"], size: int
    ) -> Float[Array, "n r {size} {size} c"]:
        """The features of each region, on the map for its size."""
        strides = tuple(seen)
        finest, coarsest = (int(np.log2(strides[end])) for end in (0, -1))

        def one(maps: list[Array], boxes: Array) -> Array:
            return pyramid_roi_align(
                maps,
                boxes,
                pyramid_levels(boxes, finest, coarsest),
                output_size=size,
                scales=[1 / stride for stride in strides],
                aligned=self.aligned,
            )

        return jax.vmap(one)(list(seen.values()), regions)

    @nn.nowrap
    def anchor_boxes(self, height: int, width: int) -> Float[np.ndarray, "a 4"]:
        """Corners in pixels, in the order of the outputs."""
        return pyramid_anchors(
            height, width, self.map_strides, self.sizes, self.ratios, self.anchors
        )

    @nn.nowrap
    def detection_losses(
        self,
        outputs: dict[str, Array],
        boxes: Float[Array, "n m 4"],
        labels: Int[Array, "n m"],
        image_size: tuple[int, int],
    ) -> Float[Array, " n"]:
        """Of each image: of its regions, and of the anchors that are asked (section 3.1.2).

        An anchor has an object from an IoU of .7 on, or where none has more with it; it has none
        below .3. Boxes are judged by smooth L1, over the anchors that are asked.

        Args:
          labels: -1 where there is no object.
        """
        anchors = jnp.asarray(self.anchor_boxes(*image_size), outputs["anchor_moves"].dtype)

        def one(scores: Array, moves: Array, draws: Array, boxes: Array, labels: Array) -> Array:
            chosen = assign(
                anchors, boxes, labels >= 0, positive=0.7, negative=0.3, weak="restored"
            )
            asked = sample(draws, chosen.positive, chosen.negative, count=self.asked, positives=0.5)
            positive = asked & chosen.positive
            entropy = binary_cross_entropy(scores, chosen.positive.astype(scores.dtype))
            found = jnp.where(asked, entropy, 0.0).sum()
            wanted = box.encode(boxes[chosen.objects], anchors, box.UNIT_WEIGHTS)
            moved = jnp.where(positive[:, None], smooth_l1(moves - wanted, BETA), 0.0).sum()
            return (found + moved) / jnp.maximum(asked.sum(), 1)

        names = ("anchor_scores", "anchor_moves", "draws")
        of_anchors = jax.vmap(one)(*[*(outputs[name] for name in names), boxes, labels])
        return of_anchors + self.region_losses(outputs, boxes, labels)
