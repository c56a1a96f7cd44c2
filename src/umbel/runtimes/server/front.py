"""One port for everything: nodes' packets, the control API and its web pages are told apart by their first bytes."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any, final

from umbel.errors import LinkError
from umbel.runtimes.server.strangers import Strangers
from umbel.transports.abstract import Arrival
from umbel.transports.choose import host_and_port
from umbel.transports.tcp import BACKLOG, MAGIC, READ_BYTES, TcpLink


@final
class _Front(asyncio.Protocol):
    """A connection before it is known what it wants.

    TLS begins here and not in the listener, so that those are counted, too, whose handshake is under way.
    """

    def __init__(self, view: memoryview, arrived: Arrival, strangers: Strangers, tls: ssl.SSLContext | None) -> None:
        self._view, self._arrived, self._strangers, self._tls = view, arrived, strangers, tls
        self._first = b""
        self._transport: Any = None
        self._securing: asyncio.Task[None] | None = None
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        if not self._strangers.enter(self):
            self._transport.abort()
        elif self._tls is None:
            self._begin()
        else:
            self._transport.pause_reading()
            self._securing = asyncio.ensure_future(self._secure(self._tls))

    async def _secure(self, tls: ssl.SSLContext) -> None:
        loop, patience = asyncio.get_running_loop(), self._strangers.patience
        try:
            self._transport = await loop.start_tls(
                self._transport,
                self,
                tls,
                server_side=True,
                ssl_handshake_timeout=patience.first_s,
                ssl_shutdown_timeout=patience.unread_s,
            )
        except OSError:
            # It does not speak TLS, is too slow, or has left.
            self._strangers.leave(self)
            return
        self._securing = None
        if self._transport.is_closing():
            self._strangers.leave(self)
        else:
            self._begin()

    def _begin(self) -> None:
        first_s = self._strangers.patience.first_s
        self._late = asyncio.get_running_loop().call_later(first_s, self._transport.abort)
        self._look()

    def data_received(self, data: bytes) -> None:
        self._first += data
        if self._securing is None:
            self._look()

    def _look(self) -> None:
        """See what it wants, once enough of it is there."""
        known = MAGIC[: len(self._first)]
        if self._first[: len(MAGIC)] == MAGIC:
            link = TcpLink(self._view, self._arrived)
            self._hand_over(link)
            self._strangers.leave(self)
            link.get_buffer(-1)[: len(self._first)] = self._first
            link.buffer_updated(len(self._first))
        elif not self._first.startswith(known):
            secure: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
            certificate = None if secure is None else secure.getpeercert(binary_form=True)
            caller = self._strangers.caller(self, certificate)
            self._hand_over(caller)
            caller.data_received(self._first)

    def _hand_over(self, protocol: asyncio.BaseProtocol) -> None:
        if self._late is not None:
            self._late.cancel()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._strangers.leave(self)
        if self._late is not None:
            self._late.cancel()


async def listen(
    address: str, arrived: Arrival, strangers: Strangers, *, tls: ssl.SSLContext | None
) -> tuple[asyncio.Server, str]:
    """Listen at "host:port" for nodes and for HTTP; returns the server and the address with its real port.

    Args:
        strangers: who is no node, and is answered by HTTP.

    Raises:
        LinkError: the address cannot be listened at.
    """
    host, port = host_and_port(address)
    view = memoryview(bytearray(READ_BYTES))
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(
            lambda: _Front(view, arrived, strangers, tls), host, port, backlog=BACKLOG, reuse_address=True
        )
    except OSError as error:
        raise LinkError(
            f"cannot listen at {address}: {error.strerror or error}; choose another address, or stop what listens there"
        ) from None
    name, number = server.sockets[0].getsockname()[:2]
    return server, f"[{name}]:{number}" if ":" in name else f"{name}:{number}"
