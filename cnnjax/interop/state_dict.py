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
            from safetensors.numpy import load_file

            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        return _read_torch(path)
    except Refused:
        raise
    except Exception as error:  # each reader raises its own kinds for a damaged file
        raise Refused(
            f"{path} cannot be read as {path.suffix}: it is another format, or damaged"
        ) from error


def write_state_dict(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write names and arrays, whole or not at all.

    Raises:
      Refused: another format, or no such folder.
    """
    if path.suffix not in WRITES:
        raise Refused(f"{path}: weights are written as {' or '.join(WRITES)}")
    if not path.parent.is_dir():
        raise Refused(f"{path}: there is no folder {path.parent}")
    if path.suffix == ".safetensors":
        from safetensors.numpy import save

        atomic_write(path, save(dict(arrays)))
        return
    import io

    out = io.BytesIO()
    np.savez(out, allow_pickle=False, **arrays)
    atomic_write(path, out.getvalue())


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
