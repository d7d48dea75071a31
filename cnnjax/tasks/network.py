"""The common kind of task: one network, one loss, one optimiser. Derive your own from it."""

import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.core import DenyList
from jaxtyping import Array, Float, Key

from cnnjax.core.errors import Refused, unknown
from cnnjax.core.jax_internals import without_input
from cnnjax.core.recipe import Compute, Loss, Optimizer
from cnnjax.core.user_code import refused
from cnnjax.core.values import plain
from cnnjax.core.words import counted
from cnnjax.layers.batch_statistics import in_training
from cnnjax.layers.context import Context, in_context
from cnnjax.layers.freeze import Freeze
from cnnjax.layers.scan import (
    Runs,
    first_of_each_run,
    repeat_shapes,
    stack_blocks,
    unstack_blocks,
    unstack_shapes,
)
from cnnjax.ops.conv import formulation
from cnnjax.tasks.checks import (
    AUXILIARY,
    STREAM,
    check_call,
    trace_evaluation,
    trace_training,
    trace_variables,
)
from cnnjax.tasks.optimizers import Update, update_of
from cnnjax.tasks.state import TrainState, leaf_names, nonfinite_leaves, path_part
from cnnjax.tasks.task import Accumulator, Batch, Collectives, DataSpec, Metric, Metrics

CROSS_ENTROPY = Loss()
SGD = update_of(Optimizer())
COMPUTE = Compute()
EMPTY: Mapping[str, Any] = MappingProxyType({})
_FRESH = DenyList(("intermediates", AUXILIARY))  # collections that initialisation fills: but these
_TASK = zlib.crc32(b"task")  # the name of an example's stream for a task's own draws
# Groups of a recipe that only some tasks use, with their settings.
_OPTIONAL = {
    "loss": tuple(f"loss.{name}" for name in plain(CROSS_ENTROPY)),
    "mixing": ("data.mixup", "data.cutmix"),
}


@dataclass(frozen=True, kw_only=True)
class NetworkTask(ABC):
    """Pure functions over the training state of one network.

    Derive a frozen dataclass, say what it needs and by what it is judged, and define `losses` and
    `figures`; its own fields are settings, `task.FIELD`. See docs/how-to/task.md.

    Attributes:
      model: a flax module, (images [n, h, w, c], train) -> outputs.
      data: what the data set says of itself.
      loss: the recipe's; of tasks that use "loss".
      update: the form of an update.
      compute: how a step is computed.
    """

    metrics: ClassVar[tuple[Metric, ...]] = ()
    aliases: ClassVar[Mapping[str, str]] = {}  # short names of metrics
    needs: ClassVar[Mapping[str, str]] = {"images": "uint8 h w c"}  # fields of an example
    uses: ClassVar[frozenset[str]] = frozenset()  # of "loss", "mixing": groups of a recipe

    model: Any
    data: DataSpec
    loss: Loss = CROSS_ENTROPY
    update: Update = SGD
    compute: Compute = COMPUTE

    @property
    def num_outputs(self) -> int | None:
        """What the network's `num_classes` is set to; None: its own."""
        return None

    def inputs(self, batch: Batch, keys: Key[Array, " n"]) -> Batch:
        """The batch as the network and the losses see it.

        Args:
          batch: images float32 [n, h, w, c], the other fields as they are stored.
          keys: one for each example: of the update and its index while training, of its index
            alone in an evaluation, so that its draws are the same each time.
        """
        return batch

    @property
    def evaluation_batch(self) -> int | None:
        """Examples that are evaluated at once, at most; None: as many as fit by their pixels."""
        return None

    def truths(self, batch: Batch) -> dict[str, Array]:
        """What the network is given by name beside its images while it is trained: a two-stage
        detector draws its regions by where the objects are."""
        return {}

    def _truths_of_stored(self, batch: Batch) -> dict[str, Array]:
        """`truths` of a batch as it is stored."""
        if type(self).truths is NetworkTask.truths:
            return {}
        return self.truths(self.inputs(batch, _example_keys(jax.random.key(0), batch["indices"])))

    @abstractmethod
    def losses(self, outputs: Any, batch: Batch) -> Float[Array, " n"]:
        """What is minimised, of each example."""

    def figures(self, outputs: Any, batch: Batch) -> dict[str, Float[Array, " n"]]:
        """Each metric's value of each example; a metric in per cent is 0 or 1 there.

        None, where `sums` and `summary` or an accumulator give the metrics.
        """
        return {}

    def objective(self, outputs: Any, auxiliary: list[Any], batch: Batch) -> Float[Array, " n"]:
        """`losses`, with what the network's auxiliary heads add."""
        return self.losses(outputs, batch)

    @classmethod
    def idle(cls, name: str) -> dict[str, str]:
        """Settings of a recipe that this task does not use, by path, and why."""
        return {
            path: f"task.name={name} does not use it"
            for group, paths in _OPTIONAL.items()
            if group not in cls.uses
            for path in paths
        }

    @property
    def judged(self) -> tuple[Metric, ...]:
        """The metrics that these data allow, the most telling first."""
        return self.metrics

    @cached_property
    def runs(self) -> Runs:
        """Names of equal blocks that lie stacked inside a training program."""
        equal_blocks = getattr(self.model, "equal_blocks", None)
        runs = equal_blocks() if equal_blocks else ()
        return [part for run in runs for part in self._frozen.split(run) if len(part) > 1]

    def pack(self, state: TrainState) -> TrainState:
        """The form for many steps: equal blocks stacked. Steps take both forms."""
        return stack_blocks(state, self.runs)

    def unpack(self, state: TrainState) -> TrainState:
        """The inverse of `pack`: a name for each block, as in checkpoints."""
        return unstack_blocks(state, self.runs)

    @property
    def image(self) -> jax.ShapeDtypeStruct:
        """One image, as shape and dtype."""
        return jax.ShapeDtypeStruct((1, *self.data.image_shape), jnp.float32)

    def check(self, batch_size: int | None = None) -> None:
        """Trace the network as a run will, without computing: initialised, evaluated, trained.

        Args:
          batch_size: of training; None: it is not trained.

        Raises:
          Refused: it does not take such images, its outputs are not what the task wants, it is
            larger than memory, or it asks for what a run does not give it.
        """
        check_call(self.model, self.image)
        with first_of_each_run(), formulation("library"):
            variables = trace_variables(self.model, self.image, self.fresh_variables)
            group = self.compute.batch_norm_group
            if group is None and self.compute.accumulate > 1 and "batch_stats" in variables:
                raise Refused(
                    f"compute.accumulate={self.compute.accumulate}: batch normalisation would take"
                    " its statistics over a part of the batch; say over which groups it means to:"
                    " compute.batch_norm_group=32, say"
                )
            if group is not None and "batch_stats" not in variables:
                raise Refused(
                    f"compute.batch_norm_group={group} has no effect: {type(self.model).__name__}"
                    " has no batch normalisation; leave it out"
                )
            variables = repeat_shapes(variables, self.runs)
            with in_context(self._context()):
                trace_evaluation(self.model, variables, self.image, partial(self.check_outputs, 1))
                if batch_size is not None:
                    self._check_frozen(variables)
                    batch = self.batch_shapes(batch_size)
                    check = partial(self.check_outputs, batch_size)
                    trace_training(self.model, variables, batch, self._truths_of_stored, check)
        if self.update.own or not type(self).__module__.startswith("cnnjax."):
            self._check_steps(variables, batch_size)

    def check_outputs(self, examples: int, outputs: Any) -> None:
        """Refuse outputs that are not float32 [n, num_outputs]; looked at only if those are known.

        Args:
          outputs: as shapes, of so many examples.
        """
        if self.num_outputs is None:
            return
        found, dtype = getattr(outputs, "shape", ()), getattr(outputs, "dtype", None)
        if found != (examples, self.num_outputs) or dtype != jnp.float32:
            if hasattr(self.model, "detections"):
                raise Refused(f"{type(self.model).__name__} is a detector: --task detection")
            kind = type(outputs).__name__ if dtype is None else f"{dtype}{list(found)}"
            raise Refused(
                f"{type(self.model).__name__} gives {kind} for {counted(examples, 'image')} of"
                f" {'x'.join(map(str, self.data.image_shape))};"
                f" float32[{examples}, {self.num_outputs}] is needed for {self.outputs_in_words}"
            )

    @property
    def outputs_in_words(self) -> str:
        return f"{self.num_outputs} outputs"

    def _check_frozen(self, variables: Any) -> None:
        """Refuse a pattern that fits no parameter, and to freeze them all."""
        if not self.update.freeze:
            return
        params = unstack_shapes(variables["params"], self.runs)
        names = [tuple(name.split(".")) for name in leaf_names(params)]
        for pattern in self.update.freeze:
            if not any(map(Freeze((pattern,)), names)):
                known = dict.fromkeys(name[0] for name in names)
                raise unknown("parameter that fits optimizer.freeze:", pattern, known)
        if all(map(self._frozen, names)):
            raise Refused("optimizer.freeze fits every parameter: there is nothing to train")

    def _check_steps(self, variables: Any, batch_size: int | None) -> None:
        """Trace the steps of a user's own task or optimiser; errors are said with their line."""
        params = variables.pop("params")
        with refused(f"task {type(self).__name__} cannot be evaluated or trained"):
            state = jax.eval_shape(lambda: self._state(_zeros(params), _zeros(variables)))
            batch = self.batch_shapes(batch_size or 1)
            key = jax.eval_shape(lambda: jax.random.key(0))
            evaluate = partial(self.eval_step, outputs=self.accumulator() is not None)
            sums, outputs = jax.eval_shape(evaluate, state, batch)
            figures = self.summary(dict.fromkeys(sums, 1.0))
            if batch_size is not None:
                jax.eval_shape(self.train_step, state, batch, key)
        with refused(f"accumulator of task {type(self).__name__} cannot be used"):
            figures |= self._accumulated(outputs)
        missing = [metric.name for metric in self.judged if metric.name not in figures]
        if missing:
            raise Refused(
                f"task {type(self).__name__} declares the metric {missing[0]} and does not compute"
                " it: give it in figures(), in sums() and summary(), or by an accumulator()"
            )

    def _accumulated(self, outputs: Any) -> dict[str, Any]:
        """What its accumulator makes of one example whose outputs, given as shapes, are zero."""
        accumulator = self.accumulator()
        if accumulator is None:
            return {}
        zeros = {name: np.zeros(leaf.shape, leaf.dtype)[:1] for name, leaf in outputs.items()}
        accumulator.add(np.zeros(1, np.int32), zeros)
        found = accumulator.finish()
        if not isinstance(found, Mapping):
            raise Refused(
                f"task {type(self).__name__}: its accumulator's finish() gives"
                f" {type(found).__name__}; a dict of metrics is needed"
            )
        return dict(found)

    def batch_shapes(self, size: int) -> dict[str, jax.ShapeDtypeStruct]:
        """A batch as a step gets it, as shapes."""
        fields = {n: jax.ShapeDtypeStruct((size, *s), d) for n, s, d in self.data.fields}
        fields["images"] = jax.ShapeDtypeStruct((size, *self.data.image_shape), jnp.float32)
        fields["mask"] = jax.ShapeDtypeStruct((size,), jnp.float32)
        return fields | {"indices": jax.ShapeDtypeStruct((size,), jnp.int32)}

    def fresh_variables(self, key: Array) -> dict[str, Any]:
        """Fresh variables, without what is sown."""
        return fresh_variables(self.model, self.data.image_shape, key)

    def init(self, key: Array) -> TrainState:
        """Fresh parameters from a key of stream "init"; hyper-parameters are still zero."""
        variables = self.fresh_variables(key)
        return self._state(variables.pop("params", {}), variables)

    def _state(self, params: Any, model_state: Any) -> TrainState:
        average = {"params": params, "model_state": model_state} if self.update.averages else None
        step = jnp.zeros((), jnp.int32)
        return TrainState(step, params, model_state, self.update.init(params), average)

    def empty_metrics(self, state: TrainState) -> Metrics:
        """Sums over nothing, in the form that `train_step` adds to."""
        sums, _ = jax.eval_shape(self.eval_step, state, self.batch_shapes(1))
        zeros = {name: jnp.zeros(leaf.shape, leaf.dtype) for name, leaf in sums.items()}
        leaves = len(self.checked_names(self.pack(state)))
        return {**zeros, "nonfinite": jnp.zeros((leaves,), jnp.int32)}

    def checked_names(self, state: TrainState) -> list[str]:
        """Names of what `train_step` checks, in the order of `metrics["nonfinite"]`."""
        return leaf_names({"0_loss": 0, "gradient": state.params, "state": state.model_state})

    def train_step(
        self, state: TrainState, batch: Batch, key: Array, collectives: Collectives | None = None
    ) -> tuple[TrainState, Metrics]:
        """One update.

        When the objective, a gradient or a batch statistic is not finite, the old state is kept,
        step included, and `metrics["nonfinite"]` counts the leaves; the other sums stay 0.

        Args:
          batch: this replica's part: images [n, h, w, c] float32, the other fields of the
            examples, mask [n] float32, indices [n] int32 in the training set.
          key: of stream "dropout", for this step.
          collectives: over the replicas; None: there is one.
        """
        collectives = collectives or ONE
        batch = self.inputs(batch, _example_keys(key, batch["indices"]))
        count = collectives.sum(jnp.sum(batch["mask"]))

        def loss_fn(params, batch, part):
            params = jax.tree_util.tree_map_with_path(self._stop_if_frozen, params)
            with in_context(self._context(batch["indices"], collectives.axis, part)):
                outputs, changed = self._apply(params, state, batch, key)
            changed = dict(changed)
            auxiliary = jax.tree.leaves(changed.pop(AUXILIARY, {}))
            losses = self._each("the loss", self.objective(outputs, auxiliary, batch), batch)
            total = jnp.sum(jnp.where(batch["mask"] > 0, losses, 0.0)) / count
            return total, (changed, self.sums(outputs, batch))

        def gradients(batch, part=None):
            grad = jax.value_and_grad(loss_fn, has_aux=True)
            (loss, (model_state, sums)), grads = grad(state.params, batch, part)
            return (loss, sums, grads), model_state

        if self.compute.accumulate == 1:
            (loss, sums, grads), model_state = gradients(batch)
        else:
            parts = _parts(batch, self.compute.accumulate, collectives.shards)
            (loss, sums, grads), model_state = _over_parts(gradients, parts)
        grads, loss = collectives.sum((grads, loss))
        model_state = _averaged(dict(model_state), collectives)
        params, opt_state = self.update.apply(grads, state.opt_state, state.params, self.runs)
        params = jax.tree_util.tree_map_with_path(
            lambda path, n, o: o if self._frozen(_names(path)) else n, params, state.params
        )
        average = state.average
        if average is not None:
            share = state.opt_state.hyperparams["ema_decay"]
            average = jax.tree.map(
                lambda a, n: (a + (1 - share) * (n - a)).astype(a.dtype),
                average,
                {"params": params, "model_state": model_state},
            )
        new = TrainState(state.step + 1, params, model_state, opt_state, average)

        bad = nonfinite_leaves({"0_loss": loss, "gradient": grads, "state": model_state})
        good = jnp.sum(bad) == 0
        state = jax.tree.map(lambda n, o: jnp.where(good, n, o), new, state)
        sums = jax.tree.map(lambda value: jnp.where(good, value, jnp.zeros_like(value)), sums)
        return state, {**sums, "nonfinite": bad}

    def looked_at(
        self,
        state: TrainState,
        batch: Batch,
        variables: Mapping[str, Any] = EMPTY,
        mutable: Sequence[str] = (),
    ) -> tuple[Array, dict[str, Any]]:
        """The objective of each example in a forward pass as a step makes it; nothing changes.

        Args:
          state: in either form.
          variables: more collections that the network is given.
          mutable: collections that come back, with what the network put into them.
        """
        key = jax.random.key(0)
        batch = self.inputs(batch, _example_keys(key, batch["indices"]))
        with in_context(self._context(batch["indices"])):
            outputs, changed = self._apply(state.params, state, batch, key, variables, mutable)
        auxiliary = jax.tree.leaves(changed.get(AUXILIARY, {}))
        losses = self._each("the loss", self.objective(outputs, auxiliary, batch), batch)
        return losses, {name: changed[name] for name in mutable if name in changed}

    def _apply(
        self,
        params: Any,
        state: TrainState,
        batch: Batch,
        key: Array,
        variables: Mapping[str, Any] = EMPTY,
        mutable: Sequence[str] = (),
    ) -> Any:
        with nn.intercept_methods(in_training):
            return self.model.apply(
                {"params": params, **state.model_state, **variables},
                batch["images"],
                **self.truths(batch),
                train=True,
                rngs={STREAM: key},
                mutable=[*state.model_state, AUXILIARY, *mutable],
            )

    def sums(self, outputs: Any, batch: Batch) -> Metrics:
        """Sums of each figure over the examples whose mask is 1, and their number."""
        mask = batch["mask"]
        return {
            **{
                name: jnp.sum(jnp.where(mask > 0, self._each(name, values, batch), 0.0))
                for name, values in self.figures(outputs, batch).items()
            },
            "examples": jnp.sum(mask),
        }

    def _each(self, what: str, values: Any, batch: Batch) -> Array:
        """`values`, which are one for each example: others would be broadcast without a word."""
        found = tuple(getattr(values, "shape", ()))
        if found != batch["mask"].shape:
            raise Refused(
                f"task {type(self).__name__}: {what} has the shape {list(found)}; one value for"
                f" each example is needed, {list(batch['mask'].shape)}"
            )
        return values

    def summary(self, sums: Mapping[str, Any]) -> dict[str, float]:
        """Means over the examples, those in per cent times 100; and the number of examples."""
        examples = float(sums["examples"])
        scale = {metric.name: 100.0 for metric in self.metrics if metric.unit == "%"}
        return {
            **{
                metric.name: scale.get(metric.name, 1.0) * float(sums[metric.name]) / examples
                for metric in self.judged
                if metric.name in sums
            },
            "examples": int(examples),
        }

    def eval_step(
        self, state: TrainState, batch: Batch, outputs: bool = False
    ) -> tuple[Metrics, dict[str, Array]]:
        """Sums over one batch with running batch statistics; see `outputs_of`.

        Images [n, views, h, w, c] are judged by `over_views`.
        """
        batch = self.inputs(batch, _example_keys(jax.random.key(0), batch["indices"]))
        images = batch["images"]
        flat = images.reshape(-1, *images.shape[-3:])
        with in_context(self._context()):
            found: Any = self.model.apply(evaluated(state), flat, train=False)
        if images.ndim == 5:
            found = self.over_views(found.reshape(*images.shape[:2], -1))
        return self.sums(found, batch), self.outputs_of(found, batch) if outputs else {}

    def over_views(self, outputs: Float[Array, "n views k"]) -> Float[Array, "n k"]:
        """One output from those of several views of an image."""
        raise Refused(f"data.test_crops: {type(self).__name__} has one output for an image")

    def outputs_of(self, outputs: Any, batch: Batch) -> dict[str, Array]:
        """What `accumulator` takes, of each example."""
        return {}

    def accumulator(self, detailed: bool = False) -> Accumulator | None:
        """None: the sums are all."""
        return None

    @cached_property
    def _frozen(self) -> Freeze:
        return Freeze(self.update.freeze)

    def _context(self, indices: Any = None, axis: str | None = None, part: Any = None) -> Context:
        how = self.compute
        return Context(axis, how.batch_norm_group, indices, self._frozen, part, how.remat)

    def _stop_if_frozen(self, path: Any, leaf: Array) -> Array:
        return jax.lax.stop_gradient(leaf) if self._frozen(_names(path)) else leaf


@dataclass(frozen=True)
class OneReplica:
    """The collectives of a single replica: there is nothing to add or average."""

    @property
    def axis(self) -> str | None:
        return None

    @property
    def shards(self) -> int:
        return 1

    def sum(self, tree: Any) -> Any:
        return tree

    def mean(self, tree: Any) -> Any:
        return tree


ONE = OneReplica()


def fresh_variables(
    model: nn.Module, image_shape: tuple[int, int, int], key: Array
) -> dict[str, Any]:
    """Fresh variables of a network, without what is sown: no array depends on an image."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)

    def init(key: Array, image: Array) -> dict[str, Any]:
        return dict(model.init({"params": key}, image, train=False, mutable=_FRESH))

    return without_input(init, key, image)


def evaluated(state: TrainState) -> dict[str, Any]:
    """The variables that are evaluated and exported: the moving average if there is one."""
    if state.average is None:
        return {"params": state.params, **state.model_state}
    return {"params": state.average["params"], **state.average["model_state"]}


def _parts(batch: Batch, count: int, shards: int) -> Batch:
    """Each field as [count, n / count, ...]; a part has its share of what each device holds."""

    def split(field: Array) -> Array:
        shape = field.shape[1:]
        apart = jnp.moveaxis(field.reshape(shards, count, -1, *shape), 1, 0)
        return apart.reshape(count, -1, *shape)

    return jax.tree.map(split, batch)


def _over_parts(gradients: Callable, parts: Batch) -> tuple[Any, Any]:
    """Loss, figures and gradients summed over the parts, and the mean of what else changes.

    Each part begins with the state that the batch begins with, as replicas do.
    """

    def add(total: Any, numbered: Any) -> tuple[Any, Any]:
        number, part = numbered
        found, model_state = gradients(part, number)
        return jax.tree.map(jnp.add, total, found), model_state

    first = jax.tree.map(lambda field: field[0], parts)
    shapes, _ = jax.eval_shape(gradients, first, jnp.int32(0))
    numbers = jnp.arange(len(parts["mask"]), dtype=jnp.int32)
    total, states = jax.lax.scan(add, _zeros(shapes), (numbers, parts))

    def mean(leaves: Array) -> Array:
        if not jnp.issubdtype(leaves.dtype, jnp.inexact):
            return leaves[-1]
        return leaves[0] + (leaves - leaves[:1]).mean(0)  # what is alike in all keeps its bits

    return total, jax.tree.map(mean, states)


def _averaged(model_state: Any, collectives: Collectives) -> Any:
    """Floats averaged over the replicas; a count is alike with all of them."""
    leaves, structure = jax.tree.flatten(model_state)
    real = [jnp.issubdtype(leaf.dtype, jnp.inexact) for leaf in leaves]
    means = iter(collectives.mean([leaf for leaf, one in zip(leaves, real, strict=True) if one]))
    return jax.tree.unflatten(
        structure, [next(means) if one else leaf for leaf, one in zip(leaves, real, strict=True)]
    )


def _example_keys(key: Array, indices: Array) -> Key[Array, " n"]:
    own = jax.random.fold_in(key, _TASK)
    return jax.vmap(lambda index: jax.random.fold_in(own, index))(indices)


def _names(path: Any) -> list[str]:
    """The path of a parameter; of a stack the name of its first block."""
    return [name.partition("..")[0] for name in map(path_part, path)]


def _zeros(shapes: Any) -> Any:
    return jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
