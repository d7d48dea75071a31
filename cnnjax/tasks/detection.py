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
from cnnjax.core.words import counted
from cnnjax.data.dataset import uncounted
from cnnjax.metrics.average_precision import average_precision, match
from cnnjax.metrics.matching import Matches
from cnnjax.metrics.objects import Detections, Truths
from cnnjax.ops.paste import paste_mask
from cnnjax.ops.rle import RunLengths
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
    them. An object that does not count (a crowd) has label -1 there, as where there is none. One
    whose `detection_losses` take `object_map` tells masks, too: its detections have `masks`
    [n, k, s, s], probabilities within the box. Judged by COCO's average precision.
    """

    metrics: ClassVar = (
        Metric("ap", "%", "higher", "average precision over IoU .50 to .95 (COCO)", worst=0.0),
        Metric("ap50", "%", "higher", "average precision at IoU .50 (COCO)", worst=0.0),
        Metric("ap75", "%", "higher", "average precision at IoU .75 (COCO)", worst=0.0),
        Metric("mask_ap", "%", "higher", "as ap, IoU of masks instead of boxes", worst=0.0),
        Metric("mask_ap50", "%", "higher", "as ap50, IoU of masks", worst=0.0),
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
    def masked(self) -> bool:
        """Whether the network tells masks."""
        losses = getattr(type(self.model), "detection_losses", None)
        return losses is not None and "object_map" in inspect.signature(losses).parameters

    @property
    def evaluation_batch(self) -> int | None:
        """A hundred masks of an image at once are a hundred small images."""
        return 16 if self.masked else None

    @property
    def judged(self) -> tuple[Metric, ...]:
        return tuple(m for m in self.metrics if self.masked or not m.name.startswith("mask_"))

    @property
    def outputs_in_words(self) -> str:
        return counted(self.num_outputs, "class", "classes")

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
        if self.masked and "object_map" not in self.batch_shapes(1):
            there = ", ".join(name for name, _, _ in self.data.fields)
            raise Refused(
                f"{name} needs object_map, the object of each pixel, and data set {self.data.name}"
                f" has {there}"
            )
        shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), outputs)
        with refused(f"{name} is no detector"):
            losses = jax.eval_shape(self.losses, shapes, self.batch_shapes(examples))
            found = jax.eval_shape(self.predictions, shapes)
        if losses.shape != (examples,):
            raise Refused(
                f"{name}.detection_losses gives {list(losses.shape)} for"
                f" {counted(examples, 'image')}; one for each is needed"
            )
        boxes, scores, labels = (getattr(found.get(k), "shape", None) for k in _FOUND)
        if not boxes or len(boxes) != 3 or boxes[::2] != (examples, 4) or scores != boxes[:2]:
            raise Refused(f"{name}.detections: {_FORM}, not {_forms(found)}")
        masks = getattr(found.get("masks"), "shape", ())
        if self.masked and (masks[:2] != scores or len(masks) != 4 or masks[2] != masks[3]):
            raise Refused(f"{name}.detections: masks [n, k, s, s] are needed, not {_forms(found)}")
        if labels != scores or not jnp.issubdtype(found["labels"].dtype, jnp.integer):
            raise Refused(f"{name}.detections: {_FORM}, not {_forms(found)}")

    def truths(self, batch: Batch) -> dict[str, Array]:
        wanted = inspect.signature(type(self.model).__call__).parameters
        there = {"boxes": batch["boxes"], "box_labels": _learnt(batch["box_labels"])}
        return {name: truth for name, truth in there.items() if name in wanted}

    def losses(self, outputs: Any, batch: Batch) -> Float[Array, " n"]:
        masks = {"object_map": batch["object_map"]} if self.masked else {}
        return self.model.detection_losses(
            outputs, batch["boxes"], _learnt(batch["box_labels"]), self._image_size, **masks
        )

    def figures(self, outputs: Any, batch: Batch) -> dict[str, Array]:
        return {"loss": self.losses(outputs, batch)}

    def predictions(self, outputs: Any) -> dict[str, Array]:
        """`boxes` [n, k, 4], `scores` and `labels` [n, k]; a label of -1 is padding."""
        return self.model.detections(outputs, self._image_size)

    def outputs_of(self, outputs: Any, batch: Batch) -> dict[str, Array]:
        """What is found and what is there."""
        truth = {"true_boxes": batch["boxes"], "true_labels": batch["box_labels"]}
        if self.masked:
            truth["true_map"] = batch["object_map"]
        return {**self.predictions(outputs), **truth}

    def accumulator(self, detailed: bool = False) -> "FoundObjects":
        return FoundObjects(self.num_outputs, detailed, self.masked)


class FoundObjects:
    """Matches what is found with what is there, image by image; figures in per cent.

    A batch's matches are kept, not its boxes: shards of a set join.

    Args:
      masked: whether masks are compared, too.
    """

    def __init__(self, num_classes: int, detailed: bool, masked: bool = False):
        self._num_classes, self._detailed = num_classes, detailed
        self._parts: dict[str, list[Matches]] = {"": [], **({"mask_": []} if masked else {})}

    def add(self, indices: Int[np.ndarray, " n"], outputs: Mapping[str, np.ndarray]) -> None:
        given = outputs["true_labels"]
        crowd = given < -1
        truth = _rows(indices, outputs["true_boxes"], np.where(crowd, uncounted(given), given))
        truth["crowd"] = crowd[given != -1]
        found = _rows(indices, outputs["boxes"], outputs["labels"])
        scores = outputs["scores"][outputs["labels"] >= 0].astype(np.float64)
        for kind, parts in self._parts.items():
            if kind == "mask_":
                # An object that is covered whole has no mask to be found.
                truth = _masked(truth, _true_masks(outputs), seen=True)
                found = _masked(found, _masks(outputs))
            truths = Truths(**truth)
            detections = Detections(**found, scores=scores)
            parts.append(match(truths, detections, self._num_classes, "coco"))

    def merge(self, other: "FoundObjects") -> None:
        for kind, parts in self._parts.items():
            parts += other._parts[kind]

    def matches(self, kind: str = "") -> Matches:
        """Of all examples, by boxes, or ("mask_") by masks."""
        if not self._parts[kind]:
            empty = {"boxes": np.zeros((0, 1, 4)), "labels": np.zeros((0, 1), int)}
            none = {**empty, "scores": np.zeros((0, 1)), "masks": np.zeros((0, 1, 2, 2))}
            truth = {"true_boxes": empty["boxes"], "true_labels": empty["labels"]}
            truth["true_map"] = np.zeros((0, 1, 1), np.uint8)
            self.add(np.zeros(0, np.int64), {**none, **truth})
        return reduce(Matches.merged, self._parts[kind])

    def finish(self) -> dict[str, Any]:
        """AP, AP50 and AP75; with `detailed` also all of COCO's figures (`coco`) and each class's.
        None where nothing says anything, as where there is no object."""
        figures: dict[str, Any] = {}
        for kind in self._parts:
            found = average_precision(self.matches(kind), "coco")
            each = found.pop("per_category")
            percent = {name: None if v is None else 100 * v for name, v in found.items()}
            judged = ("ap", "ap50", "ap75") if not kind else ("ap", "ap50")
            figures |= {f"{kind}{name}": percent[name] for name in judged}
            if self._detailed:
                classes = [None if one["ap"] is None else 100 * one["ap"] for one in each]
                figures |= {f"{kind}coco": percent, f"{kind}class_ap": classes}
        return figures


def _masks(outputs: Mapping[str, np.ndarray]) -> list[RunLengths]:
    """Of what is found, laid into the image."""
    there, size = outputs["labels"] >= 0, outputs["true_map"].shape[1:3]
    return [
        RunLengths.of_mask(paste_mask(mask, box, size))
        for mask, box in zip(outputs["masks"][there], outputs["boxes"][there], strict=True)
    ]


def _true_masks(outputs: Mapping[str, np.ndarray]) -> list[RunLengths]:
    return [
        RunLengths.of_mask(outputs["true_map"][image] == 1 + place)
        for image, place in zip(*np.nonzero(outputs["true_labels"] != -1), strict=True)
    ]


def _masked(rows: dict[str, Any], masks: list[RunLengths], *, seen: bool = False) -> dict[str, Any]:
    """Objects by their masks: areas are those, boxes their extents.

    Args:
      seen: leave out those of no pixel.
    """
    kept = [index for index, mask in enumerate(masks) if mask.area or not seen]
    masks = [masks[index] for index in kept]
    boxes = np.array([mask.box for mask in masks], np.float64).reshape(-1, 4)
    areas = np.array([mask.area for mask in masks], np.float64)
    own = {name: rows[name][kept] for name in rows.keys() - {"boxes", "areas"}}
    return {**own, "boxes": boxes, "areas": areas, "masks": masks}


def _learnt(labels: Int[Array, "n m"]) -> Int[Array, "n m"]:
    """Without what does not count."""
    return jnp.maximum(labels, -1)


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
