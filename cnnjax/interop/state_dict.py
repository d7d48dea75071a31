"""Weights in files: safetensors, npz, and PyTorch's own formats where torch is installed.

What a file is, its first bytes say, and not its name: PyTorch's are called .pth, .pt, .bin, .ckpt,
.pth.tar or nothing.
"""

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from cnnjax.core.errors import Refused
from cnnjax.core.files import atomic_write
from cnnjax.interop.torch_files import is_legacy, is_zipped, read_torch

READS = "safetensors, npz, and PyTorch's files (.pth, .pt, .bin, .ckpt, .pth.tar)"
WRITES = (".safetensors", ".npz")
_HEAD = 512  # bytes that tell formats apart
_OTHERS = {  # how files of other kinds begin
    b"\x89HDF": "HDF5 (Keras); save a state dict",
    b"\x1f\x8b": "compressed by gzip; unpack it",
    b"\xfd7zXZ": "compressed by xz; unpack it",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself; type: git lfs pull",
    b"<": "a web page or XML, not what was to be downloaded",
    b"\x80": "a pickle of Python, which is not opened; save a state dict with torch.save",
}


def read_state_dict(path: Path) -> Mapping[Any, Any]:
    """Names and arrays of a file, or what its maker put around them; a pickle is never opened.

    Raises:
      Refused: no such file, another format, damaged, or PyTorch's own format without torch.
    """
    if not path.is_file():
        raise Refused(f"{path}: there is no such file")
    kind = _kind(path)
    try:
        if kind == "safetensors":
            return _read_safetensors(path)
        if kind == "npz":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        found = read_torch(path)
    except Refused:
        raise
    except Exception as error:  # each reader raises its own kinds for a damaged file
        raise Refused(f"{path} cannot be read as {kind}: it is cut or damaged") from error
    if not isinstance(found, Mapping):
        raise Refused(
            f"{path} holds a {type(found).__name__}, no state dict; save one: torch.save("
            "network.state_dict(), 'weights.pth')"
        )
    return found


def write_state_dict(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write names and arrays, whole or not at all.

    Raises:
      Refused: another format, or no such folder.
    """
    require_writable(path)
    if path.suffix == ".safetensors":
        from safetensors.numpy import save

        atomic_write(path, save(dict(arrays)))
        return
    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **arrays)
    atomic_write(path, out.getvalue())


def require_writable(path: Path) -> None:
    """Refuse a file that weights cannot be written to."""
    if path.suffix not in WRITES:
        raise Refused(f"{path}: weights are written as {' or '.join(WRITES)}")
    if not path.parent.is_dir():
        raise Refused(f"{path}: there is no folder {path.parent}")


def _kind(path: Path) -> str:
    """The format that a file is in, by its content.

    Raises:
      Refused: none that is read.
    """
    with path.open("rb") as file:
        head = file.read(_HEAD)
    size = int.from_bytes(head[:8], "little")
    if head[8:9] == b"{" and size + 8 <= path.stat().st_size:
        return "safetensors"
    if head.startswith(b"PK"):
        try:
            with zipfile.ZipFile(path) as archive:
                names = archive.namelist()
        except zipfile.BadZipFile:
            raise Refused(f"{path} cannot be read: its end is cut off, or it is damaged") from None
        if is_zipped(names):
            return "PyTorch's file"
        if all(name.endswith(".npy") for name in names):
            return "npz"
        raise Refused(f"{path} is a zip archive of other files ({', '.join(names[:3])}); unpack it")
    if is_legacy(head):
        return "PyTorch's file"
    if head[257:262] == b"ustar":
        raise Refused(f"{path} is a tar archive; unpack it and give the file of weights in it")
    what = next((words for begin, words in _OTHERS.items() if head.startswith(begin)), None)
    if not head:
        what = "empty"
    raise Refused(f"{path} is {what or 'none of these, or damaged'}; weights are read from {READS}")


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """As the library's own reader for numpy, and bfloat16 (as float32), which that one lacks."""
    import ml_dtypes
    import safetensors

    dtypes = {"BF16": ml_dtypes.bfloat16, "BOOL": np.bool_}
    arrays = {}
    for name, tensor in safetensors.deserialize(path.read_bytes()):
        kind = tensor["dtype"]
        letters = {"F": "f", "I": "i", "U": "u"}
        dtype = dtypes.get(kind) or np.dtype(f"{letters[kind[0]]}{int(kind[1:]) // 8}")
        array = np.frombuffer(tensor["data"], dtype).reshape(tensor["shape"])
        arrays[name] = array.astype(np.float32) if kind == "BF16" else array
    return arrays
