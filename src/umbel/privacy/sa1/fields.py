"""Byte strings in one: the canonical form of everything that SA1 signs, hashes or sends."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from umbel.errors import ProtocolError

MOST_FIELDS = 2**20


def joined(*fields: bytes) -> bytes:
    """Fields in one byte string: how many, the length of each (four bytes, little-endian), then all of them.

    There is one such form of a list of fields and no two lists have the same, so a digest of it binds each field.

    Example:
        >>> parted(joined(b"a", b"", b"bc"))
        [b'a', b'', b'bc']
    """
    lengths = np.array([len(fields), *map(len, fields)], "<u4")
    return lengths.tobytes() + b"".join(fields)


def parted(data: bytes, count: int | None = None, *, least: int = 0) -> list[bytes]:
    """The fields of `joined`.

    Args:
        count: how many there have to be; None takes any number, of at least `least`.

    Raises:
        ProtocolError: these bytes are no such form.
    """
    found = int.from_bytes(data[:4], "little") if len(data) >= 4 else -1
    start = 4 * (found + 1)
    if not 0 <= found <= MOST_FIELDS or len(data) < start or found < least or count not in (None, found):
        raise ProtocolError(f"SA1 expects {'some' if count is None else count} fields, got {len(data)} other bytes")
    ends = np.cumsum(np.concatenate([[start], np.frombuffer(data, "<u4", found, 4).astype(np.int64)])).tolist()
    if ends[-1] != len(data):
        raise ProtocolError(f"SA1's fields end at byte {ends[-1]}, the message at {len(data)}")
    return [data[begin:end] for begin, end in pairwise(ends)]
