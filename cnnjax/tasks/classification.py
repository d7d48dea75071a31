"""Image classification: softmax cross-entropy, top-1 error, SGD with momentum and weight decay."""

from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.core.scope import DenyList
from jaxtyping import Array, Float, Int

from cnnjax.core.errors import Refused
from cnnjax.core.recipe import Loss
from cnnjax.layers.scan import (
    Runs,
    first_of_each_run,
    repeat_shapes,
    stack_blocks,
    unstack_blocks,
)
from cnnjax.tasks.checks import (
    AUXILIARY,
    check_call,
    trace_evaluation,
    trace_training,
    trace_variables,
)
from cnnjax.tasks.state import TrainState, leaf_names, nonfinite_leaves
from cnnjax.tasks.task import Metrics, Reduce

CROSS_ENTROPY = Loss()
_FRESH = DenyList(("intermediates", AUXILIARY))  # collections that initialisation fills: but these


@cache
def sgd() -> optax.GradientTransformation:
    """SGD with momentum; L2 weight decay on every parameter (He et al. 2015, section 4.2).

    v <- momentum v + (gradient + weight_decay params); params <- params - learning_rate v.
    The three hyperparameters are arrays in the optimiser's state (`set_hyperparams`).
    """

    def chain(learning_rate, momentum, weight_decay):
        return optax.chain(
            optax.add_decayed_weights(weight_decay),
            optax.trace(decay=momentum),
            optax.scale_by_learning_rate(learning_rate),
        )

    zero = jnp.zeros((), jnp.float32)
    return optax.inject_hyperparams(chain)(learning_rate=zero, momentum=zero, weight_decay=zero)


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


def metric_sums(
    logits: Float[Array, "n classes"], labels: Int[Array, " n"], mask: Float[Array, " n"]
) -> Metrics:
    """Sums over the examples whose mask is 1: cross-entropy (nats), top-1 errors, examples."""
    loss = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    wrong = jnp.argmax(logits, axis=-1) != labels
    return {
        "loss": jnp.sum(jnp.where(mask > 0, loss, 0.0)),
        "errors": jnp.sum(wrong * mask),
        "examples": jnp.sum(mask),
    }


def summary(sums: Metrics) -> dict[str, float]:
    """Mean loss (nats), top-1 error (per cent) and number of examples from sums."""
    examples = float(sums["examples"])
    return {
        "loss": float(sums["loss"]) / examples,
        "top1_error": 100 * float(sums["errors"]) / examples,
        "examples": int(examples),
    }


@dataclass(frozen=True)
class Classification:
    """The task of telling `num_classes` classes apart.

    Attributes:
      model: a flax module, (images [n, h, w, c], train) -> logits [n, num_classes or more].
      image_shape: height, width, channels.
      num_classes: of the data.
      loss: what is minimised; the reported loss is the cross-entropy whatever it is.
    """

    model: nn.Module
    image_shape: tuple[int, int, int]
    num_classes: int
    loss: Loss = CROSS_ENTROPY

    @property
    def runs(self) -> Runs:
        """Names of equal blocks that lie stacked inside a training program."""
        equal_blocks = getattr(self.model, "equal_blocks", None)
        return equal_blocks() if equal_blocks else ()

    def pack(self, state: TrainState) -> TrainState:
        """The form for many steps: equal blocks stacked. Steps take both forms."""
        return stack_blocks(state, self.runs)

    def unpack(self, state: TrainState) -> TrainState:
        """The inverse of `pack`: a name for each block, as in checkpoints."""
        return unstack_blocks(state, self.runs)

    @property
    def image(self) -> jax.ShapeDtypeStruct:
        """One image, as shape and dtype."""
        return jax.ShapeDtypeStruct((1, *self.image_shape), jnp.float32)

    def check(self, batch_size: int | None = None) -> None:
        """Trace the network as a run will, without computing: initialised, evaluated, trained.

        Args:
          batch_size: of training; None: it is not trained.

        Raises:
          Refused: it does not take such images, its logits are not float32 [n, num_classes], it is
            larger than memory, or it asks for what a run does not give it.
        """
        check_call(self.model, self.image)
        with first_of_each_run():
            variables = trace_variables(self.model, self.image, self.fresh_variables)
            variables = repeat_shapes(variables, self.runs)
            trace_evaluation(self.model, variables, self.image, partial(self._check_logits, 1))
            if batch_size is not None:
                images = jax.ShapeDtypeStruct((batch_size, *self.image_shape), jnp.float32)
                check = partial(self._check_logits, batch_size)
                trace_training(self.model, variables, images, check)

    def _check_logits(self, examples: int, logits: Any) -> None:
        found, dtype = getattr(logits, "shape", ()), getattr(logits, "dtype", None)
        if found != (examples, self.num_classes) or dtype != jnp.float32:
            kind = type(logits).__name__ if dtype is None else f"{dtype}{list(found)}"
            raise Refused(
                f"{type(self.model).__name__} gives {kind} for {examples}"
                f" image{'s' * (examples > 1)} of {'x'.join(map(str, self.image_shape))};"
                f" float32[{examples}, {self.num_classes}] is needed for {self.num_classes} classes"
            )

    def fresh_variables(self, key: Array) -> dict[str, Any]:
        """Fresh variables, without what is sown."""
        return dict(self.model.lazy_init({"params": key}, self.image, train=False, mutable=_FRESH))

    def init(self, key: Array) -> TrainState:
        """Fresh parameters from a key of stream "init"; hyperparameters are still zero."""
        variables = self.fresh_variables(key)
        params = variables.pop("params", {})
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            model_state=variables,
            opt_state=sgd().init(params),
        )

    def empty_metrics(self, state: TrainState) -> Metrics:
        """Sums over nothing, in the form that `train_step` adds to."""
        zero = jnp.zeros((), jnp.float32)
        leaves = len(self.checked_names(self.pack(state)))
        return {
            "loss": zero,
            "errors": zero,
            "examples": zero,
            "nonfinite": jnp.zeros((leaves,), jnp.int32),
        }

    def checked_names(self, state: TrainState) -> list[str]:
        """Names of what `train_step` checks, in the order of `metrics["nonfinite"]`."""
        return leaf_names({"0_loss": 0, "gradient": state.params, "state": state.model_state})

    def train_step(
        self, state: TrainState, batch: dict[str, Array], key: Array, reduce: Reduce
    ) -> tuple[TrainState, Metrics]:
        """One update.

        When the loss, a reduced gradient or a batch statistic is not finite, the old state is
        kept, step included, and `metrics["nonfinite"]` counts the leaves; the other sums stay 0.

        Args:
          batch: images [n, h, w, c] float32, labels [n] int32, mask [n] float32.
          key: of stream "dropout", for this step.
          reduce: averages a tree over replicas that hold equally many examples.
        """

        def loss_fn(params):
            logits, changed = self.model.apply(
                {"params": params, **state.model_state},
                batch["images"],
                train=True,
                rngs={"dropout": key},
                mutable=[*state.model_state, AUXILIARY],
            )
            changed = dict(changed)
            auxiliary = jax.tree.leaves(changed.pop(AUXILIARY, {}))
            sums = metric_sums(logits, batch["labels"], batch["mask"])
            return self._objective(logits, auxiliary, batch, sums), (changed, sums)

        grads, (model_state, sums) = jax.grad(loss_fn, has_aux=True)(state.params)
        grads, model_state, loss = reduce((grads, dict(model_state), sums["loss"]))
        updates, opt_state = sgd().update(grads, state.opt_state, state.params)
        # The hyperparameters are float32 and would promote a bfloat16 trace.
        opt_state = jax.tree.map(lambda n, o: n.astype(o.dtype), opt_state, state.opt_state)
        params = optax.apply_updates(state.params, updates)
        new = TrainState(state.step + 1, params, model_state, opt_state)

        bad = nonfinite_leaves({"0_loss": loss, "gradient": grads, "state": model_state})
        good = jnp.sum(bad) == 0
        state = jax.tree.map(lambda n, o: jnp.where(good, n, o), new, state)
        sums = jax.tree.map(lambda value: jnp.where(good, value, 0.0), sums)
        return state, {**sums, "nonfinite": bad}

    def _objective(
        self, logits: Array, auxiliary: list[Array], batch: dict[str, Array], sums: Metrics
    ) -> Array:
        """The mean loss of a batch, with auxiliary heads and mixed labels where there are any."""
        if self.loss == CROSS_ENTROPY and not auxiliary and "other_labels" not in batch:
            return sums["loss"] / sums["examples"]

        def mean(logits: Array) -> Array:
            losses = example_losses(logits, batch["labels"], self.loss)
            if "other_labels" in batch:  # of the images that were mixed in, and their share
                others = example_losses(logits, batch["other_labels"], self.loss)
                share = batch["other_share"]
                losses = (1 - share) * losses + share * others
            return jnp.sum(jnp.where(batch["mask"] > 0, losses, 0.0)) / sums["examples"]

        total = mean(logits)
        for head in auxiliary:
            total = total + self.loss.auxiliary_weight * mean(head)
        return total

    def summary(self, sums: Metrics) -> dict[str, float]:
        """Mean loss (nats), top-1 error (per cent) and number of examples from sums."""
        return summary(sums)

    def eval_step(self, state: TrainState, batch: dict[str, Array]) -> Metrics:
        """Sums over one batch with running batch statistics.

        Images [n, views, h, w, c] are judged by the mean of their views' probabilities.
        """
        variables = {"params": state.params, **state.model_state}
        images = batch["images"]
        flat = images.reshape(-1, *images.shape[-3:])
        logits: Any = self.model.apply(variables, flat, train=False)
        if images.ndim == 5:
            views = jax.nn.log_softmax(logits).reshape(*images.shape[:2], -1)
            logits = jax.nn.logsumexp(views, axis=1) - jnp.log(images.shape[1])
        return metric_sums(logits, batch["labels"], batch["mask"])
