"""What a network costs, known exactly before an array exists.

Convention: MACs of convolution and dense layers for one image, without biases, normalisation,
activation and pooling; FLOPs = 2 x MACs; parameters are what is trained (no running statistics);
activations are the elements that convolution and dense layers put out. A layer's weights are
trained, come from the images, or mix features; what fixed weights do along the map alone (resizing,
cutting patches, blurring) moves data and counts nothing (macs.py).
"""

import math
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.analysis.intervals import image
from cnnjax.analysis.layers import Layer, walk_layers
from cnnjax.analysis.memory import peak_bytes
from cnnjax.analysis.receptive_field import Field
from cnnjax.analysis.values import Value
from cnnjax.core.errors import Refused, one_line
from cnnjax.core.jax_internals import Body
from cnnjax.layers.scan import first_of_each_run, repeat_shapes, stacked_name
from cnnjax.ops.conv import formulation

CONVENTION = (
    "MACs of convolution and dense layers for one image; FLOPs = 2 x MACs;"
    " fixed weights along the map alone (resizing, patches, blurs) are no layer"
)

_STATE = ("batch_stats",)
_ROOT = "root"  # the row of parameters that lie in the network itself


@dataclass(frozen=True)
class Cost:
    """The cost of one network at one input shape, forward.

    Attributes:
      params: trained parameters.
      statistics: running means and variances of batch normalisation: kept, not trained.
      macs: multiply-accumulates.
      activations: elements that convolution and dense layers put out.
      peak_bytes: an estimate of the most memory that activations take at one time (no gradients).
      input: height, width, channels.
      batch: images that macs, activations and peak_bytes are for.
      layers: row by row, in the order in which they run.
      param_bytes: of the parameters as they are stored.
      field: of the widest map, the last before the classifier as a rule; None without a map.
    """

    params: int
    statistics: int
    macs: int
    activations: int
    peak_bytes: int
    input: tuple[int, int, int]
    batch: int
    layers: tuple[Layer, ...]
    param_bytes: int
    field: Field | None

    @property
    def flops(self) -> int:
        return 2 * self.macs


def model_cost(
    model: Any, input_shape: tuple[int, int, int], batch: int = 1, *, train: bool = False
) -> Cost:
    """Count `model` for images of height, width, channels.

    Args:
      train: count what runs while training (auxiliary heads too).

    Raises:
      Refused: the network does not take such images; the text is the network's own error.
    """
    images = jax.ShapeDtypeStruct((batch, *input_shape), jnp.float32)
    runs = model.equal_blocks() if hasattr(model, "equal_blocks") else []

    def keys() -> dict[str, Any]:  # made while tracing: an array would start jax's devices
        return {"params": jax.random.key(0), "dropout": jax.random.key(0)}

    def forward(variables: Any, images: Any) -> Any:
        out = model.apply(variables, images, train=train, rngs=keys(), mutable=True)
        return out[0]

    try:
        with formulation("library"), first_of_each_run():
            variables = jax.eval_shape(lambda x: model.init(keys(), x, train=False), images)
            variables = repeat_shapes(dict(variables), runs)
            traced = Body(jax.make_jaxpr(forward)(variables, images))
    except Refused:
        raise
    except Exception as error:  # a user's network may raise anything
        shape = "x".join(map(str, input_shape))
        raise Refused(
            f"{type(model).__name__} does not take images of {shape}: {one_line(error)}"
        ) from error

    params = variables.get("params", {})
    marked = [False] * (len(traced.inputs) - 1) + [True]
    inputs = [_value(path) for path, _ in jax.tree.flatten_with_path(variables)[0]]
    inputs.append(Value(image(images.shape)))
    named_runs = {stacked_name(run): run for run in runs}
    walked = walk_layers(traced, inputs, _by_module(params, named_runs), named_runs)
    layers = walked.layers
    return Cost(
        params=count_params(params),
        statistics=count_params({k: v for k, v in variables.items() if k in _STATE}),
        macs=sum(layer.macs for layer in layers),
        activations=sum(layer.activations for layer in layers),
        peak_bytes=peak_bytes(traced, marked),
        input=input_shape,
        batch=batch,
        layers=tuple(layers),
        param_bytes=sum(
            math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(params)
        ),
        field=walked.field,
    )


def count_params(params: Any) -> int:
    """Number of trained parameters in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def count_macs(function: Callable, *arguments: Any) -> int:
    """Multiply-accumulates of the convolutions and matrix products of what `function` is given.

    A scan counts its body as often as it runs. A loop whose length only the data decide counts
    its body once; of the branches of a conditional the dearest counts.
    """
    traced = Body(jax.make_jaxpr(function)(*arguments))
    walked = walk_layers(traced, [Value(trained=True) for _ in traced.inputs])
    return sum(layer.macs for layer in walked.layers)


def _value(path: Any) -> Value:
    """A variable; a parameter knows its module."""
    collection, *module, _ = [str(getattr(key, "key", key)) for key in path]
    if collection != "params":
        return Value()
    return Value(trained=True, module="/".join(module) or _ROOT)


def _by_module(params: Any, runs: dict[str, Any]) -> dict[str, dict[str, int]]:
    """Sizes by name for each module's path; stacked blocks under their own names."""
    sizes: dict[str, dict[str, int]] = defaultdict(dict)
    for path, leaf in jax.tree.flatten_with_path(params)[0]:
        *module, name = [str(getattr(key, "key", key)) for key in path]
        run = next((part for part in module if part in runs), None)
        blocks = runs[run] if run else None
        for block in blocks or [None]:
            where = [block if block and part == run else part for part in module]
            sizes["/".join(where) or _ROOT][name] = math.prod(leaf.shape) // len(blocks or [None])
    return dict(sizes)
