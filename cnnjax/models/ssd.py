"""Single-shot detection (Liu et al. 2016, arXiv:1512.02325): at each place of a map, for each of a
few boxes, the class of what is there and how the box must move to fit it.

backbone     maps by stride, of any network that has them
head         3x3 convolution on each chosen map: (classes + 1) x anchors, 4 x anchors

tiny_ssd     vgg_small, 12-24-48-96 channels, its map of stride 8; 6 anchors a place
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from cnnjax.core.architectures import Variant, register_models
from cnnjax.core.errors import Refused
from cnnjax.layers.backbone import OnBackbone
from cnnjax.layers.conv_norm import Conv
from cnnjax.ops import boxes as box
from cnnjax.ops.anchors import pyramid_anchors
from cnnjax.ops.assignment import assign
from cnnjax.ops.losses import focal_loss, mined, smooth_l1
from cnnjax.ops.nms import best_of_each

ClassLoss = Literal["mined", "all", "focal"]

_PRIOR = 0.01  # of focal: an object's probability at first (Lin et al. 2017, section 4.1)
_NEGATIVES = 3  # to a positive, of mined


@register_models(
    task="detection",
    paper="Liu et al. 2016, arXiv:1512.02325",
    year=2016,
    input_shape=(64, 64, 1),
    variants=(
        Variant(
            "tiny_ssd",
            {"backbone_fields": {"features": (12, 24, 48, 96), "units": 1}},
            242_910,
            "own; the sum over its layers",
            departs="a small backbone and one map, for small images",
        ),
    ),
)
class SSD(OnBackbone, kw_only=True):
    """Float images [n, h, w, c] to {"classes": [n, anchors, num_classes + 1], "boxes": [n, anchors,
    4]}, float32: logits, of which 0 is nothing, and how each anchor moves (`ops.boxes.encode`).

    strides: of the maps on which there are anchors.
    sizes: sides of the anchors on each of these maps, pixels.
    ratios: of height to width, of every anchor.
    class_loss: of the classes, a mean over the positives of an image: mined, the softmax
      cross-entropy of the positives and of three negatives of largest loss for each; all, of every
      anchor; focal, the focal loss of every anchor and class (Lin et al. 2017), which begins with a
      probability of .01 for an object (section 4.1) and has no use for the logit of nothing.
    score_threshold: least score of a detection.
    nms_threshold: IoU above which the lower one of two detections of a class goes.
    candidates: detections that non-maximum suppression is given, those of highest score.
    most: detections in an image.

    Raises:
      Refused: no map of such a stride, or another number of sizes than of strides.
    """

    num_classes: int = 10
    backbone: str = "vgg_small"
    strides: tuple[int, ...] = (8,)
    sizes: tuple[tuple[float, ...], ...] = ((13.0, 20.0),)
    ratios: tuple[float, ...] = (1.0, 1.5, 2.0)
    class_loss: ClassLoss = "mined"
    score_threshold: float = 0.01
    nms_threshold: float = 0.45
    candidates: int = 200
    most: int = 100

    def __post_init__(self):
        if not self.strides or len(self.sizes) != len(self.strides) or not all(self.sizes):
            raise Refused(
                f"strides={list(self.strides)}, sizes={list(map(list, self.sizes))}: give sizes for"
                " each stride"
            )
        if len(set(self.strides)) < len(self.strides) or min(self.strides) < 1:
            raise Refused(f"strides={list(self.strides)}: each once, 1 or more")
        if not self.ratios or min(*self.ratios, *(s for of in self.sizes for s in of)) <= 0:
            raise Refused(
                f"sizes={list(map(list, self.sizes))}, ratios={list(self.ratios)}: above 0"
            )
        for name in ("score_threshold", "nms_threshold"):
            if not 0 <= getattr(self, name) <= 1:
                raise Refused(f"{name}={getattr(self, name)}: 0 to 1")
        if not 1 <= self.most <= self.candidates:
            raise Refused(f"most={self.most}: 1 to candidates={self.candidates}")
        super().__post_init__()

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least."""
        return max(self.strides)

    def setup(self):
        self.body = self.make_body()
        anchors = len(self.ratios)
        for stride, sizes in zip(self.strides, self.sizes, strict=True):
            count = anchors * len(sizes)
            prior = -float(np.log((1 - _PRIOR) / _PRIOR)) if self.class_loss == "focal" else 0.0
            numerics = {**self.numerics, "dtype": "float32"}
            classes = Conv((self.num_classes + 1) * count, use_bias=True, bias=prior, **numerics)
            setattr(self, f"classes{stride}", classes)
            setattr(self, f"boxes{stride}", Conv(4 * count, use_bias=True, **numerics))

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> dict[str, Float[Array, "n a _"]]:
        maps = self.feature_maps(images, train=train)
        self.check_strides(maps, self.strides)
        self.check_covered(images, maps, self.strides)
        found: dict[str, list[Array]] = {"classes": [], "boxes": []}
        for stride in self.strides:
            x = maps[stride].astype(float)
            for name, size in (("classes", self.num_classes + 1), ("boxes", 4)):
                values = getattr(self, f"{name}{stride}")(x)
                found[name].append(values.reshape(len(x), -1, size))
        return {name: jnp.concatenate(parts, axis=1) for name, parts in found.items()}

    @nn.nowrap
    def anchors(self, height: int, width: int) -> Float[np.ndarray, "a 4"]:
        """Corners in pixels, in the order of the outputs."""
        return pyramid_anchors(height, width, self.strides, self.sizes, self.ratios)

    @nn.nowrap
    def detection_losses(
        self,
        outputs: dict[str, Array],
        boxes: Float[Array, "n m 4"],
        labels: Int[Array, "n m"],
        image_size: tuple[int, int],
    ) -> Float[Array, " n"]:
        """Of each image: classes and boxes, over its positive anchors (at least 1).

        Positives have an IoU of .5 with an object, or none has more with it (section 2.2); boxes
        are judged by smooth L1.

        Args:
          labels: -1 where there is no object.
        """
        anchors = jnp.asarray(self.anchors(*image_size), outputs["boxes"].dtype)

        def one(classes: Array, deltas: Array, boxes: Array, labels: Array) -> Array:
            chosen = assign(anchors, boxes, labels >= 0, positive=0.5, negative=0.5, weak="forced")
            positive = chosen.positive.astype(deltas.dtype)
            truth = jnp.where(chosen.positive, 1 + labels[chosen.objects], 0)
            wanted = box.encode(boxes[chosen.objects], anchors, box.SSD_WEIGHTS)
            moved = jnp.where(chosen.positive[:, None], smooth_l1(deltas - wanted), 0.0).sum()
            if self.class_loss == "focal":
                hot = jax.nn.one_hot(truth - 1, self.num_classes, dtype=classes.dtype)
                found = focal_loss(classes[:, 1:], hot).sum()
            else:
                chances = jax.nn.log_softmax(classes)
                each = -jnp.take_along_axis(chances, truth[:, None], axis=1)[:, 0]
                if self.class_loss == "mined":
                    kept = mined(
                        jax.lax.stop_gradient(each), chosen.positive, chosen.negative, _NEGATIVES
                    )
                    each = each * kept
                found = each.sum()
            return (found + moved) / jnp.maximum(positive.sum(), 1.0)

        return jax.vmap(one)(outputs["classes"], outputs["boxes"], boxes, labels)

    @nn.nowrap
    def detections(
        self, outputs: dict[str, Array], image_size: tuple[int, int]
    ) -> dict[str, Array]:
        """`boxes` [n, most, 4] within the image, `scores` and `labels` [n, most] by falling score;
        labels of -1 are padding."""
        height, width = image_size
        anchors = jnp.asarray(self.anchors(height, width), outputs["boxes"].dtype)

        def one(classes: Array, deltas: Array) -> dict[str, Array]:
            if self.class_loss == "focal":
                scores = jax.nn.sigmoid(classes[:, 1:])
            else:
                scores = jax.nn.softmax(classes)[:, 1:]
            count = min(self.candidates, scores.size)
            top, which = jax.lax.top_k(scores.reshape(-1), count)
            anchor, label = which // self.num_classes, which % self.num_classes
            moved = box.decode(deltas[anchor], anchors[anchor], box.SSD_WEIGHTS)
            moved = box.clip(moved, height, width)
            valid = (top >= self.score_threshold) & (box.area(moved) > 0)
            return best_of_each(moved, top, label, valid, self.nms_threshold, self.most)

        return jax.vmap(one)(outputs["classes"], outputs["boxes"])
