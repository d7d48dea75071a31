"""Detection: a box and a class for each object."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cnnjax.core.errors import Refused
from cnnjax.core.user_code import refused
from cnnjax.metrics.average_precision import average_precision, match
from cnnjax.metrics.matching import Matches
from cnnjax.metrics.objects import Detections, Truths
from cnnjax.tasks.network import NetworkTask
from cnnjax.tasks.registry import register_task
from cnnjax.tasks.task import Batch, Metric

_WANTED = ("detection_losses", "detections")  # of a network
_FOUND = ("boxes", "scores", "labels")
_FORM = "boxes [n, k, 4], scores [n, k] and whole labels [n, k] are needed"


@register_task("detection")
@dataclass(frozen=True, kw_only=True)
class Detection(NetworkTask):
    """The task of finding each object: its box and its class.

    What is minimised, and how outputs become boxes, is the network's: it has
    `detection_losses(outputs, boxes, labels, image_size)`, one for each image, and
    `detections(outputs, image_size)`. One that is called with `boxes` and `box_labels` as well is
    given them while it is trained: the second stage of two learns on regions that are drawn by
    them. Judged by COCO's average precision.
    """

    metrics: ClassVar = (
        Metric("ap", "%", "higher", "average precision over IoU .50 to .95 (COCO)", worst=0.0),
        Metric("ap50", "%", "higher", "average precision at IoU .50 (COCO)", worst=0.0),
        Metric("ap75", "%", "higher", "average precision at IoU .75 (COCO)", worst=0.0),
        Metric("loss", "", "lower", "mean of what is minimised"),
    )
    needs: ClassVar = {
        "images": "uint8 h w c",
        "boxes": "float32 m corners",
        "box_labels": "int32 m",
    }

    @property
    def num_outputs(self) -> int:
        return self.data.num_classes

    @property
    def outputs_in_words(self) -> str:
        return f"{self.num_outputs} classes"

    @property
    def _image_size(self) -> tuple[int, int]:
        return self.data.image_shape[:2]

    def check_outputs(self, examples: int, outputs: Any) -> None:
        """Refuse a network that does not say what its outputs mean, or says it in another form."""
        for name in _WANTED:
            if not hasattr(self.model, name):
                raise Refused(
                    f"{type(self.model).__name__} has no method {name}: it is no detector (see:"
                    " cnnjax models, the networks for detection)"
                )
        if not self.batch_shapes(1)["boxes"].shape[1]:
            raise Refused(f"data set {self.data.name} has room for no box in an image")
        name = type(self.model).__name__
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), outputs)
        with refused(f"{name} is no detector"):
            losses = jax.eval_shape(self.losses, shapes, self.batch_shapes(examples))
            found = jax.eval_shape(self.predictions, shapes)
        if losses.shape != (examples,):
            raise Refused(
                f"{name}.detection_losses gives {list(losses.shape)} for {examples} images; one for"
                " each is needed"
            )
        boxes, scores, labels = (getattr(found.get(k), "shape", None) for k in _FOUND)
        if not boxes or len(boxes) != 3 or boxes[::2] != (examples, 4) or scores != boxes[:2]:
            raise Refused(f"{name}.detections: {_FORM}, not {_forms(found)}")
        if labels != scores or not jnp.issubdtype(found["labels"].dtype, jnp.integer):
            raise Refused(f"{name}.detections: {_FORM}, not {_forms(found)}")

    def truths(self, batch: Batch) -> dict[str, Array]:
        wanted = inspect.signature(type(self.model).__call__).parameters
        return {name: batch[name] for name in ("boxes", "box_labels") if name in wanted}

    def losses(self, outputs: Any, batch: Batch) -> Float[Array, " n"]:
        return self.model.detection_losses(
            outputs, batch["boxes"], batch["box_labels"], self._image_size
        )

    def figures(self, outputs: Any, batch: Batch) -> dict[str, Array]:
        return {"loss": self.losses(outputs, batch)}

    def predictions(self, outputs: Any) -> dict[str, Array]:
        """`boxes` [n, k, 4], `scores` and `labels` [n, k]; a label of -1 is padding."""
        return self.model.detections(outputs, self._image_size)

    def outputs_of(self, outputs: Any, batch: Batch) -> dict[str, Array]:
        """What is found and what is there."""
        truth = {"true_boxes": batch["boxes"], "true_labels": batch["box_labels"]}
        return {**self.predictions(outputs), **truth}

    def accumulator(self, detailed: bool = False) -> "FoundObjects":
        return FoundObjects(self.num_outputs, detailed)


class FoundObjects:
    """Matches what is found with what is there, image by image; figures in per cent.

    A batch's matches are kept, not its boxes: shards of a set join.
    """

    def __init__(self, num_classes: int, detailed: bool):
        self._num_classes, self._detailed = num_classes, detailed
        self._parts: list[Matches] = []

    def add(self, indices: Int[np.ndarray, " n"], outputs: Mapping[str, np.ndarray]) -> None:
        truth = _rows(indices, outputs["true_boxes"], outputs["true_labels"])
        found = _rows(indices, outputs["boxes"], outputs["labels"])
        scores = outputs["scores"][outputs["labels"] >= 0].astype(np.float64)
        crowd = np.zeros(len(truth["images"]), bool)
        self._parts.append(
            match(
                Truths(**truth, crowd=crowd),
                Detections(**found, scores=scores),
                self._num_classes,
                "coco",
            )
        )

    def merge(self, other: "FoundObjects") -> None:
        self._parts += other._parts

    def matches(self) -> Matches:
        """Of all examples."""
        if not self._parts:
            empty = {"boxes": np.zeros((0, 1, 4)), "labels": np.zeros((0, 1), int)}
            none = {**empty, "scores": np.zeros((0, 1))}
            truth = {"true_boxes": empty["boxes"], "true_labels": empty["labels"]}
            self.add(np.zeros(0, np.int64), {**none, **truth})
        return reduce(Matches.merged, self._parts)

    def finish(self) -> dict[str, Any]:
        """AP, AP50 and AP75, 0 where there is no object; with `detailed` also all of COCO's figures
        (`coco`, null where nothing says anything) and each class's."""
        found = average_precision(self.matches(), "coco")
        each = found.pop("per_category")
        percent = {name: None if v is None else 100 * v for name, v in found.items()}
        judged = {name: percent[name] or 0.0 for name in ("ap", "ap50", "ap75")}
        if not self._detailed:
            return judged
        classes = [None if one["ap"] is None else 100 * one["ap"] for one in each]
        return {**judged, "coco": percent, "class_ap": classes}


def _forms(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {leaf.dtype}{list(leaf.shape)}" for name, leaf in found.items())


def _rows(
    indices: Int[np.ndarray, " n"],
    boxes: Float[np.ndarray, "n m 4"],
    labels: Int[np.ndarray, "n m"],
) -> dict[str, Any]:
    """The objects of a batch as flat arrays."""
    there = labels >= 0
    corners = boxes[there].astype(np.float64)
    sides = corners[:, 2:] - corners[:, :2]
    return {
        "images": np.broadcast_to(indices[:, None], labels.shape)[there].astype(np.int64),
        "categories": labels[there].astype(np.int64),
        "boxes": np.concatenate([corners[:, :2], sides], axis=1),
        "areas": sides.prod(axis=1),
    }
