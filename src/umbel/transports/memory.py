"""Links inside one event loop: for tests, for simulated networks, and as the transport in its simplest form."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import final

from umbel.errors import LinkError
from umbel.transports.abstract import Arrival, Bytes, Link, Listener, Receiver, Transport
from umbel.transports.tls import Tls
from umbel.wire.packets import MAX_PACKET_BYTES

MOST_WAITING = 64


@final
class MemoryLink(Link):
    """One end of a pair; what one writes the other is told in a later turn of the loop."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.other: MemoryLink
        self._receiver: Receiver | None = None
        self._inbox: deque[bytes | None] = deque()
        self._full = self._ending = False
        self._closed: str | None = None
        self._loop = asyncio.get_running_loop()

    def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        if self._closed is not None:
            self._loop.call_soon(receiver.closed, self._closed)
        for _ in self._inbox:
            self._loop.call_soon(self._deliver)

    def write(self, parts: Sequence[Bytes]) -> bool:
        if self._ending or self._closed is not None:
            return True
        data = b"".join(parts)
        if len(data) > MAX_PACKET_BYTES:
            self.other.abort()
            return True
        self.other._put(data)
        self._full = self._full or len(self.other._inbox) >= MOST_WAITING
        return not self._full

    def _put(self, data: bytes | None) -> None:
        self._inbox.append(data)
        self._loop.call_soon(self._deliver)

    def _deliver(self) -> None:
        if self._receiver is None or self._closed is not None or not self._inbox:
            return
        data = self._inbox.popleft()
        if data is None:
            self._end("the other side closed the link")
            return
        if not self._ending:
            self._receiver.packet(memoryview(data))
        if not self._inbox:
            self.other._has_room()

    def _has_room(self) -> None:
        if self._full:
            self._full = False
            if self._receiver is not None and not self._ending and self._closed is None:
                self._receiver.writable()

    def _end(self, reason: str) -> None:
        if self._closed is None:
            self._closed = reason
            if self._receiver is not None:
                self._receiver.closed(reason)

    def close(self, reason: str = "") -> None:
        if not self._ending and self._closed is None:
            self._ending = True
            self.other._put(None)
            self._loop.call_soon(self._end, reason or "closed here")

    def abort(self) -> None:
        self.other._inbox.clear()
        if self._ending and self.other._closed is None:
            self.other._put(None)
        self.close("broken off")


@final
class _MemoryListener(Listener):
    def __init__(self, address: str, transport: MemoryTransport) -> None:
        self.address = address
        self._transport = transport

    async def close(self) -> None:
        self._transport.arrivals.pop(self.address, None)

    def renew(self, tls: Tls) -> None:
        return None


@final
class MemoryTransport(Transport):
    """A network of its own: links reach the listeners of the same object only. Nothing is encrypted."""

    def __init__(self) -> None:
        self.arrivals: dict[str, Arrival] = {}
        self._ports = iter(range(49152, 65536))

    async def listen(self, address: str, arrived: Arrival, *, tls: Tls | None = None) -> Listener:
        host, separator, port = address.rpartition(":")
        if separator and port == "0":
            address = f"{host}:{next(self._ports)}"
        if address in self.arrivals:
            raise LinkError(f"cannot listen at {address}: it is taken; choose another address")
        self.arrivals[address] = arrived
        return _MemoryListener(address, self)

    async def connect(self, address: str, *, tls: Tls | None = None, timeout_s: float = 10.0) -> Link:
        arrived = self.arrivals.get(address)
        if arrived is None:
            raise LinkError(f"cannot reach {address}: nobody listens there; is the server running?")
        near, far = MemoryLink(address), MemoryLink("memory")
        near.other, far.other = far, near
        arrived(far)
        return near
