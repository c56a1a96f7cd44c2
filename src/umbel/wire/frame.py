"""The frame: 16 fixed bytes, a JSON header, raw buffers, a SHA-256 over everything before it.

bytes  0-3   "UMBL"
bytes  4-5   format number, little endian (now 1)
bytes  6-7   reserved, zero
bytes  8-15  header length, little endian
then         header: {"kind": text, "body": plain data, "buffers": [lengths]}, padded with spaces to 64
then         each buffer, padded with zeros to 64
last 32      SHA-256 of all bytes before them
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast, final

import numpy as np
from numpy.typing import NDArray

from umbel.errors import WireError
from umbel.wire.plain import from_json, read, to_json, written

MAGIC, FORMAT, ALIGNMENT = b"UMBL", 1, 64
READABLE = (1,)
MAX_HEADER_BYTES = 256 * 2**20
# What Python needs for one buffer, beside its bytes.
_BUFFER_COST = 600
Buffer: TypeAlias = "bytes | bytearray | memoryview | NDArray[np.uint8]"
Part: TypeAlias = "bytes | memoryview"


@final
@dataclass(frozen=True)
class Frame:
    """A decoded frame: `buffers` are read-only views on the bytes it came from."""

    kind: str
    body: Any
    buffers: Sequence[NDArray[np.uint8]] = field(default_factory=list["NDArray[np.uint8]"])


def encode(kind: str, body: Any, buffers: Sequence[Buffer] = ()) -> bytes:
    """The bytes of a frame. `body` is plain data: None, bool, int, float, text, bytes, lists and dicts with text keys.

    Raises:
        WireError: `body` holds something else.
    """
    return b"".join(encode_parts(kind, body, buffers))


def encode_parts(kind: str, body: Any, buffers: Sequence[Buffer] = (), *, seal: bool = True) -> list[Part]:
    """The bytes of a frame in parts, so that large buffers are not copied.

    Args:
        seal: False leaves the digest out (zeros), for memory that only this process and its children touch.
    """
    if not seal:
        return [*_unsealed(kind, body, buffers), bytes(32)]
    return encode_sealed(kind, body, buffers)[0]


def encode_sealed(kind: str, body: Any, buffers: Sequence[Buffer] = ()) -> tuple[list[Part], bytes]:
    """As `encode_parts`, and the SHA-256 of all parts together, at the price of one look at the bytes."""
    parts = _unsealed(kind, body, buffers)
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    seal = digest.digest()
    digest.update(seal)
    return [*parts, seal], digest.digest()


def _unsealed(kind: str, body: Any, buffers: Sequence[Buffer]) -> list[Part]:
    views = [_bytes(b) for b in buffers]
    text = written({"kind": kind, "body": to_json(body), "buffers": [len(v) for v in views]})
    text += b" " * (-(16 + len(text)) % ALIGNMENT)
    parts: list[Part] = [MAGIC + FORMAT.to_bytes(2, "little") + bytes(2) + len(text).to_bytes(8, "little") + text]
    for view in views:
        parts += [view, bytes(-len(view) % ALIGNMENT)] if len(view) % ALIGNMENT else [view]
    return parts


def decode(data: Buffer, *, verify: bool = True, budget_bytes: int | None = None) -> Frame:
    """The frame in `data`, whose buffers are not copied.

    Args:
        verify: check the SHA-256. Only memory that this process wrote itself may skip it.
        budget_bytes: the most memory that its header may take once it is read; None trusts who wrote it.

    Raises:
        WireError: not a frame, an unknown format number, lengths that do not add up, or a digest that does not match.
    """
    view = _bytes(data)

    def sha256() -> bytes:
        return hashlib.sha256(view[:-32]).digest()

    kind, body, places = outline(
        lambda start, stop: bytes(view[start:stop]), len(view), sha256 if verify else None, budget_bytes
    )
    buffers: list[NDArray[np.uint8]] = []
    for start, size in places:
        buffer = np.frombuffer(view[start : start + size], np.uint8)
        buffer.flags.writeable = False
        buffers.append(buffer)
    return Frame(kind, body, buffers)


def outline(
    get: Callable[[int, int], bytes], total: int, sha256: Callable[[], bytes] | None, budget_bytes: int | None = None
) -> tuple[str, Any, list[tuple[int, int]]]:
    """A frame's kind, body and where its buffers lie, (first byte, length), without having it in memory.

    Args:
        get: the bytes from one place up to another.
        total: how many bytes there are.
        sha256: the digest of all but the last 32; None does not look.
        budget_bytes: as in `decode`.

    Raises:
        WireError: as `decode`.
    """
    first = get(0, min(16, total))
    if total < 48 or first[:4] != MAGIC:
        raise WireError("these bytes are not an Umbel frame")
    number = int.from_bytes(first[4:6], "little")
    if number not in READABLE or first[6:8] != bytes(2):
        raise WireError(f"frame format {number} is not known; this version reads {READABLE}; update Umbel")
    length = int.from_bytes(first[8:16], "little")
    if length > min(total - 48, MAX_HEADER_BYTES):
        raise WireError(f"the frame claims a header of {length} bytes in {total} bytes")
    if (16 + length) % ALIGNMENT:
        raise WireError(f"the frame's header of {length} bytes is not padded to a multiple of {ALIGNMENT}")
    if sha256 is not None and sha256() != get(total - 32, total):
        raise WireError("the frame's SHA-256 does not match: its bytes were changed on the way or on disk")
    try:
        head = read(get(16, 16 + length), budget_bytes)
        kind, body, sizes = from_json(head["kind"]), from_json(head["body"]), head["buffers"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise WireError(f"the frame's header is not readable: {error}") from None
    if not isinstance(kind, str) or not _are_lengths(sizes):
        raise WireError("the frame's header lacks a kind or buffer lengths")
    if budget_bytes is not None and len(sizes) * _BUFFER_COST > budget_bytes:
        raise WireError(f"the frame has {len(sizes)} buffers, more than may be read of a stranger's")
    return kind, body, _places(16 + length, sizes, total)


def _bytes(buffer: Buffer) -> memoryview:
    return memoryview(buffer.data if isinstance(buffer, np.ndarray) else buffer).cast("B")


def _are_lengths(sizes: Any) -> bool:
    return isinstance(sizes, list) and all(type(s) is int and s >= 0 for s in cast("list[Any]", sizes))


def _places(start: int, sizes: Sequence[int], total: int) -> list[tuple[int, int]]:
    places: list[tuple[int, int]] = []
    for size in sizes:
        if start + size > total - 32:
            raise WireError("the frame's buffers are longer than the frame")
        places.append((start, size))
        start += size + -size % ALIGNMENT
    if start != total - 32:
        raise WireError("the frame has bytes that its header does not describe")
    return places
