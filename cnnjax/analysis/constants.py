"""Arrays that depend on neither images nor parameters, computed when somebody asks for them.

The weights of a resizing, the indices of a gather and masks are such arrays. Most are never asked
for, so that a walk over a network costs no arithmetic. Common operations run in numpy, where
nothing is compiled.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.core.jax_internals import Equation


class Constant:
    """One array, or None where it is drawn at random."""

    def __init__(self, compute: Callable[..., Any], operands: "Sequence[Constant]" = ()) -> None:
        self._compute, self._operands = compute, operands
        self._known, self._value = False, None

    @staticmethod
    def of(array: Any) -> "Constant":
        return Constant(lambda: array)

    def value(self) -> np.ndarray | None:
        """Operands first, without recursion: a counter in a long loop is a long chain."""
        waiting: list[Constant] = [self]
        while waiting:
            node = waiting[-1]
            missing = [operand for operand in node._operands if not operand._known]
            if missing and not node._known:
                waiting.extend(missing)
                continue
            waiting.pop()
            node._settle()
        return self._value

    def _settle(self) -> None:
        if self._known:
            return
        arrays = [operand._value for operand in self._operands]
        if all(array is not None for array in arrays):
            with np.errstate(all="ignore"):
                array = self._compute(*arrays)
            self._value = None if array is None or _is_key(array) else np.asarray(array)
        self._known, self._operands = True, ()

    @staticmethod
    def stack(steps: "Sequence[Constant]") -> "Constant":
        return Constant(lambda *arrays: np.stack(arrays), steps)

    def step(self, index: int) -> "Constant":
        """What step `index` of a scan sees of it."""
        return Constant(lambda array: array[index], [self])


def _is_key(array: Any) -> bool:
    dtype = getattr(array, "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)


def results(equation: Equation, operands: Sequence[Constant]) -> list[Constant]:
    """The outputs of an equation on constants."""
    if equation.random_or_effect:
        return [Constant(lambda: None) for _ in equation.outputs]
    if equation.name in _IN_NUMPY:
        run = _IN_NUMPY[equation.name]
        return [Constant(lambda *arrays: run(equation, *arrays), operands)]
    outputs: list[Any] = []

    def output(index: int, *arrays: np.ndarray) -> Any:
        if not outputs:
            outputs.extend(equation.evaluate(arrays))
        return outputs[index]

    return [
        Constant(lambda *arrays, index=index: output(index, *arrays), operands)
        for index in range(len(equation.outputs))
    ]


def _iota(equation: Equation) -> np.ndarray:
    shape, axis = equation["shape"], equation["dimension"]
    line = np.arange(shape[axis], dtype=equation["dtype"])
    return np.broadcast_to(line.reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape)


def _broadcast(equation: Equation, array: np.ndarray, *_: Any) -> np.ndarray:
    shape = [1] * len(equation["shape"])
    for size, place in zip(array.shape, equation["broadcast_dimensions"], strict=True):
        shape[place] = size
    return np.broadcast_to(array.reshape(shape), equation["shape"])


def _elementwise(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda equation, *arrays: function(*arrays)


_IN_NUMPY: dict[str, Callable[..., Any]] = {
    "broadcast_in_dim": _broadcast,
    "convert_element_type": lambda equation, array: array.astype(equation["new_dtype"]),
    "iota": _iota,
    "reshape": lambda equation, array: array.reshape(equation["new_sizes"]),
    "select_n": _elementwise(lambda which, *cases: np.choose(which, cases)),
    "transpose": lambda equation, array: array.transpose(equation["permutation"]),
    **{
        name: _elementwise(function)
        for name, function in {
            "abs": np.abs, "add": np.add, "and": np.bitwise_and, "eq": np.equal,
            "floor": np.floor, "ge": np.greater_equal, "gt": np.greater, "le": np.less_equal,
            "lt": np.less, "max": np.maximum, "min": np.minimum, "mul": np.multiply,
            "ne": np.not_equal, "or": np.bitwise_or, "sub": np.subtract,
        }.items()
    },
}  # fmt: skip
