"""State dicts in files: safetensors, npz, and PyTorch's own format where torch is installed."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cnnjax.core.errors import Refused
from cnnjax.core.files import atomic_write

READS = (".safetensors", ".npz", ".pth", ".pt")
WRITES = (".safetensors", ".npz")


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Names and arrays of a file; a pickle is never opened freely.

    Raises:
      Refused: no such file, another format, damaged, or a .pth without torch.
    """
    if path.suffix not in READS:
        raise Refused(f"{path}: weights are read from {', '.join(READS)}")
    if not path.is_file():
        raise Refused(f"{path}: there is no such file")
    try:
        if path.suffix == ".safetensors":
            arrays = _read_safetensors(path)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        else:
            arrays = _read_torch(path)
    except Refused:
        raise
    except Exception as error:  # each reader raises its own kinds for a damaged file
        raise Refused(
            f"{path} cannot be read as {path.suffix}: it is another format, or damaged"
        ) from error
    for name, array in arrays.items():
        if array.dtype.kind not in "fiub":
            raise Refused(f"{path}: {name} is {array.dtype}; weights are real numbers")
    return arrays


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
    import io

    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **arrays)
    atomic_write(path, out.getvalue())


def require_writable(path: Path) -> None:
    """Refuse a file that weights cannot be written to."""
    if path.suffix not in WRITES:
        raise Refused(f"{path}: weights are written as {' or '.join(WRITES)}")
    if not path.parent.is_dir():
        raise Refused(f"{path}: there is no folder {path.parent}")


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


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise Refused(
            f"{path}: PyTorch's own format needs torch; type: pip install torch, or save the"
            " state dict as .safetensors"
        ) from None
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    arrays = loaded.get("state_dict", loaded)
    return {name: tensor.float().numpy() for name, tensor in arrays.items()}
