"""A network with its variables: read from a run or from imported weights, mapped to and from torch.

A folder of imported weights holds weights.safetensors, under our own names, and weights.json: the
network, where the weights came from, and a digest of the file.
"""

import hashlib
from collections.abc import Callable, Mapping
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
from cnnjax.core.registry import create_model, find
from cnnjax.interop.state_dict import read_state_dict
from cnnjax.interop.torch_names import VariablePath, torch_of
from cnnjax.train.run import restore_run

_IGNORED = ("num_batches_tracked",)  # PyTorch counts batches; nothing here needs it
_COLLECTIONS = ("params", "batch_stats")


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
    """Shapes and dtypes of a network's variables, by path."""
    images = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(0)}
    shapes = jax.eval_shape(partial(module.init, keys, train=False), images)
    return _flat({name: shapes[name] for name in _COLLECTIONS if name in shapes})


def to_torch(module: Any, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """A state dict as torchvision's network of that name has it."""
    arrays = {}
    for path, leaf in _flat(variables).items():
        torch = torch_of(module, path)
        arrays[torch.name] = torch.export(np.asarray(leaf, np.float32))
    return arrays


def from_torch(
    module: Any, image_shape: tuple[int, int, int], state: Mapping[str, np.ndarray]
) -> dict[str, Any]:
    """Variables of `module` from a state dict, matched by name and shape.

    Raises:
      Mismatch: its lines name what is missing (-) and what is left over (+).
    """
    wanted = template(module, image_shape)
    names = {path: torch_of(module, path) for path in wanted}
    given = {name: array for name, array in state.items() if not name.endswith(_IGNORED)}
    lines = []
    for path, leaf in wanted.items():
        name, shape = names[path].name, names[path].torch_shape(leaf.shape)
        if name not in given:
            lines.append(f"- {name} {list(shape)}")
        elif given[name].shape != shape:
            lines.append(f"- {name} {list(shape)}")
            lines.append(f"+ {name} {list(given[name].shape)}")
    known = {torch.name for torch in names.values()}
    lines += [f"+ {name} {list(a.shape)}" for name, a in given.items() if name not in known]
    if lines:
        missing, extra = (sum(line[0] == sign for line in lines) for sign in "-+")
        raise Mismatch(
            f"another network's weights: {missing} missing (-), {extra} left over (+); another"
            " number of classes is --set model.num_classes=N, other images --input H W C",
            lines,
        )
    variables: dict[str, Any] = {}
    for path, leaf in wanted.items():
        node = variables
        for part in path[:-1]:
            node = node.setdefault(part, {})
        node[path[-1]] = names[path].take(np.asarray(given[names[path].name], leaf.dtype))
    return variables


def import_weights(
    model: Model, file: Path, out: Path, image_shape: tuple[int, int, int] | None = None
) -> dict[str, Any]:
    """Read a state dict into folder `out`; what weights.json says.

    Raises:
      Refused: no such file or format, `out` holds something else.
      Mismatch: the weights are of another network.
    """
    shape = image_shape or find(model.name).input_shape
    if shape is None:
        raise Refused(f"{model.name} has no default input; give one, e.g. --input 32 32 3")
    module = create_model(model.name, **model.fields)
    state = read_state_dict(file)
    variables = from_torch(module, shape, state)
    bad = [name for name, array in state.items() if not np.isfinite(array).all()]
    if bad:
        raise Refused(f"{file}: {bad[0]} is not finite ({len(bad)} such arrays)")
    if (out / "weights.json").exists():
        raise Refused(f"{out} holds weights already; give another --out")
    own_folder(out, "folder of weights", (), "--out")
    return _write(out, Network(model, module, variables, shape), file)


def load_network(folder: str | Path, say: Callable[[str], None] = lambda line: None) -> Network:
    """The network of a run folder (its newest intact state) or of imported weights.

    Raises:
      Refused: the folder is neither, or is damaged.
    """
    folder = Path(folder)
    if (folder / "run.json").is_file():
        recipe, task, state = restore_run(folder, say)
        variables = {"params": state.params, **state.model_state}
        return Network(recipe.model, task.model, variables, task.image_shape)
    try:
        about = read_sealed(folder / "weights.json")
        data = (folder / "weights.safetensors").read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise Refused(
            f"{folder} holds neither a run (cnnjax train) nor weights (cnnjax import-weights)"
        ) from None
    except ValueError as error:
        raise Refused(f"{folder}/weights.json: {error}; import the weights again") from None
    if hashlib.sha256(data).hexdigest() != about["sha256"]:
        raise Refused(f"{folder}/weights.safetensors is damaged; import the weights again")
    from safetensors.numpy import load

    model = convert(about["model"], Model, f"{folder}/weights.json")
    module = create_model(model.name, **model.fields)
    variables: dict[str, Any] = {}
    for name, array in load(data).items():
        *modules, leaf = name.split(".")
        node = variables
        for part in modules:
            node = node.setdefault(part, {})
        node[leaf] = array
    return Network(model, module, variables, tuple(about["input"]))


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
    flat = _flat(network.variables)
    arrays = {".".join(path): np.asarray(array, np.float32) for path, array in flat.items()}
    data = save(arrays)
    atomic_write(out / "weights.safetensors", data)
    about = {
        "model": plain(network.model),
        "input": list(network.image_shape),
        "params": sum(a.size for name, a in arrays.items() if name.startswith("params.")),
        "from": source.name,
        "from_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "versions": versions(),
    }
    write_sealed(out / "weights.json", about)
    return about


def _flat(tree: Mapping[str, Any]) -> dict[VariablePath, Any]:
    leaves = jax.tree.flatten_with_path(dict(tree))[0]
    return {tuple(str(key.key) for key in path): leaf for path, leaf in leaves}
