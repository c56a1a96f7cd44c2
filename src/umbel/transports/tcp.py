"""Packets over TCP with the standard library alone: four bytes of length, then the packet; TLS by `ssl`."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Any, final

from umbel.errors import LinkError
from umbel.transports.abstract import Arrival, Bytes, Link, Listener, Receiver, Transport
from umbel.transports.choose import host_and_port

MAX_PACKET_BYTES = 2 * 2**20
MAGIC = b"UMBL/1\r\n"
HIGH_WATER_BYTES = 2**20
BACKLOG = 4096
# Calls of one loop's protocols come one after the other, so all its links read into the same memory: an idle link
# costs no buffer of its own.
_READ_BYTES = 2**19


@final
class _Shared:
    """The reading memory of one loop."""

    def __init__(self) -> None:
        self.view = memoryview(bytearray(_READ_BYTES))


@final
class TcpLink(asyncio.BufferedProtocol, Link):
    """A connection; the one who connects says `MAGIC` first."""

    def __init__(self, shared: _Shared, arrived: Arrival | None = None) -> None:
        self._shared = shared
        self._arrived = arrived
        self._expect = len(MAGIC) if arrived is not None else 0
        self._transport: Any = None
        self._receiver: Receiver | None = None
        self._rest = bytearray()
        self._full = self._closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)
        connection: socket.socket | None = transport.get_extra_info("socket")
        if connection is not None and connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        name: Any = transport.get_extra_info("peername")
        self.address = f"{name[0]}:{name[1]}" if isinstance(name, tuple) else str(name or "")
        secure: ssl.SSLObject | None = transport.get_extra_info("ssl_object")
        if secure is not None:
            self.certificate = secure.getpeercert(binary_form=True)
            self.peer = common_name(secure.getpeercert() or {})
        if self._arrived is None:
            self._transport.write(MAGIC)

    def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        if self._closed:
            receiver.closed("the other side closed the link")
        elif self._rest:
            rest, self._rest = self._rest, bytearray()
            self._take(memoryview(rest))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._shared.view

    def buffer_updated(self, nbytes: int) -> None:
        data = self._shared.view[:nbytes]
        if not self._rest:
            self._take(data)
            return
        self._rest += data
        rest, self._rest = self._rest, bytearray()
        self._take(memoryview(rest))

    def _take(self, data: memoryview) -> None:
        position, end = 0, len(data)
        if self._expect:
            if bytes(data[: self._expect]) != MAGIC[: min(self._expect, end)]:
                self.abort()
                return
            if end < self._expect:
                self._rest += data
                return
            position, self._expect = self._expect, 0
            arrived, self._arrived = self._arrived, None
            assert arrived is not None
            arrived(self)
        while self._receiver is not None and not self._closed and end - position >= 4:
            length = int.from_bytes(data[position : position + 4], "little")
            if length > MAX_PACKET_BYTES:
                self.abort()
                return
            if end - position - 4 < length:
                break
            self._receiver.packet(data[position + 4 : position + 4 + length])
            position += 4 + length
        if position < end and not self._closed:
            self._rest += data[position:]

    def write(self, parts: Sequence[Bytes]) -> bool:
        if self._closed or self._transport.is_closing():
            return True
        length = sum(len(part) for part in parts)
        self._transport.writelines([length.to_bytes(4, "little"), *parts])
        return not self._full

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._receiver is not None and not self._closed:
            self._receiver.writable()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closed:
            return
        self._closed = True
        if self._receiver is not None:
            self._receiver.closed(f"the connection broke ({exc})" if exc else "the other side closed the link")

    def close(self, reason: str = "") -> None:
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()


def common_name(certificate: dict[str, Any]) -> str | None:
    """The common name in what `ssl` tells of a certificate."""
    for part in certificate.get("subject", ()):
        for key, value in part:
            if key == "commonName":
                return value
    return None


@final
class _TcpListener(Listener):
    def __init__(self, server: asyncio.Server) -> None:
        self._server = server
        host, port = server.sockets[0].getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def close(self) -> None:
        self._server.close()


@final
class TcpTransport(Transport):
    """TCP, or TLS over TCP."""

    def __init__(self) -> None:
        self._shared = _Shared()

    async def listen(self, address: str, arrived: Arrival, *, tls: ssl.SSLContext | None = None) -> Listener:
        host, port = host_and_port(address)
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                lambda: TcpLink(self._shared, arrived), host, port, ssl=tls, backlog=BACKLOG, reuse_address=True
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise LinkError(
                f"cannot listen at {address}: {reason}; choose another address, or stop what listens there"
            ) from None
        return _TcpListener(server)

    async def connect(self, address: str, *, tls: ssl.SSLContext | None = None, timeout_s: float = 10.0) -> Link:
        host, port = host_and_port(address)
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, link = await loop.create_connection(
                    lambda: TcpLink(self._shared), host, port, ssl=tls, server_hostname=host if tls else None
                )
        except TimeoutError:
            raise LinkError(f"{address} does not answer within {timeout_s:g} s; is there a firewall between?") from None
        except ssl.SSLError as error:
            raise LinkError(f"{address} and this node do not trust each other: {error.reason or error}") from None
        except OSError as error:
            raise LinkError(f"cannot reach {address}: {error.strerror or error}; is the server running?") from None
        return link
