"""A network with its variables: read from a run or from imported weights, mapped to and from torch.

A folder of imported weights holds weights.safetensors, under our own names, and weights.json: the
network, where the weights came from, and a digest of the file.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnnjax.core.config import convert, plain
from cnnjax.core.environment import versions
from cnnjax.core.errors import Refused, one_line
from cnnjax.core.files import atomic_write, read_sealed, write_sealed
from cnnjax.core.folders import own_folder
from cnnjax.core.recipe import Model
from cnnjax.core.registry import create_model, find, source_digests
from cnnjax.core.user_code import located
from cnnjax.interop.derive import Derived, derive
from cnnjax.interop.state_dict import read_state_dict
from cnnjax.interop.torch_names import VariablePath, family_arrays
from cnnjax.tasks.checks import AUXILIARY
from cnnjax.train.run import paths_of, restore_run

_IGNORED = ("num_batches_tracked",)  # PyTorch counts batches; nothing here needs it
_FILES = ("weights.json", "weights.safetensors")


class Mismatch(Refused):
    """The names or shapes of weights do not fit; `lines` says which, with - and +."""

    def __init__(self, text: str, lines: list[str]):
        super().__init__(text)
        self.lines = lines


@dataclass(frozen=True)
class Network:
    """A flax module, the model it is by name, its variables and its input."""

    model: Model
    module: Any
    variables: Mapping[str, Any]
    image_shape: tuple[int, int, int]


def template(module: Any, image_shape: tuple[int, int, int]) -> dict[VariablePath, Any]:
    """Shapes and dtypes of a network's variables, by path; what it only sows is none."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    shapes = jax.eval_shape(partial(module.init, keys, train=False), images)
    return _flat({name: tree for name, tree in shapes.items() if name != AUXILIARY})


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
    leaves = _flat(variables)
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
    wanted = template(module, image_shape)
    found = arrays_in_torch(module, wanted, image_shape)
    given = {name: array for name, array in state.items() if not name.endswith(_IGNORED)}
    lines = []
    for path, leaf in wanted.items():
        torch = found.arrays[path]
        name, shape = torch.name, torch.layout.torch_shape(leaf.shape)
        if name not in given:
            lines.append(f"- {name} {list(shape)}")
        elif given[name].shape != shape:
            lines.append(f"- {name} {list(shape)}")
            lines.append(f"+ {name} {list(given[name].shape)}")
    known = {torch.name for torch in found.arrays.values()}
    lines += [f"+ {name} {list(a.shape)}" for name, a in given.items() if name not in known]
    if lines:
        missing, extra = (sum(line[0] == sign for line in lines) for sign in "-+")
        raise Mismatch(
            f"another network's weights: {missing} missing (-), {extra} left over (+); another"
            " number of classes is --set model.num_classes=N, other images --input H W C",
            lines,
        )
    for line in found.notes:
        say(line)
    variables: dict[str, Any] = {}
    for path, leaf in wanted.items():
        torch = found.arrays[path]
        array = torch.layout.take(np.asarray(given[torch.name]))
        _put(variables, path, array.astype(leaf.dtype))
    return variables


def import_weights(
    model: Model,
    file: Path,
    out: Path,
    image_shape: tuple[int, int, int] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Read a state dict into folder `out`; what weights.json says.

    Weights in `out` that cannot be loaded (lost in part, damaged, of a network whose file has
    changed) are written anew.

    Raises:
      Refused: no such file or format, `out` holds something else.
      Mismatch: the weights are of another network.
    """
    shape = image_shape or find(model.name).input_shape
    if shape is None:
        raise Refused(f"{model.name} has no default input; give one, e.g. --input 32 32 3")
    module = create_model(model.name, **model.fields)
    state = read_state_dict(file)
    variables = from_torch(module, shape, state, say)
    bad = [name for name, array in state.items() if not np.isfinite(np.float32(array)).all()]
    if bad:
        raise Refused(f"{file}: {bad[0]} is not finite ({len(bad)} such arrays)")
    if any((out / name).exists() for name in _FILES):
        _make_way(out, model, say)
    own_folder(out, "folder of weights", _FILES, "--out")
    return _write(out, Network(model, module, variables, shape), file)


def _make_way(out: Path, model: Model, say: Callable[[str], None]) -> None:
    """Let weights of `model` be written anew where those in `out` are of no use; refuse to write
    over others."""
    try:
        about, _ = _read_pair(out)
    except Refused as error:
        say(f"{error}: done")
        return
    if about["model"] != plain(model):
        raise Refused(f"{out} holds weights of {about['model']['name']}; give another --out")
    try:
        load_network(out)
    except Refused as error:  # its network's file was edited
        say(f"{error}: done")
    else:
        raise Refused(f"{out} holds weights already; give another --out")


def load_network(folder: str | Path, say: Callable[[str], None] = lambda line: None) -> Network:
    """The network of a run folder (its newest intact state) or of imported weights.

    Raises:
      Refused: the folder is neither, or is damaged, or the network's file has changed.
    """
    folder = Path(folder)
    if (folder / "run.json").is_file():
        recipe, task, state = restore_run(folder, say)
        variables = {"params": state.params, **state.model_state}
        return Network(recipe.model, task.model, variables, task.image_shape)
    if not any((folder / name).is_file() for name in _FILES):
        raise Refused(
            f"{folder} holds neither a run (cnnjax train) nor weights (cnnjax import-weights)"
        )
    about, data = _read_pair(folder)
    from safetensors.numpy import load

    model = convert(about["model"], Model, f"{folder}/weights.json")
    with paths_of(about):
        module = create_model(model.name, **model.fields)
    if source_digests([(model.name, module)]) != about.get("sources", {}):
        raise Refused(
            f"{folder}: {model.name} has changed since its weights were imported; {_again(folder)}"
        )
    variables: dict[str, Any] = {}
    for name, array in load(data).items():
        path = about.get("paths", {}).get(name) or name.split(".")
        _put(variables, path, array.astype(about.get("dtypes", {}).get(name, array.dtype)))
    return Network(model, module, variables, tuple(about["input"]))


def _read_pair(folder: Path) -> tuple[dict[str, Any], bytes]:
    """What weights.json says, and the bytes of weights.safetensors.

    Raises:
      Refused: one of the two is lost or damaged.
    """
    found: list[Any] = []
    for name, read in zip(_FILES, (read_sealed, Path.read_bytes), strict=True):
        try:
            found.append(read(folder / name))
        except FileNotFoundError:
            raise Refused(f"{folder}/{name} is lost; {_again(folder)}") from None
        except (OSError, ValueError) as error:
            raise Refused(f"{folder}/{name}: {error}; {_again(folder)}") from None
    about, data = found
    if hashlib.sha256(data).hexdigest() != about["sha256"]:
        raise Refused(f"{folder}/weights.safetensors is damaged; {_again(folder)}")
    return about, data


def _again(folder: Path) -> str:
    return f"import the weights again: cnnjax import-weights NAME FILE --out {folder}"


def check_fits(
    module: Any, variables: Mapping[str, Any], image_shape: tuple[int, int, int]
) -> None:
    """Refuse images that a network with these variables does not take, without computing."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    try:
        jax.eval_shape(lambda v, x: module.apply(v, x, train=False), dict(variables), images)
    except Refused:
        raise
    except Exception as error:  # flax has its own kinds for shapes that differ
        shape = "x".join(map(str, image_shape))
        raise Refused(f"these weights do not take images of {shape}: {one_line(error)}") from error


def _write(out: Path, network: Network, source: Path) -> dict[str, Any]:
    from safetensors.numpy import save

    # In float32 whatever the network stores: numpy's safetensors has no bfloat16.
    flat = {".".join(path): (path, leaf) for path, leaf in _flat(network.variables).items()}
    arrays = {name: np.asarray(leaf, np.float32) for name, (_, leaf) in flat.items()}
    data = save(arrays)
    about = {
        "model": plain(network.model),
        "input": list(network.image_shape),
        "params": sum(a.size for name, a in arrays.items() if name.startswith("params.")),
        "from": source.name,
        "from_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "sources": source_digests([(network.model.name, network.module)]),
        "folder": str(located(".").absolute()),  # where a relative path in the model's name starts
        "paths": {n: list(path) for n, (path, _) in flat.items() if tuple(n.split(".")) != path},
        "dtypes": {n: str(a.dtype) for n, (_, a) in flat.items() if a.dtype != np.float32},
        "versions": versions(),
    }
    atomic_write(out / "weights.safetensors", data)
    write_sealed(out / "weights.json", about)
    return about


def _flat(tree: Mapping[str, Any]) -> dict[VariablePath, Any]:
    leaves = jax.tree.flatten_with_path(dict(tree))[0]
    return {
        tuple(str(key.key) for key in path): leaf
        for path, leaf in leaves
        if all(hasattr(key, "key") for key in path)  # what is sown lies in tuples
    }


def _put(tree: dict[str, Any], path: Sequence[str], leaf: Any) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part, {})
    tree[path[-1]] = leaf
