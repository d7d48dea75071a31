"""What detectors share: which of their candidates are the answer."""

from typing import ClassVar

import jax
from flax import linen as nn
from jaxtyping import Array, Float, Int

from cnnjax.core.errors import Refused
from cnnjax.layers.backbone import OnBackbone
from cnnjax.ops import boxes as box
from cnnjax.ops.nms import best_of_each


class Detector(OnBackbone, kw_only=True):
    """A network for the task detection: a subclass has `detection_losses` and `detections`.

    Attributes:
      score_threshold: what the score of a detection is above.
      nms_threshold: IoU above which the lower one of two detections of a class goes.
      candidates: detections that non-maximum suppression is given, those of highest score.
      most: detections in an image.

    Raises:
      Refused: a share is not from 0 to 1, or a count is not 1 or more.
    """

    shares: ClassVar[tuple[str, ...]] = ("score_threshold", "nms_threshold")
    counts: ClassVar[tuple[str, ...]] = ("candidates", "most")

    num_classes: int = 10
    score_threshold: float = 0.01
    nms_threshold: float = 0.45
    candidates: int = 200
    most: int = 100

    def __post_init__(self):
        for name in self.shares:
            if not 0 <= getattr(self, name) <= 1:
                raise Refused(f"{name}={getattr(self, name)}: 0 to 1")
        for name in self.counts:
            if getattr(self, name) < 1:
                raise Refused(f"{name}={getattr(self, name)}: 1 or more")
        if self.most > self.all_candidates:
            raise Refused(f"most={self.most}: 1 to candidates={self.all_candidates}")
        super().__post_init__()

    @property
    def all_candidates(self) -> int:
        """In an image, at most."""
        return self.candidates

    @nn.nowrap
    def best(
        self, scores: Float[Array, "b {self.num_classes}"]
    ) -> tuple[Float[Array, "*c k"], Int[Array, "*c k"], Int[Array, "*c k"]]:
        """The candidates of an image: scores, which boxes, and their classes; by falling score, or
        a row for each class."""
        top, which = jax.lax.top_k(scores.reshape(-1), min(self.candidates, scores.size))
        return top, which // self.num_classes, which % self.num_classes

    @nn.nowrap
    def answer(
        self,
        boxes: Float[Array, "*c k 4"],
        scores: Float[Array, "*c k"],
        labels: Int[Array, "*c k"],
        image_size: tuple[int, int],
    ) -> dict[str, Array]:
        """Of an image's candidates `boxes` [most, 4] within the image, `scores` and `labels` [most]
        by falling score; labels of -1 are padding."""
        boxes = box.clip(boxes, *image_size)
        valid = (scores > self.score_threshold) & (box.area(boxes) > 0)
        return best_of_each(boxes, scores, labels, valid, self.nms_threshold, self.most)
