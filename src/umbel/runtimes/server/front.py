"""One port for everything: nodes' packets, the control API and its web pages are told apart by their first bytes."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import Any, TypeAlias, final

from umbel.errors import LinkError
from umbel.transports.abstract import Arrival
from umbel.transports.choose import host_and_port
from umbel.transports.tcp import BACKLOG, HANDSHAKE_S, MAGIC, READ_BYTES, TcpLink

Http: TypeAlias = Callable[["bytes | None"], asyncio.Protocol]


@final
class _Front(asyncio.Protocol):
    """A connection before it is known what it wants."""

    def __init__(self, view: memoryview, arrived: Arrival, http: Http) -> None:
        self._view, self._arrived, self._http = view, arrived, http
        self._first = b""
        self._transport: Any = None
        self._late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._late = asyncio.get_running_loop().call_later(HANDSHAKE_S, transport.close)

    def data_received(self, data: bytes) -> None:
        self._first += data
        known = MAGIC[: len(self._first)]
        if self._first[: len(MAGIC)] == MAGIC:
            link = TcpLink(self._view, self._arrived)
            self._hand_over(link)
            link.get_buffer(-1)[: len(self._first)] = self._first
            link.buffer_updated(len(self._first))
        elif not self._first.startswith(known):
            secure: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
            protocol = self._http(None if secure is None else secure.getpeercert(binary_form=True))
            self._hand_over(protocol)
            protocol.data_received(self._first)

    def _hand_over(self, protocol: asyncio.BaseProtocol) -> None:
        if self._late is not None:
            self._late.cancel()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._late is not None:
            self._late.cancel()


async def listen(
    address: str, arrived: Arrival, http: Http, *, tls: ssl.SSLContext | None
) -> tuple[asyncio.Server, str]:
    """Listen at "host:port" for nodes and for HTTP; returns the server and the address with its real port.

    Raises:
        LinkError: the address cannot be listened at.
    """
    host, port = host_and_port(address)
    view = memoryview(bytearray(READ_BYTES))
    secure: dict[str, Any] = {} if tls is None else {"ssl": tls, "ssl_handshake_timeout": HANDSHAKE_S}
    loop = asyncio.get_running_loop()
    try:
        server = await loop.create_server(
            lambda: _Front(view, arrived, http), host, port, backlog=BACKLOG, reuse_address=True, **secure
        )
    except OSError as error:
        raise LinkError(
            f"cannot listen at {address}: {error.strerror or error}; choose another address, or stop what listens there"
        ) from None
    name, number = server.sockets[0].getsockname()[:2]
    return server, f"[{name}]:{number}" if ":" in name else f"{name}:{number}"
