"""Weights from files: into a network's variables, and into a folder of imported weights.

Such a folder holds weights.safetensors, under our own names, and weights.json: the network, where
the weights came from, how images are normalised for them, and a digest of the file.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.architectures import MODELS, create_model
from cnnjax.core.environment import versions
from cnnjax.core.errors import Refused
from cnnjax.core.files import atomic_write, read_sealed, write_sealed
from cnnjax.core.folders import own_folder
from cnnjax.core.recipe import Model
from cnnjax.core.registry import source_digests
from cnnjax.core.user_code import located, paths_of
from cnnjax.core.values import convert, plain
from cnnjax.data.normalization import FixedNormalization, fixed_normalization
from cnnjax.interop.layout import Torch, as_it_is
from cnnjax.interop.mapping import Head, Taken, arrays_in_torch, take
from cnnjax.interop.state_dict import read_state_dict
from cnnjax.interop.torch_names import other_names
from cnnjax.interop.unwrapping import Unwrapped, grouped, some, unwrap
from cnnjax.interop.variables import VariablePath, flat, nested, template
from cnnjax.models.googlenet import GoogLeNet
from cnnjax.models.lenet import LeNet5
from cnnjax.models.ssd import SSD300

FILES = ("weights.json", "weights.safetensors")


@dataclass(frozen=True)
class Network:
    """A flax module, the model it is by name, its variables and its input."""

    model: Model
    module: Any
    variables: Mapping[str, Any]
    image_shape: tuple[int, int, int]


def read_variables(
    path: Path,
    module: Any,
    image_shape: tuple[int, int, int],
    *,
    head: Head = "keep",
    key: str | None = None,
    fresh: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Variables of a network from a file or from a folder of imported weights.

    Args:
      path: a folder that `import_weights` wrote; a state dict as safetensors or npz; a file of
        PyTorch's, with or without other entries and prefixes of names around the state dict.
      module: the network; equal blocks have their ordinary names in what is returned.
      image_shape: height, width, channels.
      head: "new" leaves the classifier (the dense layers whose shape the number of classes
        decides, auxiliary ones too) as it is in `fresh`, and reads everything else.
      key: the entry to read where a file has several, e.g. "model_ema"; default: the plain one.
      fresh: freshly initialised variables of `module`; needed for a new head.

    Returns:
      {"params": ..., "batch_stats": ...}, and lines: first what was stripped or left out, if
      anything was, then what a state dict does not say.

    Raises:
      OtherClasses: the weights are of this network with another number of classes.
      Mismatch: they are of another network; its lines name what is missing and what is left over.
      Refused: no such file, another format, damaged, not finite, or of an unknown layout.
    """
    wanted = template(module, image_shape)
    if path.is_dir():
        _, leaves = _read_folder(path)
        return carry_over(nested(leaves), module, image_shape, str(path), head=head, fresh=fresh)
    found = arrays_in_torch(module, wanted, image_shape)
    arrays, notes = found.arrays, found.notes
    names = {torch.name for torch in arrays.values()}
    whose, other = other_names(module, names)
    unwrapped = unwrap(read_state_dict(path), names | set(other), path, key)
    unwrapped = _renamed(unwrapped, other, whose)
    taken = take(module, image_shape, arrays, unwrapped.arrays, head, fresh, source=str(path))
    return nested(taken.variables), (*_done(unwrapped, taken), *notes)


def carry_over(
    variables: Mapping[str, Any],
    module: Any,
    image_shape: tuple[int, int, int],
    source: str,
    *,
    head: Head = "keep",
    fresh: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Variables of a network from those of another with the same names; see `read_variables`.

    Args:
      source: whose they are, for messages.
    """
    wanted = template(module, image_shape)
    arrays = {path: Torch(".".join(path), as_it_is(leaf.ndim)) for path, leaf in wanted.items()}
    given = {".".join(path): np.asarray(leaf) for path, leaf in flat(variables).items()}
    taken = take(module, image_shape, arrays, given, head, fresh, source=source)
    return nested(taken.variables), _done(Unwrapped(given), taken)


def import_weights(
    model: Model,
    file: Path,
    out: Path,
    image_shape: tuple[int, int, int] | None = None,
    *,
    key: str | None = None,
    normalization: FixedNormalization | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Read weights from `file` into folder `out`; what weights.json says.

    Weights in `out` that cannot be loaded (lost in part, damaged, of a network whose file has
    changed) are written anew.

    Args:
      key, and errors: see `read_variables`.
      normalization: of the images that the weights are for; default: `usual_normalization`.

    Raises:
      Refused: `out` holds something else.
    """
    if file.is_dir():
        raise Refused(f"{file} is a folder; give a file of weights")
    shape = image_shape or MODELS.find(model.name).input_shape
    if shape is None:
        raise Refused(f"{model.name} has no default input; give one, e.g. --input 32 32 3")
    module = create_model(model.name, **model.fields)
    normalization = normalization or usual_normalization(module, shape)
    fixed_normalization(normalization, shape[2])  # refused where the channels do not fit
    variables, notes = read_variables(file, module, shape, key=key)
    for note in notes:
        say(note)
    if any((out / name).exists() for name in FILES):
        _make_way(out, model, say)
    own_folder(out, "folder of weights", FILES, "--out")
    about = {"normalization": normalization, "notes": list(notes)}
    return _write(out, Network(model, module, variables, shape), file, about)


def load_weights(folder: Path) -> Network:
    """The network of a folder of imported weights.

    Raises:
      Refused: it is none, or is damaged, or the network's file has changed.
    """
    about, leaves = _read_folder(folder)
    model = convert(about["model"], Model, f"{folder}/weights.json")
    with paths_of(about):
        module = create_model(model.name, **model.fields)
    if source_digests([(model.name, type(module))]) != about.get("sources", {}):
        raise Refused(
            f"{folder}: {model.name} has changed since its weights were imported; {_again(folder)}"
        )
    return Network(model, module, nested(leaves), tuple(about["input"]))


def holds_weights(folder: Path) -> bool:
    """Whether a folder is one of imported weights, or what is left of one."""
    return any((folder / name).is_file() for name in FILES)


def described_weights(folder: Path) -> dict[str, Any]:
    """What weights.json says, with the `normalization` of its images.

    Raises:
      Refused: it is lost or damaged.
    """
    return _read(folder, FILES[0], read_sealed)


def usual_normalization(module: Any, image_shape: tuple[int, int, int]) -> FixedNormalization:
    """What weights of a network are usually for: ImageNet's figures for colour, 0 to 1 for grey.

    torchvision's GoogLeNet wants -1 to 1 (its transform_input), its SSD300 what Caffe's VGG was
    trained with, LeNet-5 the paper's -0.1 to 1.175.
    """
    if type(module) is SSD300:
        return "caffe"
    if type(module) is GoogLeNet and module.norm == "batch":
        return "inception"
    if type(module) is LeNet5:
        return "lecun1998"
    return "imagenet" if image_shape[2] == 3 else "none"


def _renamed(unwrapped: Unwrapped, names: Mapping[str, str], whose: str) -> Unwrapped:
    """With other names by theirs; a dense layer that is a convolution there (timm's VGG) loses its
    places."""
    arrays = {}
    for name, array in unwrapped.arrays.items():
        if array.ndim == 4 and names.get(name, "").startswith("classifier."):
            array = array.reshape(len(array), -1)
        arrays[names.get(name, name)] = array
    met = any(name in names for name in unwrapped.arrays)
    return replace(unwrapped, arrays=arrays, renamed=whose if met else "")


def _done(unwrapped: Unwrapped, taken: Taken) -> tuple[str, ...]:
    """One line for all that was done to fit the weights, or none."""
    clauses = unwrapped.words()
    if left_out := [*unwrapped.left_out, *taken.left_out]:
        clauses.append(f"left out {some(grouped(left_out))}")
    if taken.new:
        clauses.append(f"new, as initialised: {some(taken.new)}")
    return ("; ".join(clauses),) if clauses else ()


def _make_way(out: Path, model: Model, say: Callable[[str], None]) -> None:
    """Let weights of `model` be written anew where those in `out` are of no use; refuse to write
    over others."""
    try:
        about, _ = _read_folder(out)
    except Refused as error:
        say(f"{error}: done")
        return
    if about["model"] != plain(model):
        raise Refused(f"{out} holds weights of {about['model']['name']}; give another --out")
    try:
        load_weights(out)
    except Refused as error:  # its network's file was edited
        say(f"{error}: done")
    else:
        raise Refused(f"{out} holds weights already; give another --out")


def _read_folder(folder: Path) -> tuple[dict[str, Any], dict[VariablePath, np.ndarray]]:
    """What weights.json says, and the variables by path.

    Raises:
      Refused: a file is lost or damaged.
    """
    about, data = _read(folder, FILES[0], read_sealed), _read(folder, FILES[1], Path.read_bytes)
    if hashlib.sha256(data).hexdigest() != about["sha256"]:
        raise Refused(f"{folder}/weights.safetensors is damaged; {_again(folder)}")
    from safetensors.numpy import load

    paths, dtypes = about.get("paths", {}), about.get("dtypes", {})
    leaves = {
        tuple(paths.get(name) or name.split(".")): array.astype(dtypes.get(name, array.dtype))
        for name, array in load(data).items()
    }
    return about, leaves


def _read(folder: Path, name: str, read: Callable[[Path], Any]) -> Any:
    try:
        return read(folder / name)
    except FileNotFoundError:
        if holds_weights(folder):
            raise Refused(f"{folder}/{name} is lost; {_again(folder)}") from None
        raise Refused(f"{folder} holds no weights (cnnjax import-weights)") from None
    except (OSError, ValueError) as error:
        raise Refused(f"{folder}/{name}: {error}; {_again(folder)}") from None


def _again(folder: Path) -> str:
    return f"import the weights again: cnnjax import-weights NAME FILE --out {folder}"


def _write(out: Path, network: Network, source: Path, about: Mapping[str, Any]) -> dict[str, Any]:
    from safetensors.numpy import save

    # In float32 whatever the network stores: numpy's safetensors has no bfloat16.
    leaves = {".".join(path): (path, leaf) for path, leaf in flat(network.variables).items()}
    arrays = {name: np.asarray(leaf, np.float32) for name, (_, leaf) in leaves.items()}
    data = save(arrays)
    described = {
        "model": plain(network.model),
        "input": list(network.image_shape),
        "params": sum(a.size for name, a in arrays.items() if name.startswith("params.")),
        "from": source.name,
        "from_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        **about,
        "sha256": hashlib.sha256(data).hexdigest(),
        "sources": source_digests([(network.model.name, type(network.module))]),
        "folder": str(located(".").absolute()),  # where a relative path in the model's name starts
        "paths": {n: list(path) for n, (path, _) in leaves.items() if tuple(n.split(".")) != path},
        "dtypes": {n: str(a.dtype) for n, (_, a) in leaves.items() if a.dtype != np.float32},
        "versions": versions(),
    }
    atomic_write(out / "weights.safetensors", data)
    write_sealed(out / "weights.json", described)
    return described
