"""Parameters and multiply-accumulates, counted over the traced computation, without running it.

A user's own architecture is counted without help: the counter reads the jaxpr, not layer classes.
Convention: MACs of convolution and dense layers for one image, without biases, normalisation,
activation and pooling; FLOPs = 2 x MACs; parameters are what is trained (no running statistics).
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from cnnjax.ops.conv import formulation

CONVENTION = "MACs of convolution and dense layers for one image; FLOPs = 2 x MACs"


@dataclass(frozen=True)
class Cost:
    """The cost of one network at one input shape.

    Attributes:
      params: trained parameters.
      macs: multiply-accumulates for one image, forward.
      input: height, width, channels.
    """

    params: int
    macs: int
    input: tuple[int, int, int]

    @property
    def flops(self) -> int:
        return 2 * self.macs


def model_cost(model: Any, input_shape: tuple[int, int, int]) -> Cost:
    """Count `model` for one image of height, width, channels.

    Raises:
      Refused: the network does not take such images.
    """
    images = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    with formulation("library"):
        variables = jax.eval_shape(
            lambda key, x: model.init(key, x, train=False), jax.random.key(0), images
        )
        macs = count_macs(lambda v, x: model.apply(v, x, train=False), variables, images)
    return Cost(count_params(variables.get("params", {})), macs, input_shape)


def count_params(params: Any) -> int:
    """Number of trained parameters in a tree of arrays or shapes."""
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params))


def count_macs(function: Callable, *arguments: Any) -> int:
    """Multiply-accumulates of the convolutions and matrix products in `function(*arguments)`.

    A scan counts its body as often as it runs. A loop whose length only the data decide counts
    its body once; of the branches of a conditional the dearest counts.
    """
    return _count(jax.make_jaxpr(function)(*arguments).jaxpr)


def _count(jaxpr: Any) -> int:
    total = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "conv_general_dilated":
            total += _convolution(equation)
        elif name == "dot_general":
            total += _product(equation)
        elif name == "scan":
            total += equation.params["length"] * _count(equation.params["jaxpr"].jaxpr)
        elif name == "cond":
            total += max(_count(branch.jaxpr) for branch in equation.params["branches"])
        else:
            total += sum(_count(inner) for inner in _inner(equation.params))
    return total


def _convolution(equation: Any) -> int:
    output, kernel = equation.outvars[0].aval.shape, equation.invars[1].aval.shape
    # The kernel's layout is (out, in / groups, *window): each output sums over the last two.
    layout = equation.params["dimension_numbers"].rhs_spec
    return math.prod(output) * math.prod(kernel[axis] for axis in layout[1:])


def _product(equation: Any) -> int:
    (contracted, _), _ = equation.params["dimension_numbers"]
    shape = equation.invars[0].aval.shape
    return math.prod(equation.outvars[0].aval.shape) * math.prod(shape[i] for i in contracted)


def _inner(parameters: dict) -> Iterator[Any]:
    for value in parameters.values():
        for item in value if isinstance(value, tuple | list) else (value,):
            if hasattr(item, "eqns"):
                yield item
            elif hasattr(item, "jaxpr") and hasattr(item.jaxpr, "eqns"):
                yield item.jaxpr
