"""Named arrays in one file with a SHA-256 for each: small, whole or absent, damage is noticed.

Layout: magic, length of the header, SHA-256 of the header, header (JSON), then the arrays.
"""

import hashlib
import json
import struct
from collections.abc import Mapping

import numpy as np

_MAGIC = b"CNNJAX1\n"
_PREFIX = len(_MAGIC) + 8 + 32
_DTYPES = {"float32", "bfloat16", "float16", "int64", "int32", "uint32", "uint8", "bool"}


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The arrays as one block of bytes."""
    header, parts, at = {}, [], 0
    for name, array in arrays.items():
        data = np.ascontiguousarray(array).tobytes()
        header[name] = [array.dtype.name, list(array.shape), at, len(data), _sha(data).hex()]
        parts.append(data)
        at += len(data)
    head = json.dumps(header).encode()
    return b"".join([_MAGIC, struct.pack("<Q", len(head)), _sha(head), head, *parts])


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """The arrays that `pack` wrote.

    Raises:
      ValueError: damaged or cut; the text names the array.
    """
    import ml_dtypes  # noqa: F401  (makes numpy know bfloat16)

    if data[: len(_MAGIC)] != _MAGIC or len(data) < _PREFIX:
        raise ValueError("not a file of arrays")
    (length,) = struct.unpack("<Q", data[8:16])
    head = data[_PREFIX : _PREFIX + length]
    if len(head) != length or _sha(head) != data[16:48]:
        raise ValueError("its header is damaged")
    view, arrays, end = memoryview(data)[_PREFIX + length :], {}, 0
    for name, (dtype, shape, at, size, digest) in json.loads(head).items():
        part = view[at : at + size]
        if dtype not in _DTYPES or _sha(part).hex() != digest:
            raise ValueError(f"{name} is damaged")
        arrays[name] = np.frombuffer(part, dtype).reshape(shape)
        end = max(end, at + size)
    if end != len(view):
        raise ValueError("its length is wrong")
    return arrays


def _sha(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()
