"""`FlowerNodes`: the gRPC service that Flower clients call. Each stream becomes a node of this process at the desk.

So every rule of the desk, the players and the strategies holds for them as for any node; what is theirs alone, the
messages, is between the node's worker and its stream.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast, final

import grpc

from umbel.arrays import Arrays
from umbel.errors import LinkError
from umbel.runtimes.flower.client import Messages, client_of
from umbel.runtimes.flower.keep import StatesOnly
from umbel.runtimes.flower.line import Line
from umbel.runtimes.flower.messages import MAX_MESSAGE_BYTES
from umbel.runtimes.mail import Letter
from umbel.runtimes.node.agent import Agent, Identity
from umbel.runtimes.node.worker import Finished, LocalWorker
from umbel.runtimes.server.desk import Desk
from umbel.transports import Link
from umbel.transports.abstract import Arrival
from umbel.transports.grpc import GrpcTransport, serving
from umbel.transports.memory import MemoryTransport
from umbel.transports.tls import Tls

SERVICE, METHOD = "flwr.proto.FlowerService", "Join"
MOST_CLIENTS = 1_000
"""Each has a thread of this process."""
KEPT_BLOBS = 2
"""The model that is evaluated and the one that is trained: a thousand nodes of one process cannot hold more."""
LOOK_EVERY_S = 0.05
LARGEST_MESSAGE_BYTES = MAX_MESSAGE_BYTES


@final
class FlowerNodes:
    """Flower clients as nodes of a desk.

    Args:
        arrived: told each client's link, in the place of the desk.
    """

    def __init__(self, desk: Desk, arrived: Arrival | None = None) -> None:
        self._desk, self._arrived = desk, arrived or desk.arrived
        self._messages = Messages()
        self._nodes: set[asyncio.Task[None]] = set()
        method = cast("Any", grpc).stream_stream_rpc_method_handler(self._serve)
        self.handler: Any = grpc.method_handlers_generic_handler(SERVICE, {METHOD: method})
        """The service, for a gRPC server."""

    def beside_nodes(self) -> GrpcTransport:
        """The transport whose listeners take Flower clients, too."""
        return GrpcTransport([self.handler], largest_bytes=LARGEST_MESSAGE_BYTES)

    async def listen(self, address: str, tls: Tls | None) -> tuple[Any, str]:
        """A gRPC server of its own at "host:port", and the address that was taken.

        Raises:
            LinkError: the address cannot be listened at.
        """
        return await serving(address, [self.handler], tls, largest_bytes=LARGEST_MESSAGE_BYTES)

    async def _serve(self, requests: Any, context: Any) -> None:
        """One stream, from its beginning to its end."""
        if len(self._nodes) >= MOST_CLIENTS:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"{MOST_CLIENTS} Flower clients are here, which is all"
            )
        name = f"flower-{secrets.token_hex(6)}"
        line = Line(context, name)
        node = asyncio.ensure_future(_Node(self._desk, self._arrived, name, line, self._messages).live())
        self._nodes.add(node)
        node.add_done_callback(self._nodes.discard)
        try:
            # Cancelled when the connection ends: the node then has still to say so to the desk.
            await asyncio.shield(node)
        finally:
            line.end("its connection ended")

    async def close(self) -> None:
        """Wait until all have gone; the desk has said goodbye before."""
        if self._nodes:
            await asyncio.wait(self._nodes)


@final
class _Node:
    """One Flower client as a node."""

    def __init__(self, desk: Desk, arrived: Arrival, name: str, line: Line, messages: Messages) -> None:
        self._arrived = arrived
        self._desk, self._name, self._line = desk, name, line
        self._executor = ThreadPoolExecutor(1, name)
        self._worker = _Watched(LocalWorker(client_of(line.ask, messages), self._executor, name))
        identity = Identity(name, secrets.token_bytes(16), {"kind": "flower"})
        self._agent = Agent(self._connect, identity, self._worker, StatesOnly(), say=_silent, kept_blobs=KEPT_BLOBS)
        self._link: Link | None = None
        self._left = asyncio.Event()

    async def _connect(self) -> Link:
        if self._line.over.done():
            self._left.set()
            raise LinkError(self._line.over.result())
        network = MemoryTransport()
        await network.listen("desk", self._arrived)
        self._link = await network.connect("desk")
        return self._link

    async def live(self) -> None:
        """Be a node until the server says goodbye or the client is gone."""
        running = asyncio.ensure_future(self._agent.run())
        try:
            await asyncio.wait((running, self._line.over), return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.exception()
                await self._line.farewell()
            else:
                await self._leave(running)
        finally:
            self._line.end("the server is gone")
            running.cancel()
            self._executor.shutdown(wait=False, cancel_futures=True)

    async def _leave(self, running: asyncio.Future[str]) -> None:
        """Answer what was asked, with why there is no more, before the node is gone: nobody shall wait for it."""
        while not running.done() and (self._worker.busy or self._is_waited_for()):
            await asyncio.sleep(LOOK_EVERY_S)
        if self._link is not None and not running.done():
            self._link.close(self._line.over.result())
            left = asyncio.ensure_future(self._left.wait())
            await asyncio.wait((running, left), return_when=asyncio.FIRST_COMPLETED)
            left.cancel()
        # It never comes back under this name.
        self._desk.missing.discard(self._name)

    def _is_waited_for(self) -> bool:
        """Whether a run still wants the answer to the last ask."""
        last, node = self._worker.last, self._desk.nodes.get(self._name)
        lead = None if last is None else self._desk.leads.get(last.run)
        if last is None or node is None or lead is None:
            return False
        return lead.expects(node, last.round, last.attempt)


@final
class _Watched:
    """A worker of which can be seen whether it is at work, and at what it was last."""

    def __init__(self, worker: LocalWorker) -> None:
        self._worker = worker
        self.busy = False
        self.last: Letter | None = None

    async def start(self, run: str, plan: Mapping[str, Any]) -> dict[str, Any]:
        return await self._worker.start(run, plan)

    def room(self, nbytes: int) -> memoryview:
        return self._worker.room(nbytes)

    async def play(self, run: str, letter: Letter, blobs: Mapping[str, Arrays], memory: bytes | None) -> Finished:
        self.busy, self.last = True, letter
        try:
            return await self._worker.play(run, letter, blobs, memory)
        finally:
            self.busy = False

    def hurry(self, run: str, left_s: float) -> None:
        self._worker.hurry(run, left_s)

    def stop(self, run: str) -> None:
        self._worker.stop(run)


def _silent(text: str) -> None:
    return None
