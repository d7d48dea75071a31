"""The optimisers by name, all of them optax's; their hyper-parameters are arrays, not constants.

One compiled step serves every learning rate, momentum and decay; what changes the form of the step
(the name, `clip_norm` or none, what decays, what is frozen) is part of the program.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from cnnjax.core.errors import Refused
from cnnjax.core.recipe import LARGEST, Optimizer
from cnnjax.core.registry import REQUIRED, Entry, Registry, Setting
from cnnjax.core.user_code import is_own, refused
from cnnjax.layers.scan import Runs, is_stacked, stack_blocks, unstack_blocks

Decayed = Literal["all", "kernels"]
Number = Any  # a float; inside a compiled step an array
Mask = Callable[[Any], Any] | None  # which parameters decay; None: all

_BELOW_ONE = ("momentum", "decay", "b1", "b2", "ema_decay")
_COMMON: dict[str, Setting] = {
    "weight_decay_on": Setting(Decayed, "all"),
    "clip_norm": Setting(float | None, None),
    "ema_decay": Setting(float | None, None),
    "freeze": Setting(tuple[str, ...], ()),
}
_SENTENCES = {
    "learning_rate": "the peak of the schedule",
    "momentum": "share of the last step that is kept in this one",
    "decay": "of the average of squared gradients",
    "b1": "decay of the average of gradients",
    "b2": "decay of the average of squared gradients; of lion that of the average it keeps",
    "eps": "added to the divisor",
    "weight_decay": "pull towards 0: added to the gradient as L2; decoupled for adamw, lamb, lion",
    "weight_decay_on": "what weight_decay applies to: every parameter, or kernels alone",
    "clip_norm": "largest norm of the whole gradient; a longer one is scaled down to it",
    "ema_decay": "evaluate the moving average of parameters and running statistics with this decay",
    "freeze": 'parameters that stay as they begin, by patterns of their names: ["stem", "stage1*"]',
}


def sgd(
    learning_rate: Number = 0.1,
    momentum: Number = 0.9,
    weight_decay: Number = 1e-4,
    *,
    decayed: Mask = None,
) -> optax.GradientTransformation:
    """SGD with momentum and L2 decay: v <- momentum v + (gradient + weight_decay w); w <- w -
    learning_rate v. Defaults: He et al. 2015, section 4.2."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay, decayed),
        optax.trace(decay=momentum),
        optax.scale_by_learning_rate(learning_rate),
    )


def nesterov(
    learning_rate: Number = 0.1,
    momentum: Number = 0.9,
    weight_decay: Number = 1e-4,
    *,
    decayed: Mask = None,
) -> optax.GradientTransformation:
    """`sgd` with Nesterov's momentum, as Sutskever et al. 2013 write it: the step is gradient +
    momentum v."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay, decayed),
        optax.trace(decay=momentum, nesterov=True),
        optax.scale_by_learning_rate(learning_rate),
    )


def adam(
    learning_rate: Number = 1e-3,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    *,
    decayed: Mask = None,
) -> optax.GradientTransformation:
    """Adam (Kingma & Ba 2015, algorithm 1); weight_decay is L2, added to the gradient."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay, decayed),
        optax.scale_by_adam(b1, b2, eps),
        optax.scale_by_learning_rate(learning_rate),
    )


def adamw(
    learning_rate: Number = 1e-3,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-8,
    weight_decay: Number = 1e-2,
    *,
    decayed: Mask = None,
) -> optax.GradientTransformation:
    """Adam with decoupled decay (Loshchilov & Hutter 2019), times the learning rate, as PyTorch
    has it, with its default decay."""
    return optax.adamw(learning_rate, b1, b2, eps, weight_decay=weight_decay, mask=decayed)


def rmsprop(
    learning_rate: Number = 1e-2,
    momentum: Number = 0.9,
    decay: Number = 0.9,
    eps: Number = 1e-8,
    weight_decay: Number = 0.0,
    *,
    decayed: Mask = None,
) -> optax.GradientTransformation:
    """RMSProp (Tieleman & Hinton 2012, lecture 6.5): the gradient divided by sqrt(average of its
    square + eps), then momentum; weight_decay is L2."""
    return optax.chain(
        optax.add_decayed_weights(weight_decay, decayed),
        optax.scale_by_rms(decay, eps, eps_in_sqrt=True),
        optax.trace(decay=momentum),
        optax.scale_by_learning_rate(learning_rate),
    )


def lamb(
    learning_rate: Number = 1e-3,
    b1: Number = 0.9,
    b2: Number = 0.999,
    eps: Number = 1e-6,
    weight_decay: Number = 1e-2,
    *,
    decayed: Mask = None,
) -> optax.GradientTransformation:
    """LAMB (You et al. 2020, algorithm 2): Adam's step with decay, scaled for each parameter by
    |w| / |step|."""
    return optax.chain(
        optax.scale_by_adam(b1, b2, eps),
        optax.add_decayed_weights(weight_decay, decayed),
        _trust_ratio(),
        optax.scale_by_learning_rate(learning_rate),
    )


def lion(
    learning_rate: Number = 1e-4,
    b1: Number = 0.9,
    b2: Number = 0.99,
    weight_decay: Number = 1e-3,
    *,
    decayed: Mask = None,
) -> optax.GradientTransformation:
    """Lion (Chen et al. 2023, algorithm 2): the sign of an average, decoupled decay."""
    return optax.lion(learning_rate, b1, b2, weight_decay=weight_decay, mask=decayed)


def _trust_ratio() -> optax.GradientTransformation:
    """|w| / |step| for each parameter, 1 where one of them is 0; of a stack for each block."""

    def update(updates: Any, state: Any, params: Any) -> tuple[Any, Any]:
        def scale(path: Any, step: Array, param: Array) -> Array:
            axes = tuple(range(1 if is_stacked(path) else 0, step.ndim))
            norms = [jnp.sqrt(jnp.sum(v * v, axes, keepdims=True)) for v in (param, step)]
            ratio = jnp.where((norms[0] > 0) & (norms[1] > 0), norms[0] / norms[1], 1.0)
            return step * ratio

        return jax.tree_util.tree_map_with_path(scale, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)  # type: ignore


class _Optimizers(Registry[Entry]):
    kind, home = "optimizer", "cnnjax.tasks.optimizers"
    hint = "give one of those that ship, or FILE.py:function"

    def own(self, name: str, thing: Any) -> Entry:
        if not callable(thing) or isinstance(thing, type):
            raise Refused(
                f"{name} is no function: give one that makes an optax.GradientTransformation, e.g."
                " def mine(learning_rate: float, momentum: float = 0.9)"
            )
        parameters = inspect.signature(thing).parameters
        if "learning_rate" not in parameters:
            raise Refused(f"{name} has no parameter learning_rate, which a schedule sets")
        rate = parameters["learning_rate"].default
        if rate is not inspect.Parameter.empty and not isinstance(rate, int | float):
            raise Refused(
                f"{name}: its learning_rate={rate!r} is no number; a schedule sets it, so write"
                " learning_rate or learning_rate=0.1"
            )
        if taken := [one for one in parameters if one in _COMMON]:
            raise Refused(
                f"{name} has a parameter {taken[0]}, which is a setting of all optimisers"
            )
        return Entry(name, thing)

    def hidden(self, make: Callable[..., Any]) -> Iterable[str]:
        return ("decayed",)

    def settings(self, name: str) -> dict[str, Setting]:
        own = super().settings(name)
        if is_own(name):  # a number, whatever its annotation says: optax.ScalarOrSchedule, say
            given = own["learning_rate"].default
            own["learning_rate"] = Setting(float, 0.1 if given is REQUIRED else float(given))
        common = dict(_COMMON)
        if "decayed" not in inspect.signature(self.find(name).make).parameters:
            del common["weight_decay_on"]
        return {**{key: _number(one) for key, one in own.items()}, **common}

    def sentences(self, name: str) -> dict[str, str]:
        # A function of one's own may mean something else by the other names.
        shared = (*_COMMON, "learning_rate") if is_own(name) else _SENTENCES
        known = {key: _SENTENCES[key] for key in shared if key in self.settings(name)}
        return {**known, **super().sentences(name)}

    def verify(self, name: str, values: Mapping[str, Any]) -> None:
        for key, value in values.items():
            if is_own(name) and key not in (*_COMMON, "learning_rate"):
                continue  # what it means is its author's
            if isinstance(value, int | float) and not isinstance(value, bool):
                if not 0 <= value <= LARGEST:
                    raise ValueError(f"{key}={value}: must be 0 or more, and finite")
                if key in _BELOW_ONE and value >= 1:
                    raise ValueError(f"{key}={value}: must be below 1")
                if key == "clip_norm" and value == 0:
                    raise ValueError(f"{key}={value}: must be above 0")


def _number(setting: Setting) -> Setting:
    """A parameter without a type hint is a number if its default is."""
    numeric = isinstance(setting.default, float | int) and not isinstance(setting.default, bool)
    return Setting(float, setting.default) if setting.type is Any and numeric else setting


OPTIMIZERS = _Optimizers()
for _make in (sgd, nesterov, adam, adamw, rmsprop, lamb, lion):
    OPTIMIZERS.add(Entry(_make.__name__, _make))


class OptState(NamedTuple):
    """Hyper-parameters as float32 arrays, and optax's own state."""

    hyperparams: dict[str, Array]
    inner: Any


@dataclass(frozen=True)
class Update:
    """The form of an update: what is compiled.

    Attributes:
      make: makes the optax transformation from its hyper-parameters.
      numbers: names of those that are arrays in the state.
      fixed: the others, with their values.
      decayed: what weight_decay applies to.
      freeze: patterns of parameters that do not learn.
      own: a user's, which may take norms: it is given a parameter for each block.
    """

    make: Callable[..., optax.GradientTransformation]
    numbers: tuple[str, ...]
    fixed: tuple[tuple[str, Any], ...] = ()
    decayed: Decayed = "all"
    freeze: tuple[str, ...] = ()
    own: bool = False

    @property
    def averages(self) -> bool:
        """Whether a moving average of the parameters is kept, and evaluated."""
        return "ema_decay" in self.numbers

    def transformation(self, hyperparams: Mapping[str, Any]) -> optax.GradientTransformation:
        """optax's, with these hyper-parameters."""
        given = {k: v for k, v in hyperparams.items() if k not in ("clip_norm", "ema_decay")}
        if "decayed" in inspect.signature(self.make).parameters:
            given["decayed"] = kernels if self.decayed == "kernels" else None
        with refused(f"optimizer {getattr(self.make, '__name__', self.make)} cannot be made"):
            made = self.make(**given, **dict(self.fixed))
        if not isinstance(made, optax.GradientTransformation):
            raise Refused(
                f"optimizer {getattr(self.make, '__name__', self.make)} gives a"
                f" {type(made).__name__}, not an optax.GradientTransformation"
            )
        if "clip_norm" not in hyperparams:
            return made
        return optax.chain(optax.clip_by_global_norm(hyperparams["clip_norm"]), made)

    def init(self, params: Any) -> OptState:
        """The state before the first update; hyper-parameters are zero."""
        zeros = {name: jnp.zeros((), jnp.float32) for name in self.numbers}
        return OptState(zeros, self.transformation(zeros).init(params))

    def apply(self, grads: Any, state: OptState, params: Any, runs: Runs) -> tuple[Any, OptState]:
        """New parameters and state. `runs`: of the blocks that may lie stacked in all trees."""
        inner = state.inner
        if self.own:
            grads, inner, old = (unstack_blocks(tree, runs) for tree in (grads, inner, params))
        else:
            old = params
        updates, new = self.transformation(state.hyperparams).update(grads, inner, old)
        # The hyper-parameters are float32 and would promote a bfloat16 trace.
        new = jax.tree.map(lambda n, o: n.astype(o.dtype), new, inner)
        updated = optax.apply_updates(old, updates)
        if self.own and jax.tree.structure(updated) != jax.tree.structure(params):
            updated, new = (stack_blocks(tree, runs) for tree in (updated, new))
        return updated, OptState(state.hyperparams, new)


def kernels(params: Any) -> Any:
    """For each parameter whether it is a kernel: not a bias, not a scale."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: str(getattr(path[-1], "key", "")) == "kernel", params
    )


def update_of(optimizer: Optimizer) -> Update:
    """The form of a recipe's optimiser.

    Raises:
      Refused: there is no such optimiser, or it has no such hyper-parameter.
    """
    values = OPTIMIZERS.converted(optimizer.name, optimizer.fields)
    own = {key: value for key, value in values.items() if key not in _COMMON}
    types = OPTIMIZERS.settings(optimizer.name)
    numbers = [key for key in own if types[key].type in (float, float | None)]
    numbers = [key for key in numbers if own[key] is not None]
    numbers += [key for key in ("clip_norm", "ema_decay") if values[key] is not None]
    return Update(
        OPTIMIZERS.find(optimizer.name).make,
        tuple(numbers),
        tuple((key, value) for key, value in own.items() if key not in numbers),
        values.get("weight_decay_on", "all"),
        tuple(values["freeze"]),
        own=is_own(optimizer.name),
    )


def hyperparams_of(optimizer: Optimizer) -> dict[str, float]:
    """The values of a recipe's hyper-parameters that are arrays in the state."""
    values = OPTIMIZERS.converted(optimizer.name, optimizer.fields)
    return {key: float(values[key]) for key in update_of(optimizer).numbers}
