"""`Channel`: messages over a stream of packets, without any I/O.

Whoever owns a channel feeds it the packets that arrive (`receive`, which returns what happened) and writes the packets
that it has to say (`next`). Control packets go first; the chunks of several messages take turns, so that a large upload
of one run holds up neither another run nor a cancel. A message's bytes are sent only as far as the other side granted
them: nobody ever has to stop reading a stream in order to bound memory.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from umbel.errors import ProtocolError, printable
from umbel.wire import zstd
from umbel.wire.packets import (
    CHUNK_BYTES,
    INLINE_BYTES,
    Acknowledge,
    Announce,
    Chunk,
    Grant,
    Packet,
    Refuse,
    Withdraw,
    read,
    write,
)
from umbel.wire.protobuf import Bytes
from umbel.wire.target import Target

MAX_HELD = 4_096
MAX_UNSAID = 10_000
MAX_KIND, MAX_RUN = 64, 256


@final
@dataclass(eq=False)
class Incoming:
    """A message that the other side announced; `buffer` is set once it may come.

    Attributes:
        packed_size: how many bytes travel, if it is packed; `got` counts in them. 0 if it is not.
    """

    id: int
    kind: str
    size: int
    digest: bytes
    run: str
    round: int = 0
    attempt: int = 0
    buffer: Any = None
    got: int = 0
    packed_size: int = 0
    unpacker: zstd.Unpacker | None = None

    @property
    def travels(self) -> int:
        return self.packed_size or self.size

    @property
    def complete(self) -> bool:
        return self.buffer is not None and self.got == self.travels

    def got_of(self, before: Incoming) -> int:
        """How much of this message is here from an interrupted try; a packed one begins again."""
        plain = not self.packed_size and not before.packed_size
        return before.got if plain and before.size == self.size else 0


@final
@dataclass(frozen=True)
class Announced:
    """A message could come: answer with `accept`, `have` or `refuse`, now or later."""

    message: Incoming


@final
@dataclass(frozen=True)
class Arrived:
    """A message is whole. Its digest is not checked yet: that can take long and is the receiver's business."""

    message: Incoming


@final
@dataclass(frozen=True)
class Taken:
    """The other side has a message of ours."""

    id: int


@final
@dataclass(frozen=True)
class Refused:
    """The other side does not want a message of ours."""

    id: int
    reason: str


@final
@dataclass(frozen=True)
class Withdrawn:
    """A message that was announced does not come, or no further."""

    message: Incoming


Event: TypeAlias = Announced | Arrived | Taken | Refused | Withdrawn | Packet


@final
@dataclass(eq=False)
class _Outgoing:
    parts: list[memoryview]
    size: int
    sent: int = 0
    limit: int = -1
    queued: bool = False
    starts: list[int] = field(default_factory=list[int])

    def slice(self, offset: int, length: int) -> list[memoryview]:
        """`length` bytes from `offset` on, as views."""
        found: list[memoryview] = []
        for start, part in zip(self.starts, self.parts, strict=True):
            begin, end = max(offset - start, 0), min(offset + length - start, len(part))
            if begin < end:
                found.append(part[begin:end])
        return found


@final
class Channel:
    """Both directions of one stream."""

    def __init__(self) -> None:
        self._control: deque[Packet] = deque()
        self._bulk: deque[int] = deque()
        self._outgoing: dict[int, _Outgoing] = {}
        self._incoming: dict[int, Incoming] = {}
        self._next_id = 1
        self._last_incoming = 0

    @property
    def idle(self) -> bool:
        """Whether there is nothing to write now."""
        return not self._control and not self._bulk

    def say(self, packet: Packet) -> None:
        """Queue a control packet."""
        self._control.append(packet)

    def send(
        self,
        kind: str,
        parts: Sequence[Bytes],
        *,
        run: str = "",
        digest: bytes | None = None,
        round: int = 0,
        attempt: int = 0,
        packed: bytes | None = None,
    ) -> int:
        """Announce a message, whose parts must not change until it is taken; returns its id.

        Args:
            packed: what is sent in its place, from `zstd.packed`. The other side has to be able to unpack it.
        """
        views = [memoryview(part).cast("B") for part in parts]
        size = sum(len(view) for view in views)
        if digest is None:
            total = hashlib.sha256()
            for view in views:
                total.update(view)
            digest = total.digest()
        number = self._next_id
        self._next_id += 1
        small = b"".join(views) if size <= INLINE_BYTES else b""
        packing = "" if small or packed is None else zstd.NAME
        travel = views if not packing or packed is None else [memoryview(packed)]
        message = _Outgoing([] if small else travel, sum(len(view) for view in travel))
        start = 0
        for view in message.parts:
            message.starts.append(start)
            start += len(view)
        self._outgoing[number] = message
        packed_size = message.size if packing else 0
        self._control.append(Announce(number, kind, size, digest, run, small, round, attempt, packing, packed_size))
        return number

    def accept(self, message: Incoming, buffer: Target, *, got: int = 0) -> None:
        """Let a message come into `buffer`, whose first `got` bytes are here from an interrupted try.

        Raises:
            ValueError: the message is not waiting for it, or the buffer is not of its size.
        """
        if self._incoming.get(message.id) is not message or message.buffer is not None:
            raise ValueError(f"message {message.id} does not wait to be accepted")
        if len(buffer) != message.size or not 0 <= got < message.size:
            raise ValueError(f"{got} of {len(buffer)} bytes do not fit a message of {message.size}; use have()")
        if message.packed_size:
            got, message.unpacker = 0, zstd.Unpacker(buffer)
        message.buffer, message.got = buffer, got
        self._control.append(Grant(message.id, got, message.travels))

    def have(self, message: Incoming) -> None:
        """The message is here already."""
        self._incoming.pop(message.id, None)
        self._control.append(Acknowledge(message.id))

    def refuse(self, message: Incoming, reason: str) -> None:
        """The message is not wanted."""
        self._incoming.pop(message.id, None)
        self._control.append(Refuse(message.id, reason))

    def receive(self, data: Bytes) -> Event | None:
        """Take one packet in; returns what happened, if that is of interest to the owner.

        Raises:
            ProtocolError: the packet is none, or does not belong here.
        """
        if len(self._control) > MAX_UNSAID:
            raise ProtocolError(f"more than {MAX_UNSAID} packets wait for this side to read; it sends without reading")
        packet = read(data)
        if isinstance(packet, Chunk):
            return self._chunk(packet)
        if isinstance(packet, Announce):
            return self._announced(packet)
        if isinstance(packet, Withdraw):
            message = self._incoming_of(packet.id)
            return None if message is None else Withdrawn(self._incoming.pop(message.id))
        if isinstance(packet, Grant):
            self._granted(packet)
            return None
        if isinstance(packet, Acknowledge):
            return None if self._outgoing_of(packet.id, done=True) is None else Taken(packet.id)
        if isinstance(packet, Refuse):
            gone = self._outgoing_of(packet.id, done=True)
            return None if gone is None else Refused(packet.id, printable(packet.reason))
        return packet

    def _incoming_of(self, number: int) -> Incoming | None:
        """The message; None if it was refused or had meanwhile, so that what is under way is dropped."""
        if not 0 < number <= self._last_incoming:
            raise ProtocolError(f"message {number} was never announced")
        return self._incoming.get(number)

    def _outgoing_of(self, number: int, *, done: bool = False) -> _Outgoing | None:
        """The message; None if it was withdrawn meanwhile."""
        if not 0 < number < self._next_id:
            raise ProtocolError(f"message {number} was never announced by this side")
        return self._outgoing.pop(number, None) if done else self._outgoing.get(number)

    def _announced(self, packet: Announce) -> Event:
        if packet.id <= self._last_incoming:
            raise ProtocolError(f"message {packet.id} was announced after message {self._last_incoming}")
        if len(self._incoming) >= MAX_HELD:
            raise ProtocolError(f"more than {MAX_HELD} messages were announced and wait for a grant")
        if len(packet.kind) > MAX_KIND or len(packet.run) > MAX_RUN:
            raise ProtocolError(f"the kind or run of message {packet.id} is longer than {MAX_KIND} or {MAX_RUN}")
        if len(packet.data) > INLINE_BYTES:
            raise ProtocolError(f"message {packet.id} comes at once with more than {INLINE_BYTES} bytes")
        if len(packet.digest) != 32:
            raise ProtocolError(f"the digest of message {packet.id} has {len(packet.digest)} bytes, 32 are right")
        self._last_incoming = packet.id
        message = Incoming(
            packet.id, packet.kind, packet.size, bytes(packet.digest), packet.run, packet.round, packet.attempt
        )
        if packet.packing or packet.packed_size:
            _check_packing(packet)
            message.packed_size = packet.packed_size
        if not packet.data and packet.size:
            self._incoming[packet.id] = message
            return Announced(message)
        if len(packet.data) != packet.size:
            raise ProtocolError(f"message {packet.id} claims {packet.size} bytes and comes with {len(packet.data)}")
        message.buffer, message.got = memoryview(bytes(packet.data)), packet.size
        self._control.append(Acknowledge(packet.id))
        return Arrived(message)

    def _chunk(self, packet: Chunk) -> Event | None:
        message = self._incoming_of(packet.id)
        if message is None:
            return None
        if message.buffer is None or packet.offset != message.got:
            raise ProtocolError(f"a chunk of message {packet.id} starts at {packet.offset}, {message.got} was granted")
        size = len(packet.data)
        if size > CHUNK_BYTES or size > message.travels - message.got or not size:
            raise ProtocolError(f"a chunk of {size} bytes at {packet.offset} does not fit message {packet.id}")
        if message.unpacker is None:
            message.buffer[message.got : message.got + size] = packet.data
        else:
            message.unpacker.feed(packet.data)
        message.got += size
        if not message.complete:
            return None
        if message.unpacker is not None:
            message.unpacker.finish()
            message.unpacker = None
        del self._incoming[packet.id]
        self._control.append(Acknowledge(packet.id))
        return Arrived(message)

    def _granted(self, packet: Grant) -> None:
        message = self._outgoing_of(packet.id)
        if message is None:
            return
        first = message.limit < 0
        if not packet.offset <= packet.limit <= message.size or packet.limit < message.limit or not message.parts:
            raise ProtocolError(f"a grant of {packet.offset} to {packet.limit} does not fit message {packet.id}")
        message.sent = packet.offset if first else message.sent
        message.limit = packet.limit
        if not message.queued and message.sent < message.limit:
            message.queued = True
            self._bulk.append(packet.id)

    def withdraw(self, number: int) -> None:
        """Send no more of a message, and say so."""
        if self._outgoing.pop(number, None) is not None:
            self._control.append(Withdraw(number))

    def last(self, packet: Packet) -> Iterator[list[Bytes]]:
        """What is still to be written before the end: the control packets, then `packet`; no more of large messages."""
        self._bulk.clear()
        self._control.append(packet)
        while self._control:
            yield write(self._control.popleft())

    def next(self) -> list[Bytes] | None:
        """The parts of the next packet to write, or None."""
        if self._control:
            return write(self._control.popleft())
        while self._bulk:
            number = self._bulk.popleft()
            message = self._outgoing.get(number)
            if message is None:
                continue
            length = min(CHUNK_BYTES, message.limit - message.sent)
            pieces = message.slice(message.sent, length)
            data = pieces[0] if len(pieces) == 1 else memoryview(b"".join(pieces))
            packet = Chunk(number, message.sent, data)
            message.sent += length
            message.queued = message.sent < message.limit
            if message.queued:
                self._bulk.append(number)
            return write(packet)
        return None


def _check_packing(packet: Announce) -> None:
    if packet.packing != zstd.NAME or not zstd.available():
        raise ProtocolError(f"message {packet.id} is packed with {packet.packing!r}, which was not agreed")
    if packet.data or not 0 < packet.packed_size < packet.size:
        raise ProtocolError(
            f"message {packet.id} of {packet.size} bytes claims to be packed in {packet.packed_size}; fewer are right"
        )
