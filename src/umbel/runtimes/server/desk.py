"""`Desk`: where nodes arrive. It knows who is there, hands plans and asks out and takes answers in; it leads no run."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable, Set
from dataclasses import dataclass
from random import Random
from typing import final

from umbel.coordinators import Pace
from umbel.errors import ProtocolError
from umbel.runtimes.mail import RESUMABLE, SLACK_BYTES, read_answer
from umbel.runtimes.server.about import about_in
from umbel.runtimes.server.events import CallOff, Command, Deliver, Dismiss, HurryUp, Keep, Release, Settle
from umbel.runtimes.server.memory import UPLOADS_AT_ONCE
from umbel.runtimes.server.peers import Lead, Node
from umbel.runtimes.server.uploads import NOT_WANTED, Uploads
from umbel.runtimes.stream import Stream
from umbel.transports import Link
from umbel.wire import pack_parts, zstd
from umbel.wire.channel import Announced, Arrived, Event, Incoming, Refused, Taken, Withdrawn
from umbel.wire.packets import OLDEST, VERSION, Cancel, Hello, Hurry, Settled, Want, Welcome

HELLO_WITHIN_S = 10.0
FAREWELL_S = 1.0
HEARTBEAT_S = 15.0
MAX_READY_BYTES = 4 * 2**20
MAX_NAME = 200
# Of so many devices that are away a server that ends knows that they are to hear of it.
AWAY_NAMES = 1_000
# And so many receipts of each one that is.
OWED_EACH = 20
AWAY = "there is nothing to do now; come back later"
STANDS_BY = "this server stands by for another one; try the other address"


@final
@dataclass
class Limits:
    """What the desk allows.

    Attributes:
        uploads_at_once: how many announced answers are in memory at a time; others wait for their grant.
        nodes: how many nodes may be connected.
        strangers: how many links may be open that have not said hello; more are closed as they come.
        heartbeat_s: how often each side says something.
        least_away_s, most_away_s: between which devices that check in are told to come back, as in `Pace`.
    """

    uploads_at_once: int = UPLOADS_AT_ONCE
    nodes: int = 100_000
    strangers: int = 1024
    heartbeat_s: float = HEARTBEAT_S
    least_away_s: float = 1.0
    most_away_s: float = 3600.0


@final
class Desk:
    """The connected nodes and the bytes that come from them.

    Args:
        name: the server's name.
        say: told what goes on, in sentences.
        admit: looks at a node that says hello: None lets it in, a sentence turns it away.
        still: looks at a connected node's link again, now and then, in the same way.
        rng: spreads devices that check in.
        compress: "zstd" packs large messages, to and from nodes that can do it, too; None packs nothing.

    Raises:
        ConfigError: what `compress` says cannot be done here.
    """

    def __init__(
        self,
        name: str,
        *,
        say: Callable[[str], None],
        limits: Limits | None = None,
        admit: Callable[[Hello, Link], str | None] | None = None,
        still: Callable[[Link], str | None] | None = None,
        rng: Random | None = None,
        compress: str | None = None,
    ) -> None:
        self.compress = zstd.checked(compress)
        self.name, self.limits = name, limits or Limits()
        self.nodes: dict[str, Node] = {}
        self.leads: dict[str, Lead] = {}
        self._say, self._admit, self._still = say, admit, still
        self.uploads = Uploads(
            self.limits.uploads_at_once, self._lead_of, lambda node: self.nodes.get(node.name) is node
        )
        self._packed: dict[tuple[str, str], bytes] = {}
        self._blobs: dict[tuple[str, str], memoryview] = {}
        """By run and digest: what one run's nodes may have, another's may not."""
        self._closing: str | None = None
        self.stands_by = False
        """Whether nodes are sent on, as another server leads."""
        self._quiet = False
        self._owed: OrderedDict[str, deque[Settled]] = OrderedDict()
        self.pace = Pace(self.limits.least_away_s, self.limits.most_away_s)
        self.checked_in = 0
        """How many check-ins there were."""
        self._rng, self._away = rng or Random(), set[str]()
        self.missing: set[str] = set()
        """Nodes that were here and left without a goodbye."""
        self._watch: asyncio.Task[None] | None = None
        self.strangers = 0
        """How many links have not said hello yet."""

    def arrived(self, link: Link) -> None:
        """A fresh link: its first packet has to be a hello, soon."""
        if self._watch is None:
            self._watch = asyncio.ensure_future(self._watch_over())
        if self.strangers >= self.limits.strangers:
            link.abort()
        else:
            _Doorstep(self, link)

    async def _watch_over(self) -> None:
        """Break with nodes that were silent for three heartbeats, or are not welcome any more."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(self.limits.heartbeat_s)
            deadline = loop.time() - 3 * self.limits.heartbeat_s
            for node in [n for n in self.nodes.values() if n.stream.heard_at_s < deadline]:
                node.stream.abort("it was silent for three heartbeats")
            for node in list(self.nodes.values()):
                reason = None if self._still is None else self._still(node.stream.link)
                if reason is not None:
                    node.stream.end(reason, refused=True)

    def welcome(self, hello: Hello, stream: Stream) -> Node | None:
        """Let a node in, or end its stream with a reason."""
        loop = asyncio.get_running_loop()
        if self.stands_by:
            stream.end(STANDS_BY, standby=True)
            return None
        refusal, retry_ms = self._why_not(hello, stream)
        if refusal is not None:
            stream.end(refusal, refused=not retry_ms, retry_ms=retry_ms)
            return None
        self._away.discard(stream.link.peer or hello.name)
        if self._closing is not None:
            self.missing.discard(stream.link.peer or hello.name)
            stream.end(self._closing, finished=True)
            return None
        about = about_in(hello.about)
        name = stream.link.peer or hello.name
        before = self.nodes.get(name)
        if before is not None:
            before.stream.end("the same node connected again")
        self.missing.discard(name)
        node = Node(name, bytes(hello.boot), about, stream.link.address, stream, loop.time())
        node.unpacks = self.compress is not None and self.compress in hello.unpacks.split(",")
        if hello.checks_in:
            node.checks_in = True
            self._checks_in(node)
            if not node.works:
                self._send_away(node)
                return None
        self.nodes[name] = node
        packing = zstd.NAME if node.unpacks else ""
        stream.say(Welcome(min(hello.version, VERSION), self.name, int(1000 * self.limits.heartbeat_s), packing))
        for settled in self._owed.pop(name, ()):
            stream.say(settled)
        for lead in self.leads.values():
            self._offer(lead, node)
        return node

    def _checks_in(self, node: Node) -> None:
        """Count a device that is here for a moment, and see which runs have something for it."""
        self.checked_in += 1
        self.pace.checked_in(asyncio.get_running_loop().time(), node.about.since_s)
        willing = node.about.willing
        node.works |= {
            run for run, lead in self.leads.items() if lead.plan_for(node) and lead.invites(node.name, willing=willing)
        }

    def _send_away(self, node: Node) -> None:
        """Tell a device when to come back."""
        now_s = asyncio.get_running_loop().time()
        wanted = sum(lead.arrivals_per_s for lead in self.leads.values() if lead.plan_for(node))
        pause_s = self.pace.come_back_s(now_s, wanted, self._rng)
        if len(self._away) < AWAY_NAMES:
            self._away.add(node.name)
        node.stream.end(AWAY, retry_ms=max(1, round(1000 * pause_s)))

    def _done(self, node: Node, run: str) -> None:
        """A device has nothing more to do for a run: it goes when that was the last one."""
        node.works.discard(run)
        if node.checks_in and not node.works and not self._quiet:
            self._send_away(node)

    def _why_not(self, hello: Hello, stream: Stream) -> tuple[str | None, int]:
        if hello.oldest > VERSION or hello.version < OLDEST:
            return (
                f"this server speaks wire versions {OLDEST} to {VERSION}, the node {hello.oldest} to {hello.version}",
                0,
            )
        name = stream.link.peer or hello.name
        if not name or len(name) > MAX_NAME or not name.isprintable():
            return f"a node's name is 1 to {MAX_NAME} printable characters", 0
        if stream.link.peer and hello.name and hello.name != stream.link.peer:
            return f"the node calls itself {hello.name!r}, its certificate is for {stream.link.peer!r}", 0
        if self._admit is not None and (reason := self._admit(hello, stream.link)) is not None:
            return reason, 0
        before = self.nodes.get(name)
        beat = self.limits.heartbeat_s
        now_s = asyncio.get_running_loop().time()
        if before is not None and before.boot != hello.boot and now_s - before.stream.heard_at_s < 1.5 * beat:
            return (
                f"a node named {name!r} is connected already; two nodes must not share a name or a certificate",
                int(1000 * beat),
            )
        if before is None and len(self.nodes) >= self.limits.nodes:
            return f"{self.limits.nodes} nodes are connected, which is all this server takes", int(4000 * beat)
        return None, 0

    def _offer(self, lead: Lead, node: Node) -> None:
        if not node.checks_in or lead.run in node.works:
            self._send_plan(lead, node)

    def _send_plan(self, lead: Lead, node: Node) -> None:
        plan = lead.plan_for(node)
        if plan is not None:
            node.offered.add(lead.run)
            node.stream.send("plan", pack_parts("plan", {"plan": dict(plan)}), run=lead.run)

    def begin(self, lead: Lead) -> None:
        """Offer a run to all nodes."""
        self.leads[lead.run] = lead
        for node in self.nodes.values():
            self._offer(lead, node)

    def end(self, lead: Lead, *, for_good: bool = True) -> None:
        """The run is led no more: nodes let go of it, and forget it if that is `for_good`."""
        self.uploads.ended(lead.run)
        self.leads.pop(lead.run, None)
        self._forget_blobs(lead.run, keep=set())
        for node in list(self.nodes.values()):
            # Also one that has not answered yet: it may have begun, and would wait for ever.
            if lead.run in node.offered:
                node.offered.discard(lead.run)
                node.ready.discard(lead.run)
                node.refused.pop(lead.run, None)
                node.stream.send("retire", [b"" if for_good else RESUMABLE], run=lead.run)
            # A desk that closes now has something else to say to them.
            asyncio.get_running_loop().call_soon(self._done, node, lead.run)

    def do(self, run: str, command: Command) -> None:
        """Carry out what a run's players want."""
        if isinstance(command, Release):
            self.uploads.release(command.token)
            return
        if isinstance(command, Keep):
            self._forget_blobs(run, keep=command.digests)
            return
        node = self.nodes.get(command.client)
        if node is None:
            self._owe(run, command)
            return
        if isinstance(command, Deliver):
            self._deliver(run, node, command)
        elif isinstance(command, CallOff):
            node.stream.say(Cancel(run, command.round, command.attempt, command.kind))
            self.uploads.let_go(node, (run, command.round, command.attempt))
            self._done(node, run)
        elif isinstance(command, Dismiss):
            self._done(node, run)
        elif isinstance(command, HurryUp):
            node.stream.say(Hurry(run, command.round, command.attempt, int(1000 * command.left_s)))
        else:
            assert isinstance(command, Settle)
            node.stream.say(Settled(run, command.round, command.attempt, command.included, command.receipt))
            self._done(node, run)

    def _owe(self, run: str, command: Command) -> None:
        """Whoever has left gets the receipt for an answer when they are back, as far as this process remembers."""
        if isinstance(command, Settle) and command.receipt:
            owed = self._owed.setdefault(command.client, deque(maxlen=OWED_EACH))
            owed.append(Settled(run, command.round, command.attempt, command.included, command.receipt))
            while len(self._owed) > AWAY_NAMES:
                self._owed.popitem(last=False)

    def _deliver(self, run: str, node: Node, command: Deliver) -> None:
        on_the_way = {digest for _, digest in node.sending.values()}
        for digest, arrays in command.blobs.items():
            self._blobs[run, digest] = arrays.buffer.data
            if digest in command.packed:
                self._packed[run, digest] = command.packed[digest]
            if digest not in node.held and digest not in on_the_way:
                self._send_blob(run, node, digest)
        node.stream.send("ask", command.parts, run=run, round=command.ask.task.round, attempt=command.ask.attempt)

    def _send_blob(self, run: str, node: Node, digest: str) -> None:
        data = self._blobs[run, digest]
        packed = self._packed.get((run, digest)) if node.unpacks else None
        number = node.stream.channel.send("blob", [data], run=run, digest=bytes.fromhex(digest), packed=packed)
        node.sending[number] = (run, digest)

    def _forget_blobs(self, run: str, keep: Set[str]) -> None:
        for key in [key for key in self._blobs if key[0] == run and key[1] not in keep]:
            del self._blobs[key]
            self._packed.pop(key, None)

    def happened(self, node: Node, event: Event) -> None:
        """Something came from a node."""
        if isinstance(event, Arrived):
            self._arrived(node, event.message)
        elif isinstance(event, Announced):
            self._announced(node, event.message)
        elif isinstance(event, Taken):
            sent = node.sending.pop(event.id, None)
            if sent is not None:
                node.held.append(sent[1])
        elif isinstance(event, Refused):
            node.sending.pop(event.id, None)
            self._say(f"node {node.name} does not take a message: {event.reason}")
        elif isinstance(event, Withdrawn):
            self.uploads.withdrawn(event.message)
        elif isinstance(event, Want):
            digest = bytes(event.digest).hex()
            wanted = self._lead_of(node, event.run) is not None and (event.run, digest) in self._blobs
            if wanted and digest not in {d for _, d in node.sending.values()}:
                self._send_blob(event.run, node, digest)

    def _lead_of(self, node: Node, run: str) -> Lead | None:
        """The run, if it is there and the node may take part: of others a node hears nothing."""
        lead = self.leads.get(run)
        return None if lead is None or lead.plan_for(node) is None else lead

    def _announced(self, node: Node, message: Incoming) -> None:
        channel = node.stream.channel
        lead = self._lead_of(node, message.run)
        if lead is None:
            channel.refuse(message, f"there is no run {message.run!r} here")
        elif message.kind == "ready":
            if message.size > MAX_READY_BYTES:
                channel.refuse(message, f"{message.size} bytes are too many to say what a client can")
            else:
                channel.accept(message, memoryview(bytearray(message.size)))
        elif message.kind != "answer":
            raise ProtocolError(f"a node announces a message of the unknown kind {message.kind!r}")
        elif not lead.expects(node, message.round, message.attempt):
            channel.refuse(message, NOT_WANTED)
        elif message.size > lead.upload_bytes + SLACK_BYTES:
            allowed = lead.upload_bytes + SLACK_BYTES
            raise ProtocolError(f"an answer of {message.size} bytes is announced, at most {allowed} fit the task")
        else:
            self.uploads.announced(node, message)

    def _arrived(self, node: Node, message: Incoming) -> None:
        lead = self._lead_of(node, message.run)
        token = self.uploads.token_of(message)
        data = message.buffer
        assert data is not None
        if lead is None:
            self.uploads.release(token)
        elif message.kind == "ready":
            lead.is_ready(node, read_answer(data))
            if message.run in node.refused:
                self._done(node, message.run)
        elif message.kind == "answer":
            if message.size > lead.upload_bytes + SLACK_BYTES:
                raise ProtocolError(f"an answer of {message.size} bytes does not fit the task")
            if lead.expects(node, message.round, message.attempt):
                lead.came(node, data, token)
            else:
                self.uploads.release(token)
        else:
            raise ProtocolError(f"a node sends a message of the unknown kind {message.kind!r}")

    def gone(self, node: Node, reason: str) -> None:
        """A node's stream has ended."""
        if self.nodes.get(node.name) is not node:
            return
        del self.nodes[node.name]
        if not self._quiet and not node.checks_in:
            # Those that are let go by `close` have heard of it, and devices come and go.
            self.missing.add(node.name)
            self._say(f"node {node.name} is gone: {reason}")
        for lead in list(self.leads.values()):
            lead.left(node)
        self.uploads.gone(node)

    async def close(self, reason: str, *, finished: bool, linger_s: float = 0.0) -> None:
        """Say goodbye to all, and wait a little until it has gone out.

        Args:
            finished: nodes need not come back.
            linger_s: how long to wait for nodes that are on their way back, so that they hear of it, too.
        """
        self._closing = reason if finished else None
        self._quiet = True
        self.missing -= self.nodes.keys()
        streams = {node.name: node.stream for node in self.nodes.values()}
        for stream in streams.values():
            stream.end(reason, finished=finished)
        self.uploads.close()
        if self._watch is not None:
            self._watch.cancel()
        if streams:
            await asyncio.wait([stream.gone for stream in streams.values()], timeout=FAREWELL_S)
        # Who does not close its end has perhaps not heard: its link may be dead without anybody having noticed.
        self.missing = (self.missing - streams.keys()) | {n for n, s in streams.items() if not s.gone.done()}
        loop = asyncio.get_running_loop()
        until_s = loop.time() + linger_s
        while finished and (self.missing or self._away) and loop.time() < until_s:
            await asyncio.sleep(0.05)
        for stream in streams.values():
            stream.link.abort()


@final
class _Doorstep:
    """A link before its hello."""

    def __init__(self, desk: Desk, link: Link) -> None:
        self.desk = desk
        self.node: Node | None = None
        self.stream = Stream(link, self.happened, self.ended)
        loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = loop.call_later(HELLO_WITHIN_S, self._late)
        desk.strangers += 1
        self.stream.start()

    def _met(self) -> None:
        """It is no stranger any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.desk.strangers -= 1

    def _late(self) -> None:
        self.stream.abort(f"no hello within {HELLO_WITHIN_S:g} s")

    def happened(self, event: Event) -> None:
        if self.node is not None:
            self.desk.happened(self.node, event)
            return
        if not isinstance(event, Hello):
            raise ProtocolError("the first packet has to be a hello")
        self._met()
        self.node = self.desk.welcome(event, self.stream)

    def ended(self, reason: str) -> None:
        self._met()
        if self.node is not None:
            self.desk.gone(self.node, reason)
