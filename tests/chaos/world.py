"""A simulated world: one event loop whose time jumps, and a network that delays, breaks, splits and repeats.

Everything in it (server, nodes, links, crashes) runs in one thread and depends on a seed alone: a failing seed fails
again. A world in which nobody waits for anything any more stands still, which is how a hang is seen.
"""

import asyncio
import random
import selectors
from collections import deque

from umbel.errors import LinkError
from umbel.runtimes.node.agent import Agent, Identity
from umbel.runtimes.node.host import Host
from umbel.runtimes.node.keep import MemoryKeeper
from umbel.runtimes.node.worker import played
from umbel.runtimes.server.conduct import Conduct, Order
from umbel.runtimes.server.desk import Desk, Limits
from umbel.transports import Link
from umbel.transports.memory import MemoryTransport

LONGEST_S = 3600.0


class StandsStill(AssertionError):
    """Nobody waits for anything: somebody forgot to act."""


class _Jumping(selectors.BaseSelector):
    """Instead of waiting, time jumps to the next thing that is due."""

    def __init__(self):
        self.inner = selectors.SelectSelector()
        self.now_s = 0.0

    def select(self, timeout=None):
        if timeout is None:
            raise StandsStill("the simulated world stands still")
        self.now_s += timeout
        return []

    def register(self, fileobj, events, data=None):
        return self.inner.register(fileobj, events, data)

    def unregister(self, fileobj):
        return self.inner.unregister(fileobj)

    def get_map(self):
        return self.inner.get_map()

    def close(self):
        self.inner.close()


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop on a clock of its own."""

    def __init__(self):
        self.jumping = _Jumping()
        super().__init__(self.jumping)

    def time(self):
        return self.jumping.now_s


class FlakyLink(Link):
    """One end of a link in a bad network."""

    def __init__(self, network, address):
        self.network, self.address = network, address
        self.other = None
        self.receiver = None
        self.early = []
        self.is_closed = False
        self.free_at_s = 0.0
        self.mute = False
        self.held_back = None
        self.under_way = deque()

    def start(self, receiver):
        self.receiver = receiver
        for data in self.early:
            self.deliver(data)
        self.early = []

    def write(self, parts):
        data = b"".join(parts)
        network, loop = self.network, asyncio.get_running_loop()
        if self.is_closed or self.mute or self.other.is_closed:
            return True
        fate = network.rng.random()
        if fate < network.breaks:
            self.break_off()
            return True
        packets = [data]
        if fate > 1 - network.repeats:
            packets = [data, data]
        elif fate > 1 - 2 * network.repeats:
            # Held back behind the next one: the two change places.
            self.held_back, packets = data, []
        elif self.held_back is not None:
            packets, self.held_back = [data, self.held_back], None
        for packet in packets:
            # A stream keeps its order: nothing overtakes what was written before.
            self.free_at_s = max(self.free_at_s, loop.time() + network.rng.expovariate(1 / network.delay_s))
            self.under_way.append(packet)
            loop.call_at(self.free_at_s, self._arrives)
        return True

    def _arrives(self):
        # The loop does not keep the order of what is due at the same time.
        self.other.deliver(self.under_way.popleft())

    def deliver(self, data):
        if self.is_closed or self.mute:
            return
        if self.receiver is None:
            self.early.append(data)
        else:
            self.receiver.packet(memoryview(data))

    def told(self, reason):
        if not self.is_closed:
            self.is_closed = True
            if self.receiver is not None:
                self.receiver.closed(reason)

    def break_off(self):
        """The line is cut; each side notices in its own time, or only by the silence."""
        loop = asyncio.get_running_loop()
        self.mute = self.other.mute = True
        for end in (self, self.other):
            if self.network.rng.random() < 0.8:
                loop.call_later(self.network.rng.expovariate(1.0), end.told, "the line is cut")

    def close(self, reason=""):
        loop = asyncio.get_running_loop()
        if not self.is_closed:
            at_s = max(self.free_at_s, loop.time()) + self.network.delay_s
            # Where nothing comes through, the end is not answered either: the link is given up after a while.
            loop.call_at(at_s + (10.0 if self.mute else 0.0), self.told, reason or "closed here")
            if not self.mute:
                loop.call_at(at_s, self.other.told, reason or "the other side closed the link")

    def abort(self):
        self.close("broken off")


class Network:
    """Where servers are reached, or not."""

    def __init__(self, rng, *, breaks=0.0, repeats=0.0, delay_s=0.01):
        self.rng, self.breaks, self.repeats, self.delay_s = rng, breaks, repeats, delay_s
        self.transport = MemoryTransport()
        self.apart = False
        self.links = []

    async def connect(self):
        await asyncio.sleep(self.rng.expovariate(1 / self.delay_s))
        arrived = self.transport.arrivals.get("server")
        if arrived is None or self.apart:
            raise LinkError("nobody listens at the server's address")
        near, far = FlakyLink(self, "server"), FlakyLink(self, "node")
        near.other, far.other = far, near
        self.links += [near, far]
        arrived(far)
        return near

    def cut_all(self):
        for link in self.links:
            if not link.is_closed and not link.mute:
                link.break_off()
        self.links = [link for link in self.links if not link.is_closed]


class SlowWorker:
    """A client that needs simulated time for its work."""

    def __init__(self, client_fn, name, rng, seconds):
        self.client_fn, self.name, self.rng, self.seconds = client_fn, name, rng, seconds
        self.hosts = {}
        self.turns = []

    async def start(self, run, plan):
        await asyncio.sleep(self.rng.uniform(0, self.seconds))
        if run not in self.hosts:
            self.hosts[run] = Host(self.client_fn, plan, self.name)
        return self.hosts[run].facts

    async def play(self, run, letter, blobs, memory):
        await asyncio.sleep(self.rng.expovariate(1 / self.seconds))
        self.turns.append((letter.kind, letter.round, letter.attempt))
        return played(self.hosts[run], letter, blobs, memory)

    def room(self, nbytes):
        return memoryview(bytearray(nbytes))

    def hurry(self, run, left_s):
        pass

    def stop(self, run):
        self.hosts.pop(run, None)


class World:
    """A server and its nodes in one loop; they crash and come back as the seed has it."""

    def __init__(
        self,
        seed,
        client_fn,
        names,
        order,
        store,
        *,
        node_crashes_per_s=0.0,
        server_crashes_per_s=0.0,
        work_s=0.3,
        **network,
    ):
        self.rng = random.Random(seed)
        self.network = Network(self.rng, **network)
        self.client_fn, self.names, self.order, self.store = client_fn, names, order, store
        self.node_crashes_per_s, self.server_crashes_per_s = node_crashes_per_s, server_crashes_per_s
        self.work_s = work_s
        self.keepers = {name: MemoryKeeper() for name in names}
        self.workers = []
        self.run_id = None
        self.server_crashes = self.node_crashes = 0

    def play(self):
        """The history of the run; raises `StandsStill` if the world hangs, TimeoutError if it takes too long."""
        loop = JumpingLoop()
        asyncio.set_event_loop(loop)
        try:
            return loop.run_until_complete(asyncio.wait_for(self._live(), LONGEST_S))
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            asyncio.set_event_loop(None)
            loop.close()

    async def _live(self):
        nodes = [asyncio.ensure_future(self._node(name)) for name in self.names]
        server = asyncio.ensure_future(self._server())
        god = asyncio.ensure_future(self._weather())
        history = await server
        god.cancel()
        done, _ = await asyncio.wait(nodes, timeout=600)
        self.all_nodes_ended = len(done) == len(nodes)
        for node in nodes:
            node.cancel()
        return history

    async def _weather(self):
        """Now and then the network falls apart for a while."""
        while True:
            await asyncio.sleep(self.rng.expovariate(1 / 20))
            if self.network.breaks:
                self.network.apart = True
                self.network.cut_all()
                await asyncio.sleep(self.rng.expovariate(1 / 3))
                self.network.apart = False

    async def _node(self, name):
        while True:
            rng = random.Random(self.rng.random())
            worker = SlowWorker(self.client_fn, name, rng, self.work_s)
            self.workers.append(worker)
            identity = Identity(name, self.rng.randbytes(16))
            agent = Agent(self.network.connect, identity, worker, self.keepers[name], say=lambda text: None, rng=rng)
            life = asyncio.ensure_future(agent.run())
            if await self._lives(life, self.node_crashes_per_s):
                return await life
            self.node_crashes += 1
            await asyncio.sleep(self.rng.expovariate(1 / 2))

    async def _lives(self, life, crashes_per_s):
        """Whether a process lives to its end; otherwise it is killed at some moment."""
        if not crashes_per_s:
            await asyncio.wait([life])
            return True
        await asyncio.wait([life], timeout=self.rng.expovariate(crashes_per_s))
        if life.done():
            return True
        life.cancel()
        await asyncio.wait([life])
        return False

    async def _server(self):
        while True:
            life = asyncio.ensure_future(self._serve())
            if await self._lives(life, self.server_crashes_per_s):
                return await life
            self.server_crashes += 1
            self.network.transport.arrivals.pop("server", None)
            self.network.cut_all()
            await asyncio.sleep(self.rng.expovariate(1 / 3))

    def begins(self, conduct):
        """Called when a server begins to lead the run."""

    async def _serve(self):
        desk = Desk("server", say=lambda text: None, limits=Limits(heartbeat_s=2.0))
        runs = self.store.runs()
        order = Order(**{**self.order, "resume": runs[0].id if runs else None})

        async def inline(work):
            return work()

        conduct = Conduct(order, self.store, desk, offload=inline, say=lambda text: None)
        listener = await self.network.transport.listen("server", desk.arrived)
        self.begins(conduct)
        history = await conduct.drive()
        await desk.close("finished", finished=history.ended != "interrupted", linger_s=60.0)
        await listener.close()
        return history
