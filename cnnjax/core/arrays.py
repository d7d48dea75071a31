"""Named arrays in one file with a SHA-256 for each: small, whole or absent, damage is noticed.

Layout: magic, length of the header, SHA-256 of the header, header (JSON), then the arrays, in C
order and little-endian. Every dtype that is written is read back; others are refused.
"""

import hashlib
import json
import struct
from collections.abc import Mapping

import ml_dtypes  # also makes numpy know bfloat16 and the like by name
import numpy as np

from cnnjax.core.errors import Refused

_MAGIC = b"CNNJAX1\n"
_PREFIX = len(_MAGIC) + 8 + 32
_NUMPY = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
          "float16", "float32", "float64", "complex64", "complex128")  # fmt: skip
_SMALL = [
    value
    for value in vars(ml_dtypes).values()
    if isinstance(value, type) and issubclass(value, np.generic)
]
_DTYPES = {
    dtype.name: dtype.newbyteorder("<") for dtype in (np.dtype(one) for one in (*_NUMPY, *_SMALL))
}


def pack(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The arrays as one block of bytes.

    Raises:
      Refused: an array holds no plain numbers; the text names it.
    """
    header, parts, at = {}, [], 0
    for name, value in arrays.items():
        array = np.asarray(value)
        dtype = _DTYPES.get(array.dtype.name)
        if dtype is None:
            raise Refused(f"array {name} is of dtype {array.dtype}; only numbers can be written")
        data = array.astype(dtype, copy=False).tobytes()
        header[name] = [dtype.name, list(array.shape), at, len(data), _sha(data).hex()]
        parts.append(data)
        at += len(data)
    head = json.dumps(header).encode()
    return b"".join([_MAGIC, struct.pack("<Q", len(head)), _sha(head), head, *parts])


def unpack(data: bytes) -> dict[str, np.ndarray]:
    """The arrays that `pack` wrote.

    Raises:
      ValueError: damaged or cut, or of a dtype that is not known here; the text names the array.
    """
    if data[: len(_MAGIC)] != _MAGIC or len(data) < _PREFIX:
        raise ValueError("not a file of arrays")
    (length,) = struct.unpack("<Q", data[8:16])
    head = data[_PREFIX : _PREFIX + length]
    if len(head) != length or _sha(head) != data[16:48]:
        raise ValueError("its header is damaged")
    view, arrays, end = memoryview(data)[_PREFIX + length :], {}, 0
    for name, (dtype, shape, at, size, digest) in json.loads(head).items():
        part = view[at : at + size]
        if _sha(part).hex() != digest:
            raise ValueError(f"{name} is damaged")
        if dtype not in _DTYPES:
            raise ValueError(f"{name} is of dtype {dtype}, which is not known here")
        arrays[name] = np.frombuffer(part, _DTYPES[dtype]).reshape(shape)
        end = max(end, at + size)
    if end != len(view):
        raise ValueError("its length is wrong")
    return arrays


def _sha(data: bytes | memoryview) -> bytes:
    return hashlib.sha256(data).digest()
