"""Arrays and torch tensors that share memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, cast

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from umbel.arrays import Arrays
from umbel.errors import ArraysError
from umbel.schema import ArraySpec, Role, Schema

_DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}


def code_of(name: str, dtype: torch.dtype) -> str:
    """The safetensors code of the dtype that the array `name` has.

    Raises:
        ArraysError: the dtype cannot be part of a model.
    """
    try:
        return _CODES[dtype]
    except KeyError:
        allowed = ", ".join(str(known).removeprefix("torch.") for known in _CODES)
        raise ArraysError(
            f"array {name!r} has dtype {dtype}, which cannot be part of a model; convert it to one of {allowed}"
        ) from None


def as_tensor(view: NDArray[Any], code: str) -> Tensor:
    """A tensor on the memory of a writable view."""
    if code == "BF16":
        return torch.from_numpy(view.view("i2")).view(torch.bfloat16)
    return torch.from_numpy(view)


def tensors(arrays: Arrays) -> dict[str, Tensor]:
    """The arrays as tensors on the same memory, which must not be written to; made once per `Arrays`."""
    if arrays.native is not None:
        return arrays.native
    # torch warns of read-only arrays; the bytes beneath the views are writable unless they came from `bytes`.
    data = arrays.data if arrays.data.flags.writeable else arrays.data.copy()
    result: dict[str, Tensor] = {}
    for spec in arrays.schema.specs:
        start = arrays.schema.offsets[spec.name]
        flat = torch.from_numpy(data[start : start + spec.nbytes])
        result[spec.name] = flat.view(_DTYPES[spec.dtype]).reshape(spec.shape)
    arrays.native = result
    return result


def copy_all(targets: Sequence[Tensor], sources: Sequence[Tensor]) -> None:
    """Copy each source into its target, in one call."""
    if targets:
        with torch.no_grad():
            cast("Any", torch)._foreach_copy_(list(targets), list(sources))


@lru_cache(maxsize=64)
def schema_of(arrays: tuple[tuple[str, torch.dtype, torch.Size, bool | None], ...]) -> Schema:
    """The schema of (name, dtype, shape, wants a gradient or is a buffer): one object for all clients of a model."""
    specs: list[ArraySpec] = []
    for name, dtype, shape, grad in arrays:
        role: Role = "averaged" if grad is None else "trained" if grad else "frozen"
        specs.append(ArraySpec(name, code_of(name, dtype), tuple(shape), role))
    return Schema(specs)


def state_of(model: nn.Module) -> dict[str, Tensor]:
    """The live tensors of `state_dict`; what else a module keeps there stays at home."""
    return {name: value for name, value in model.state_dict(keep_vars=True).items() if isinstance(value, Tensor)}


def is_on(device: torch.device, wanted: torch.device) -> bool:
    """Whether a device is the wanted one, whose index may be left open."""
    return device.type == wanted.type and wanted.index in (None, device.index or 0)
