"""A server's desk and one run, with nodes in the same event loop, on a clock of its own."""

import asyncio
import random

from tests.chaos.world import JumpingLoop, SlowWorker

import umbel as fl
from umbel.runtimes.node.agent import Agent, Identity
from umbel.runtimes.node.keep import MemoryKeeper
from umbel.runtimes.server.conduct import Conduct, Order
from umbel.runtimes.server.desk import Desk
from umbel.stores import MemoryStore
from umbel.transports.memory import MemoryTransport


def asked(events):
    """Who took part in each round."""
    return [[name for name, _ in event["clients"]] for event in events if "clients" in event]


class Site:
    """The world of one test: it ends with its story."""

    def __init__(self, client_fn, **config):
        self.said, self.events, self.store = [], [], MemoryStore()
        self.client_fn = client_fn
        self.desk = Desk("server", say=self.said.append)
        self.order = Order(
            strategy=fl.FedAvg(), config=fl.ServerConfig(**{"seed": 1, **config}), observers=[self.observe]
        )
        self.transport = MemoryTransport()
        self.outcome = None

    def observe(self, event):
        self.events.append({**event, "now_s": asyncio.get_running_loop().time()})

    def node(self, name, attributes=None, *, boot=b"0" * 16, worker=None, connect=None, **more):
        """A node that lives until it is cancelled."""

        async def straight():
            return await self.transport.connect("server")

        rng = random.Random(name)
        worker = worker or SlowWorker(self.client_fn, name, rng, 0.5)
        identity = Identity(name, boot, {"attributes": attributes or {}, **more.pop("about", {})})
        agent = Agent(connect or straight, identity, worker, MemoryKeeper(), say=self.said.append, rng=rng, **more)
        return asyncio.ensure_future(agent.run())

    async def until(self, condition):
        while not condition():
            await asyncio.sleep(0.01)

    @property
    def rounds(self):
        return asked(self.store.events(self.conduct.run))

    def play(self, story):
        """Tell the story to its end while the run goes on; `outcome` is the history, or why there is none."""

        async def inline(work):
            return work()

        async def whole():
            self.conduct = Conduct(self.order, self.store, self.desk, offload=inline, say=self.said.append)
            await self.transport.listen("server", self.desk.arrived)
            self.running = asyncio.ensure_future(self.conduct.drive())
            try:
                await asyncio.wait_for(story(), 3600)
            finally:
                self.conduct.leader.stop("that is all")
                await asyncio.wait((self.running,), timeout=600)
                await self.desk.close("that is all", finished=True)
                others = asyncio.all_tasks() - {asyncio.current_task()}
                for task in others:
                    task.cancel()
                [self.outcome, *_] = await asyncio.gather(self.running, *others, return_exceptions=True)

        loop = JumpingLoop()
        try:
            loop.run_until_complete(whole())
        finally:
            loop.close()
