"""State dicts to variables and back: by name and shape, or the list of what does not fit."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np

from cnnjax.core.errors import Refused
from cnnjax.interop.derive import Derived, derive
from cnnjax.interop.layout import Torch
from cnnjax.interop.torch_names import family_arrays, trained_only
from cnnjax.interop.variables import VariablePath, flat, nested, template

Head = Literal["keep", "new"]

_IGNORED = ("num_batches_tracked", "n_averaged")  # PyTorch counts; nothing here needs it


class Mismatch(Refused):
    """The names or shapes of weights do not fit; `lines` says which, with - and +."""

    def __init__(self, text: str, lines: list[str]):
        super().__init__(text)
        self.lines = lines


class OtherClasses(Refused):
    """Only the classifier does not fit: the weights tell another number of classes apart.

    Attributes:
      given, wanted: classes of the weights and of the network.
    """

    def __init__(self, source: str, given: int, wanted: int):
        super().__init__(
            f"{source} has {given} classes, the network {wanted}; type --set"
            f" model.num_classes={given}"
        )
        self.given, self.wanted = given, wanted


@dataclass(frozen=True)
class Taken:
    """What `take` made of given arrays.

    Attributes:
      variables: of the network, by path.
      left_out: names of given arrays that it does without.
      new: names of the classifier's arrays, which are as initialised.
    """

    variables: Mapping[VariablePath, Any]
    left_out: tuple[str, ...]
    new: tuple[str, ...]


def arrays_in_torch(
    module: Any, shapes: Mapping[VariablePath, Any], image_shape: tuple[int, int, int] | None
) -> Derived:
    """PyTorch's name and layout of each variable; networks that ship have torchvision's names.

    Args:
      shapes: of the variables by path, with dtypes.
      image_shape: height, width, channels; networks that ship need none.

    Raises:
      Refused: PyTorch's layout of a variable is not known; the text names its layer.
    """
    for path, leaf in shapes.items():
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise Refused(f"{'/'.join(path[1:])} is {leaf.dtype}; weights are floating")
    table = family_arrays(module, {path: tuple(leaf.shape) for path, leaf in shapes.items()})
    if table is not None:
        return Derived(table, ())
    if image_shape is None:
        raise Refused(f"{type(module).__name__}: its layouts depend on image_shape; give one")
    return derive(module, shapes, image_shape)


def to_torch(
    module: Any,
    variables: Mapping[str, Any],
    image_shape: tuple[int, int, int] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, np.ndarray]:
    """A state dict in float32, as PyTorch's network with these layers has it.

    Args:
      image_shape: height, width, channels; networks that ship need none.
      say: told what a state dict does not hold, e.g. an epsilon that is not PyTorch's.

    Raises:
      Refused: PyTorch's layout of a variable is not known; the text names its layer.
    """
    leaves = flat(variables)
    found = arrays_in_torch(module, leaves, image_shape)
    for line in found.notes:
        say(line)
    return {
        torch.name: torch.layout.export(np.asarray(leaves[path], np.float32))
        for path, torch in found.arrays.items()
    }


def from_torch(
    module: Any,
    image_shape: tuple[int, int, int],
    state: Mapping[str, np.ndarray],
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Variables of `module` from a state dict, matched by name and shape: `to_torch` undone.

    Raises:
      Mismatch: its lines name what is missing (-) and what is left over (+).
      Refused: PyTorch's layout of a variable is not known; the text names its layer.
    """
    found = arrays_in_torch(module, template(module, image_shape), image_shape)
    taken = take(module, image_shape, found.arrays, state)
    for line in found.notes:
        say(line)
    return nested(taken.variables)


def take(
    module: Any,
    image_shape: tuple[int, int, int],
    arrays: Mapping[VariablePath, Torch],
    given: Mapping[str, np.ndarray],
    head: Head = "keep",
    fresh: Mapping[str, Any] | None = None,
    source: str = "the state dict",
) -> Taken:
    """Variables of `module` from arrays of other names and layouts.

    Args:
      arrays: the other name and layout of each variable.
      head: "new" leaves the classifier (the dense layers whose shape is given by the number of
        classes, auxiliary ones too) as in `fresh`.
      fresh: freshly initialised variables; needed for a new head.
      source: whose arrays they are, for messages.

    Raises:
      OtherClasses: nothing but the classifier has another shape.
      Mismatch: its lines name what is missing (-) and what is left over (+).
      Refused: an array is not finite.
    """
    wanted = template(module, image_shape)
    given = {name: array for name, array in given.items() if not name.endswith(_IGNORED)}
    new = _classifier(module, image_shape, wanted) if head == "new" else frozenset()
    unneeded = trained_only(module)
    known = {arrays[path].name for path in wanted}
    missing, differing, variables = [], [], {}
    for path, leaf in wanted.items():
        torch = arrays[path]
        array = given.get(torch.name)
        if path in new:
            continue
        if array is None:
            missing.append(path)
        elif array.shape != torch.layout.torch_shape(leaf.shape):
            differing.append(path)
        else:
            variables[path] = torch.layout.take(np.asarray(array)).astype(leaf.dtype)
    extra = [name for name in given if name not in known and not name.startswith(unneeded or "/")]
    if differing and not missing and not extra:
        _refuse_other_classes(module, image_shape, wanted, arrays, given, differing, source)
    if missing or differing or extra:
        lines = []
        for path, leaf in wanted.items():
            name, shape = arrays[path].name, list(arrays[path].layout.torch_shape(leaf.shape))
            if path in missing or path in differing:
                lines.append(f"- {name} {shape}")
            if path in differing:
                lines.append(f"+ {name} {list(given[name].shape)}")
        lines += [f"+ {name} {list(given[name].shape)}" for name in extra]
        count = len(missing) + len(differing), len(extra) + len(differing)
        raise Mismatch(
            f"another network's weights: {count[0]} missing (-), {count[1]} left over (+); another"
            " number of classes is --set model.num_classes=N, other images --input H W C",
            lines,
        )
    used = [arrays[path].name for path in variables]
    if bad := [name for name in used if not np.isfinite(np.float32(given[name])).all()]:
        raise Refused(f"{source}: {bad[0]} is not finite ({len(bad)} such arrays)")
    if new:
        if fresh is None:
            raise ValueError('head="new" needs freshly initialised variables')
        initial = flat(fresh)
        variables = {path: initial[path] if path in new else variables[path] for path in wanted}
    names = tuple(arrays[path].name for path in wanted if path in new)
    left_out = tuple(name for name in given if name not in known)
    return Taken(variables, left_out, names)


def _classifier(
    module: Any, image_shape: tuple[int, int, int], wanted: Mapping[VariablePath, Any]
) -> frozenset[VariablePath]:
    """The variables whose shape the number of classes decides.

    Raises:
      Refused: the network has no such setting, or takes no other number.
    """
    if "num_classes" not in getattr(module, "__dataclass_fields__", {}):
        raise Refused(
            f"{type(module).__name__} has no field num_classes, by which its classifier is known;"
            " give it one"
        )
    other = template(module.clone(num_classes=module.num_classes + 1), image_shape)
    found = {
        path
        for path, leaf in wanted.items()
        if leaf.shape != getattr(other.get(path), "shape", None)
    }
    if not found:
        raise Refused(f"{type(module).__name__}: no variable depends on num_classes")
    return frozenset(found)


def _refuse_other_classes(
    module: Any,
    image_shape: tuple[int, int, int],
    wanted: Mapping[VariablePath, Any],
    arrays: Mapping[VariablePath, Torch],
    given: Mapping[str, np.ndarray],
    differing: list[VariablePath],
    source: str,
) -> None:
    """Raise `OtherClasses` if nothing but the number of classes differs."""
    sizes = set()
    for path in differing:
        ours, theirs = (
            arrays[path].layout.torch_shape(wanted[path].shape),
            given[arrays[path].name].shape,
        )
        if len(ours) != len(theirs):
            return
        sizes |= {(b, a) for a, b in zip(ours, theirs, strict=True) if a != b}
    classes = getattr(module, "num_classes", None)
    if len(sizes) != 1 or {classes} != {wanted_size for _, wanted_size in sizes}:
        return
    try:
        head = _classifier(module, image_shape, wanted)
    except Refused:  # it takes no other number of classes
        return
    if set(differing) <= head:
        ((theirs, ours),) = sizes
        raise OtherClasses(source, theirs, ours)
