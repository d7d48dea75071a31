"""Layer by layer through a traced computation: shapes, parameters, MACs, receptive fields.

The walk reads the jaxpr, so a user's own architecture is counted without help. A row is a module
that owns parameters, or a convolution, product or pooling outside of one; its name is the module's
path, which flax leaves in the names of the equations. Blocks that are scanned are traced once and
walked as often as they run.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnnjax.analysis.receptive_field import Field, Fields, propagate, widest


@dataclass(frozen=True)
class Layer:
    """One row.

    Attributes:
      kind: what is computed, e.g. "conv 3x3, stride 2".
      output: shape, batch first.
      params: trained parameters.
      macs: multiply-accumulates for the whole batch.
      activations: elements that convolutions and products put out, for the whole batch.
      connections: MACs, window sums of a trained pooling, and one for each unit with a bias (the
        count of LeCun et al. 1998).
      field: along the height of the image, or None where its place is lost.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    params: int = 0
    macs: int = 0
    activations: int = 0
    connections: int = 0
    field: Field | None = None


def walk_layers(
    jaxpr: Any,
    inputs: Sequence[Fields],
    params: Mapping[str, Mapping[str, int]] | None = None,
    runs: Mapping[str, Sequence[str]] | None = None,
) -> list[Layer]:
    """The rows of a traced computation, in the order in which they run.

    Args:
      jaxpr: open; a scan counts its body as often as it runs, a loop whose length only the data
        decide once, and of the branches of a conditional the dearest counts.
      inputs: the fields of each of its inputs; {} for parameters.
      params: by the path of their module ("stage1_block1/conv1/conv"), sizes by name ("kernel").
      runs: by the name of a scan's scope, the names of the blocks that it runs.
    """
    walk = _Walk(params or {}, runs or {})
    walk.run(jaxpr, list(inputs), ())
    idle = [
        Layer(name, "does not run", (), params=sum(sizes.values()))
        for name, sizes in walk.params.items()
        if name not in walk.rows
    ]
    return [*walk.rows.values(), *idle]


class _Walk:
    """Rows so far, and how often a name without parameters was given."""

    def __init__(
        self, params: Mapping[str, Mapping[str, int]], runs: Mapping[str, Sequence[str]]
    ) -> None:
        self.params, self.runs = params, runs
        self.rows: dict[str, Layer] = {}
        self._given: dict[str, int] = {}

    def run(self, jaxpr: Any, inputs: list[Fields], scope: tuple[str, ...]) -> list[Fields]:
        known: dict[Any, Fields] = dict(zip(jaxpr.invars, inputs, strict=True))

        def fields_of(atom: Any) -> Fields:
            return {} if hasattr(atom, "val") else known.get(atom, {})

        for equation in jaxpr.eqns:
            operands = [fields_of(atom) for atom in equation.invars]
            path = _join(scope, str(equation.source_info.name_stack))
            outputs = self._equation(equation, operands, path)
            known.update(zip(equation.outvars, outputs, strict=True))
        return [fields_of(atom) for atom in jaxpr.outvars]

    def _equation(
        self, equation: Any, operands: list[Fields], path: tuple[str, ...]
    ) -> list[Fields]:
        name, parameters = equation.primitive.name, equation.params
        if name == "scan":
            return self._scan(equation, operands, path)
        if name == "while":
            constants = parameters["cond_nconsts"]
            return self.run(parameters["body_jaxpr"].jaxpr, operands[constants:], path)
        if name == "cond":
            branch = max(parameters["branches"], key=lambda b: count(b.jaxpr)).jaxpr
            return self.run(branch, operands[1:], path)
        inner = called(equation)
        if inner is not None:
            return self.run(inner, operands, path)
        fields = propagate(equation, operands)
        self._record(equation, fields, path)
        return [fields, *({} for _ in equation.outvars[1:])]

    def _scan(self, equation: Any, operands: list[Fields], path: tuple[str, ...]) -> list[Fields]:
        parameters = equation.params
        body, length = parameters["jaxpr"].jaxpr, parameters["length"]
        constants, carried = parameters["num_consts"], parameters["num_carry"]
        kept = operands[:constants]
        carry = operands[constants : constants + carried]
        slices = [
            {axis - 1: field for axis, field in fields.items() if axis > 0}
            for fields in operands[constants + carried :]
        ]
        names = self.runs.get(path[-1]) if path else None
        outputs: list[Fields] = []
        for index in range(length):
            # Inside a named run the first scope is the block's class; its name takes that place.
            scope = (*path[:-1], names[index], "") if names else path
            outputs = self.run(body, [*kept, *carry, *slices], scope)
            carry = [widest([new, old]) for new, old in zip(outputs[:carried], carry, strict=True)]
        collected = [
            {axis + 1: field for axis, field in fields.items()} for fields in outputs[carried:]
        ]
        return [*carry, *collected] if length else [{} for _ in equation.outvars]

    def _record(self, equation: Any, fields: Fields, path: tuple[str, ...]) -> None:
        primitive = equation.primitive.name
        shape = equation.outvars[0].aval.shape
        module = "/".join(path)
        macs = multiply_accumulates(equation)
        pools = primitive.startswith("reduce_window") and len(equation.outvars) == 1
        owned = module in self.params
        if not owned and not macs and not pools:
            return
        name = module if owned else self._new_name(module, equation)
        row = self.rows.get(name)
        if row is None:
            sizes = self.params.get(name, {})
            row = Layer(name, ", ".join(sizes), shape, params=sum(sizes.values()))
        if macs or pools:
            row = replace(row, kind=_kind(equation).replace("avg", "sum" if owned else "avg"))
        units = math.prod(shape)  # of the equation; the module's last one is its output
        sums = units * math.prod(equation.params["window_dimensions"]) if pools and owned else 0
        biased = "bias" in self.params.get(name, {}) and (macs or sums)
        self.rows[name] = replace(
            row,
            output=shape,
            field=fields[min(fields)] if fields else None,
            macs=row.macs + macs,
            activations=row.activations + (units if macs else 0),
            connections=row.connections + macs + sums + (units if biased else 0),
        )

    def _new_name(self, module: str, equation: Any) -> str:
        """max_pool1, inception3a/max_pool1, ...: it has no module of its own."""
        what = _kind(equation).split()[0]
        stem = f"{module}/{what}" if module else what
        self._given[stem] = self._given.get(stem, 0) + 1
        return f"{stem}{self._given[stem]}"


def count(jaxpr: Any) -> int:
    """Multiply-accumulates of a jaxpr."""
    rows = walk_layers(jaxpr, [{} for _ in jaxpr.invars])
    return sum(row.macs for row in rows)


def multiply_accumulates(equation: Any) -> int:
    """Of one convolution or product; 0 for anything else.

    Taps on zeros that a transposed convolution puts between pixels do not count.
    """
    if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        shape = equation.invars[0].aval.shape
        return math.prod(equation.outvars[0].aval.shape) * math.prod(shape[i] for i in contracted)
    if equation.primitive.name != "conv_general_dilated":
        return 0
    parameters = equation.params
    numbers = parameters["dimension_numbers"]
    images, kernel = (atom.aval.shape for atom in equation.invars)
    output = equation.outvars[0].aval.shape
    total = math.prod(output[axis] for axis in numbers.out_spec[:2]) * kernel[numbers.rhs_spec[1]]
    for i, (axis, tap, out) in enumerate(
        zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)
    ):
        spread = parameters["lhs_dilation"][i]
        if spread == 1:
            total *= output[out] * kernel[tap]
            continue
        starts = np.arange(output[out]) * parameters["window_strides"][i]
        taps = np.arange(kernel[tap]) * parameters["rhs_dilation"][i]
        places = starts[:, None] + taps - parameters["padding"][i][0]
        inside = (places >= 0) & (places <= (images[axis] - 1) * spread)
        total *= int(np.sum(inside & (places % spread == 0)))
    return total


def called(equation: Any) -> Any | None:
    """The jaxpr that an equation calls with its own operands (jit, custom gradients), if so."""
    for value in equation.params.values():
        inner = getattr(value, "jaxpr", value)
        if hasattr(inner, "eqns") and len(inner.invars) == len(equation.invars):
            return inner
    return None


def _join(scope: tuple[str, ...], stack: str) -> tuple[str, ...]:
    """The path of a module: a scope without the root's class and the names of methods."""
    parts = list(_modules([part for part in stack.split("/") if part]))
    if not scope:
        return ("", *parts[1:])[1:] if parts else ()
    if scope[-1] == "":  # in a run: the first part is the block's class
        return (*scope[:-1], *parts[1:])
    return (*scope, *parts)


def _modules(parts: list[str]) -> Iterator[str]:
    last = ""
    for part in parts:
        module = part if ".." in part else part.split(".")[0]
        if module != last or module == part:
            yield module
        last = module


def _kind(equation: Any) -> str:
    """What an equation computes: conv 3x3, stride 2, 2 groups; dense; max_pool 2x2, stride 2."""
    parameters = equation.params
    name = equation.primitive.name
    if name == "dot_general":
        return "dense"
    if name == "conv_general_dilated":
        numbers = parameters["dimension_numbers"]
        kernel = equation.invars[1].aval.shape
        window = [kernel[axis] for axis in numbers.rhs_spec[2:]]
        strides = parameters["window_strides"]
        what = "conv_transpose" if max(parameters["lhs_dilation"], default=1) > 1 else "conv"
        groups = parameters["feature_group_count"]
    else:
        keep = [axis for axis, size in enumerate(parameters["window_dimensions"]) if size > 1]
        window = [parameters["window_dimensions"][axis] for axis in keep] or [1]
        strides = [parameters["window_strides"][axis] for axis in keep] or [1]
        what = {"reduce_window_max": "max_pool", "reduce_window_sum": "avg_pool"}.get(name, "pool")
        groups = 1
    text = f"{what} {'x'.join(map(str, window))}"
    if max(strides, default=1) > 1:
        text += f", stride {strides[0]}"
    return text + (f", {groups} groups" if groups > 1 else "")
