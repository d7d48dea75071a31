"""PyTorch's layout of each array of a network, derived from the computation that uses it.

The network is traced with each layer that PyTorch has too as one equation, so that what remains is
what the user wrote between layers. The walk follows the images from layer to layer: which axis of
a layer's input holds a flattened map, and in which order, decides how its rows are exported.
Everything that can be read in two ways is refused with the layer's name.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from flax import core
from flax import linen as nn

from cnnjax.core.errors import Refused, one_line
from cnnjax.core.jax_internals import (
    Body,
    Equation,
    Opaque,
    apply_initializing,
    is_literal,
    shape_of,
)
from cnnjax.interop.axis_kinds import CONSTANT, FREE, IMAGES, STORED, AxisKinds, Lost, propagate
from cnnjax.interop.layout import Torch, as_it_is
from cnnjax.interop.notes import note
from cnnjax.interop.torch_layers import Call, Unlike, is_layer, layer_arrays
from cnnjax.interop.variables import VariablePath, nested
from cnnjax.ops.conv import formulation

_BATCH = 2  # images; one would hide what is done with the batch
_ROOT = "the network itself"


@dataclass(frozen=True)
class Derived:
    """PyTorch's name and layout of each variable, and what a state dict does not say."""

    arrays: Mapping[VariablePath, Torch]
    notes: tuple[str, ...]


def derive(
    module: Any, shapes: Mapping[VariablePath, Any], image_shape: tuple[int, int, int]
) -> Derived:
    """Names and layouts for the network's variables.

    Args:
      shapes: of all variables by path.

    Raises:
      Refused: PyTorch's layout of some variable is not known; the text names its layer.
    """
    traced = _trace(module, shapes, image_shape)
    walk = _Walk()
    stored = [_Stored(path) for path in traced.paths]
    logits = walk.run(traced.body, [*stored, IMAGES])
    arrays = dict(walk.arrays)
    own = {path: leaf for path, leaf in shapes.items() if path not in arrays}
    # What PyTorch has no layer for explains more than what it leads to.
    for path in sorted(own, key=lambda path: is_layer(traced.owners.get(path[1:-1]))):
        if walk.problems and is_layer(traced.owners.get(path[1:-1])):
            break
        arrays[path] = _own(path, own[path], traced.owners)
    if walk.problems:
        raise Refused(walk.problems[0])
    for state in logits[:1]:
        if isinstance(state, Lost) or (isinstance(state, tuple) and _flat(state)):
            reason = state if isinstance(state, Lost) else "they are a flattened map"
            raise Refused(f"{_who(module)}: PyTorch's order of the logits is not known: {reason}")
    _refuse_clashes(arrays)
    notes: dict[str, list[str]] = defaultdict(list)
    for call in walk.calls:
        if (said := note(call)) and said[1] not in notes[said[0]]:
            notes[said[0]].append(said[1])
    if names := [arrays[path].name for path in own]:
        notes["arrays that no layer of PyTorch has, under their own names"] = names
    lines = tuple(f"{what}: {', '.join(names)}" for what, names in notes.items() if names)
    return Derived({path: arrays[path] for path in shapes}, lines)


@dataclass(frozen=True)
class _Traced:
    """A computation of (variables, images), the variables' paths in order, and who owns them."""

    body: Body
    paths: list[VariablePath]
    owners: Mapping[tuple[str, ...], type]


def _trace(
    module: Any, shapes: Mapping[VariablePath, Any], image_shape: tuple[int, int, int]
) -> _Traced:
    variables = nested(
        {path: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for path, leaf in shapes.items()}
    )
    interceptor = _Interceptor()

    def forward(variables: Any, images: Any) -> Any:
        # As when it is initialised: auxiliary heads run and equal blocks are not scanned.
        keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
        with nn.intercept_methods(interceptor):
            return apply_initializing(module, variables, images, keys)

    images = jax.ShapeDtypeStruct((_BATCH, *image_shape), jnp.float32)
    try:
        with formulation("library"):
            body = Body(jax.make_jaxpr(forward)(variables, images))
    except Refused:
        raise
    except Exception as error:  # a user's network may raise anything
        shape = "x".join(map(str, image_shape))
        raise Refused(
            f"{_who(module)} cannot be followed with images of {shape}: {one_line(error)}"
        ) from error
    leaves = jax.tree.flatten_with_path(variables)[0]
    return _Traced(
        body, [tuple(str(key.key) for key in path) for path, _ in leaves], interceptor.owners
    )


def _under_vmap(about: tuple[Call, tuple[str, ...]]) -> Refused:
    return Refused(
        f"layer {about[0].name}: it runs under vmap; PyTorch's layout of that is not known"
    )


_layer = Opaque("layer", _under_vmap)  # about: the call, and the names of its variables


@dataclass
class _Interceptor:
    """Traces each layer that PyTorch has as one equation of its input and its variables."""

    owners: dict[tuple[str, ...], type] = field(default_factory=dict)
    inside: bool = False  # of such a layer

    def __call__(self, method: Any, args: Any, kwargs: Any, context: Any) -> Any:
        module = context.module
        if self.inside:
            return method(*args, **kwargs)
        if context.method_name != "__call__" or not is_layer(type(module)):
            self.owners.setdefault(module.path, type(module))
            return method(*args, **kwargs)
        self.owners[module.path] = type(module)
        if not args:  # called by name: "x" of a normalisation, "inputs" of the others
            name = "x" if "x" in kwargs else "inputs"
            args, kwargs = (kwargs[name],), {k: v for k, v in kwargs.items() if k != name}
        self.inside = True
        try:
            return _bind(module, *args, **kwargs)
        finally:
            self.inside = False


def _bind(module: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
    """A layer's call as one equation; its output has the shape and dtype that the layer gives."""
    stored = {
        collection: core.unfreeze(module.variables)[collection]
        for collection in ("params", "batch_stats")
        if collection in module.variables
    }
    own = [pair for tree in stored.values() for pair in tree.items()]
    alone = module.clone(parent=None, name=None)

    def apply(variables: Any, inputs: Any) -> Any:
        return alone.apply(variables, inputs, *args, mutable=True, **kwargs)[0]

    inputs = jnp.asarray(inputs)
    told = args[0] if args else kwargs.get("use_running_average")
    running = told if told is not None else getattr(module, "use_running_average", True)
    call = Call(
        name="/".join(module.path) or _ROOT,
        module=module,
        shapes={leaf: operand.shape for leaf, operand in own},
        input_shape=inputs.shape,
        running=running is None or bool(running),
    )
    output = jax.eval_shape(apply, stored, inputs)
    leaves = tuple(leaf for leaf, _ in own)
    return _layer(inputs, *(operand for _, operand in own), about=(call, leaves), output=output)


@dataclass(frozen=True)
class _Stored:
    """A variable as it is stored."""

    path: VariablePath


_State = AxisKinds | Lost | _Stored


@dataclass
class _Walk:
    """What is known so far: arrays by their variables' paths, and what cannot be known."""

    arrays: dict[VariablePath, Torch] = field(default_factory=dict)
    calls: list[Call] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def run(self, body: Body, inputs: list[_State]) -> list[_State]:
        known: dict[Any, _State] = dict(zip(body.inputs, inputs, strict=True))

        def state_of(atom: Any) -> _State:
            if not is_literal(atom) and atom in known:
                return known[atom]
            return (CONSTANT,) * len(shape_of(atom))

        for equation in body.equations:
            outputs = self._equation(equation, [state_of(atom) for atom in equation.inputs])
            known.update(zip(equation.outputs, outputs, strict=True))
        return [state_of(atom) for atom in body.outputs]

    def _equation(self, equation: Equation, operands: list[_State]) -> list[_State]:
        if equation.name == _layer.name:
            return [self._layer(equation.about, operands)]
        loops = equation.name in ("scan", "while", "cond")
        if loops:
            for call in (call for body in equation.held for call in _calls(body)):
                self.problems.append(
                    f"layer {call.name}: it runs in a {equation.name};"
                    " PyTorch's layout of that is not known"
                )
        elif (inner := equation.called) is not None:
            return self.run(inner, operands)
        lost = next((state for state in operands if isinstance(state, Lost)), None)
        axes = [_axes(s, a) for s, a in zip(operands, equation.inputs, strict=True)]
        if loops and any(axis.kind not in FREE for own in axes for axis in own):
            lost = lost or Lost(f"what a {equation.name} does with it is not known")
        try:
            if lost is None:
                return list(propagate(equation, axes))
        except Lost as error:
            behind = f" (behind layer {self.calls[-1].name})" if self.calls else ""
            lost = Lost(f"{error}{behind}")
        return [lost] * len(equation.outputs)

    def _layer(self, about: tuple[Call, tuple[str, ...]], operands: list[_State]) -> _State:
        (call, leaves), axes, stored = about, operands[0], operands[1:]
        self.calls.append(call)
        if isinstance(axes, _Stored):
            axes = (STORED,) * len(call.input_shape)
        if isinstance(axes, Lost):
            return self._problem(call, str(axes))
        try:
            found = layer_arrays(call, axes)
        except (Lost, Unlike) as error:
            return self._problem(call, str(error))
        for leaf, state in zip(leaves, stored, strict=True):
            if leaf not in found.leaves:  # of a module that shares its scope
                continue
            if not isinstance(state, _Stored):
                return self._problem(call, f"its {leaf} is computed, where PyTorch's is stored")
            name, layout = found.leaves[leaf]
            torch = Torch(".".join([*state.path[1:-1], name]), layout)
            if self.arrays.setdefault(state.path, torch) != torch:
                return self._problem(
                    call, f"its {leaf} is used twice, with inputs in different orders"
                )
        return found.output

    def _problem(self, call: Call, why: str) -> Lost:
        kernel = call.shapes.get("kernel")
        shape = f" with a kernel {list(kernel)}" if kernel else ""
        self.problems.append(f"layer {call.name} ({type(call.module).__name__}{shape}): {why}")
        return Lost(why)


def _axes(state: _State, atom: Any) -> AxisKinds:
    if isinstance(state, tuple):
        return state
    return (STORED,) * len(shape_of(atom))


def _flat(axes: AxisKinds) -> bool:
    return any(axis.kind == "flat" for axis in axes)


def _calls(body: Body) -> list[Call]:
    """The layers in a computation and in what it calls."""
    found = []
    for equation in body.equations:
        if equation.name == _layer.name:
            found.append(equation.about[0])
        for inner in equation.held:
            found += _calls(inner)
    return found


def _own(path: VariablePath, leaf: Any, owners: Mapping[tuple[str, ...], type]) -> Torch:
    """A variable of the user's own: one number, or one a channel, as it is.

    Raises:
      Refused: it has more axes, or is kept by something that PyTorch has not.
    """
    collection, *modules, name = path
    owner = owners.get(tuple(modules))
    where = f"layer {'/'.join(modules) or _ROOT}" + (f" ({owner.__name__})" if owner else "")
    described = f"{where}: {name} {list(leaf.shape)}"
    known = collection in ("params", "batch_stats") and owner is not None
    if not known or owner.__module__.startswith("flax.") or len(leaf.shape) > 1:
        raise Refused(f"{described}: PyTorch's layout of it is not known; no weights pass here")
    return Torch(".".join(path[1:]), as_it_is(len(leaf.shape)))


def _refuse_clashes(arrays: Mapping[VariablePath, Torch]) -> None:
    seen: dict[str, VariablePath] = {}
    for path, torch in arrays.items():
        other = seen.setdefault(torch.name, path)
        if other != path:
            both = " and ".join("/".join(p[1:]) for p in (other, path))
            raise Refused(f"{both} would both be {torch.name} in PyTorch; rename one")


def _who(module: Any) -> str:
    return type(module).__name__
