"""One stage on a pyramid, with a loss that forgets what is easy (Lin et al. 2017,
arXiv:1708.02002, figure 3).

backbone   maps of strides 8, 16, 32; their pyramid, and two coarser maps
heads      for the classes and, apart, for the boxes: four 3x3 convolutions, one more to classes x
           anchors or 4 x anchors; the same on every map
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from cnnjax.core.architectures import Variant, register_models
from cnnjax.core.errors import Refused
from cnnjax.layers.backbone import places
from cnnjax.layers.conv_norm import Conv
from cnnjax.layers.detector import Detector
from cnnjax.layers.pyramid import Extra, FeaturePyramid
from cnnjax.ops import boxes as box
from cnnjax.ops.anchors import Variant as AnchorVariant
from cnnjax.ops.anchors import pyramid_anchors
from cnnjax.ops.assignment import assign
from cnnjax.ops.losses import PRIOR_BIAS, focal_loss

_RATIOS = (0.5, 1.0, 2.0)
_FROZEN = {"backbone_fields": {"normalization": "frozen"}}


@register_models(
    task="detection",
    paper="Lin et al. 2017, arXiv:1708.02002",
    year=2017,
    input_shape=(800, 1344, 3),
    variants=(
        Variant(
            "retinanet",
            _FROZEN,
            34_014_999,
            "torchvision's documentation: resnet50, 91 classes",
            departs="torchvision's retinanet_resnet50_fpn: P6 from P5; normalisation is frozen, so"
            " it is to begin from weights, kernels are not",
        ),
        Variant(
            "retinanet_c5",
            {**_FROZEN, "extra": "c5", "anchors": "paper"},
            38_143_767,
            "the sum over its layers: resnet50, 91 classes",
            departs="normalisation frozen, so it is to begin from weights",
        ),
    ),
)
class RetinaNet(Detector, kw_only=True):
    """Float images [n, h, w, c] to {"classes": [n, anchors, num_classes], "boxes": [n, anchors,
    4]}, float32: logits, and how each anchor moves (`ops.boxes.encode`).

    strides: of the backbone's maps.
    features: channels of the pyramid and in the heads.
    extra: from what the first coarser map is made: p5 (torchvision) or c5 (the paper).
    depth: convolutions in front of the last one of each head.
    anchors: where they stand: paper, or torchvision, in whole pixels.
    size: side of the smallest anchor on a map, in strides.
    candidates: of each map.

    Raises:
      Refused: strides do not rise, or a size or count is impossible.
    """

    counts: ClassVar[tuple[str, ...]] = (*Detector.counts, "features", "depth")

    num_classes: int = 91
    backbone: str = "resnet50"
    strides: tuple[int, ...] = (8, 16, 32)
    features: int = 256
    extra: Extra = "p5"
    depth: int = 4
    anchors: AnchorVariant = "torchvision"
    size: float = 4.0
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    candidates: int = 1_000
    most: int = 300

    def __post_init__(self):
        if list(self.strides) != sorted(set(self.strides)) or min(self.strides, default=0) < 1:
            raise Refused(f"strides={list(self.strides)}: rising, 1 or more")
        if self.extra not in ("p5", "c5"):
            raise Refused(f"extra={self.extra}: p5 or c5")
        if self.size <= 0:
            raise Refused(f"size={self.size}: above 0")
        super().__post_init__()

    @property
    def map_strides(self) -> tuple[int, ...]:
        """Of the maps on which there are anchors."""
        return (*self.strides, 2 * self.strides[-1], 4 * self.strides[-1])

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least."""
        return max(self.map_strides)

    def setup(self):
        self.body = self.make_body()
        self.fpn = FeaturePyramid(self.strides, self.features, self.extra, **self.numerics)
        small = {**self.numerics, "initialization": "krizhevsky2012"}  # .01, section 4.1
        for head in ("class", "box"):
            for index in range(1, self.depth + 1):
                setattr(self, f"{head}_conv{index}", Conv(self.features, use_bias=True, **small))
        count = 3 * len(_RATIOS)
        self.classes = Conv(count * self.num_classes, use_bias=True, bias=PRIOR_BIAS, **small)
        self.boxes = Conv(4 * count, use_bias=True, **small)

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> dict[str, Float[Array, "n a _"]]:
        maps = self.feature_maps(images, train=train)
        self.check_strides(maps, self.strides)
        self.check_covered(images, maps, self.strides)
        found: dict[str, list[Array]] = {"classes": [], "boxes": []}
        for x in self.fpn(maps).values():
            for head, last, size in (
                ("class", self.classes, self.num_classes),
                ("box", self.boxes, 4),
            ):
                y = x
                for index in range(1, self.depth + 1):
                    y = nn.relu(getattr(self, f"{head}_conv{index}")(y))
                name = "classes" if head == "class" else "boxes"
                found[name].append(last(y).reshape(len(y), -1, size).astype(float))
        return {name: jnp.concatenate(parts, axis=1) for name, parts in found.items()}

    @nn.nowrap
    def anchor_boxes(self, height: int, width: int) -> Float[np.ndarray, "a 4"]:
        """Corners in pixels, in the order of the outputs."""
        sizes = [[self.size * s * 2 ** (k / 3) for k in range(3)] for s in self.map_strides]
        return pyramid_anchors(height, width, self.map_strides, sizes, _RATIOS, self.anchors)

    @nn.nowrap
    def detection_losses(
        self,
        outputs: dict[str, Array],
        boxes: Float[Array, "n m 4"],
        labels: Int[Array, "n m"],
        image_size: tuple[int, int],
    ) -> Float[Array, " n"]:
        """Of each image: the focal loss of every anchor and class, and the distance of its boxes,
        over its positive anchors (at least 1).

        An anchor is positive from an IoU of .5 on, or where none has more with an object; between
        .4 and .5 it is not asked (section 4.1). Boxes are judged by the plain distance, as
        torchvision does.

        Args:
          labels: -1 where there is no object.
        """
        anchors = jnp.asarray(self.anchor_boxes(*image_size), outputs["boxes"].dtype)

        def one(classes: Array, deltas: Array, boxes: Array, labels: Array) -> Array:
            chosen = assign(
                anchors, boxes, labels >= 0, positive=0.5, negative=0.4, weak="restored"
            )
            positive = chosen.positive
            truth = jnp.where(positive, labels[chosen.objects], -1)
            hot = jax.nn.one_hot(truth, self.num_classes, dtype=classes.dtype)
            asked = (positive | chosen.negative)[:, None]
            found = jnp.where(asked, focal_loss(classes, hot), 0.0).sum()
            wanted = box.encode(boxes[chosen.objects], anchors, box.UNIT_WEIGHTS)
            moved = jnp.where(positive[:, None], jnp.abs(deltas - wanted), 0.0).sum()
            return (found + moved) / jnp.maximum(positive.sum(), 1)

        return jax.vmap(one)(outputs["classes"], outputs["boxes"], boxes, labels)

    @nn.nowrap
    def detections(
        self, outputs: dict[str, Array], image_size: tuple[int, int]
    ) -> dict[str, Array]:
        """`boxes` [n, most, 4] within the image, `scores` and `labels` [n, most] by falling score;
        labels of -1 are padding."""
        anchors = jnp.asarray(self.anchor_boxes(*image_size), outputs["boxes"].dtype)
        shapes = 3 * len(_RATIOS)
        counts = [shapes * math.prod(places(*image_size, stride)) for stride in self.map_strides]

        def one(classes: Array, deltas: Array) -> dict[str, Array]:
            best, start = [], 0
            for count in counts:
                of_map = classes[start : start + count].reshape(-1)
                few = min(self.candidates, len(of_map))
                best.append(start * self.num_classes + jax.lax.top_k(of_map, few)[1])
                start += count
            which = jnp.concatenate(best)
            scores = jax.nn.sigmoid(classes.reshape(-1)[which])
            order = jnp.argsort(-scores, stable=True)
            which, scores = which[order], scores[order]
            anchor, label = which // self.num_classes, which % self.num_classes
            moved = box.decode(deltas[anchor], anchors[anchor], box.UNIT_WEIGHTS)
            return self.answer(moved, scores, label, image_size)

        return jax.vmap(one)(outputs["classes"], outputs["boxes"])
