"""Regions without learning, each a picture of its own (Girshick et al. 2014, arXiv:1311.2524).

proposals    boxes around what is brighter than the image's mean by so many standard deviations and
             hangs together: selective search in its simplest form, without classes
crops        each region, with some surroundings, at one size, through the whole backbone
head         its last map: classes + 1, 4 moves for each

tiny_rcnn    vgg_small, 12-24-48-96 channels, crops of 16x16 pixels
"""

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int

from cnnjax.core.architectures import Variant, register_models
from cnnjax.core.errors import Refused
from cnnjax.layers.conv_norm import require_images
from cnnjax.layers.regions import OnRegions
from cnnjax.ops import boxes as box
from cnnjax.ops.components import component_boxes, connected_components
from cnnjax.ops.nms import non_max_suppression
from cnnjax.ops.roi_align import roi_align

_NMS = 0.8  # IoU above which the smaller one of two proposals goes


@register_models(
    task="detection",
    paper="Girshick et al. 2014, arXiv:1311.2524",
    year=2014,
    input_shape=(64, 64, 1),
    variants=(
        Variant(
            "tiny_rcnn",
            {"backbone_fields": {"features": (12, 24, 48, 96), "units": 1}},
            186_235,
            "own; the sum over its layers",
            departs="proposals are connected components, not selective search; the classifier is"
            " the network's own, not a support vector machine; for small images",
        ),
    ),
)
class RCNN(OnRegions, kw_only=True):
    """Float images [n, h, w, c] to what the regions are (`layers.regions.OnRegions`).

    crop_size: pixels of a side, a multiple of the backbone's last stride.
    surroundings: how much wider than its region a crop is on each side, as a share of it.
    levels: of brightness, above each of which what hangs together is a proposal: standard
      deviations from the mean of the image.
    considered: the largest at each of these levels.
    smallest: pixels of one at least.

    Raises:
      Refused: no level, or more proposals than there can be.
    """

    counts: ClassVar[tuple[str, ...]] = (*OnRegions.counts, "considered", "smallest", "crop_size")

    backbone: str = "vgg_small"
    crop_size: int = 16
    surroundings: float = 0.1
    levels: tuple[float, ...] = (0.5, 1.0, 1.5)
    considered: int = 8
    smallest: int = 6
    proposals: int = 12
    sampled: int = 12
    score_threshold: float = 0.01
    candidates: int = 120

    def __post_init__(self):
        if not self.levels or self.considered < 1:
            raise Refused(
                f"levels={list(self.levels)}, considered={self.considered}: one or more, 1 or more"
            )
        if not 1 <= self.proposals <= len(self.levels) * self.considered:
            raise Refused(
                f"proposals={self.proposals}: 1 to {len(self.levels) * self.considered},"
                f" considered={self.considered} at each of {len(self.levels)} levels"
            )
        if self.surroundings < 0:
            raise Refused(f"surroundings={self.surroundings}: 0 or more")
        super().__post_init__()

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least."""
        return max(getattr(self.make_body(), "smallest_image", 1), self._smallest)

    @property
    def _smallest(self) -> int:
        """Pixels of a side of an image that can have as many components as are considered."""
        return math.isqrt(self.considered - 1) + 1

    def setup(self):
        self.body = self.make_body()
        self.classes = self.dense(self.num_classes + 1, dtype="float32")
        self.moves = self.dense(4 * (self.num_classes + 1), dtype="float32")

    def propose(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> tuple[dict[str, Array], Array, Array, Any]:
        require_images(images, self._smallest)
        bright = images.mean(-1)
        mean, spread = bright.mean((1, 2)), bright.std((1, 2))
        found = []
        for level in self.levels:
            numbers = connected_components(bright > (mean + level * spread)[:, None, None])
            found.append(jax.vmap(self._largest)(numbers))
        regions, there = (jnp.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
        return {}, *jax.vmap(self._distinct)(regions, there), images

    def _largest(self, numbers: Int[Array, "h w"]) -> tuple[Array, Array]:
        return component_boxes(numbers, self.considered, self.smallest)

    def _distinct(
        self, regions: Float[Array, "k 4"], there: Bool[Array, " k"]
    ) -> tuple[Float[Array, "p 4"], Bool[Array, " p"]]:
        """Those of different levels that are not the same; the largest first."""
        size, alike = box.area(regions), jnp.zeros(len(regions), int)
        kept = non_max_suppression(regions, size, alike, there, _NMS)
        ranked, order = jax.lax.top_k(jnp.where(kept, size, -1.0), self.proposals)
        return jnp.where((ranked > 0)[:, None], regions[order], 0.0), ranked > 0

    def judge(
        self, seen: Float[Array, "n h w c"], regions: Float[Array, "n r 4"], *, train: bool
    ) -> tuple[Float[Array, "n r k"], Float[Array, "n r k 4"]]:
        _, height, width, channels = seen.shape

        def cut(image: Array, regions: Array) -> Array:
            # Padding is the whole image: an even crop would upset the batch's statistics.
            whole = jnp.asarray([0.0, 0.0, width, height], regions.dtype)
            regions = jnp.where((box.area(regions) > 0)[:, None], regions, whole[None])
            middle, sides = jnp.split(box.to_centre(regions), 2, axis=1)
            wider = jnp.concatenate([middle, sides * (1 + 2 * self.surroundings)], axis=1)
            return roi_align(
                image,
                box.from_centre(wider),
                output_size=self.crop_size,
                scale=1.0,
                sampling_ratio=1,
                aligned=True,
            )

        crops = jax.vmap(cut)(seen, regions)
        maps = self.feature_maps(
            crops.reshape(-1, self.crop_size, self.crop_size, channels), train=train
        )
        if self.crop_size % max(maps):
            raise Refused(f"crop_size={self.crop_size}: a multiple of {max(maps)} is needed")
        x = maps[max(maps)].astype(float).reshape(*regions.shape[:2], -1)
        moves = self.moves(x)
        return self.classes(x), moves.reshape(*moves.shape[:2], -1, 4)

    @nn.nowrap
    def detection_losses(
        self,
        outputs: dict[str, Array],
        boxes: Float[Array, "n m 4"],
        labels: Int[Array, "n m"],
        image_size: tuple[int, int],
    ) -> Float[Array, " n"]:
        """Of each image: of its regions; nothing is learnt where to look.

        Args:
          labels: -1 where there is no object.
        """
        return self.region_losses(outputs, boxes, labels)
