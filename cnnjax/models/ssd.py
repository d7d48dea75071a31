"""Single-shot detection (Liu et al. 2016, arXiv:1512.02325): at each place of a map, for each of a
few boxes, the class of what is there and how the box must move to fit it.

backbone     maps by stride, of any network that has them
head         3x3 convolution on each chosen map: (classes + 1) x anchors, 4 x anchors

tiny_ssd     vgg_small, 12-24-48-96 channels, its map of stride 8; 6 anchors a place
ssd300       vgg16; 7x7 dilated by 6 and 1x1 to 1024 in place of its dense layers, then pairs of a
             1x1 and a 3x3 to coarser maps: 38, 19, 10, 5, 3, 1 places a side (figure 2)
"""

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Int

from cnnjax.core.architectures import Variant, register_models
from cnnjax.core.errors import Refused
from cnnjax.layers.conv_norm import Conv
from cnnjax.layers.detector import Detector
from cnnjax.ops import boxes as box
from cnnjax.ops.anchors import check_shapes, pyramid_anchors, ssd300_anchors
from cnnjax.ops.assignment import assign
from cnnjax.ops.losses import PRIOR_BIAS, focal_loss, mined, smooth_l1
from cnnjax.ops.pool import max_pool

ClassLoss = Literal["mined", "all", "focal"]

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
class SSD(Detector, kw_only=True):
    """Float images [n, h, w, c] to {"classes": [n, anchors, num_classes + 1], "boxes": [n, anchors,
    4]}, float32: logits, of which 0 is nothing, and how each anchor moves (`ops.boxes.encode`).

    strides: of the maps on which there are anchors.
    sizes: sides of the anchors on each of these maps, pixels.
    ratios: of height to width, of every anchor.
    class_loss: of the classes, a mean over the positives of an image: mined, the softmax
      cross-entropy of the positives and of three negatives of largest loss for each; all, of every
      anchor; focal, the focal loss of every anchor and class (Lin et al. 2017), whose biases begin
      at a probability of .01 for an object (section 4.1) and which has no use for the logit of
      nothing.

    Raises:
      Refused: no map of such a stride, or another number of sizes than of strides.
    """

    backbone: str = "vgg_small"
    strides: tuple[int, ...] = (8,)
    sizes: tuple[tuple[float, ...], ...] = ((13.0, 20.0),)
    ratios: tuple[float, ...] = (1.0, 1.5, 2.0)
    class_loss: ClassLoss = "mined"

    def __post_init__(self):
        if not self.strides or len(self.sizes) != len(self.strides) or not all(self.sizes):
            raise Refused(
                f"strides={list(self.strides)}, sizes={list(map(list, self.sizes))}: give sizes for"
                " each stride"
            )
        if len(set(self.strides)) < len(self.strides) or min(self.strides) < 1:
            raise Refused(f"strides={list(self.strides)}: each once, 1 or more")
        check_shapes(self.sizes, self.ratios)
        super().__post_init__()

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least."""
        return max(self.strides)

    @property
    def anchors_a_place(self) -> tuple[int, ...]:
        """On each map."""
        return tuple(len(self.ratios) * len(of_map) for of_map in self.sizes)

    def setup(self):
        self.body = self.make_body()
        for stride, count in zip(self.strides, self.anchors_a_place, strict=True):
            prior = PRIOR_BIAS if self.class_loss == "focal" else 0.0
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
            top, anchor, label = self.best(scores)
            moved = box.decode(deltas[anchor], anchors[anchor], box.SSD_WEIGHTS)
            return self.answer(moved, top, label, image_size)

        return jax.vmap(one)(outputs["classes"], outputs["boxes"])


@register_models(
    task="detection",
    paper="Liu et al. 2016, arXiv:1512.02325",
    year=2016,
    input_shape=(300, 300, 3),
    variants=(
        Variant(
            "ssd300",
            {"backbone_fields": {"ceil_mode": True}},
            26_285_486,
            "the sum over its layers: 20 classes",
            departs="scales of the anchors are those for COCO; non-maximum suppression is given"
            " each class's 400 best (torchvision's); of the anchors that are nearest to an object"
            " all that are tied answer for it (torchvision: the first)",
        ),
    ),
)
class SSD300(SSD):
    """Float images [n, 300, 300, c] to what an `SSD` gives, of 8,732 anchors.

    candidates: detections of each class that non-maximum suppression is given (section 3.7: the
      paper's are all above a score of .01).

    Raises:
      Refused: the images are of another size, the backbone has no maps of strides 8 and 16 or not
        512 channels on the first, or an anchor is to be changed.
    """

    num_classes: int = 20
    backbone: str = "vgg16"
    strides: tuple[int, ...] = (8, 16, 32, 64, 100, 300)
    sizes: tuple[tuple[float, ...], ...] = ((1.0,),) * 6  # the anchors' are `ssd300_anchors`'
    candidates: int = 400
    most: int = 200

    def __post_init__(self):
        for name in ("strides", "sizes", "ratios"):
            if getattr(self, name) != getattr(SSD300, name):
                raise Refused(f"{name}={list(getattr(self, name))}: ssd300 has its own anchors")
        super().__post_init__()

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels: it takes no others."""
        return 300

    @property
    def anchors_a_place(self) -> tuple[int, ...]:
        return (4, 6, 6, 6, 4, 4)

    def setup(self):
        super().setup()
        self.l2_scale = self.param("l2_scale", nn.initializers.constant(20.0), (512,))
        self.conv6 = Conv(1024, dilation=6, use_bias=True, **self.numerics)
        self.conv7 = Conv(1024, 1, use_bias=True, **self.numerics)
        for stride, (few, many, strides) in _COARSER.items():
            setattr(self, f"reduce{stride}", Conv(few, 1, use_bias=True, **self.numerics))
            conv = Conv(many, strides=strides, padding=strides - 1, use_bias=True, **self.numerics)
            setattr(self, f"conv{stride}", conv)

    def feature_maps(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> dict[int, Float[Array, "n _ _ _"]]:
        """The six maps on which there are anchors, by stride."""
        if images.shape[1:3] != (300, 300):
            height, width = images.shape[1:3]
            raise Refused(f"images of {height}x{width}: ssd300 takes 300x300")
        body = self.body.feature_maps(images, train=train)
        self.check_strides(body, (8, 16))
        if body[8].shape[-1] != 512:
            raise Refused(f"backbone={self.backbone}: 512 channels are needed at stride 8")
        found = {8: _unit_length(body[8]) * self.l2_scale.astype(body[8].dtype)[None, None, None]}
        x = max_pool(body[16], window=3, strides=1, padding=1)
        x = found[16] = nn.relu(self.conv7(nn.relu(self.conv6(x))))
        for stride in _COARSER:
            x = nn.relu(getattr(self, f"reduce{stride}")(x))
            x = found[stride] = nn.relu(getattr(self, f"conv{stride}")(x))
        return found

    @nn.nowrap
    def anchors(self, height: int, width: int) -> Float[np.ndarray, "a 4"]:
        """Corners in pixels, in the order of the outputs."""
        return ssd300_anchors()

    @property
    def all_candidates(self) -> int:
        return self.num_classes * self.candidates

    @nn.nowrap
    def best(
        self, scores: Float[Array, "b {self.num_classes}"]
    ) -> tuple[Float[Array, "c k"], Int[Array, "c k"], Int[Array, "c k"]]:
        """The candidates of each class by falling score: scores, which boxes, and their classes."""
        top, which = jax.lax.top_k(scores.T, min(self.candidates, len(scores)))
        return top, which, jnp.broadcast_to(jnp.arange(len(top))[:, None], top.shape)


# Channels of the 1x1 and of the 3x3, and the stride of the latter; without one it has no padding.
_COARSER = {32: (256, 512, 2), 64: (128, 256, 2), 100: (128, 256, 1), 300: (128, 256, 1)}


def _unit_length(x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
    """Each place's features (Liu et al. 2015, arXiv:1506.04579, section 3.3)."""
    square = (x.astype(float) ** 2).sum(-1, keepdims=True)
    return x * jax.lax.rsqrt(jnp.maximum(square, 1e-24)).astype(x.dtype)  # 0 has a gradient too
