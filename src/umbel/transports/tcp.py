"""Packets over TCP with the standard library alone: four bytes of length, then the packet; TLS by `ssl`.

Each side begins with the eight bytes of `MAGIC`, the one who connects first: so each knows that the other has taken the
link, and that nobody else's protocol is at the other end.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Sequence
from typing import Any, final

from umbel.errors import LinkError
from umbel.transports.abstract import Arrival, Bytes, Link, Listener, Receiver, Transport
from umbel.transports.choose import host_and_port
from umbel.transports.tls import Tls, common_name, untrusted
from umbel.wire.packets import MAX_PACKET_BYTES

MAGIC = b"UMBL/1\r\n"
HIGH_WATER_BYTES = 2**20
BACKLOG = 4096
HANDSHAKE_S = LINGER_S = 10.0
# Calls of one loop's protocols come one after the other, so all its links read into the same memory: an idle link
# costs no buffer of its own.
READ_BYTES = 2**19


@final
class TcpLink(asyncio.BufferedProtocol, Link):
    """A connection.

    Args:
        view: memory to read into.
        arrived: told of a link that somebody else began; None began it here.
    """

    def __init__(self, view: memoryview, arrived: Arrival | None = None) -> None:
        self._view, self._arrived = view, arrived
        self._transport: Any = None
        self._receiver: Receiver | None = None
        self._rest = bytearray()
        self._need = len(MAGIC)
        self._met = self._started = self._full = self._ending = False
        self._lost: str | None = None
        self._loop = asyncio.get_running_loop()
        self._late: asyncio.TimerHandle | None = None
        self.taken: asyncio.Future[None] = self._loop.create_future()

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
            self._share_buffer(transport)
        if self._arrived is None:
            self._transport.write(MAGIC)
        else:
            self._late = self._loop.call_later(HANDSHAKE_S, self.abort)

    def _share_buffer(self, transport: asyncio.BaseTransport) -> None:
        """Let TLS read into the memory that all links share, instead of a quarter of a megabyte of its own per link.

        What it reads is decrypted into OpenSSL's own memory before anybody else reads; an asyncio that keeps this
        buffer elsewhere only costs the memory.
        """
        protocol: Any = getattr(transport, "_ssl_protocol", None)
        if isinstance(getattr(protocol, "_ssl_buffer", None), bytearray):
            protocol._ssl_buffer = self._view.obj
            protocol._ssl_buffer_view = self._view

    def start(self, receiver: Receiver) -> None:
        self._receiver = receiver
        self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        self._started = True
        rest, self._rest = self._rest, bytearray()
        self._take(memoryview(rest))
        if self._lost is not None:
            self._tell_end()
        else:
            self._transport.resume_reading()

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._view

    def buffer_updated(self, nbytes: int) -> None:
        data = self._view[:nbytes]
        if not self._rest and nbytes >= self._need:
            self._take(data)
            return
        self._rest += data
        if len(self._rest) >= self._need:
            rest, self._rest = self._rest, bytearray()
            self._take(memoryview(rest))

    def _take(self, data: memoryview) -> None:
        """Deliver what is whole and keep the rest."""
        if not self._met:
            if not self._meet(data[: len(MAGIC)]):
                return
            data = data[len(MAGIC) :]
        position = 0
        while self._started and not self._ending:
            self._need = 4
            if len(data) - position < 4:
                break
            length = int.from_bytes(data[position : position + 4], "little")
            if length > MAX_PACKET_BYTES:
                self.abort()
                return
            self._need += length
            if len(data) - position < self._need:
                break
            assert self._receiver is not None
            self._receiver.packet(data[position + 4 : position + self._need])
            position += self._need
        if self._ending:
            return
        self._rest += data[position:]
        if not self._started and self._lost is None:
            self._transport.pause_reading()

    def _meet(self, first: memoryview) -> bool:
        """Look at the other side's first bytes."""
        if bytes(first) != MAGIC:
            self.abort()
            return False
        self._met = True
        if self._late is not None:
            self._late.cancel()
        if not self.taken.done():
            self.taken.set_result(None)
        if self._arrived is not None:
            self._transport.write(MAGIC)
            self._arrived(self)
        return True

    def write(self, parts: Sequence[Bytes]) -> bool:
        if self._ending or self._lost is not None or self._transport.is_closing():
            return True
        length = sum(len(part) for part in parts)
        # One call and one copy: `writelines` copies, too, or (some versions) forgets to say that the buffer is full.
        self._transport.write(b"".join((length.to_bytes(4, "little"), *parts)))
        return not self._full

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._receiver is not None and not self._ending and self._lost is None:
            self._receiver.writable()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = f"the connection broke ({exc})" if exc else "the other side closed the link"
        if self._late is not None:
            self._late.cancel()
        if not self.taken.done():
            self.taken.set_exception(LinkError(self._lost))
            self.taken.exception()  # nobody waits for it at a server
        if self._started:
            self._tell_end()

    def _tell_end(self) -> None:
        receiver, self._receiver = self._receiver, None
        if receiver is not None and self._lost is not None:
            receiver.closed(self._lost)

    def close(self, reason: str = "") -> None:
        if self._ending or self._lost is not None:
            return
        self._ending = True
        self._transport.resume_reading()
        if self._transport.can_write_eof():
            # To close with unread bytes in the socket would reset it, and the last words could be lost on the way:
            # the other side answers the end with its own, and what it sends until then is dropped.
            try:
                self._transport.write_eof()
            except OSError:
                self.abort()  # the other side has reset the connection, and the loop has yet to hear of it
                return
            self._late = self._loop.call_later(LINGER_S, self.abort)
        else:
            self._transport.close()

    def abort(self) -> None:
        self._ending = True
        if self._transport is not None and self._lost is None:
            self._transport.abort()


@final
class _TcpListener(Listener):
    def __init__(self, server: asyncio.Server, context: ssl.SSLContext | None) -> None:
        self._server, self._context = server, context
        host, port = server.sockets[0].getsockname()[:2]
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    async def close(self) -> None:
        self._server.close()

    def renew(self, tls: Tls) -> None:
        if self._context is not None:
            tls.load_into(self._context)


@final
class TcpTransport(Transport):
    """TCP, or TLS over TCP."""

    def __init__(self) -> None:
        self._view = memoryview(bytearray(READ_BYTES))

    async def listen(self, address: str, arrived: Arrival, *, tls: Tls | None = None) -> Listener:
        host, port = host_and_port(address)
        context = None if tls is None else tls.server_context()
        secure: dict[str, Any] = {} if context is None else {"ssl": context, **_PATIENCE}
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                lambda: TcpLink(self._view, arrived), host, port, backlog=BACKLOG, reuse_address=True, **secure
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise LinkError(
                f"cannot listen at {address}: {reason}; choose another address, or stop what listens there"
            ) from None
        return _TcpListener(server, context)

    async def connect(self, address: str, *, tls: Tls | None = None, timeout_s: float = 10.0) -> Link:
        host, port = host_and_port(address)
        secure: dict[str, Any] = (
            {} if tls is None else {"ssl": tls.client_context(), "server_hostname": host, **_PATIENCE}
        )
        loop = asyncio.get_running_loop()
        link: TcpLink | None = None
        try:
            async with asyncio.timeout(timeout_s):
                _, link = await loop.create_connection(lambda: TcpLink(self._view), host, port, **secure)
                await link.taken
        except TimeoutError:
            if link is not None:
                link.abort()
            raise LinkError(f"{address} does not answer within {timeout_s:g} s; is there a firewall between?") from None
        except (ssl.SSLError, ConnectionResetError, ConnectionAbortedError) as error:
            if tls is None:
                raise LinkError(_stranger(address)) from None
            raise LinkError(untrusted(address, getattr(error, "verify_message", "") or error)) from None
        except OSError as error:
            raise LinkError(f"cannot reach {address}: {error.strerror or error}; is the server running?") from None
        except LinkError as error:
            raise LinkError(untrusted(address, error) if tls else _stranger(address)) from None
        return link


_PATIENCE = {"ssl_handshake_timeout": HANDSHAKE_S, "ssl_shutdown_timeout": LINGER_S}


def _stranger(address: str) -> str:
    return (
        f"what listens at {address} does not speak as an Umbel server over plain tcp:// does; does it use TLS or "
        "another transport?"
    )
