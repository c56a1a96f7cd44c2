"""A large upload that has to wait holds up nothing else on its stream: no other run, no cancel."""

import asyncio
import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import final

import numpy as np
import pytest

import umbel as fl
from umbel.arrays import Arrays
from umbel.message import Group, Update
from umbel.runtimes.mail import Answer, read_letter, write_answer
from umbel.runtimes.server.conduct import Conduct, Order
from umbel.runtimes.server.desk import Desk, Limits
from umbel.schema import ArraySpec, Schema
from umbel.stores import MemoryStore
from umbel.strategies.averaging import Averaging
from umbel.transports import transport_for
from umbel.wire.packets import (
    CHUNK_BYTES,
    Acknowledge,
    Announce,
    Cancel,
    Chunk,
    Grant,
    Hello,
    Refuse,
    Settled,
    Welcome,
    read,
    write,
)

GIGABYTE = 2**30
PATIENCE_S = 10


@final
@dataclass(frozen=True, kw_only=True)
class Wide(Averaging):
    """Sends a small model and expects 1 GB back, so that a large upload costs the test no memory."""

    def correction(self, ask, start, ctx):
        return None

    def schema(self, task, own):
        return {"delta": Schema([ArraySpec("w", "F32", (GIGABYTE // 4,), "trained")])}


class Node:
    """A node packet by packet: what it sends, and when, is the test's choice. It keeps all that it hears."""

    def __init__(self, name, link):
        self.name, self.link, self.heard = name, link, []
        self.changed = asyncio.Event()
        self.number = 0
        link.start(self)
        self.say(Hello(1, 1, name, name.encode()))

    def say(self, packet):
        self.link.write(write(packet))

    def announce(self, kind, run, round=0, *, data=b"", size=None):
        self.number += 1
        digest = hashlib.sha256(data).digest()
        self.say(Announce(self.number, kind, len(data) if size is None else size, digest, run, data, round))
        return self.number

    def packet(self, data):
        packet = read(bytes(data))
        self.heard.append(packet)
        if isinstance(packet, Announce):
            assert len(packet.data) == packet.size, "all that the server sends here is small"
            self.say(Acknowledge(packet.id))
            if packet.kind == "plan":
                facts = {"capabilities": ["fit"], "schema": None}
                ready = Answer(packet.run, 0, 0, "properties", self.name, facts=facts)
                self.announce("ready", packet.run, data=b"".join(write_answer(ready)))
        self.changed.set()

    def writable(self):
        pass

    def closed(self, reason):
        self.heard.append(f"closed: {reason}")
        self.changed.set()

    async def hears(self, kind, /, **about):
        """The first packet of a kind with these fields, as soon as it is here."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                for packet in self.heard:
                    if isinstance(packet, kind) and all(getattr(packet, k) == v for k, v in about.items()):
                        return packet
                self.changed.clear()
                await self.changed.wait()

    async def asked(self, run):
        return read_letter(memoryview((await self.hears(Announce, kind="ask", run=run)).data))


def no_op(letter):
    """The answer of a client that changes nothing."""
    update = Update({"delta": Group(Arrays.of({"w": np.zeros(2, np.float32)}), 1.0)}, 1.0, 1)
    answer = Answer(letter.run, letter.round, letter.attempt, "fit", letter.client, update=update)
    return b"".join(write_answer(answer))


class Place:
    """A desk behind a real listener, and runs on it, each with a thread of its own."""

    def __init__(self, desk, transport, address):
        self.desk, self.transport, self.address = desk, transport, address
        self.pools, self.runs = [], []

    async def node(self, name):
        node = Node(name, await self.transport.connect(self.address))
        await node.hears(Welcome)
        return node

    def begin(self, strategy, *names):
        loop, pool = asyncio.get_running_loop(), ThreadPoolExecutor(1)
        self.pools.append(pool)
        order = Order(
            strategy=strategy,
            config=fl.ServerConfig(num_rounds=1, min_available_clients=len(names), seed=1, fraction_evaluate=0.0),
            initial={"w": np.zeros(2, np.float32)},
            allowed=lambda node: node.name in names,
        )
        conduct = Conduct(
            order,
            MemoryStore(),
            self.desk,
            offload=lambda work: loop.run_in_executor(pool, work),
            say=lambda text: None,
        )
        self.runs.append(asyncio.ensure_future(conduct.drive()))
        return conduct, self.runs[-1]


@asynccontextmanager
async def place(scheme, **limits):
    desk = Desk("server", say=lambda text: None, limits=Limits(**limits))
    transport, at = transport_for(f"{scheme}127.0.0.1:0")
    listener = await transport.listen(at, desk.arrived)
    here = Place(desk, transport, listener.address)
    try:
        yield here
    finally:
        for run in here.runs:
            run.cancel()
        await asyncio.gather(*here.runs, return_exceptions=True)
        await desk.close("the test is over", finished=True)
        await listener.close()
        for pool in here.pools:
            pool.shutdown()


async def held_back(here):
    """Run A in its round: the only room for uploads is taken by a slow node, and 1 GB of another waits for it."""
    slow, big = await here.node("slow"), await here.node("big")
    conduct, driven = here.begin(Wide(), "slow", "big")
    run = conduct.run
    await slow.asked(run)
    taken = slow.announce("answer", run, 1, size=4 * CHUNK_BYTES)
    await slow.hears(Grant, id=taken)
    slow.say(Chunk(taken, 0, bytes(CHUNK_BYTES)))  # and no more: it is on a slow line
    await big.asked(run)
    waiting = big.announce("answer", run, 1, size=GIGABYTE)
    return slow, taken, big, waiting, conduct, driven


@pytest.mark.parametrize("scheme", ["tcp://", "grpc://"])
def test_a_gigabyte_that_waits_holds_up_neither_another_runs_round_nor_a_cancel(scheme):
    async def main():
        async with place(scheme, uploads_at_once=1) as here:
            slow, taken, big, waiting, first, first_driven = await held_back(here)

            second, second_driven = here.begin(fl.FedAvg(), "big")
            letter = await big.asked(second.run)
            big.announce("answer", second.run, letter.round, data=no_op(letter))
            history = await asyncio.wait_for(second_driven, PATIENCE_S)
            assert [record.participants for record in history.rounds if record.round] == [1]
            assert (await big.hears(Settled, run=second.run)).included
            assert not first_driven.done()
            assert not [p for p in big.heard if isinstance(p, (Grant, Refuse)) and p.id == waiting]

            first.leader.stop("stopped")
            assert (await big.hears(Cancel, run=first.run)).round == 1
            assert (await asyncio.wait_for(first_driven, PATIENCE_S)).ended == "interrupted"
            # Both uploads are let go of: also the one under way, whose node says nothing any more.
            await slow.hears(Refuse, id=taken)
            await big.hears(Refuse, id=waiting)

    asyncio.run(main())


def test_a_cancelled_upload_that_does_not_go_on_leaves_its_room_to_the_next_run():
    async def main():
        async with place("tcp://", uploads_at_once=1) as here:
            slow, _, big, _, first, _ = await held_back(here)
            first.leader.stop("stopped")
            await slow.hears(Cancel, run=first.run)

            second, _ = here.begin(Wide(), "big")
            await big.asked(second.run)
            number = big.announce("answer", second.run, 1, size=4 * CHUNK_BYTES)
            await big.hears(Grant, id=number)

    asyncio.run(main())
