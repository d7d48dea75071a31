"""Masks of objects (He et al. 2017, arXiv:1703.06870): Faster R-CNN with a third branch.

mask branch   RoIAlign on the map for a box's size, 3x3 convolutions, a transposed convolution 2x2,
              1x1: a mask for each class, of which that of the box's class counts

mask_rcnn         faster_rcnn; 14x14, four convolutions of 256, masks of 28x28
tiny_mask_rcnn    tiny_faster_rcnn; 7x7, one convolution of 32, masks of 14x14
"""

from typing import ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from cnnjax.core.architectures import Variant, register_models
from cnnjax.core.errors import Refused
from cnnjax.layers.conv_norm import Conv, ConvTranspose
from cnnjax.layers.regions import assigned
from cnnjax.models.faster_rcnn import LARGE, TINY, FasterRCNN
from cnnjax.ops.losses import binary_cross_entropy
from cnnjax.ops.roi_align import align_masks


@register_models(
    task="detection",
    paper="He et al. 2017, arXiv:1703.06870",
    year=2017,
    input_shape=(800, 1344, 3),
    variants=(
        Variant(
            "mask_rcnn",
            LARGE,
            44_401_393,
            "torchvision's documentation: resnet50, pyramid, 90 classes",
            departs="as faster_rcnn; the samples of RoIAlign are 2x2 in each bin for the masks that"
            " are learnt, too; a mask is continued to the border of its box",
        ),
        Variant(
            "tiny_mask_rcnn",
            {**TINY, "mask_convolutions": (32,), "mask_features": 32, "mask_size": 7},
            330_756,
            "own; the sum over its layers",
            departs="a small backbone and one map, for small images",
            input_shape=(64, 64, 1),
        ),
    ),
)
class MaskRCNN(FasterRCNN, kw_only=True):
    """Float images [n, h, w, c] to what `FasterRCNN` gives, and of the boxes whose masks are told
    `mask_boxes` [n, q, 4], `mask_labels` [n, q] (-1: padding), `mask_scores` [n, q] and
    `mask_logits` [n, q, s, s] of their class.

    Those are the detections; while training the drawn regions that have an object. It needs
    `object_map`, which says the object of each pixel.

    mask_convolutions: channels of the 3x3 convolutions.
    mask_features: of the transposed convolution.
    mask_size: of the map of a box; a mask is twice as large.
    """

    counts: ClassVar[tuple[str, ...]] = (*FasterRCNN.counts, "mask_features", "mask_size")

    mask_convolutions: tuple[int, ...] = (256, 256, 256, 256)
    mask_features: int = 256
    mask_size: int = 14

    def __post_init__(self):
        if min(self.mask_convolutions, default=1) < 1:
            raise Refused(f"mask_convolutions={list(self.mask_convolutions)}: 1 or more")
        super().__post_init__()

    def setup(self):
        super().setup()
        for index, width in enumerate(self.mask_convolutions, start=1):
            setattr(self, f"mask_conv{index}", Conv(width, use_bias=True, **self.numerics))
        self.mask_up = ConvTranspose(self.mask_features, **self.numerics)
        self.masks = Conv(self.num_classes + 1, 1, use_bias=True, **self.numerics)

    @nn.nowrap
    def further_heads(
        self,
        found: dict[str, Array],
        seen: dict[int, Array],
        image_size: tuple[int, int],
        boxes: Float[Array, "n m 4"] | None,
        labels: Int[Array, "n m"] | None,
    ) -> dict[str, Array]:
        if boxes is None or labels is None:
            answers = super().detections(found, image_size)
        else:
            answers = jax.vmap(self._with_objects)(found["regions"], found["there"], boxes, labels)
        chosen = {f"mask_{name}": answers[name] for name in ("boxes", "labels", "scores")}
        chosen = jax.lax.stop_gradient(chosen)
        logits = self.mask_logits(seen, chosen["mask_boxes"])
        own = 1 + jnp.maximum(chosen["mask_labels"], 0)
        logits = jnp.take_along_axis(logits, own[:, :, None, None, None], axis=-1)[..., 0]
        return {**chosen, "mask_logits": logits}

    def _with_objects(
        self,
        regions: Float[Array, "r 4"],
        there: Array,
        boxes: Float[Array, "m 4"],
        labels: Int[Array, " m"],
    ) -> dict[str, Array]:
        """The regions of one image whose masks are learnt: as many as there can be."""
        chosen = assigned(regions, boxes, labels)
        positive = chosen.positive & there
        few = min(max(1, round(self.sampled * self.positives)), len(regions))
        order = jnp.argsort(~positive, stable=True)[:few]
        own = jnp.where(positive, labels[chosen.objects], -1)[order]
        return {"boxes": regions[order], "labels": own, "scores": jnp.zeros(few, regions.dtype)}

    def mask_logits(
        self, seen: dict[int, Array], boxes: Float[Array, "n q 4"]
    ) -> Float[Array, "n q s s k"]:
        """Of each class."""
        x = self.pooled(seen, boxes, self.mask_size)
        x = x.reshape(-1, *x.shape[2:])
        for index in range(1, len(self.mask_convolutions) + 1):
            x = nn.relu(getattr(self, f"mask_conv{index}")(x))
        x = self.masks(nn.relu(self.mask_up(x))).astype(float)
        return x.reshape(*boxes.shape[:2], *x.shape[1:])

    @nn.nowrap
    def detection_losses(
        self,
        outputs: dict[str, Array],
        boxes: Float[Array, "n m 4"],
        labels: Int[Array, "n m"],
        image_size: tuple[int, int],
        object_map: Array | None = None,
    ) -> Float[Array, " n"]:
        """As of `FasterRCNN`, and the binary cross-entropy of the masks, mean over their pixels and
        over the boxes that have an object (section 3).

        Args:
          object_map: [n, h, w], of each pixel 1 + the place of its object among `boxes`; 0: none.
        """
        assert object_map is not None, "the task hands it in"

        def one(
            places: Array, own: Array, logits: Array, boxes: Array, labels: Array, numbers: Array
        ) -> Array:
            chosen = assigned(places, boxes, labels)
            alike = chosen.positive & (own >= 0) & (labels[chosen.objects] == own)
            truth = align_masks(
                numbers,
                places,
                1 + chosen.objects,
                output_size=logits.shape[-1],
                aligned=self.aligned,
            )
            learnt = alike & (truth > 0).any((1, 2))  # one that is covered whole has no mask
            entropy = binary_cross_entropy(logits, truth).mean((1, 2))
            return jnp.where(learnt, entropy, 0.0).sum() / jnp.maximum(learnt.sum(), 1)

        names = ("mask_boxes", "mask_labels", "mask_logits")
        of_masks = jax.vmap(one)(*[*(outputs[n] for n in names), boxes, labels, object_map])
        return super().detection_losses(outputs, boxes, labels, image_size) + of_masks

    @nn.nowrap
    def detections(
        self, outputs: dict[str, Array], image_size: tuple[int, int]
    ) -> dict[str, Array]:
        """As of `FasterRCNN`, and `masks` [n, most, s, s]: probabilities within the box."""
        names = ("boxes", "scores", "labels")
        found = {name: outputs[f"mask_{name}"] for name in names}
        return {**found, "masks": jax.nn.sigmoid(outputs["mask_logits"])}
