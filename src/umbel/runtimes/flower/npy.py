"""One array as the bytes that `numpy.save` writes, read without pickle and without a copy."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from umbel.errors import WireError
from umbel.wire.protobuf import Bytes

MAGIC = b"\x93NUMPY"
MAX_HEADER_BYTES, MAX_DIMENSIONS = 10_000, 32
_DTYPE = re.compile(r"""['"]descr['"]\s*:\s*['"]([<>|=]?[biuf]\d{1,2})['"]""")
_ORDER = re.compile(r"""['"]fortran_order['"]\s*:\s*(True|False)""")
_SHAPE = re.compile(r"""['"]shape['"]\s*:\s*\(([\d\s,]*)\)""")


def write(array: NDArray[Any]) -> list[Bytes]:
    """The file in parts: its head and, without a copy, the array's bytes."""
    flat = np.ascontiguousarray(array)
    shape = f"({', '.join(map(str, array.shape))}{',' if array.ndim == 1 else ''})"
    text = f"{{'descr': '{flat.dtype.str}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(MAGIC) + 4 + len(text) + 1) % 64) + "\n"
    return [
        MAGIC + b"\x01\x00" + len(text).to_bytes(2, "little") + text.encode("latin1"),
        flat.reshape(-1).view(np.uint8).data,
    ]


def read(data: memoryview) -> NDArray[Any]:
    """The array in `data`, as a view on it where its byte order is this machine's.

    Raises:
        WireError: it is no such file, holds objects or text, or is longer or shorter than its shape says.
    """
    text, start = _header(data)
    found = [pattern.search(text) for pattern in (_DTYPE, _ORDER, _SHAPE)]
    if found[0] is None or found[1] is None or found[2] is None:
        raise WireError(
            f"a tensor's head is not one of numbers: {text.strip()[:80]!r}; allowed are floats, integers, bools"
        )
    try:
        dtype = np.dtype(found[0][1])
        shape = tuple(int(size) for size in found[2][1].split(",") if size.strip())
    except (TypeError, ValueError) as error:
        raise WireError(f"a tensor's head cannot be read: {error}") from None
    if len(shape) > MAX_DIMENSIONS or math.prod(shape) * dtype.itemsize != len(data) - start:
        raise WireError(f"a tensor of {dtype} and shape {shape} comes with {len(data) - start} bytes of data")
    try:
        array = np.frombuffer(data, dtype, offset=start).reshape(shape, order="F" if found[1][1] == "True" else "C")
    except ValueError as error:
        raise WireError(f"a tensor cannot have the shape {shape}: {error}") from None
    return array if dtype.isnative else array.astype(dtype.newbyteorder("="))


def _header(data: memoryview) -> tuple[str, int]:
    """The text that describes the array, and where its data begin."""
    if len(data) < 10 or bytes(data[:6]) != MAGIC or data[6] not in (1, 2, 3):
        raise WireError("a tensor is not what numpy.save writes")
    width = 2 if data[6] == 1 else 4
    length, start = int.from_bytes(data[8 : 8 + width], "little"), 8 + width
    if length > min(MAX_HEADER_BYTES, len(data) - start):
        raise WireError(f"a tensor claims a head of {length} bytes in {len(data)} bytes")
    return bytes(data[start : start + length]).decode("latin1"), start + length
