"""Trees of plain data and arrays as frames: tasks, updates, states and checkpoints all travel this way.

A tree is dicts with text keys whose leaves are plain data, `Arrays` or NumPy arrays. Array leaves become buffers;
in the header stands {"arrays": n} or {"array": n} wrapped so that plain data cannot be mistaken for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays
from umbel.errors import ArraysError, WireError
from umbel.wire.frame import Buffer, Part, decode, encode_parts, encode_sealed
from umbel.wire.plain import weigh

Leaf = TypeVar("Leaf")


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


def pack_sealed(kind: str, tree: Mapping[str, Any]) -> tuple[list[Part], bytes]:
    """As `pack_parts`, and the SHA-256 of all parts together."""
    buffers: list[Buffer] = []
    return encode_sealed(kind, _lower(tree, buffers), buffers)


def unpack(kind: str, data: Buffer, *, verify: bool = True, budget_bytes: int | None = None) -> dict[str, Any]:
    """The tree in a frame of `kind`. NumPy leaves are fresh writable copies, `Arrays` leaves views on `data`.

    Args:
        verify: check the SHA-256. Only memory that this process wrote itself may skip it.
        budget_bytes: the most memory that headers may take once they are read; None trusts who wrote them.

    Raises:
        WireError: the bytes are no frame of this kind, or an array in it is not well formed.
    """
    frame = decode(data, verify=verify, budget_bytes=budget_bytes)
    if frame.kind != kind:
        raise WireError(f"expected a frame of kind {kind!r}, got {frame.kind!r}")
    if budget_bytes is not None:
        _within(frame.buffers, budget_bytes)
    return tree_in(kind, frame.body, frame.buffers, _arrays_in)


def tree_in(kind: str, body: Any, buffers: Sequence[Leaf], arrays: Callable[[Leaf, bool], Any]) -> dict[str, Any]:
    """The tree in a frame's body.

    Args:
        buffers: what stands for the frame's buffers.
        arrays: makes a leaf of a buffer: of named arrays (True), or of a single one.

    Raises:
        WireError: the body is no tree, or names buffers that are not there.
    """
    try:
        tree = _raise(body, dict(enumerate(buffers)), arrays)
    except (ArraysError, IndexError, KeyError, TypeError, ValueError) as error:
        raise WireError(f"a frame of kind {kind!r} holds what cannot be read: {error}") from None
    if not isinstance(tree, dict):
        raise WireError(f"a frame of kind {kind!r} holds {type(tree).__name__} where a map should be")
    return cast("dict[str, Any]", tree)


def _arrays_in(buffer: NDArray[np.uint8], named: bool) -> Any:
    arrays = Arrays.from_buffer(buffer)
    return arrays if named else arrays["value"].copy()


def _within(buffers: Sequence[NDArray[np.uint8]], budget_bytes: int) -> None:
    """Look how much memory the headers of all arrays together could take."""
    cost = 0
    for buffer in buffers:
        length = int.from_bytes(buffer[:8].tobytes(), "little")
        cost += weigh(buffer[8 : 8 + length].tobytes())
        if cost > budget_bytes:
            raise WireError(f"the headers of the arrays would take more than {budget_bytes} bytes of memory")


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


def _raise(value: Any, left: dict[int, Any], arrays: Callable[[Any, bool], Any]) -> Any:
    if not isinstance(value, list) or len(cast("list[Any]", value)) != 2:
        raise TypeError("a node of the tree is no pair")
    kind, content = cast("list[Any]", value)
    if kind == "plain":
        return content
    if kind == "map" and isinstance(content, dict):
        return {key: _raise(item, left, arrays) for key, item in cast("dict[str, Any]", content).items()}
    if kind in ("array", "arrays") and type(content) is int:
        # Each buffer once: a few bytes that name a large one again and again would be copied as often.
        return arrays(left.pop(content), kind == "arrays")
    raise TypeError(f"unknown leaf {kind!r}")
