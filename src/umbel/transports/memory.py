"""Links inside one event loop: for tests, for simulated networks, and as the transport in its simplest form."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import final

from umbel.errors import LinkError
from umbel.transports.abstract import Arrival, Bytes, Link, Listener, Receiver, Transport

MOST_WAITING = 64


@final
class MemoryLink(Link):
    """One end of a pair; what one writes the other is told in a later turn of the loop."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.other: MemoryLink
        self._receiver: Receiver | None = None
        self._early: list[bytes | None] = []
        self._under_way = 0
        self._full = self._closed = False
        self._loop = asyncio.get_running_loop()

    def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        early, self._early = self._early, []
        for data in early:
            self._deliver(data)

    def write(self, parts: Sequence[Bytes]) -> bool:
        if self._closed:
            return True
        self._under_way += 1
        self._full = self._full or self._under_way >= MOST_WAITING
        self._loop.call_soon(self._arrive, b"".join(parts))
        return not self._full

    def _arrive(self, data: bytes) -> None:
        self._under_way -= 1
        self.other._deliver(data)
        if self._full and not self._under_way:
            self._full = False
            if self._receiver is not None and not self._closed:
                self._receiver.writable()

    def _deliver(self, data: bytes | None, reason: str = "") -> None:
        if self._closed:
            return
        if self._receiver is None:
            self._early.append(data)
        elif data is None:
            self._closed = True
            self._receiver.closed(reason or "the other side closed the link")
        else:
            self._receiver.packet(memoryview(data))

    def close(self, reason: str = "") -> None:
        if not self._closed:
            self._loop.call_soon(self.other._deliver, None, reason)
            self._loop.call_soon(self._deliver, None, reason or "closed here")

    def abort(self) -> None:
        self.close("broken off")


@final
class _MemoryListener(Listener):
    def __init__(self, address: str, transport: MemoryTransport) -> None:
        self.address = address
        self._transport = transport

    async def close(self) -> None:
        self._transport.arrivals.pop(self.address, None)


@final
class MemoryTransport(Transport):
    """A network of its own: links reach the listeners of the same object only."""

    def __init__(self) -> None:
        self.arrivals: dict[str, Arrival] = {}

    async def listen(self, address: str, arrived: Arrival, *, tls: ssl.SSLContext | None = None) -> Listener:
        if address in self.arrivals:
            raise LinkError(f"{address} is taken; choose another address")
        self.arrivals[address] = arrived
        return _MemoryListener(address, self)

    async def connect(self, address: str, *, tls: ssl.SSLContext | None = None, timeout_s: float = 10.0) -> Link:
        arrived = self.arrivals.get(address)
        if arrived is None:
            raise LinkError(f"nobody listens at {address}; is the server running?")
        near, far = MemoryLink(address), MemoryLink("memory")
        near.other, far.other = far, near
        arrived(far)
        return near
