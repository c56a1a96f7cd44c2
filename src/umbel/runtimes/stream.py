"""A channel on a link: writes what the channel has to say as long as the link takes it. Both sides use it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, final

from umbel.errors import ProtocolError
from umbel.transports import Link
from umbel.wire.channel import Channel, Event
from umbel.wire.packets import Goodbye, Packet, Ping, Pong

LINGER_S = 2.0
MAX_REASON = 2_000


@final
class Stream:
    """One end of a stream.

    Args:
        link: a fresh link.
        happened: told every event; a `ProtocolError` that it raises ends the stream.
        ended: told once why the stream ended.
    """

    def __init__(self, link: Link, happened: Callable[[Event], None], ended: Callable[[str], None]) -> None:
        self.link = link
        self.channel = Channel()
        self._happened, self._ended = happened, ended
        self._full = self._pumping = False
        self._closed = False
        self._loop = asyncio.get_running_loop()
        self.gone: asyncio.Future[None] = self._loop.create_future()
        """Done once the link itself is closed, which is a little after the stream was ended here."""
        self.heard_at_s = self.said_at_s = self._loop.time()

    def start(self) -> None:
        """Begin to listen."""
        self.link.start(self)

    def say(self, packet: Packet) -> None:
        self.channel.say(packet)
        self.pump()

    def send(self, kind: str, parts: Sequence[Any], **about: Any) -> int:
        number = self.channel.send(kind, parts, **about)
        self.pump()
        return number

    def pump(self) -> None:
        """Write while there is something to say and room for it."""
        if self._pumping or self._closed:
            return
        self._pumping = True
        try:
            while not self._full:
                parts = self.channel.next()
                if parts is None:
                    break
                self.said_at_s = self._loop.time()
                self._full = not self.link.write(parts)
        finally:
            self._pumping = False

    def packet(self, data: memoryview) -> None:
        if self._closed:
            return
        self.heard_at_s = self._loop.time()
        try:
            event = self.channel.receive(data)
            if isinstance(event, Ping):
                self.channel.say(Pong(event.number))
            elif event is not None and not isinstance(event, Pong):
                self._happened(event)
        except ProtocolError as error:
            self.end(f"the other side does not speak as agreed: {error}")
            return
        self.pump()

    def writable(self) -> None:
        self._full = False
        self.pump()

    def closed(self, reason: str) -> None:
        if not self.gone.done():
            self.gone.set_result(None)
        self._over(reason)

    def _over(self, reason: str) -> None:
        if not self._closed:
            self._closed = True
            self._ended(reason)

    def end(
        self,
        reason: str,
        *,
        finished: bool = False,
        refused: bool = False,
        retry_ms: int = 0,
        standby: bool = False,
    ) -> None:
        """Say goodbye and close."""
        if self._closed:
            return
        # Whether there is room or not: it is little, and nothing comes after it.
        for parts in self.channel.last(Goodbye(reason[:MAX_REASON], finished, retry_ms, refused, standby)):
            self.link.write(parts)
        self.link.close(reason)
        # A peer that does not read would keep what is still to be written for ever.
        self._loop.call_later(LINGER_S, self.link.abort)
        self._over(reason)

    def abort(self, reason: str) -> None:
        """Close without a word."""
        self.link.abort()
        self._over(reason)
