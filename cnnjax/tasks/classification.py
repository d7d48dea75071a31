"""Image classification: softmax cross-entropy, top-1 and top-5 error."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from cnnjax.core.recipe import Loss
from cnnjax.core.words import counted
from cnnjax.tasks.network import CROSS_ENTROPY, NetworkTask
from cnnjax.tasks.registry import register_task
from cnnjax.tasks.task import Batch, Metric

TOP = 5  # of `top5_error`


def example_losses(
    logits: Float[Array, "n classes"], labels: Int[Array, " n"], loss: Loss
) -> Float[Array, " n"]:
    """The loss of each example; see `core.recipe.Loss`."""
    if loss.name == "lecun1998":
        distances = -2 * logits  # y_D + log(exp(-j) + sum exp(-y_i))
        correct = jnp.take_along_axis(distances, labels[:, None], axis=1)[:, 0]
        penalties = jnp.concatenate([-distances, jnp.full((len(labels), 1), -1.0)], axis=1)
        return correct + jax.nn.logsumexp(penalties, axis=1)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    if loss.label_smoothing:
        uniform = -jax.nn.log_softmax(logits).mean(-1)
        losses = (1 - loss.label_smoothing) * losses + loss.label_smoothing * uniform
    return losses


def label_ranks(logits: Float[Array, "n classes"], labels: Int[Array, " n"]) -> Int[Array, " n"]:
    """How many classes come before the label; of equal logits the lower class comes first."""
    own = jnp.take_along_axis(logits, labels[:, None], axis=1)
    before = jnp.arange(logits.shape[1])[None] < labels[:, None]
    behind = (logits < own) | ((logits == own) & ~before)
    return jnp.sum(~behind, axis=1)  # what is not certainly behind, NaN too, is not


@register_task("classification")
@dataclass(frozen=True, kw_only=True)
class Classification(NetworkTask):
    """The task of telling the classes of a data set apart.

    The reported loss is the cross-entropy, whatever is minimised.
    """

    metrics: ClassVar = (
        Metric(
            "top1_error", "%", "lower", "images whose first class is wrong", 100.0, decisions=True
        ),
        Metric("top5_error", "%", "lower", "images whose first five classes are wrong", 100.0),
        Metric("loss", "nats", "lower", "mean cross-entropy"),
    )
    aliases: ClassVar = {"error": "top1_error"}
    needs: ClassVar = {"images": "uint8 h w c", "labels": "int32"}
    uses: ClassVar = frozenset({"loss", "mixing"})

    @property
    def num_outputs(self) -> int:
        return self.data.num_classes

    @property
    def judged(self) -> tuple[Metric, ...]:
        few = self.data.num_classes <= TOP
        return tuple(m for m in self.metrics if not (few and m.name == "top5_error"))

    @property
    def outputs_in_words(self) -> str:
        return counted(self.num_outputs, "class", "classes")

    def losses(self, outputs: Float[Array, "n k"], batch: Batch) -> Float[Array, " n"]:
        losses = example_losses(outputs, batch["labels"], self.loss)
        if "other_labels" in batch:  # of the images that were mixed in, and their share
            others = example_losses(outputs, batch["other_labels"], self.loss)
            losses = (1 - batch["other_share"]) * losses + batch["other_share"] * others
        return losses

    def objective(
        self, outputs: Float[Array, "n k"], auxiliary: list[Array], batch: Batch
    ) -> Float[Array, " n"]:
        total = self.losses(outputs, batch)
        for head in auxiliary:
            total = total + self.loss.auxiliary_weight * self.losses(head, batch)
        return total

    def figures(self, outputs: Float[Array, "n k"], batch: Batch) -> dict[str, Array]:
        found = {
            "loss": example_losses(outputs, batch["labels"], CROSS_ENTROPY),
            "top1_error": (label_ranks(outputs, batch["labels"]) > 0).astype(jnp.float32),
        }
        if self.data.num_classes > TOP:
            wrong = label_ranks(outputs, batch["labels"]) >= TOP
            found["top5_error"] = wrong.astype(jnp.float32)
        return found

    def over_views(self, outputs: Float[Array, "n views k"]) -> Float[Array, "n k"]:
        """The logarithm of the mean of the views' probabilities."""
        views = jax.nn.log_softmax(outputs)
        return jax.nn.logsumexp(views, axis=1) - jnp.log(outputs.shape[1])

    def outputs_of(self, outputs: Float[Array, "n k"], batch: Batch) -> dict[str, Array]:
        """Label, predicted class and probabilities."""
        return {
            "labels": batch["labels"],
            "predictions": jnp.argmax(outputs, axis=-1),
            "probabilities": jax.nn.softmax(outputs),
        }

    def accumulator(self, detailed: bool = False) -> "Predictions | None":
        return Predictions(self.data.num_classes) if detailed else None


class Predictions:
    """Every example's label, prediction and probabilities, and the confusion matrix."""

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self._parts: list[dict[str, np.ndarray]] = []

    def add(self, indices: Int[np.ndarray, " n"], outputs: Mapping[str, np.ndarray]) -> None:
        self._parts.append({"indices": np.asarray(indices), **outputs})

    def merge(self, other: "Predictions") -> None:
        self._parts += other._parts

    def arrays(self) -> dict[str, np.ndarray]:
        """`labels`, `predictions`, `probabilities` of every example, in the order of the set."""
        if not self._parts:
            return {}
        joined = {
            key: np.concatenate([part[key] for part in self._parts]) for key in self._parts[0]
        }
        order = np.argsort(joined.pop("indices"), kind="stable")
        return {key: values[order] for key, values in joined.items()}

    def finish(self) -> dict[str, Any]:
        """`confusion`: [label][prediction], how many examples."""
        counts = np.zeros((self.num_classes, self.num_classes), np.int64)
        found = self.arrays()
        if found:
            np.add.at(counts, (found["labels"], found["predictions"]), 1)
        return {"confusion": counts.tolist()}
