"""A stream over a real link: what it writes, when, and how it ends."""

import asyncio

import pytest

from umbel.errors import ProtocolError
from umbel.runtimes.stream import MAX_REASON, Stream
from umbel.transports.memory import MOST_WAITING, MemoryTransport
from umbel.wire.channel import Announced, Arrived
from umbel.wire.packets import INLINE_BYTES, Goodbye, Grant, Hello, Ping, Pong, Settled, read, write


class Side:
    """One end: the events that its stream told, and why it ended."""

    def __init__(self, link, refuses=()):
        self.events, self.ends = [], []
        self.refuses = refuses
        self.changed = asyncio.Event()
        self.stream = Stream(link, self.happened, self.ended)

    def happened(self, event):
        self.events.append(event)
        self.changed.set()
        if isinstance(event, self.refuses):
            raise ProtocolError("that was not agreed")

    def ended(self, reason):
        self.ends.append(reason)
        self.changed.set()

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                self.changed.clear()
                await self.changed.wait()


class Plain:
    """An end without a stream, which reads packets and says nothing."""

    def __init__(self, link):
        self.link, self.packets, self.heard = link, [], asyncio.Event()
        link.start(self)

    def packet(self, data):
        self.packets.append(read(bytes(data)))
        self.heard.set()

    def writable(self):
        pass

    def closed(self, reason):
        pass


async def two(**about):
    transport, arrived = MemoryTransport(), []
    await transport.listen("here", arrived.append)
    link = await transport.connect("here")
    near, far = Side(link), Side(arrived[0], **about)
    near.stream.start()
    return near, far


def test_a_large_message_passes_and_both_sides_hear_of_it():
    async def main():
        near, far = await two()
        far.stream.start()
        data = bytes(range(256)) * 4096
        number = near.stream.send("answer", [data], run="r")
        await far.until(lambda: far.events)
        (announced,) = far.events
        assert isinstance(announced, Announced)
        far.stream.channel.accept(announced.message, memoryview(buffer := bytearray(len(data))))
        far.stream.pump()
        await near.until(lambda: near.events)
        assert isinstance(far.events[-1], Arrived)
        assert buffer == data
        assert near.events[0].id == number

    asyncio.run(main())


def test_a_ping_is_answered_and_not_told():
    async def main():
        transport, arrived = MemoryTransport(), []
        await transport.listen("here", arrived.append)
        plain, side = Plain(await transport.connect("here")), Side(arrived[0])
        side.stream.start()
        plain.link.write(write(Ping(5)))
        async with asyncio.timeout(10):
            await plain.heard.wait()
        assert plain.packets == [Pong(5)]
        assert side.events == []

    asyncio.run(main())


def test_a_goodbye_goes_out_although_the_link_is_full_and_control_packets_wait():
    async def main():
        near, far = await two()
        for _ in range(2 * MOST_WAITING):
            near.stream.say(Ping(1))
        for number in range(5):
            near.stream.say(Settled("r", number))
        near.stream.end("x" * (MAX_REASON + 9), finished=True)
        far.stream.start()
        await far.until(lambda: far.ends)
        assert far.events[:5] == [Settled("r", number) for number in range(5)]
        assert far.events[5] == Goodbye("x" * MAX_REASON, finished=True)
        assert len(near.ends) == 1
        await asyncio.wait_for(near.stream.gone, 10)

    asyncio.run(main())


@pytest.mark.parametrize("packet", [b"\xff", b"".join(write(Grant(1, 0, 1)))])
def test_who_does_not_speak_as_agreed_is_told_so_and_let_go(packet):
    async def main():
        near, far = await two()
        far.stream.start()
        near.stream.link.write([packet])
        await near.until(lambda: near.events and near.ends)
        (goodbye,) = near.events
        assert goodbye.reason.startswith("the other side does not speak as agreed")
        assert far.ends[0].startswith("the other side does not speak as agreed")

    asyncio.run(main())


def test_what_its_owner_does_not_agree_with_ends_a_stream_too():
    async def main():
        near, far = await two(refuses=Hello)
        far.stream.start()
        near.stream.say(Hello())
        near.stream.say(Settled("r", 1))
        await near.until(lambda: near.ends)
        assert far.events == [Hello()]
        assert "that was not agreed" in near.events[0].reason

    asyncio.run(main())


def test_nothing_is_written_after_the_end():
    async def main():
        near, far = await two()
        far.stream.start()
        near.stream.end("over")
        near.stream.send("answer", [bytes(INLINE_BYTES + 1)])
        near.stream.end("over again")
        await far.until(lambda: far.ends)
        assert far.events == [Goodbye("over")]
        assert near.ends == ["over"]

    asyncio.run(main())
