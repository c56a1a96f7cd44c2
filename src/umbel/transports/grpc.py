"""Packets as the messages of one bidirectional gRPC stream: `/umbel.v1.Umbel/Connect`, as `umbel.proto` has it.

A packet is encoded already, so the handlers take and give raw bytes; no generated code is needed.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any, cast, final
from urllib.parse import unquote

import grpc
import grpc.aio

from umbel.errors import LinkError
from umbel.transports.abstract import Arrival, Link, Listener, Transport
from umbel.transports.choose import host_and_port
from umbel.transports.pumped import PumpedLink, broken
from umbel.transports.tls import Tls, untrusted
from umbel.wire.packets import MAX_PACKET_BYTES

SERVICE, METHOD = "umbel.v1.Umbel", "Connect"
# What a server answers at once, in its headers: another one's refusal would come later, as the stream's status.
GREETING = ("umbel", "1")
# A server that ended its stream while the other side is writing could lose its last messages on the way. So it says
# first that it has said all (a packet of a kind that nobody knows) and leaves the end to the other side.
END = b"\xf8\xff\xff\xff\x0f\x01"
# Messages of HTTP/2 itself find a peer that is gone without a word: a ping after 20 s of silence, 20 s for its answer.
KEEPALIVE_MS = 20_000
_SHARED: list[tuple[str, Any]] = [
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", KEEPALIVE_MS),
    ("grpc.keepalive_timeout_ms", KEEPALIVE_MS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.enable_retries", 0),
]
_SERVER: list[tuple[str, Any]] = [
    *_SHARED,
    # With it, a second server at the same port would take half of the nodes instead of failing.
    ("grpc.so_reuseport", 0),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", KEEPALIVE_MS // 4),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.server_handshake_timeout_ms", 10_000),
    # A whole fleet may come back in the same second; by default gRPC turns streams beyond a thousand away.
    ("grpc.server.max_pending_requests", 100_000),
    ("grpc.server.max_pending_requests_hard_limit", 200_000),
]
# Links of one process must not share a connection: each is a node of its own.
_CLIENT: list[tuple[str, Any]] = [
    *_SHARED,
    ("grpc.max_receive_message_length", MAX_PACKET_BYTES),
    ("grpc.use_local_subchannel_pool", 1),
]
_ENDED: Any = cast("Any", grpc.aio).EOF


@final
class _NearPipe:
    """The stream of the side that connects."""

    def __init__(self, channel: Any, call: Any) -> None:
        self._channel, self._call = channel, call
        self._closing: asyncio.Task[None] | None = None

    async def read(self) -> bytes | None:
        try:
            data = await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise broken(error.details()) from None
        except asyncio.CancelledError:
            _unless_cancelled_here()
            raise broken("broken off") from None
        return None if data is _ENDED or data == END else data

    async def write(self, data: bytes) -> None:
        try:
            await self._call.write(data)
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            raise broken(error) from None
        except asyncio.CancelledError:
            _unless_cancelled_here()
            raise broken("broken off") from None

    async def finish(self) -> None:
        await self._call.done_writing()

    def abort(self) -> None:
        if self._closing is None:
            self._call.cancel()
            self._closing = asyncio.ensure_future(self._channel.close())


@final
class _FarPipe:
    """The stream of the side that listens: it lasts as long as its handler, which waits for `over`."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def read(self) -> bytes | None:
        reading = asyncio.ensure_future(self._context.read())
        await asyncio.wait((reading, self.over), return_when=asyncio.FIRST_COMPLETED)
        if not reading.done():
            reading.cancel()
            raise broken("broken off")
        if reading.cancelled() or reading.exception() is not None:
            raise broken("the other side is gone")
        data = reading.result()
        return None if data is _ENDED else data

    async def write(self, data: bytes) -> None:
        try:
            await self._context.write(data)
        except (grpc.aio.UsageError, grpc.RpcError, asyncio.InvalidStateError, RuntimeError) as error:
            raise broken(error) from None

    async def finish(self) -> None:
        await self.write(END)

    def abort(self) -> None:
        if not self.over.done():
            self.over.set_result(None)


def _unless_cancelled_here() -> None:
    """gRPC ends a call that was broken off with a `CancelledError`, which must not pass for one of this task."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


@final
class _GrpcListener(Listener):
    def __init__(self, arrived: Arrival) -> None:
        self.address = ""
        self.server: Any = None
        self._arrived = arrived
        self._open = 0
        self._stopping: asyncio.Task[None] | None = None
        self.certificates: _Certificates | None = None

    async def serve(self, requests: Any, context: Any) -> None:
        """One stream, from its beginning to its end."""
        await context.send_initial_metadata((GREETING,))
        pipe = _FarPipe(context)
        shown: dict[str, Sequence[bytes]] = context.auth_context()
        names, certificates = shown.get("x509_common_name", ()), shown.get("x509_pem_cert", ())
        link = PumpedLink(
            pipe,
            unquote(context.peer()).partition(":")[2],
            names[0].decode() if names else None,
            ssl.PEM_cert_to_DER_cert(certificates[0].decode("ascii")) if certificates else None,
        )
        self._open += 1
        self._arrived(link)
        try:
            await pipe.over
        finally:
            self._open -= 1
            link.abort()

    def renew(self, tls: Tls) -> None:
        if self.certificates is not None:
            self.certificates.renew(tls)

    async def close(self) -> None:
        stopping = self._stopping
        if stopping is None:
            # It takes no more from now on, and waits for the links that are there.
            stopping = self._stopping = asyncio.ensure_future(self.server.stop(float(2**31)))
            await asyncio.sleep(0)
        if not self._open:
            # What gRPC has still to do would find its loop closed.
            await stopping


@final
class GrpcTransport(Transport):
    """gRPC over HTTP/2, or over TLS.

    With `Tls(clients=False)` nodes are not asked for certificates at all. The side that connects is not told the name
    of the other; gRPC has checked that its certificate is for the address.

    Args:
        also: other services (gRPC's generic handlers) at the address that is listened at.
        largest_bytes: what a message may have there; packets of ours need no more than the default.
    """

    def __init__(self, also: Sequence[Any] = (), *, largest_bytes: int = MAX_PACKET_BYTES) -> None:
        self._also, self._largest_bytes = also, largest_bytes

    async def listen(self, address: str, arrived: Arrival, *, tls: Tls | None = None) -> Listener:
        listener = _GrpcListener(arrived)
        method = cast("Any", grpc).stream_stream_rpc_method_handler(listener.serve)
        handlers = [grpc.method_handlers_generic_handler(SERVICE, {METHOD: method}), *self._also]
        listener.certificates = None if tls is None else _Certificates(tls)
        listener.server, listener.address = await serving(
            address, handlers, listener.certificates, largest_bytes=self._largest_bytes
        )
        return listener

    async def connect(self, address: str, *, tls: Tls | None = None, timeout_s: float = 10.0) -> Link:
        host, port = host_and_port(address)
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        channel: Any = (
            grpc.aio.insecure_channel(place, options=_CLIENT)
            if tls is None
            else grpc.aio.secure_channel(place, _client_credentials(tls), options=_CLIENT)
        )
        call = channel.stream_stream(f"/{SERVICE}/{METHOD}")()
        try:
            async with asyncio.timeout(timeout_s):
                await call.wait_for_connection()
                greeted = GREETING in tuple(await call.initial_metadata())
        except TimeoutError:
            await channel.close()
            raise LinkError(f"{address} does not answer within {timeout_s:g} s; is there a firewall between?") from None
        except grpc.aio.AioRpcError as error:
            await channel.close()
            raise LinkError(_why(address, error, secure=tls is not None)) from None
        if not greeted:
            await channel.close()
            raise LinkError(_no_server(address))
        return PumpedLink(_NearPipe(channel, call), address)


def _why(address: str, error: grpc.aio.AioRpcError, *, secure: bool) -> str:
    details = error.details() or error.code().name
    if error.code() == grpc.StatusCode.UNIMPLEMENTED:
        return _no_server(address)
    if "refused" in details or "resolution failed" in details.lower():
        return f"cannot reach {address}: {details}; is the server running?"
    if secure or "handshake" in details.lower():
        return untrusted(address, details)
    return f"what listens at {address} does not speak plain gRPC ({details}); does it use TLS or another transport?"


async def serving(
    address: str, handlers: Sequence[Any], tls: Tls | _Certificates | None, *, largest_bytes: int
) -> tuple[Any, str]:
    """A gRPC server at "host:port" that has begun to serve, and the address that it took.

    Raises:
        LinkError: the address cannot be listened at.
    """
    host, port = host_and_port(address)
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    server = grpc.aio.server(options=[*_SERVER, ("grpc.max_receive_message_length", largest_bytes)])
    server.add_generic_rpc_handlers(handlers)
    try:
        taken = (
            server.add_insecure_port(place)
            if tls is None
            else server.add_secure_port(place, (_Certificates(tls) if isinstance(tls, Tls) else tls).credentials)
        )
    except RuntimeError:
        taken = 0
    if not taken:
        raise LinkError(
            f"cannot listen at {address}: it is in use or not of this machine; choose another address, or stop "
            "what listens there"
        )
    await server.start()
    return server, f"{place.rpartition(':')[0]}:{taken}"


def _no_server(address: str) -> str:
    return f"what listens at {address} is no Umbel server, but another one that speaks gRPC; look at host and port"


@final
class _Certificates:
    """What a server shows; gRPC asks anew before each handshake."""

    def __init__(self, tls: Tls) -> None:
        self._fresh: Any = None
        self.credentials: Any = cast("Any", grpc).dynamic_ssl_server_credentials(
            _configuration(tls), self._fetch, require_client_authentication=tls.clients
        )

    def renew(self, tls: Tls) -> None:
        self._fresh = _configuration(tls)

    def _fetch(self) -> Any:
        fresh, self._fresh = self._fresh, None
        return fresh


def _configuration(tls: Tls) -> Any:
    return cast("Any", grpc).ssl_server_certificate_configuration([(tls.key, tls.certificate)], tls.ca)


def _client_credentials(tls: Tls) -> Any:
    return grpc.ssl_channel_credentials(tls.ca, tls.key or None, tls.certificate or None)
