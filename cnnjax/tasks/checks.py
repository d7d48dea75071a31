"""What a network asks of a run, seen by tracing it: refused before anything is computed."""

import inspect
import math
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import errors as flax_errors
from flax import linen as nn

from cnnjax.core.errors import Refused
from cnnjax.core.jax_internals import DependsOnInput, same_computation
from cnnjax.core.user_code import refused, user_line
from cnnjax.layers.batch_statistics import in_training

AUXILIARY = "auxiliary"  # the collection into which a model sows auxiliary logits
STREAM = "dropout"  # the random stream that a network draws from while training
DRAWN = (
    'draw random numbers from self.make_rng("dropout"), not from numpy or Python'  # for a message
)
_SOWN = f'auxiliary logits are sown into "{AUXILIARY}", what is only looked at into "intermediates"'
_COPIES = 2  # of the parameters that a run holds at least: themselves and the momentum


def check_size(variables: Mapping[str, Any], name: str) -> None:
    """Refuse variables, given as shapes, that do not fit into this machine's memory."""
    needed = _COPIES * sum(
        math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(variables)
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > memory:
        raise Refused(
            f"{name} needs {needed / 2**30:,.0f} GiB for its parameters and their momentum; this"
            f" machine has {memory / 2**30:.0f}; make it smaller"
        )


def check_call(model: Any, image: Any) -> None:
    """Refuse a network that is not called as network(images, train=...)."""
    call = getattr(model, "__call__", None)  # noqa: B004  (flax wraps it with its signature)
    words = "it is called as network(images, train=...): def __call__(self, images, *, train)"
    if call is None:
        raise Refused(f"{type(model).__name__} has no method __call__; {words}")
    try:
        inspect.signature(call).bind(image, train=False)
    except TypeError as error:
        raise Refused(f"{type(model).__name__}.__call__: {error}; {words}") from None


def trace_variables(
    model: Any, image: Any, create: Callable[[Any], Mapping[str, Any]]
) -> dict[str, Any]:
    """The variables that `create(key)` gives for an image, as shapes.

    Raises:
      Refused: they do not fit into memory, are no numbers that can be trained, or begin with what
        depends on the image.
    """
    name, shape = type(model).__name__, "x".join(map(str, image.shape[1:]))
    key = jax.eval_shape(lambda: jax.random.key(0))
    with refused(f"{name} does not take images of {shape}"):
        try:
            variables = dict(_shapes(model, create, key))
        except DependsOnInput as error:
            names = " and ".join(f'"{name}"' for name in error.names)
            raise Refused(
                f"{name}: what its collection {names} begins with depends on the images (sow?);"
                f" {_SOWN}"
            ) from error
    check_size(variables, name)
    for path, leaf in jax.tree.flatten_with_path(variables.get("params", {}))[0]:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            where = jax.tree_util.keystr(path, simple=True, separator=".")
            raise Refused(
                f"{name}: parameter {where} is {leaf.dtype}, which has no gradient; keep it with"
                ' self.variable("state", ...)'
            )
    return variables


def trace_evaluation(
    model: Any, variables: Mapping[str, Any], images: Any, check: Callable[[Any], None]
) -> None:
    """Trace an evaluation; `check` is given the logits.

    Raises:
      Refused: it draws random numbers or changes variables, which an evaluation does not.
    """
    name = type(model).__name__

    def evaluate(variables: Any, images: Any) -> Any:
        logits = model.apply(variables, images, train=False)
        check(logits)
        return logits

    with refused(f"{name} cannot be evaluated"):
        try:
            _shapes(model, evaluate, variables, images)
        except flax_errors.InvalidRngError as error:
            raise Refused(
                f"{_place(error, name)} draws random numbers where train=False; write e.g."
                " nn.Dropout(rate, deterministic=not train)"
            ) from error
        except flax_errors.ModifyScopeVariableError as error:
            raise Refused(
                f"{_place(error, name)} changes variables where train=False; write e.g."
                " nn.BatchNorm(use_running_average=not train)"
            ) from error


def trace_training(
    model: Any,
    variables: Mapping[str, Any],
    batch: Mapping[str, Any],
    truths: Callable[[Any], Mapping[str, Any]],
    check: Callable[[Any], None],
) -> None:
    """Trace a training step, of a user's network its gradient too.

    Args:
      truths: of a batch, what the network is given by name beside its images.
      check: is given the logits and each auxiliary ones.

    Raises:
      Refused: it has nothing to train, draws from a stream that there is not, changes the form of
        its state, has no gradient, or normalises single values.
    """
    name = type(model).__name__
    state = {key: value for key, value in variables.items() if key != "params"}
    if not jax.tree.leaves(variables.get("params", {})):
        raise Refused(f"{name} has no parameters: there is nothing to train")

    def step(variables: Any, batch: Any, key: Any) -> Any:
        def total(params: Any) -> Any:
            logits, changed = model.apply(
                {**variables, "params": params},
                batch["images"],
                **truths(batch),
                train=True,
                rngs={STREAM: key},
                mutable=[*state, AUXILIARY],
            )
            heads = [logits, *jax.tree.leaves(changed.get(AUXILIARY, {}))]
            for head in heads:
                check(head)
            return sum(leaf.sum() for leaf in jax.tree.leaves(heads)), changed

        if _users(model):
            return jax.grad(total, has_aux=True)(variables["params"])
        return total(variables["params"])  # of what ships here the tests have seen the gradient

    key = jax.eval_shape(lambda: jax.random.key(0))
    watched = nn.intercept_methods(_no_single_value)
    with refused(f"{name} cannot be trained"), watched, nn.intercept_methods(in_training):
        try:
            _, changed = _shapes(model, step, dict(variables), dict(batch), key)
        except flax_errors.InvalidRngError as error:
            raise Refused(
                f"{_place(error, name)} draws from a random stream that does not exist; there is"
                f' rng_collection="{STREAM}"'
            ) from error
    for collection, before in state.items():
        if _form(changed.get(collection)) != _form(before):
            raise Refused(
                f'{name}: its collection "{collection}" has another form after a step (sow?);'
                f" {_SOWN}"
            )


def repeatable(function: Callable, *arguments: Any) -> bool:
    """Whether two traces of a function are one program.

    They are not where numpy or Python drew a random number, which is another constant each time.
    """
    # A function of its own each time: jax keeps the traces of those that it has seen.
    return same_computation(
        *(jax.make_jaxpr(lambda *args: function(*args))(*arguments) for _ in range(2))
    )


def _shapes(model: Any, function: Callable, *arguments: Any) -> Any:
    """What `function(*arguments)` gives, as shapes; a user's own network is traced twice.

    Raises:
      Refused: the traces differ.
    """
    if not _users(model):
        return jax.eval_shape(function, *arguments)

    def trace() -> Any:
        return jax.make_jaxpr(lambda *args: function(*args), return_shape=True)(*arguments)

    (first, shapes), (second, _) = trace(), trace()
    if not same_computation(first, second):
        raise Refused(
            f"{type(model).__name__} computes something else each time that it is traced: {DRAWN}"
        )
    return shapes


def _users(model: Any) -> bool:
    """Whether a network is a user's own."""
    return not type(model).__module__.startswith("cnnjax.models.")


def _form(tree: Any) -> Any:
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(leaf.shape, leaf.dtype) for leaf in leaves]


def _place(error: Exception, name: str) -> str:
    place = user_line(error)
    return f"{name} ({place})" if place else name


def _no_single_value(
    call: Callable, arguments: Any, named: dict[str, Any], context: nn.module.InterceptorContext
) -> Any:
    """Refuse to normalise single values: all that comes out is the bias."""
    module = context.module
    if context.method_name == "__call__" and arguments:
        running = named.get("use_running_average", getattr(module, "use_running_average", None))
        if len(arguments) > 1 and running is None:
            running = arguments[1]
        if not running and normalized_values(module, arguments[0].shape) == 1:
            path = "/".join(module.path) or type(module).__name__
            raise Refused(
                f"{path} normalises one value at a time (input {list(arguments[0].shape)}): all"
                " that comes out is its bias; give a larger batch_size, larger maps or groups"
            )
    return call(*arguments, **named)


def normalized_values(module: Any, shape: tuple[int, ...]) -> int | None:
    """Over how many values flax's normalisation computes a mean; None for another module."""

    def along(axes: Any) -> int:
        return math.prod(shape[axis] for axis in (axes if isinstance(axes, Sequence) else (axes,)))

    if isinstance(module, nn.BatchNorm):
        return math.prod(shape) // along(module.axis)
    if isinstance(module, nn.GroupNorm):
        return math.prod(shape[1:-1]) * (module.group_size or shape[-1] // (module.num_groups or 1))
    if isinstance(module, nn.InstanceNorm):
        return math.prod(shape[1:-1])
    return along(module.reduction_axes) if isinstance(module, nn.LayerNorm) else None
