"""Packets: what a stream between a node and a server carries. `umbel.proto` describes them for other languages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias, final

from umbel.errors import ProtocolError
from umbel.wire.protobuf import Bytes, decode, encode, fields, number, varint

VERSION, OLDEST = 1, 1
CHUNK_BYTES = 256 * 2**10
INLINE_BYTES = 16 * 2**10
MAX_PACKET_BYTES = 2 * 2**20


@final
@dataclass(frozen=True, slots=True)
class Hello:
    version: int = number(1, 0, bits=32)
    oldest: int = number(2, 0, bits=32)
    name: str = number(3, "")
    boot: Bytes = number(4, b"")
    about: str = number(5, "")
    checks_in: bool = number(6, False)
    unpacks: str = number(7, "")


@final
@dataclass(frozen=True, slots=True)
class Welcome:
    version: int = number(1, 0, bits=32)
    server: str = number(2, "")
    heartbeat_ms: int = number(3, 0, bits=32)
    packing: str = number(4, "")


@final
@dataclass(frozen=True, slots=True)
class Goodbye:
    reason: str = number(1, "")
    finished: bool = number(2, False)
    retry_ms: int = number(3, 0, bits=32)
    refused: bool = number(4, False)
    standby: bool = number(5, False)


@final
@dataclass(frozen=True, slots=True)
class Announce:
    id: int = number(1, 0)
    kind: str = number(2, "")
    size: int = number(3, 0)
    digest: Bytes = number(4, b"")
    run: str = number(5, "")
    data: Bytes = number(6, b"")
    round: int = number(7, 0, bits=32)
    attempt: int = number(8, 0, bits=32)
    packing: str = number(9, "")
    packed_size: int = number(10, 0)


@final
@dataclass(frozen=True, slots=True)
class Grant:
    id: int = number(1, 0)
    offset: int = number(2, 0)
    limit: int = number(3, 0)


@final
@dataclass(frozen=True, slots=True)
class Chunk:
    id: int = number(1, 0)
    offset: int = number(2, 0)
    data: Bytes = number(3, b"")


@final
@dataclass(frozen=True, slots=True)
class Acknowledge:
    id: int = number(1, 0)


@final
@dataclass(frozen=True, slots=True)
class Refuse:
    id: int = number(1, 0)
    reason: str = number(2, "")


@final
@dataclass(frozen=True, slots=True)
class Cancel:
    run: str = number(1, "")
    round: int = number(2, 0, bits=32)
    attempt: int = number(3, 0, bits=32)
    kind: str = number(4, "")


@final
@dataclass(frozen=True, slots=True)
class Hurry:
    run: str = number(1, "")
    round: int = number(2, 0, bits=32)
    attempt: int = number(3, 0, bits=32)
    left_ms: int = number(4, 0, bits=32)


@final
@dataclass(frozen=True, slots=True)
class Settled:
    run: str = number(1, "")
    round: int = number(2, 0, bits=32)
    attempt: int = number(3, 0, bits=32)
    included: bool = number(4, False)
    receipt: Bytes = number(5, b"")


@final
@dataclass(frozen=True, slots=True)
class Progress:
    run: str = number(1, "")
    round: int = number(2, 0, bits=32)
    done: float = number(3, 0.0)


@final
@dataclass(frozen=True, slots=True)
class Ping:
    number: int = number(1, 0)


@final
@dataclass(frozen=True, slots=True)
class Pong:
    number: int = number(1, 0)


@final
@dataclass(frozen=True, slots=True)
class Want:
    digest: Bytes = number(1, b"")
    run: str = number(2, "")


@final
@dataclass(frozen=True, slots=True)
class Withdraw:
    id: int = number(1, 0)


Packet: TypeAlias = (
    Hello
    | Welcome
    | Goodbye
    | Announce
    | Grant
    | Chunk
    | Acknowledge
    | Refuse
    | Cancel
    | Hurry
    | Settled
    | Progress
    | Ping
    | Pong
    | Want
    | Withdraw
)
KINDS: tuple[type[Any], ...] = (
    Hello,
    Welcome,
    Goodbye,
    Announce,
    Grant,
    Chunk,
    Acknowledge,
    Refuse,
    Cancel,
    Hurry,
    Settled,
    Progress,
    Ping,
    Pong,
    Want,
    Withdraw,
)
_NUMBER_OF = {kind: place for place, kind in enumerate(KINDS, start=1)}


def write(packet: Packet) -> list[Bytes]:
    """The bytes of a packet, in parts."""
    parts = encode(packet)
    size = sum(len(part) for part in parts)
    return [varint(_NUMBER_OF[type(packet)] << 3 | 2) + varint(size), *parts]


def read(data: Bytes) -> Packet | None:
    """The packet in `data`, whose bytes fields are views on it; None for a kind that this version does not know.

    Raises:
        ProtocolError: the bytes are no packet.
    """
    view = memoryview(data)
    if len(view) > MAX_PACKET_BYTES:
        raise ProtocolError(f"a packet has {len(view)} bytes, at most {MAX_PACKET_BYTES}")
    found: Packet | None = None
    for field_number, wire_type, value in fields(view):
        if 1 <= field_number <= len(KINDS):
            if wire_type != 2:
                raise ProtocolError(f"the packet kind {field_number} has wire type {wire_type}, 2 is right")
            found = decode(KINDS[field_number - 1], value)
    return found
