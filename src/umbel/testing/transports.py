"""`check_transport`: the laws that every transport keeps."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import TypeAlias, final

from umbel.errors import LinkError
from umbel.testing.expect import expect
from umbel.transports import Link, Listener, Transport
from umbel.transports.tls import Tls
from umbel.wire.packets import MAX_PACKET_BYTES

PATIENCE_S = 15.0
SIZES = (0, 1, 3, 125, 126, 127, 128, 4095, 4096, 2**14, 2**16 - 1, 2**16, 2**18 + 1, 2**20, MAX_PACKET_BYTES)
MOST_BUFFERED = 512
Law: TypeAlias = "Callable[[_Place], Awaitable[None]]"


@final
@dataclass(frozen=True)
class Trust:
    """Certificates for the laws of TLS, all for the address that is listened at.

    Attributes:
        server: the server's side.
        node: a node's side, of the same CA.
        name: the common name in the node's certificate.
        stranger: a node's side, all of another CA.
    """

    server: Tls
    node: Tls
    name: str
    stranger: Tls


def check_transport(
    make: Callable[[], Transport],
    *,
    address: str = "127.0.0.1:0",
    sockets: bool = True,
    trust: Trust | None = None,
) -> None:
    """Run the laws; each on a fresh transport in an event loop of its own.

    Args:
        make: gives a transport.
        address: where to listen; its port 0 must take a free one.
        sockets: whether a stranger's TCP socket reaches the listener.
        trust: for the laws of TLS; None leaves them out.

    Raises:
        AssertionError: names the law that is broken.
    """
    laws: list[Law] = [_sizes, _many, _ends, _silence, _last_words, _back_pressure, _too_large, _nobody, _listener]
    for law in [*laws, _garbage] if sockets else laws:
        asyncio.run(_run(law, _Place(make(), address)))
    if trust is not None:
        for secured in (_known, _unknown, _plaintext):
            asyncio.run(_run(secured, _Place(make(), address, trust)))


@final
class _Told:
    """A receiver that writes down what it is told, and what it should not have been told."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.packets: list[bytes] = []
        self.rooms = 0
        self.ends: list[str] = []
        self.started = False
        self.faults: list[str] = []
        self.on_packet: Callable[[], None] = lambda: None
        self._calling = False
        self._changed = asyncio.Event()

    def start(self) -> _Told:
        self.started = self._calling = True
        self.link.start(self)
        self._calling = False
        return self

    def write(self, *parts: bytes | memoryview) -> bool:
        self._calling = True
        room = self.link.write(parts)
        self._calling = False
        return room

    def packet(self, data: memoryview) -> None:
        self._note("a packet")
        self.packets.append(bytes(data))
        self.on_packet()

    def writable(self) -> None:
        self._note("room")
        self.rooms += 1

    def closed(self, reason: str) -> None:
        self._note("an end")
        self.ends.append(reason)

    def _note(self, what: str) -> None:
        if self._calling:
            self.faults.append(f"{what} is told from within a call to the link")
        if self.ends:
            self.faults.append(f"{what} is told after the end")
        self._changed.set()

    async def until(self, condition: Callable[[], object], law: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                while not condition():
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise AssertionError(law) from None


@final
@dataclass
class _Place:
    """A transport, where it listens, and the links that came and went."""

    transport: Transport
    wanted: str
    trust: Trust | None = None
    listener: Listener = field(init=False)
    came: asyncio.Queue[Link] = field(default_factory=asyncio.Queue[Link])
    ears: list[_Told] = field(default_factory=list[_Told])

    async def talking(self, tls: Tls | None = None) -> tuple[_Told, _Told]:
        """Both ends of a fresh link, started: (who connected, who listens)."""
        near, far = await self.pair(tls)
        return near.start(), far.start()

    async def pair(self, tls: Tls | None = None) -> tuple[_Told, _Told]:
        """As `talking`, not started yet."""
        near = await self.transport.connect(self.listener.address, tls=tls)
        try:
            async with asyncio.timeout(PATIENCE_S):
                far = await self.came.get()
        except TimeoutError:
            raise AssertionError("a link that was connected did not arrive") from None
        told = _Told(near), _Told(far)
        self.ears += told
        return told

    async def refused(self, tls: Tls | None, what: str) -> None:
        """Expect that connecting is a LinkError in a sentence, and that nobody arrives."""
        try:
            link = await self.transport.connect(self.listener.address, tls=tls, timeout_s=PATIENCE_S)
        except LinkError as error:
            _is_sentence(str(error), what)
        else:
            link.abort()
            raise AssertionError(f"{what} is let in")
        expect(self.came.empty(), f"{what} arrives at the listener")


async def _run(law: Law, place: _Place) -> None:
    async with _listening(place):
        await law(place)
        for told in place.ears:
            told.link.abort()
        for told in [told for told in place.ears if told.started]:
            await told.until(lambda told=told: told.ends, "a link that is broken off does not tell its end")
        for _ in range(10):
            await asyncio.sleep(0)
        faults = [fault for told in place.ears for fault in told.faults]
        expect(not faults, "; ".join(faults[:3]))


@asynccontextmanager
async def _listening(place: _Place) -> AsyncGenerator[None]:
    tls = None if place.trust is None else place.trust.server
    place.listener = await place.transport.listen(place.wanted, place.came.put_nowait, tls=tls)
    try:
        yield
    finally:
        await place.listener.close()


def _bytes(size: int, salt: int) -> bytes:
    """Bytes that differ at neighbouring places and between packets."""
    pattern = bytes((salt + 7 * k) % 251 for k in range(251))
    return (pattern * (size // 251 + 1))[:size]


async def _sizes(place: _Place) -> None:
    near, far = await place.talking()
    sent = [_bytes(size, salt) for salt, size in enumerate(SIZES)]
    for one, other, way in ((near, far, "to"), (far, near, "from")):
        for data in sent:
            one.write(data[: len(data) // 3], data[len(data) // 3 :])
        await other.until(lambda other=other: len(other.packets) >= len(sent), f"a packet {way} a listener is lost")
        expect(other.packets == sent, f"packets {way} a listener are changed, cut or out of order")


async def _many(place: _Place) -> None:
    near, far = await place.talking()
    sent = [b"%d" % k * (k % 5) for k in range(3_000)]
    for data in sent:
        near.write(data)
        far.write(memoryview(data)[:1], data[1:])
    for told in (near, far):
        await told.until(lambda told=told: len(told.packets) >= len(sent), "of many small packets some are lost")
        expect(told.packets == sent, "many small packets are changed or out of order")


async def _ends(place: _Place) -> None:
    for who in (0, 1):
        for way in ("close", "abort"):
            pair = await place.talking()
            actor = pair[who].link
            if way == "close":
                pair[who].write(b"last")
            for _ in range(2):
                actor.close() if way == "close" else actor.abort()
            expect(actor.write([b"late"]), "a link that has ended makes its writer wait")
            for told in pair:
                await told.until(lambda told=told: told.ends, f"{way} is not told to both sides")
            actor.abort()
            expect(all(told.ends[0] for told in pair), "an end is told without a reason")
            expect(
                pair[1 - who].packets == ([b"last"] if way == "close" else []),
                "what was written before close does not arrive, or what was written after it does",
            )


async def _silence(place: _Place) -> None:
    """Who closes hears no more, not even what has come already; who never started can close, too."""
    for who in (0, 1):
        pair = await place.pair()
        closing, other = pair[who], pair[1 - who].start()
        closing.on_packet = closing.link.close
        for number in range(5):
            other.write(b"%d" % number)
        closing.start()
        for told in pair:
            await told.until(lambda told=told: told.ends, "an end from within a receiver is not told to both sides")
        expect(closing.packets == [b"0"], "a packet is delivered after close")
        pair = await place.pair()
        closing, other = pair[who], pair[1 - who].start()
        closing.write(b"bye")
        closing.link.close()
        await other.until(lambda other=other: other.ends, "a link that closes before it is started does not say so")
        expect(other.packets == [b"bye"], "what is written before start does not arrive")
        closing.start()
        await closing.until(lambda told=closing: told.ends, "a link that was closed before its start tells no end")


async def _last_words(place: _Place) -> None:
    """Who closes may be written to at that moment, by a side that does not read yet: it must read the last words."""
    for who in (0, 1):
        pair = await place.pair()
        closing, writing = pair[who].start(), pair[1 - who]
        for _ in range(64):
            writing.write(bytes(2**18))
        await closing.until(lambda told=closing: told.packets, "a large packet does not arrive")
        closing.write(b"goodbye")
        closing.link.close()
        for _ in range(50):
            await asyncio.sleep(0)
        writing.start()
        await writing.until(lambda told=writing: told.ends, "the end is not told to a side that is writing")
        expect(writing.packets == [b"goodbye"], "last words are lost because the other side was writing")


async def _back_pressure(place: _Place) -> None:
    for slow in (0, 1):
        pair = await place.pair()
        reader, writer = pair[slow], pair[1 - slow].start()
        count = 1
        while writer.write(_bytes(2**18, count)):
            count += 1
            expect(count < MOST_BUFFERED, "a writer is never told that there is no room")
            await asyncio.sleep(0)
        expect(not writer.rooms, "a writer is told of room while the other side does not read")
        reader.start()
        await writer.until(lambda told=writer: told.rooms, "a writer is not told when there is room again")
        await reader.until(lambda told=reader, n=count: len(told.packets) >= n, "back-pressure loses packets")
        expect(reader.packets == [_bytes(2**18, k) for k in range(1, count + 1)], "back-pressure changes packets")


async def _too_large(place: _Place) -> None:
    for who in (0, 1):
        pair = await place.talking()
        pair[who].write(bytes(MAX_PACKET_BYTES + 1))
        for told in pair:
            await told.until(lambda told=told: told.ends, "a packet over the limit does not end its link")
        expect(not pair[1 - who].packets, "a packet over the limit is delivered")


async def _nobody(place: _Place) -> None:
    other = await place.transport.listen(place.wanted, place.came.put_nowait)
    expect(other.address != place.listener.address, "port 0 gives the same address twice")
    await other.close()
    try:
        await place.transport.connect(other.address)
    except LinkError as error:
        _is_sentence(str(error), "connecting to nobody")
    else:
        raise AssertionError("connecting to nobody gives a link")


async def _listener(place: _Place) -> None:
    try:
        await place.transport.listen(place.listener.address, place.came.put_nowait)
    except LinkError as error:
        _is_sentence(str(error), "an address that is taken")
    else:
        raise AssertionError("two listeners have the same address")
    near, far = await place.talking()
    await place.listener.close()
    near.write(b"still here")
    await far.until(lambda: far.packets, "closing a listener ends the links that came there")
    far.write(b"so am I")
    await near.until(lambda: near.packets, "closing a listener ends the links that came there")
    near.link.close()
    await far.until(lambda: far.ends, "a link is not ended after its listener")


async def _garbage(place: _Place) -> None:
    near, far = await place.talking()
    host, _, port = place.listener.address.rpartition(":")
    for data in (b"\0garbage" * 4_096, b"GET / HTTP/1.1\r\n\r\n", bytes(range(256))):
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        try:
            writer.write(data)
            async with asyncio.timeout(PATIENCE_S):
                await reader.read()
        except ConnectionError:
            pass
        except TimeoutError:
            raise AssertionError("who sends garbage is kept connected") from None
        finally:
            writer.close()
    expect(place.came.empty(), "who sends garbage arrives as a link")
    near.write(b"unharmed")
    await far.until(lambda: far.packets, "garbage of a stranger harms another link")


async def _known(place: _Place) -> None:
    assert place.trust is not None
    near, far = await place.talking(place.trust.node)
    expect(far.link.peer == place.trust.name, f"the peer's name is {far.link.peer!r}, not {place.trust.name!r}")
    expect(bool(far.link.certificate), "the peer's certificate is not told")
    near.write(_bytes(2**20, 1))
    await far.until(lambda: far.packets, "a packet is lost under TLS")
    expect(far.packets == [_bytes(2**20, 1)], "a packet is changed under TLS")
    far.write(b"bye")
    far.link.close()
    await near.until(lambda: near.ends, "the end is not told under TLS")
    expect(near.packets == [b"bye"], "what was written before close does not arrive under TLS")


async def _unknown(place: _Place) -> None:
    trust = place.trust
    assert trust is not None
    await place.refused(trust.stranger, "a node that trusts another CA")
    await place.refused(replace(trust.stranger, ca=trust.node.ca), "a node with a certificate of another CA")
    await place.refused(Tls(trust.node.ca), "a node without a certificate")
    await place.pair(trust.node)


async def _plaintext(place: _Place) -> None:
    assert place.trust is not None
    await place.refused(None, "plaintext where TLS is spoken")
    await place.pair(place.trust.node)
    await place.listener.close()
    place.listener = await place.transport.listen(place.wanted, place.came.put_nowait)
    await place.refused(place.trust.node, "TLS where plaintext is spoken")


def _is_sentence(text: str, what: str) -> None:
    expect(len(text.split()) >= 5 and "\n" not in text, f"{what} is told as {text!r}, which is no sentence")
