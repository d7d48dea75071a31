"""Layer by layer through a traced computation: shapes, parameters, MACs, receptive fields.

The walk reads the jaxpr, so a user's own architecture is counted without help. A row is a module
that owns parameters, or a convolution, product or pooling without any. What belongs to a module is
known by following its parameters to the equations that use them, whatever transformation (remat,
scan, Sequential) stands between. Blocks that are scanned are traced once and walked as often as
they run.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
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


@dataclass(frozen=True)
class Value:
    """What is known of an array in the computation.

    Attributes:
      fields: receptive field by axis.
      module: the path of the module whose parameter it is, or comes from alone.
      from_images: whether it depends on the images.
    """

    fields: Fields = field(default_factory=dict)
    module: str | None = None
    from_images: bool = False


def walk_layers(
    jaxpr: Any,
    inputs: Sequence[Value],
    params: Mapping[str, Mapping[str, int]] | None = None,
    runs: Mapping[str, Sequence[str]] | None = None,
) -> list[Layer]:
    """The rows of a traced computation, in the order in which they run.

    Args:
      jaxpr: open; a scan counts its body as often as it runs, a loop whose length only the data
        decide once, and of the branches of a conditional the dearest counts.
      inputs: of each of its inputs.
      params: by the path of their module ("stage1_block1/conv1/conv"), sizes by name ("kernel").
      runs: by the name of a run of scanned blocks, the names of the blocks.
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

    def run(self, jaxpr: Any, inputs: list[Value], scope: tuple[str, ...]) -> list[Value]:
        known: dict[Any, Value] = dict(zip(jaxpr.invars, inputs, strict=True))

        def value_of(atom: Any) -> Value:
            return Value() if hasattr(atom, "val") else known.get(atom, Value())

        for equation in jaxpr.eqns:
            operands = [value_of(atom) for atom in equation.invars]
            path = _join(scope, str(equation.source_info.name_stack))
            outputs = self._equation(equation, operands, path)
            known.update(zip(equation.outvars, outputs, strict=True))
        return [value_of(atom) for atom in jaxpr.outvars]

    def _equation(self, equation: Any, operands: list[Value], path: tuple[str, ...]) -> list[Value]:
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
        module = next((value.module for value in operands if value.module is not None), None)
        if not any(value.from_images for value in operands):
            self._record(equation, {}, path, None)  # a product of parameters alone has its MACs
            return [Value(module=module) for _ in equation.outvars]
        fields = propagate(equation, [value.fields for value in operands])
        self._record(equation, fields, path, module)
        return [
            Value(fields if index == 0 else {}, from_images=True)
            for index in range(len(equation.outvars))
        ]

    def _scan(self, equation: Any, operands: list[Value], path: tuple[str, ...]) -> list[Value]:
        parameters = equation.params
        body, length = parameters["jaxpr"].jaxpr, parameters["length"]
        constants, carried = parameters["num_consts"], parameters["num_carry"]
        kept = operands[:constants]
        carry = operands[constants : constants + carried]
        stacked = operands[constants + carried :]
        run = path[-1] if path and path[-1] in self.runs else None
        outputs: list[Value] = []
        for index in range(length):
            block = self.runs[run][index] if run else ""
            # Inside a named run the first scope is the block's class; its name takes that place.
            scope = (*path[:-1], block, "") if run else path
            slices = [_slice_of(value, run, block) for value in stacked]
            outputs = self.run(body, [*kept, *carry, *slices], scope)
            carry = [
                replace(new, fields=widest([new.fields, old.fields]))
                for new, old in zip(outputs[:carried], carry, strict=True)
            ]
        collected = [
            replace(value, fields={axis + 1: field for axis, field in value.fields.items()})
            for value in outputs[carried:]
        ]
        return [*carry, *collected] if length else [Value() for _ in equation.outvars]

    def _record(
        self, equation: Any, fields: Fields, path: tuple[str, ...], module: str | None
    ) -> None:
        primitive = equation.primitive.name
        shape = equation.outvars[0].aval.shape
        scope = "/".join(path)
        macs = multiply_accumulates(equation)
        pools = primitive.startswith("reduce_window") and len(equation.outvars) == 1
        if module is None and pools and scope in self.params:
            module = scope  # a pooling inside of a module that has a coefficient
        if module is None and not macs and not pools:
            return
        name = self._new_name(scope, equation) if module is None else module
        sizes = self.params.get(name, {})
        row = self.rows.get(name) or Layer(
            name, ", ".join(sizes), shape, params=sum(sizes.values())
        )
        if macs or pools:
            row = replace(row, kind=_kind(equation).replace("avg", "sum" if module else "avg"))
        units = math.prod(shape)  # of the equation; the module's last one is its output
        sums = units * math.prod(equation.params["window_dimensions"]) if pools and module else 0
        biased = "bias" in sizes and (macs or sums)
        self.rows[name] = replace(
            row,
            output=shape,
            field=fields[min(fields)] if fields else None,
            macs=row.macs + macs,
            activations=row.activations + (units if macs else 0),
            connections=row.connections + macs + sums + (units if biased else 0),
        )

    def _new_name(self, scope: str, equation: Any) -> str:
        """max_pool1, inception3a/max_pool1, ...: it has no parameters."""
        what = _kind(equation).split()[0]
        stem = f"{scope}/{what}" if scope else what
        self._given[stem] = self._given.get(stem, 0) + 1
        return f"{stem}{self._given[stem]}"


def _slice_of(value: Value, run: str | None, block: str) -> Value:
    """What one step of a scan sees of a stacked value."""
    module = value.module
    if run and module is not None:
        module = "/".join([block, *module.split("/")[1:]])
    fields = {axis - 1: field for axis, field in value.fields.items() if axis > 0}
    return Value(fields, module, value.from_images)


def count(jaxpr: Any) -> int:
    """Multiply-accumulates of a jaxpr."""
    rows = walk_layers(jaxpr, [Value() for _ in jaxpr.invars])
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
