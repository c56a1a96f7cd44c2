"""A link on top of what a library offers for one stream: `await read()`, `await write(…)`, `await finish()`.

A task writes what `Link.write` queued, another one reads once the link is started; both wait as long as the library
makes them wait, which is how back-pressure passes through.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Any, Protocol, final

from umbel.errors import LinkError
from umbel.transports.abstract import Bytes, Link, Receiver

HIGH_WATER_BYTES, LOW_WATER_BYTES = 2**20, 2**18
LINGER_S = 10.0
CLOSED = "the other side closed the link"


class Pipe(Protocol):
    """A stream of packets as a library offers it."""

    async def read(self) -> bytes | None:
        """The next packet; None once the other side has ended the stream in good order.

        Raises:
            LinkError: the stream broke.
        """
        ...

    async def write(self, data: bytes) -> None:
        """Send a packet; returns when there is room for another.

        Raises:
            LinkError: the stream broke.
        """
        ...

    async def finish(self) -> None:
        """Tell the other side that nothing more comes. Called once, after the last `write`."""
        ...

    def abort(self) -> None:
        """Let go of the stream at once, so that `read` and `write` end. May be called twice."""
        ...


@final
class PumpedLink(Link):
    """A link that moves its packets through a pipe."""

    def __init__(self, pipe: Pipe, address: str, peer: str | None = None, certificate: bytes | None = None) -> None:
        self.address, self.peer, self.certificate = address, peer, certificate
        self._pipe = pipe
        self._receiver: Receiver | None = None
        self._queue: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._full = self._ending = False
        self._reason: str | None = None
        self._loop = asyncio.get_running_loop()
        self._more = asyncio.Event()
        self._reader: asyncio.Task[None] | None = None
        self._writer = self._loop.create_task(self._write_all())
        self.gone: asyncio.Future[None] = self._loop.create_future()

    def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._read()
        if self._reason is not None:
            self._loop.call_soon(receiver.closed, self._reason)

    def _read(self) -> None:
        if self._reader is None:
            self._reader = self._loop.create_task(self._read_all())

    def write(self, parts: Sequence[Bytes]) -> bool:
        if self._ending or self.gone.done():
            return True
        data = b"".join(parts)
        self._queue.append(data)
        self._waiting_bytes += len(data)
        self._more.set()
        self._full = self._full or self._waiting_bytes >= HIGH_WATER_BYTES
        return not self._full

    async def _write_all(self) -> None:
        try:
            while True:
                while self._queue:
                    data = self._queue.popleft()
                    await self._pipe.write(data)
                    self._waiting_bytes -= len(data)
                    self._has_room()
                if self._ending:
                    await self._pipe.finish()
                    return
                self._more.clear()
                await self._more.wait()
        except LinkError:
            return  # the reader is told the same, or will be once the link is started

    def _has_room(self) -> None:
        if self._full and self._waiting_bytes <= LOW_WATER_BYTES:
            self._full = False
            if self._receiver is not None and not self._ending:
                self._receiver.writable()

    async def _read_all(self) -> None:
        reason = CLOSED
        try:
            while (data := await self._pipe.read()) is not None:
                if self._receiver is not None and not self._ending:
                    self._receiver.packet(memoryview(data))
        except LinkError as error:
            reason = str(error)
        except Exception as error:
            reason = f"what came could not be taken: {type(error).__name__}: {error}"
            self._loop.call_exception_handler({"message": "a receiver failed", "exception": error})
        finally:
            self._over(reason)

    def _over(self, reason: str) -> None:
        self._writer.cancel()
        self._pipe.abort()
        if self._reason is None:
            self._reason = reason
            self.gone.set_result(None)
            if self._receiver is not None:
                self._receiver.closed(reason)

    def close(self, reason: str = "") -> None:
        if self._ending:
            return
        self._ending = True
        self._more.set()
        # Reading goes on, into nothing, until the other side has ended, too: it may be stuck in writing to us.
        self._read()
        self._loop.call_later(LINGER_S, self._pipe.abort)

    def abort(self) -> None:
        self._ending = True
        self._writer.cancel()
        self._pipe.abort()
        self._read()


def broken(error: Any) -> LinkError:
    """The error for a stream that broke."""
    return LinkError(f"the connection broke ({error})")
