"""A thousand devices that are online now and then check in at a server, in simulated time."""

import asyncio
import random

import pytest
from tests.chaos.test_chaos import replayed
from tests.chaos.world import JumpingLoop, Network, SlowWorker

import umbel as fl
from umbel.runtimes.node.agent import STAYS_S, Agent, Identity
from umbel.runtimes.node.keep import MemoryKeeper
from umbel.runtimes.server.conduct import Conduct, Order
from umbel.runtimes.server.desk import Desk, Limits
from umbel.stores import MemoryStore
from umbel.testing import Quadratics

DEVICES, ONLINE, ONLINE_S = 1000, 0.05, 180.0
ROUNDS = 40
TOY = Quadratics(clients=DEVICES)
CONFIG = {"num_rounds": ROUNDS, "arrivals": True, "fraction_evaluate": 0.0, "round_timeout": 240.0, "round_retries": 50}
AT_MOST = 20


class Worker(SlowWorker):
    """Says since when it works."""

    since_s = None

    async def play(self, run, letter, blobs, memory):
        self.since_s = asyncio.get_running_loop().time()
        try:
            return await super().play(run, letter, blobs, memory)
        finally:
            self.since_s = None


class Device:
    """Online for a while, offline for longer. Offline its links are cut; it connects as soon as it is online again."""

    def __init__(self, phones, name):
        self.phones, self.name = phones, name
        self.rng = random.Random(phones.rng.random())
        self.online, self.links = asyncio.Event(), []
        self.worker = Worker(phones.client_fn, name, self.rng, phones.work_s)

    async def live(self):
        living = asyncio.ensure_future(self._agent().run())
        try:
            if self.rng.random() < self.phones.online:
                await self._online_once()
            while True:
                await asyncio.sleep(self.rng.expovariate(1 / (ONLINE_S / self.phones.online - ONLINE_S)))
                await self._online_once()
        finally:
            living.cancel()

    def _agent(self):
        async def fine():
            return {"conditions": {"idle": True, "charging": True, "unmetered": True}, "willing": True}

        identity = Identity(self.name, self.rng.randbytes(16))
        return Agent(
            self.connect, identity, self.worker, MemoryKeeper(), say=lambda t: None, rng=self.rng, check_in=fine
        )

    async def _online_once(self):
        self.online.set()
        await asyncio.sleep(self.rng.expovariate(1 / ONLINE_S))
        self.online.clear()
        for link in self.links:
            for end in (link, link.other):
                end.told("offline")
        self.links.clear()

    async def connect(self):
        await self.online.wait()
        link = await self.phones.network.connect()
        self.links.append(link)
        return link


class Phones:
    """The server, its devices, and what happened when."""

    def __init__(self, seed, *, devices=DEVICES, online=ONLINE, work_s=5.0, client_fn=TOY.client, **config):
        self.rng = random.Random(seed)
        self.client_fn, self.while_working = client_fn, []
        self.network = Network(self.rng)
        self.count, self.online, self.work_s = devices, online, work_s
        self.config = fl.ServerConfig(
            **{**CONFIG, "seed": seed, "min_fit_clients": AT_MOST, "over_selection": 0.5, "quorum": 0.5, **config}
        )
        self.check_ins = []
        self.store = MemoryStore()

    def play(self):
        loop = JumpingLoop()
        asyncio.set_event_loop(loop)
        try:
            return loop.run_until_complete(asyncio.wait_for(self._live(), 6 * 3600))
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            loop.run_until_complete(asyncio.sleep(0))
            asyncio.set_event_loop(None)
            loop.close()

    async def _live(self):
        loop = asyncio.get_running_loop()

        def admit(hello, link):
            self.check_ins.append((loop.time(), hello.name))

        async def inline(work):
            return work()

        self.devices = [Device(self, str(number)) for number in range(self.count)]
        living = [asyncio.ensure_future(device.live()) for device in self.devices]
        desk = Desk(
            "server",
            say=lambda text: None,
            limits=Limits(heartbeat_s=10.0),
            admit=admit,
            rng=random.Random(self.rng.random()),
        )
        order = Order(strategy=fl.FedAvg(), config=self.config, initial={"w": [0.0] * TOY.dim})
        conduct = Conduct(order, self.store, desk, offload=inline, say=lambda text: None)
        await self.network.transport.listen("server", desk.arrived)
        looking = asyncio.ensure_future(self._look_on())
        history = await conduct.drive()
        looking.cancel()
        await desk.close("finished", finished=True)
        for life in living:
            life.cancel()
        return history

    async def _look_on(self):
        """Whether those that have worked for long are connected."""
        while True:
            await asyncio.sleep(1.0)
            long_ago_s = asyncio.get_running_loop().time() - STAYS_S - 1.0
            for device in self.devices:
                if device.worker.since_s is not None and device.worker.since_s < long_ago_s:
                    self.while_working.append(any(not link.is_closed for link in device.links))

    @property
    def turns(self):
        return [(device.name, turn) for device in self.devices for turn in device.worker.turns]


@pytest.fixture(scope="module")
def phones():
    phones = Phones(3)
    phones.history = phones.play()
    return phones


def test_rounds_close_with_devices_that_come_and_go(phones):
    assert [record.round for record in phones.history.rounds if record.round] == list(range(1, ROUNDS + 1))
    for record in phones.history.rounds[1:]:
        assert AT_MOST / 2 <= record.participants <= AT_MOST


def test_each_update_is_folded_at_most_once(phones):
    events = phones.store.events(phones.history.run)
    assert phones.history.parameters == replayed(fl.FedAvg(), TOY, events)
    for event in events:
        names = [client for client, _ in event.get("clients", ())]
        assert len(names) == len(set(names))


def test_no_turn_is_worked_on_twice(phones):
    assert len(phones.turns) == len(set(phones.turns))


def test_a_round_takes_in_no_more_than_its_seats(phones):
    for number in range(1, ROUNDS + 1):
        attempts = {turn[2] for _, turn in phones.turns if turn[1] == number}
        for attempt in attempts:
            asked = sum(turn[1:] == (number, attempt) for _, turn in phones.turns)
            assert asked <= 1.5 * AT_MOST


def test_arrivals_are_spread(phones):
    # All that are online when the world begins come at once: what is told to them is to spread them.
    minutes = [0] * (int(phones.check_ins[-1][0] // 60) + 1)
    for at_s, _ in phones.check_ins:
        minutes[int(at_s // 60)] += 1
    later = minutes[3:-1]
    assert len(later) > 30
    assert max(later) < 3 * sum(later) / len(later)


def test_the_same_seed_tells_the_same_story():
    def told(seed):
        phones = Phones(seed, num_rounds=4)
        history = phones.play()
        return phones.check_ins, phones.turns, [record.participants for record in history.rounds]

    assert told(8) == told(8)
    assert told(8)[0] != told(9)[0]


ALWAYS_ONLINE = {"devices": 30, "online": 0.999, "work_s": 20 * STAYS_S, "min_fit_clients": 5, "round_timeout": 3600.0}


def test_long_work_is_done_without_a_connection_and_answered_later():
    phones = Phones(1, num_rounds=3, **ALWAYS_ONLINE)
    history = phones.play()
    assert [record.participants for record in history.rounds if record.round] == [5, 5, 5]
    assert history.parameters == replayed(fl.FedAvg(), TOY, phones.store.events(history.run))
    assert len(phones.turns) == len(set(phones.turns))
    assert len(phones.while_working) > 100
    assert not any(phones.while_working)


def test_a_failure_is_told_later_too_and_not_worked_on_again():
    def client_fn(context):
        if context.partition_id % 2 and context.round:
            raise ValueError("no data today")
        return TOY.client(context)

    phones = Phones(1, num_rounds=2, client_fn=client_fn, **ALWAYS_ONLINE)
    history = phones.play()
    assert any(record.failures for record in history.rounds)
    assert len(phones.turns) == len(set(phones.turns))
