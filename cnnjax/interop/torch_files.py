"""PyTorch's own files, in both of its formats, read without opening a pickle.

torch.load(weights_only=True) does the reading. What it refuses is said precisely: the pickle's
words and the names of its classes are listed, and nothing of it is run.
"""

import pickletools
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnjax.core.errors import Refused
from cnnjax.interop.unwrapping import ENTRIES, some

_MAGIC = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"  # of the format before PyTorch 1.6
_PICKLE = "data.pkl"
_LEGACY_PICKLES = 4  # magic, protocol, machine, and the object


def is_legacy(head: bytes) -> bool:
    """Whether a file begins as PyTorch's format before 1.6."""
    return _MAGIC in head[:40]


def is_zipped(names: list[str]) -> bool:
    """Whether a zip archive with these files is PyTorch's."""
    return any(Path(name).name == _PICKLE for name in names)


def read_torch(path: Path) -> Any:
    """What was saved, its tensors as arrays.

    Raises:
      Refused: torch is missing, or the file holds more than tensors and plain values.
    """
    try:
        import torch
    except ImportError:
        raise Refused(
            f"{path}: PyTorch's own format needs torch; type: pip install torch, or save the"
            " state dict as .safetensors"
        ) from None
    _refuse_script(path)
    # Opened here: given a path, torch.load goes by the suffix.
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loaded = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            if "GLOBAL" in str(error):  # torch.load names the first class that it does not know
                _refuse_classes(path)
            raise
    return _as_arrays(loaded, torch)


def _as_arrays(value: Any, torch: Any) -> Any:
    """Tensors as arrays, floating ones in float32; what has no array as it is."""
    if isinstance(value, torch.Tensor):
        tensor = value.detach()
        try:
            return (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        except (RuntimeError, TypeError, NotImplementedError):  # sparse, quantised, on no device
            return value
    if isinstance(value, Mapping):
        return {name: _as_arrays(child, torch) for name, child in value.items()}
    return value


def _refuse_script(path: Path) -> None:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            script = any("/code/" in name for name in archive.namelist())
        if script:
            raise Refused(
                f"{path} is a TorchScript program; in Python:"
                f" torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pth')"
            )


def _refuse_classes(path: Path) -> None:
    """Say which classes a file needs, and how to save its weights alone."""
    classes, words = _contents(path)
    loaded = f"torch.load({path.name!r}, weights_only=False)"
    typed = "in Python, if you trust its source: torch.save({}, 'weights.pth')"
    if any(name.startswith("torch.nn.modules.") for name in classes):
        raise Refused(
            f"{path} is a whole network, which only a pickle opens (none is opened here);"
            f" {typed.format(f'{loaded}.state_dict()')}"
        )
    other = [name for name in classes if not name.startswith(("torch.", "collections."))]
    what = some(dict.fromkeys(other)) or "more than tensors"
    entry = next((name for name in ENTRIES if name in words), None)
    weights = f"{loaded}[{entry!r}]" if entry else loaded
    raise Refused(
        f"{path} holds {what} beside the weights, which only a pickle opens (none is opened here);"
        f" {typed.format(weights)}"
    )


def _contents(path: Path) -> tuple[list[str], list[str]]:
    """Names of the classes and functions in a file's pickle, and its words; nothing is run."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if Path(name).name == _PICKLE)
            with archive.open(name) as data:
                return _listed(data)
    with path.open("rb") as data:
        for _ in range(_LEGACY_PICKLES - 1):
            _listed(data)
        return _listed(data)


def _listed(data: Any) -> tuple[list[str], list[str]]:
    """Of the next pickle in an open file."""
    classes, words = [], []
    for opcode, value, _ in pickletools.genops(data):
        if opcode.name == "GLOBAL":
            classes.append(str(value).replace(" ", "."))
        elif opcode.name == "STACK_GLOBAL":
            classes.append(".".join(words[-2:]))
        elif "UNICODE" in opcode.name:
            words.append(value)
    return classes, words
