"""`Line`: the stream to one Flower client, on which each side waits for the other."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from typing import Any, TypeVar, cast, final

import grpc.aio

from umbel.errors import ClientError
from umbel.runtimes.flower.messages import REASONS, Reply, read, write

FAREWELL_S = 5.0
GONE = "its connection ended"
_ENDED: Any = cast("Any", grpc.aio).EOF
Result = TypeVar("Result")


@final
class Line:
    """One client's stream.

    It is read only while an answer is due, so that nobody can fill memory with what was not asked for.

    Attributes:
        over: done, with the reason, once nothing more can be asked.
    """

    def __init__(self, context: Any, client: str) -> None:
        self._context, self._client = context, client
        self._loop = asyncio.get_running_loop()
        self._turn, self._writing = asyncio.Lock(), asyncio.Lock()
        self.over: asyncio.Future[str] = self._loop.create_future()

    def ask(self, message: bytes, *, within_s: float = math.inf) -> Reply:
        """Ask from another thread, and wait there.

        Raises:
            ClientError: the client is gone, or says that it leaves.
            WireError: what it sent is no reply.
        """
        data = asyncio.run_coroutine_threadsafe(self._ask(message, within_s), self._loop).result()
        reply = read(data)
        if reply.kind == "disconnect":
            reason = f"it left ({REASONS.get(reply.reason, 'no reason given')})"
            self._loop.call_soon_threadsafe(self.end, reason)
            raise ClientError(self._client, reason)
        return reply

    async def _ask(self, message: bytes, within_s: float) -> bytes:
        async with self._turn:
            try:
                async with asyncio.timeout(None if math.isinf(within_s) else within_s):
                    await self._write(message)
                    return await self._read()
            except TimeoutError:
                # A late answer would be taken for one to the next question.
                self.end(f"it did not answer within {within_s:g} s")
                raise ClientError(self._client, self.over.result()) from None

    async def _write(self, message: bytes) -> None:
        async with self._writing:
            await self._unless_over(self._context.write(message))

    async def _read(self) -> bytes:
        data = await self._unless_over(self._context.read())
        if data is _ENDED:
            self.end(GONE)
            raise ClientError(self._client, GONE)
        return data

    async def _unless_over(self, work: Coroutine[Any, Any, Result]) -> Result:
        """What `work` gives.

        Raises:
            ClientError: the line is over before, or broke.
        """
        task = asyncio.ensure_future(work)
        try:
            await asyncio.wait((task, self.over), return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            task.cancel()
            raise
        if task.done() and not task.cancelled() and task.exception() is None:
            return task.result()
        task.cancel()
        self.end(GONE)
        raise ClientError(self._client, self.over.result())

    def end(self, reason: str) -> None:
        """Nothing more is asked, and whoever waits for an answer is told. Safe to call twice."""
        if not self.over.done():
            self.over.set_result(reason)

    async def farewell(self) -> None:
        """Tell the client that it is not needed again and wait until it has gone, but not for long.

        It may still be at work: it reads this after it has answered, and its answer is dropped.
        """
        try:
            async with asyncio.timeout(FAREWELL_S):
                await self._write(write("reconnect", {}))
                async with self._turn:
                    while read(await self._read()).kind != "disconnect":
                        pass
        except (TimeoutError, ClientError, ValueError):
            pass
        self.end("the server said goodbye")
