"""`Strangers`: who is connected and is no node (yet). Each has to keep to a pace, and there are only so many."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

PIECE_BYTES = 2**16
FAREWELL_S = 1.0
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]


@final
@dataclass(frozen=True, kw_only=True)
class Patience:
    """What a server's port puts up with. Whoever exceeds it is cut off.

    Attributes:
        first_s: seconds until TLS has to stand, and again until the first bytes have to be there.
        head_s: seconds until the head of an HTTP request has to be whole.
        body_s: seconds from then until its body has to be whole.
        unread_s: seconds for which a piece of an answer may lie unread.
        most: how many connections may be open that are no nodes (yet); more are closed as they come.
    """

    first_s: float = 10.0
    head_s: float = 10.0
    body_s: float = 30.0
    unread_s: float = 60.0
    most: int = 1024


@final
class Caller(asyncio.Protocol):
    """A connection that speaks HTTP.

    Args:
        certificate: what the other side showed, DER.
        left: told when it is closed.
    """

    def __init__(self, strangers: Strangers, certificate: bytes | None, left: Callable[[], None]) -> None:
        self.certificate = certificate
        self._patience, self._left = strangers.patience, left
        self._inner = strangers.http(self)
        self._transport: Any = None
        self._timer: asyncio.TimerHandle | None = None
        self._asked = 0
        self._gone = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._inner.connection_made(transport)
        self._wait(self._patience.head_s)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> bool | None:
        return self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone = True
        self._calm()
        self._inner.connection_lost(exc)
        self._left()

    @property
    def unread_bytes(self) -> int:
        """What of an answer waits in memory for the other side to read it."""
        return self._transport.get_write_buffer_size()

    def hang_up(self) -> None:
        """Close at once; what was not read is lost."""
        self._transport.abort()

    async def serve(self, app: Starlette, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one request, whose head is there, in the other side's pace."""
        self._asked += 1
        self._calm()
        try:
            await app(scope, self._hear(receive), self._tell(send))
        finally:
            self._asked -= 1
            if not self._asked:
                # For the last piece of the answer to be read, and for the next request.
                self._wait(self._patience.unread_s)

    def _hear(self, receive: Receive) -> Receive:
        whole = False
        until_s = asyncio.get_running_loop().time() + self._patience.body_s

        async def hear() -> Message:
            nonlocal whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout_at(until_s):
                    message = await receive()
            except TimeoutError:
                self.hang_up()
                return {"type": "http.disconnect"}
            whole = not message.get("more_body", False)
            return message

        return hear

    def _tell(self, send: Send) -> Send:
        async def tell(message: Message) -> None:
            # A large answer in one piece would lie in memory until it is read, and nobody would see it lie.
            rest = memoryview(message.get("body", b""))
            while len(rest) > PIECE_BYTES:
                await self._say(send, {**message, "body": bytes(rest[:PIECE_BYTES]), "more_body": True})
                rest = rest[PIECE_BYTES:]
            await self._say(send, {**message, "body": bytes(rest)} if "body" in message else message)

        return tell

    async def _say(self, send: Send, message: Message) -> None:
        try:
            async with asyncio.timeout(self._patience.unread_s):
                await send(message)
        except TimeoutError:
            self.hang_up()

    def _wait(self, seconds: float) -> None:
        self._calm()
        if not self._gone:
            self._timer = asyncio.get_running_loop().call_later(seconds, self.hang_up)

    def _calm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


@final
class Strangers:
    """All of them at one server.

    Args:
        app: answers HTTP.
        patience: what is put up with.
    """

    def __init__(self, app: Starlette, patience: Patience | None = None) -> None:
        self.patience = patience or Patience()
        self._app = app
        self._there: set[object] = set()
        # Not a word of WebSocket here: it would take the connection out of these hands.
        self._config = uvicorn.Config(
            self._served,
            interface="asgi3",
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
        )
        self._config.load()
        self._state = ServerState()
        self.callers: set[Caller] = set()
        """Those of them that speak HTTP."""

    @property
    def count(self) -> int:
        """How many are connected."""
        return len(self._there)

    def enter(self, who: object) -> bool:
        """Whether there is room for one more, who is counted from now on."""
        if len(self._there) >= self.patience.most:
            return False
        self._there.add(who)
        return True

    def leave(self, who: object) -> None:
        """Count one no more: it is gone, or it is a node."""
        self._there.discard(who)

    def caller(self, who: object, certificate: bytes | None) -> Caller:
        """`who` speaks HTTP: the protocol for its connection from now on."""

        def left() -> None:
            self.callers.discard(caller)
            self.leave(who)

        caller = Caller(self, certificate, left)
        self.callers.add(caller)
        return caller

    def http(self, caller: Caller) -> asyncio.Protocol:
        """What understands HTTP on a caller's connection."""
        state = {"caller": caller, "certificate": caller.certificate}
        return H11Protocol(config=self._config, server_state=self._state, app_state=state)

    async def _served(self, scope: Message, receive: Receive, send: Send) -> None:
        caller: Caller = scope["state"]["caller"]
        await caller.serve(self._app, scope, receive, send)

    async def farewell(self) -> None:
        """Let answers under way come to their end for a moment, then hang up on all."""
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=FAREWELL_S)
        for caller in list(self.callers):
            caller.hang_up()
        if self._state.tasks:
            await asyncio.wait(self._state.tasks, timeout=FAREWELL_S)
