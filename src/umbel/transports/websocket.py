"""A packet per binary WebSocket message, at the path /umbel/v1: for networks that let only the web pass."""

from __future__ import annotations

import asyncio
import http
import ssl
from typing import Any, final

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, ConnectionClosedOK, InvalidHandshake, InvalidURI

from umbel.errors import ConfigError, LinkError
from umbel.transports.abstract import Arrival, Link, Listener, Transport
from umbel.transports.choose import host_and_port
from umbel.transports.pumped import PumpedLink, broken
from umbel.transports.tls import Tls, common_name, untrusted
from umbel.wire.packets import MAX_PACKET_BYTES

PATH = "/umbel/v1"
BINARY_ONLY = 1003
# Compression would cost time and find nothing: a model's bytes look random. Pings keep the proxies' tables warm and
# find a peer that is gone without a word.
_OPTIONS: dict[str, Any] = {
    "compression": None,
    "max_size": MAX_PACKET_BYTES,
    "max_queue": 4,
    "write_limit": 2**18,
    "ping_interval": 20.0,
    "ping_timeout": 40.0,
    "close_timeout": 5.0,
    "open_timeout": 10.0,
}


@final
class _Pipe:
    def __init__(self, connection: Any) -> None:
        self._connection = connection

    async def read(self) -> bytes | None:
        try:
            data = await self._connection.recv()
        except ConnectionClosedOK:
            return None
        except ConnectionClosed as error:
            raise broken(error) from None
        if isinstance(data, str):
            await self._connection.close(BINARY_ONLY, "packets are binary messages")
            raise broken("it sent text, packets are binary messages")
        return data

    async def write(self, data: bytes) -> None:
        try:
            await self._connection.send(data)
        except ConnectionClosed as error:
            raise broken(error) from None

    async def finish(self) -> None:
        await self._connection.close()

    def abort(self) -> None:
        self._connection.transport.abort()


def _link(connection: Any, address: str) -> PumpedLink:
    secure: ssl.SSLObject | None = connection.transport.get_extra_info("ssl_object")
    if secure is None:
        return PumpedLink(_Pipe(connection), address)
    return PumpedLink(
        _Pipe(connection), address, common_name(secure.getpeercert() or {}), secure.getpeercert(binary_form=True)
    )


@final
class _WebSocketListener(Listener):
    def __init__(self, server: Any, context: ssl.SSLContext | None) -> None:
        self._server, self._context = server, context
        host, port = next(iter(server.sockets)).getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def close(self) -> None:
        self._server.close(close_connections=False)
        await asyncio.sleep(0)  # it lets go of the port in the loop's next turn

    def renew(self, tls: Tls) -> None:
        if self._context is not None:
            tls.load_into(self._context)


@final
class WebSocketTransport(Transport):
    """WebSocket, or WebSocket over TLS.

    Args:
        only_tls: connect with certificates or not at all (wss://).
    """

    def __init__(self, *, only_tls: bool = False) -> None:
        self._only_tls = only_tls

    async def listen(self, address: str, arrived: Arrival, *, tls: Tls | None = None) -> Listener:
        host, port = host_and_port(address)
        context = None if tls is None else tls.server_context()

        async def serve_one(connection: Any) -> None:
            name = connection.remote_address
            link = _link(connection, f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name or ""))
            arrived(link)
            await link.gone

        try:
            server = await serve(
                serve_one,
                host,
                port,
                ssl=context,
                process_request=_only_our_path,
                server_header=None,
                **_OPTIONS,
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise LinkError(
                f"cannot listen at {address}: {reason}; choose another address, or stop what listens there"
            ) from None
        return _WebSocketListener(server, context)

    async def connect(self, address: str, *, tls: Tls | None = None, timeout_s: float = 10.0) -> Link:
        host, port = host_and_port(address)
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        options: dict[str, Any] = {**_OPTIONS, "open_timeout": timeout_s}
        if tls is None and self._only_tls:
            raise ConfigError(f"wss://{address} needs certificates, and there are none; give them, or write ws://")
        try:
            if tls is None:
                connection = await connect(f"ws://{place}{PATH}", **options)
            else:
                connection = await connect(f"wss://{place}{PATH}", ssl=tls.client_context(), **options)
        except TimeoutError:
            raise LinkError(f"{address} does not answer within {timeout_s:g} s; is there a firewall between?") from None
        except (InvalidHandshake, InvalidURI, EOFError, ConnectionResetError) as error:
            if tls is not None:
                raise LinkError(untrusted(address, error)) from None
            raise LinkError(
                f"what listens at {address} does not take part in a plain WebSocket ({error}); does it use TLS or "
                "another transport?"
            ) from None
        except ssl.SSLError as error:
            raise LinkError(untrusted(address, getattr(error, "verify_message", "") or error)) from None
        except OSError as error:
            raise LinkError(f"cannot reach {address}: {error.strerror or error}; is the server running?") from None
        return _link(connection, address)


def _only_our_path(connection: Any, request: Any) -> Any:
    if request.path != PATH:
        return connection.respond(http.HTTPStatus.NOT_FOUND, f"Umbel is at {PATH}\n")
    return None
