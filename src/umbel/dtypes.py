"""Number formats: safetensors codes, their NumPy types, exact widening and one rounding back.

NumPy has no bfloat16. Here it is its 16 raw bits in a `uint16` array whose dtype carries the mark
`{"umbel": "bfloat16"}`; `ml_dtypes.bfloat16` arrays are understood too, without importing that package.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from umbel.errors import ArraysError

Array = NDArray[Any]
Float64 = NDArray[np.float64]

LARGEST = 1e280
"""What a weighted value must stay below for exact sums to hold it."""

bfloat16: np.dtype[Any] = np.dtype("<u2", metadata={"umbel": "bfloat16"})

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "I64": np.dtype("<i8"),
    "U64": np.dtype("<u8"),
    "F32": np.dtype("<f4"),
    "I32": np.dtype("<i4"),
    "U32": np.dtype("<u4"),
    "F16": np.dtype("<f2"),
    "BF16": bfloat16,
    "I16": np.dtype("<i2"),
    "U16": np.dtype("<u2"),
    "I8": np.dtype("i1"),
    "U8": np.dtype("u1"),
    "BOOL": np.dtype("?"),
}
_CODES = {(dtype.kind, dtype.itemsize): code for code, dtype in DTYPES.items() if code != "BF16"}
FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_FINITE_BLOCK = 2**20


def code_of(dtype: np.dtype[Any]) -> str:
    """The safetensors code of a NumPy dtype, such as "F32".

    Raises:
        ArraysError: the dtype has no code (objects, text, complex numbers).
    """
    if dtype.name == "bfloat16" or (dtype.metadata or {}).get("umbel") == "bfloat16":
        return "BF16"
    try:
        return _CODES[dtype.kind, dtype.itemsize]
    except KeyError:
        raise ArraysError(
            f"dtype {dtype} cannot be part of a model; allowed are floats, integers and bools of up to 8 bytes; "
            "convert the array or leave it out"
        ) from None


def widen(values: Array, code: str) -> Float64:
    """`values` as float64 (exact but for integers beyond 2**53)."""
    if code == "BF16":
        bits = np.ascontiguousarray(values).view(np.uint16).astype(np.uint32) << np.uint32(16)
        return bits.view(np.float32).astype(np.float64)
    return values.astype(np.float64)


def narrow(values: Float64, code: str) -> Array:
    """float64 `values` in the format `code`, rounded once to nearest even; integers are clipped to their range."""
    if code == "BF16":
        return _to_bfloat16(values)
    if code in FLOATS:
        with np.errstate(over="ignore"):
            return values.astype(DTYPES[code])
    whole = np.rint(values)
    if code == "BOOL":
        return whole >= 1
    limits = np.iinfo(DTYPES[code])
    return _clip_to_integer(whole, int(limits.min), int(limits.max), DTYPES[code])


def _clip_to_integer(whole: Float64, low: int, high: int, dtype: np.dtype[Any]) -> Array:
    # float(2**63 - 1) rounds up to 2**63, which would overflow the cast: compare first, fill the ends afterwards.
    inside = (whole > float(low)) & (whole < float(high))
    result = np.where(inside, whole, 0.0).astype(dtype)
    result[whole <= float(low)] = low
    result[whole >= float(high)] = high
    return result


def _to_bfloat16(values: Float64) -> Array:
    """Round to odd in float32 first, so that the second rounding cannot round twice."""
    with np.errstate(over="ignore"):
        single = np.atleast_1d(values).astype(np.float32)
    back = single.astype(np.float64)
    bits = single.view(np.uint32).copy()
    wide = np.atleast_1d(values)
    bits -= (np.abs(back) > np.abs(wide)).astype(np.uint32)
    bits |= ((back != wide) & ~np.isnan(wide)).astype(np.uint32)
    rounded = (bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)
    rounded[np.isnan(wide)] = 0x7FC0
    return rounded.astype(np.uint16).reshape(values.shape).view(bfloat16)


def finite(values: Array, code: str) -> bool:
    """Whether no element is NaN or infinite; integers always are finite."""
    if code not in FLOATS:
        return True
    if values.size > _FINITE_BLOCK:
        # What is looked at at once needs memory of its own.
        flat = values.reshape(-1)
        return all(finite(flat[n : n + _FINITE_BLOCK], code) for n in range(0, flat.size, _FINITE_BLOCK))
    if code == "BF16":
        return not bool(((values.view(np.uint16) & 0x7F80) == 0x7F80).any())
    return bool(np.isfinite(values).all())
