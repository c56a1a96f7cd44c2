"""Trees of plain data and arrays as frames: tasks, updates, states and checkpoints all travel this way.

A tree is dicts with text keys whose leaves are plain data, `Arrays` or NumPy arrays. Array leaves become buffers;
in the header stands {"arrays": n} or {"array": n} wrapped so that plain data cannot be mistaken for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays
from umbel.errors import ArraysError, WireError
from umbel.wire.frame import Buffer, Part, decode, encode_parts


def pack(kind: str, tree: Mapping[str, Any]) -> bytes:
    """One frame of `kind` that holds `tree`.

    Example:
        >>> frame = pack("state", {"step": 3, "w": np.ones(2)})
        >>> unpack("state", frame)
        {'step': 3, 'w': array([1., 1.])}
    """
    return b"".join(pack_parts(kind, tree))


def pack_parts(kind: str, tree: Mapping[str, Any], *, seal: bool = True) -> list[Part]:
    """As `pack`, in parts that share memory with the arrays in `tree`. See `encode_parts` for `seal`."""
    buffers: list[Buffer] = []
    return encode_parts(kind, _lower(tree, buffers), buffers, seal=seal)


def unpack(kind: str, data: Buffer, *, verify: bool = True) -> dict[str, Any]:
    """The tree in a frame of `kind`. NumPy leaves are fresh writable copies, `Arrays` leaves views on `data`.

    Raises:
        WireError: the bytes are no frame of this kind, or an array in it is not well formed.
    """
    frame = decode(data, verify=verify)
    if frame.kind != kind:
        raise WireError(f"expected a frame of kind {kind!r}, got {frame.kind!r}")
    try:
        return cast("dict[str, Any]", _raise(frame.body, frame.buffers))
    except (ArraysError, IndexError, KeyError, TypeError) as error:
        raise WireError(f"a frame of kind {kind!r} holds arrays that cannot be read: {error}") from None


def _lower(value: Any, buffers: list[Buffer]) -> Any:
    if isinstance(value, Arrays):
        buffers.append(value.buffer)
        return ["arrays", len(buffers) - 1]
    if isinstance(value, np.ndarray):
        array = cast("NDArray[Any]", value)
        buffers.append(Arrays.of({"value": array}).buffer)
        return ["array", len(buffers) - 1]
    if isinstance(value, Mapping):
        return ["map", {key: _lower(item, buffers) for key, item in cast("Mapping[Any, Any]", value).items()}]
    return ["plain", list(cast("Sequence[Any]", value)) if isinstance(value, tuple) else value]


def _raise(value: Any, buffers: Sequence[NDArray[np.uint8]]) -> Any:
    kind, content = cast("tuple[str, Any]", value)
    if kind == "map":
        return {key: _raise(item, buffers) for key, item in content.items()}
    if kind == "arrays":
        return Arrays.from_buffer(buffers[int(content)])
    if kind == "array":
        return Arrays.from_buffer(buffers[int(content)])["value"].copy()
    if kind == "plain":
        return content
    raise TypeError(f"unknown leaf {kind!r}")
