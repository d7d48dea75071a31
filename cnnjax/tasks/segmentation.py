"""Semantic segmentation: a class for each pixel."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from cnnjax.core.errors import Refused
from cnnjax.core.words import counted
from cnnjax.metrics.confusion import IGNORED, PixelConfusion
from cnnjax.ops.losses import dice_loss, pixel_cross_entropy
from cnnjax.tasks.network import NetworkTask
from cnnjax.tasks.registry import register_task
from cnnjax.tasks.task import Batch, Metric

PixelLoss = Literal["cross_entropy", "dice", "both"]


@register_task("segmentation")
@dataclass(frozen=True, kw_only=True)
class Segmentation(NetworkTask):
    """The task of telling the class of each pixel: 0 the ground, 1 + the class of what is on it.

    A network with `output_size(height, width)`, an unpadded U-Net say, gives a smaller map and is
    judged on the middle of its image. The reported loss is the cross-entropy, whatever is
    minimised.

    pixel_loss: what is minimised: cross_entropy, the mean over the pixels; dice, 1 - the mean Dice
      of the classes (Milletari et al. 2016), which large and small classes share alike; both, their
      sum.
    auxiliary_weight: of the same loss on the network's auxiliary heads, if it has any.
    """

    metrics: ClassVar = (
        Metric("mean_iou", "%", "higher", "intersection over union, mean over the classes", 0.0),
        Metric("mean_accuracy", "%", "higher", "pixels found, mean over the classes", worst=0.0),
        Metric("pixel_accuracy", "%", "higher", "pixels whose class is right", worst=0.0),
        Metric("frequency_weighted_iou", "%", "higher", "IoU, weighted by pixels", worst=0.0),
        Metric("mean_dice", "%", "higher", "Dice (F1) of pixels, mean over the classes", 0.0),
        Metric("loss", "nats", "lower", "mean cross-entropy of an image's pixels"),
    )
    aliases: ClassVar = {"iou": "mean_iou"}
    needs: ClassVar = {"images": "uint8 h w c", "class_map": "uint8 h w"}

    pixel_loss: PixelLoss = "cross_entropy"
    auxiliary_weight: float = 0.5

    @property
    def num_outputs(self) -> int:
        return self.data.num_classes + 1

    @property
    def outputs_in_words(self) -> str:
        return f"{counted(self.data.num_classes, 'class', 'classes')} and the ground"

    def check_outputs(self, examples: int, outputs: Any) -> None:
        """Refuse outputs that are not float32 [n, height, width, classes]."""
        height, width, _ = self.data.image_shape
        of_size = getattr(self.model, "output_size", lambda *size: size)
        wanted = (examples, *of_size(height, width), self.num_outputs)
        found, dtype = tuple(getattr(outputs, "shape", ())), getattr(outputs, "dtype", None)
        if found != wanted or dtype != jnp.float32:
            if hasattr(self.model, "detections"):
                raise Refused(f"{type(self.model).__name__} is a detector: --task detection")
            kind = type(outputs).__name__ if dtype is None else f"{dtype}{list(found)}"
            raise Refused(
                f"{type(self.model).__name__} gives {kind} for {examples} image(s) of"
                f" {height}x{width}; float32{list(wanted)} is needed for {self.outputs_in_words}"
            )

    def losses(self, outputs: Float[Array, "n h w k"], batch: Batch) -> Float[Array, " n"]:
        classes, counted = self._truth(outputs, batch)
        total = jnp.zeros(len(outputs), outputs.dtype)
        if self.pixel_loss != "dice":
            total = total + pixel_cross_entropy(outputs, classes, counted)
        if self.pixel_loss != "cross_entropy":
            total = total + dice_loss(outputs, classes, counted)
        return total

    def objective(
        self, outputs: Float[Array, "n h w k"], auxiliary: list[Array], batch: Batch
    ) -> Float[Array, " n"]:
        heads = (self.losses(head, batch) for head in auxiliary)
        return self.losses(outputs, batch) + self.auxiliary_weight * sum(heads)

    def figures(self, outputs: Float[Array, "n h w k"], batch: Batch) -> dict[str, Array]:
        return {"loss": pixel_cross_entropy(outputs, *self._truth(outputs, batch))}

    def predictions(self, outputs: Float[Array, "n h w k"]) -> Int[Array, "n h w 1"]:
        """The class of each pixel; of equal logits the lower one."""
        return jnp.argmax(outputs, axis=-1)[..., None]

    def outputs_of(self, outputs: Float[Array, "n h w k"], batch: Batch) -> dict[str, Array]:
        """Of each image how many pixels of each class are taken for each: exact to 2^24 pixels."""
        classes, counted = self._truth(outputs, batch)
        seen = self.predictions(outputs)
        truth = jax.nn.one_hot(classes, self.num_outputs) * counted[..., None]
        found = jnp.einsum("nhwi,nhwj->nij", truth, jax.nn.one_hot(seen[..., 0], self.num_outputs))
        return {"confusion": jnp.round(found).astype(jnp.int32)}

    def accumulator(self, detailed: bool = False) -> PixelConfusion:
        return PixelConfusion(self.num_outputs, detailed)

    def _truth(
        self, outputs: Float[Array, "n h w k"], batch: Batch
    ) -> tuple[Int[Array, "n h w"], Float[Array, "n h w"]]:
        """The class of each pixel, and 1 where it counts."""
        whole = batch["class_map"].astype(jnp.int32)
        free = [whole.shape[axis] - outputs.shape[axis] for axis in (1, 2)]
        top, left = free[0] // 2, free[1] // 2
        middle = whole[:, top : top + outputs.shape[1], left : left + outputs.shape[2]]
        counted = middle != IGNORED
        return jnp.where(counted, middle, 0), counted.astype(outputs.dtype)
