"""Layer by layer through a traced computation: shapes, parameters, MACs, receptive fields.

The walk reads the jaxpr, so a user's own architecture is counted without help. A row is a module
that owns parameters, or a convolution, product or pooling without any. What belongs to a module is
known by following its parameters to the equations that use them, whatever transformation (remat,
scan, Sequential) stands between. Blocks that are scanned are traced once and walked as often as
they run.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cnnjax.analysis.constants import Constant, results
from cnnjax.analysis.intervals import Seen, Span, hull
from cnnjax.analysis.macs import layer_macs
from cnnjax.analysis.receptive_field import (
    UNKNOWN,
    Field,
    Sight,
    field_of,
    propagate,
    stack,
)
from cnnjax.analysis.values import Value
from cnnjax.core.jax_internals import Body, Equation, is_literal, literal, shape_of

Path = tuple[str, ...]  # the modules in which an equation stands


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
      field: along the height of the image, or None where the output is no map.
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
class Walked:
    """A computation's rows, in the order in which they run.

    Attributes:
      field: of its widest map.
      outputs: what is known of them.
    """

    layers: list[Layer]
    field: Field | None
    outputs: list[Value]


def walk_layers(
    body: Body,
    inputs: Sequence[Value],
    params: Mapping[str, Mapping[str, int]] | None = None,
    runs: Mapping[str, Sequence[str]] | None = None,
) -> Walked:
    """Through a traced computation.

    Args:
      body: a scan counts its body as often as it runs, a loop whose length only the data decide
        once, and of the branches of a conditional the dearest counts.
      inputs: of each of its inputs.
      params: by the path of their module ("stage1_block1/conv1/conv"), sizes by name ("kernel").
      runs: by the name of a run of scanned blocks, the names of the blocks.
    """
    walk = _Walk(params or {}, runs or {})
    outputs = walk.run(body, inputs, ())
    idle = [
        Layer(name, "does not run", (), params=sum(sizes.values()))
        for name, sizes in walk.params.items()
        if name not in walk.rows
    ]
    return Walked([*walk.rows.values(), *idle], walk.widest, outputs)


class _Walk:
    """Rows and the widest map so far, and how often a name without parameters was given."""

    def __init__(
        self, params: Mapping[str, Mapping[str, int]], runs: Mapping[str, Sequence[str]]
    ) -> None:
        self.params, self.runs = params, runs
        self.rows: dict[str, Layer] = {}
        self.widest: Field | None = None
        self._given: dict[str, int] = {}

    def run(self, body: Body, inputs: Sequence[Value], scope: Path) -> list[Value]:
        known: dict[Any, Value] = dict(zip(body.inputs, inputs, strict=True))
        for var, array in body.constants:
            known[var] = Value(constant=Constant.of(array))

        for equation in body.equations:
            if not equation.outputs:  # it prints, or calls back
                continue
            operands = [_value(atom, known) for atom in equation.inputs]
            path = _join(scope, equation.modules)
            outputs = self._equation(equation, operands, path)
            known.update(zip(equation.outputs, outputs, strict=True))
        return [_value(atom, known) for atom in body.outputs]

    def _equation(self, equation: Equation, operands: list[Value], path: Path) -> list[Value]:
        match equation.name:
            case "scan":
                return self._scan(equation, operands, path)
            case "while":
                return self._while(equation, operands, path)
            case "cond":
                return self._cond(equation, operands, path)
        inner = equation.called
        if inner is not None:
            return self.run(inner, operands, path)
        macs = layer_macs(equation, operands)
        if all(value.sight is None for value in operands):
            self._record(equation, None, macs, path, None)
            return _without_images(equation, operands)
        sights = propagate(
            equation, [value.sight for value in operands], lambda i: operands[i].elements
        )
        for sight in sights:
            if all(sight is not value.sight for value in operands):
                self._see(field_of(sight))
        module = next((value.module for value in operands if value.module is not None), None)
        self._record(equation, sights[0], macs, path, module)
        return [Value(sight) for sight in sights]

    def _scan(self, equation: Equation, operands: list[Value], path: Path) -> list[Value]:
        scan = equation.scan
        kept, carry = operands[: scan.kept], operands[scan.kept : scan.kept + scan.carried]
        stacked = operands[scan.kept + scan.carried :]
        run = path[-1] if path and path[-1] in self.runs else None
        collected: dict[int, list[Value]] = {}
        for index in scan.order:
            block = self.runs[run][index] if run else ""
            # Inside a named run the first scope is the block's class; its name takes that place.
            scope = (*path[:-1], block, "") if run else path
            slices = [_step(value, index, run, block) for value in stacked]
            outputs = self.run(scan.body, [*kept, *carry, *slices], scope)
            carry, collected[index] = outputs[: scan.carried], outputs[scan.carried :]
        steps = [collected[index] for index in sorted(collected)]
        results = [
            _stacked([step[i] for step in steps], shape_of(var))
            for i, var in enumerate(equation.outputs[scan.carried :])
        ]
        return [*carry, *results]

    def _while(self, equation: Equation, operands: list[Value], path: Path) -> list[Value]:
        """What each turn leaves as it was is known after any number of turns."""
        if all(value.sight is None for value in operands):
            self._turn(equation, operands, path)
            return _without_images(equation, operands)
        loop = equation.loop
        first = loop.condition_consts + loop.body_consts
        carry = [replace(value, constant=None) for value in operands[first:]]
        while True:
            before = [*operands[:first], *carry]
            after = self._aside()._turn(equation, before, path)
            changed = [_after_a_turn(old, new) for old, new in zip(carry, after, strict=True)]
            if all(new is old for new, old in zip(changed, carry, strict=True)):
                break
            carry = changed
        decides = self._aside().run(
            loop.condition, [*operands[: loop.condition_consts], *carry], path
        )
        self._turn(equation, [*operands[:first], *carry], path)
        if decides[0].sight is not None:
            carry = [Value(UNKNOWN) for _ in carry]
        for value in carry:
            self._see(field_of(value.sight))
        return carry

    def _turn(self, equation: Equation, operands: list[Value], path: Path) -> list[Value]:
        loop = equation.loop
        return self.run(loop.body, operands[loop.condition_consts :], path)

    def _cond(
        self, equation: Equation, operands: list[Value], path: tuple[str, ...]
    ) -> list[Value]:
        """What any branch sees, and what decides between them; the one that is known to run."""
        branches = equation.branches
        known = operands[0].elements
        if known is not None:
            return self.run(
                branches[min(max(int(known), 0), len(branches) - 1)], operands[1:], path
            )
        walks = [self._aside() for _ in branches]
        outcomes = [
            walk.run(branch, operands[1:], path)
            for walk, branch in zip(walks, branches, strict=True)
        ]
        for walk in walks:
            self._see(walk.widest)
        dearest = max(range(len(walks)), key=lambda i: sum(r.macs for r in walks[i].rows.values()))
        self.run(branches[dearest], operands[1:], path)
        decides = operands[0].sight
        results = [
            _any_of(list(values), decides, shape_of(var))
            for values, var in zip(zip(*outcomes, strict=True), equation.outputs, strict=True)
        ]
        for value in results:
            self._see(field_of(value.sight))
        return results

    def _aside(self) -> "_Walk":
        """A walk whose rows do not count here."""
        return _Walk(self.params, self.runs)

    def _see(self, field: Field | None) -> None:
        """The widest map counts, the last of equals; one that is unknown might be wider."""
        if field is not None and (self.widest is None or _width(field) >= _width(self.widest)):
            self.widest = field

    def _record(
        self, equation: Equation, sight: Sight, macs: int, path: tuple[str, ...], module: str | None
    ) -> None:
        windows = equation.name.startswith("reduce_window") and sight is not None
        pools = windows and len(equation.outputs) == 1
        if module is None and not macs and not pools:
            return
        shape = shape_of(equation.outputs[0])
        scope = "/".join(path)
        if module is None and pools and scope in self.params:
            module = scope  # a pooling inside of a module that has a coefficient
        name = self._new_name(scope, equation) if module is None else module
        sizes = self.params.get(name, {})
        row = self.rows.get(name) or Layer(
            name, ", ".join(sizes), shape, params=sum(sizes.values())
        )
        if macs or pools:
            row = replace(row, kind=_kind(equation).replace("avg", "sum" if module else "avg"))
        units = math.prod(shape)  # of the equation; the module's last one is its output
        sums = units * math.prod(equation["window_dimensions"]) if pools and module else 0
        biased = "bias" in sizes and (macs or sums)
        self.rows[name] = replace(
            row,
            output=shape,
            field=field_of(sight),
            macs=row.macs + macs,
            activations=row.activations + (units if macs else 0),
            connections=row.connections + macs + sums + (units if biased else 0),
        )

    def _new_name(self, scope: str, equation: Equation) -> str:
        """max_pool1, inception3a/max_pool1, ...: it has no parameters."""
        what = _kind(equation).split()[0]
        stem = f"{scope}/{what}" if scope else what
        self._given[stem] = self._given.get(stem, 0) + 1
        return f"{stem}{self._given[stem]}"


def _value(atom: Any, known: Mapping[Any, Value]) -> Value:
    if is_literal(atom):
        return Value(constant=Constant.of(literal(atom)))
    return known.get(atom, Value())


def _without_images(equation: Equation, operands: Sequence[Value]) -> list[Value]:
    """Of parameters, constants, or both."""
    module = next((value.module for value in operands if value.module is not None), None)
    trained = any(value.trained for value in operands)
    constants = [value.constant for value in operands if value.constant is not None]
    if len(constants) < len(operands):
        return [Value(None, trained, module) for _ in equation.outputs]
    return [Value(constant=constant) for constant in results(equation, constants)]


def _step(value: Value, index: int, run: str | None, block: str) -> Value:
    """What one step of a scan sees of a stacked value."""
    module, sight, constant = value.module, value.sight, value.constant
    if run and module is not None:
        module = "/".join(block if part == run else part for part in module.split("/"))
    if isinstance(sight, Seen):
        sight = sight.windows(0, 1, start=index).squeeze((0,))
    if constant is not None:
        constant = constant.step(index)
    return Value(sight, value.trained, module, constant)


def _stacked(steps: Sequence[Value], shape: tuple[int, ...]) -> Value:
    """What the steps of a scan put out, along a new first axis."""
    trained = any(value.trained for value in steps)
    if any(value.sight is UNKNOWN for value in steps):
        return Value(UNKNOWN, trained)
    seen = [value.sight if isinstance(value.sight, Seen) else None for value in steps]
    if all(part is None for part in seen):
        constants = [value.constant for value in steps if value.constant is not None]
        whole = Constant.stack(constants) if 0 < len(constants) == len(steps) else None
        return Value(trained=trained, constant=whole)
    return Value(stack(seen, 0, shape), trained)


def _after_a_turn(old: Value, new: Value) -> Value:
    """Of what a loop carries: as it was, or unknown."""
    trained = old.trained or new.trained
    if new.sight is None or _alike(old.sight, new.sight):
        return old if trained == old.trained else replace(old, trained=True)
    return old if old.sight is UNKNOWN else Value(UNKNOWN, trained)


def _alike(a: Sight, b: Sight) -> bool:
    if isinstance(a, Seen) and isinstance(b, Seen):
        pairs = [*zip(a.spans, b.spans, strict=True), *zip(a.nominal, b.nominal, strict=True)]
        return a.axes == b.axes and all(map(_equal, *zip(*pairs, strict=True)))
    return a is b


def _equal(a: Span | None, b: Span | None) -> bool:
    if a is None or b is None:
        return a is b
    return np.array_equal(a.low, b.low) and np.array_equal(a.high, b.high)


def _any_of(values: Sequence[Value], decides: Sight, shape: tuple[int, ...]) -> Value:
    """Of the branches of a conditional."""
    trained = any(value.trained for value in values)
    sights = [value.sight for value in values if value.sight is not None]
    if decides is UNKNOWN or UNKNOWN in sights:
        return Value(UNKNOWN, trained)
    seen = [sight for sight in sights if isinstance(sight, Seen)]
    if isinstance(decides, Seen):
        seen.append(decides.broadcast(shape, ()))
    return Value(hull(seen) if seen else None, trained)


def _width(field: Field) -> tuple[float | int, bool]:
    """A map whose places were flattened has lost its stride, and is no wider."""
    return math.inf if field.size is None else field.size, field.stride is not None


def _join(scope: tuple[str, ...], parts: Sequence[str]) -> tuple[str, ...]:
    """The path of a module: a scope without the root's class."""
    if not scope:
        return ("", *parts[1:])[1:] if parts else ()
    if scope[-1] == "":  # in a run: the first part is the block's class
        return (*scope[:-1], *parts[1:])
    return (*scope, *parts)


def _kind(equation: Equation) -> str:
    """What an equation computes: conv 3x3, stride 2, 2 groups; dense; max_pool 2x2, stride 2."""
    name = equation.name
    if name == "dot_general":
        return "dense"
    if name == "conv_general_dilated":
        numbers = equation["dimension_numbers"]
        kernel = shape_of(equation.inputs[1])
        window = [kernel[axis] for axis in numbers.rhs_spec[2:]]
        strides = equation["window_strides"]
        what = "conv_transpose" if max(equation["lhs_dilation"], default=1) > 1 else "conv"
        groups = equation["feature_group_count"]
    else:
        keep = [axis for axis, size in enumerate(equation["window_dimensions"]) if size > 1]
        window = [equation["window_dimensions"][axis] for axis in keep] or [1]
        strides = [equation["window_strides"][axis] for axis in keep] or [1]
        what = {"reduce_window_max": "max_pool", "reduce_window_sum": "avg_pool"}.get(name, "pool")
        groups = 1
    text = f"{what} {'x'.join(map(str, window))}"
    if max(strides, default=1) > 1:
        text += f", stride {strides[0]}"
    return text + (f", {groups} groups" if groups > 1 else "")
