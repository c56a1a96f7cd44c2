"""Packed messages: the same bytes arrive, fewer travel, and a message never takes more room than was granted."""

import asyncio
import gc
import hashlib
import json
import tracemalloc
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import umbel as fl
from umbel.errors import ConfigError, ProtocolError
from umbel.runtimes.node.agent import Agent, Identity
from umbel.runtimes.node.keep import MemoryKeeper
from umbel.runtimes.node.worker import LocalWorker
from umbel.runtimes.server.conduct import Conduct, Order
from umbel.runtimes.server.desk import Desk
from umbel.stores import MemoryStore
from umbel.transports import Link
from umbel.transports.memory import MemoryTransport
from umbel.wire import zstd
from umbel.wire.channel import Announced, Arrived, Channel
from umbel.wire.packets import Announce, Chunk, Grant, Hello, Welcome, read, write

zstandard = pytest.importorskip("zstandard")
VECTORS = Path(__file__).parents[2] / "docs" / "vectors"
DATA = np.arange(100_000, dtype=np.int32).tobytes() + bytes(1_000_000)


def told(packet):
    return b"".join(write(packet))


def announced(size, packed_size, *, packing="zstd", **more):
    channel = Channel()
    event = channel.receive(
        told(Announce(1, "answer", size, bytes(32), packing=packing, packed_size=packed_size, **more))
    )
    assert isinstance(event, Announced)
    return channel, event.message


def came(frame, size, *, chunk=2**18):
    """What an announced message of `size` bytes is when `frame` has come in its place."""
    channel, message = announced(size, len(frame))
    channel.accept(message, memoryview(room := bytearray(size)))
    for at in range(0, len(frame), chunk):
        event = channel.receive(told(Chunk(1, at, frame[at : at + chunk])))
    assert isinstance(event, Arrived)
    assert event.message.complete
    return bytes(room)


@given(
    st.lists(st.binary(max_size=300), min_size=1, max_size=5),
    st.integers(100, 5000),
    st.integers(1, 700),
)
def test_what_was_packed_arrives_in_any_pieces(parts, repeats, chunk):
    parts = [part * repeats for part in parts]
    whole = b"".join(parts)
    frame = zstd.packed(parts)
    if frame is not None:
        assert len(frame) < len(whole)
        room = bytearray(len(whole))
        unpacker = zstd.Unpacker(memoryview(room))
        for at in range(0, len(frame), chunk):
            unpacker.feed(frame[at : at + chunk])
        unpacker.finish()
        assert room == whole


def test_a_packed_message_travels_in_fewer_bytes_and_arrives_whole():
    near, far = Channel(), Channel()
    near.send("answer", [DATA[:500], DATA[500:]], packed=zstd.packed([DATA]))
    sent = room = 0
    while (parts := near.next()) is not None or (parts := far.next()) is not None:
        data = b"".join(parts)
        sent += len(data)
        packet = read(data)
        event = (near if isinstance(packet, Grant) else far).receive(data)
        if isinstance(packet, Announce):
            assert (packet.size, packet.digest) == (len(DATA), hashlib.sha256(DATA).digest())
            room = bytearray(len(DATA))
            far.accept(event.message, memoryview(room))
        if isinstance(event, Arrived):
            break
    assert room == DATA
    assert sent < len(DATA) / 4


def test_what_hardly_shrinks_is_not_packed():
    assert zstd.packed([np.random.default_rng(1).bytes(100_000)]) is None


def test_small_messages_are_not_packed():
    channel = Channel()
    channel.send("ask", [bytes(1000)], packed=zstd.packed([bytes(1000)]))
    assert read(b"".join(channel.next())) == Announce(
        1, "ask", 1000, hashlib.sha256(bytes(1000)).digest(), "", bytes(1000)
    )


@pytest.mark.parametrize("size", [2**20, 2**20 - 1, 20_000])
def test_a_message_that_unpacks_to_more_than_it_said_is_refused(size):
    bomb = zstandard.ZstdCompressor().compress(bytes(2**28))
    with pytest.raises(ProtocolError, match="more than"):
        came(bomb, size)


def test_a_bomb_is_found_out_before_it_takes_memory():
    bomb = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(2**28))
    unpacker = zstd.Unpacker(memoryview(bytearray(2**20)))
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError, match="more than"):
            unpacker.feed(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "frame",
    [
        zstd.packed([DATA])[:-1],
        zstd.packed([DATA]) + b"\0",
        b"\0" + zstd.packed([DATA]),
        zstd.packed([DATA[:-1]]),
        zstd.packed([DATA + b"\0"]),
        b"\0" * 100,
    ],
)
def test_what_does_not_unpack_to_just_the_announced_bytes_is_refused(frame):
    with pytest.raises(ProtocolError, match="packed message"):
        came(frame, len(DATA))


def test_a_frame_that_wants_a_large_memory_of_its_own_is_refused():
    wide = zstandard.ZstdCompressionParameters.from_level(3, window_log=27, write_content_size=False)
    frame = zstandard.ZstdCompressor(compression_params=wide).compressobj()
    data = np.random.default_rng(1).bytes(300_000)
    packed = frame.compress(data * 4) + frame.flush()
    with pytest.raises(ProtocolError, match="cannot be unpacked"):
        came(packed, len(data) * 4)


@pytest.mark.parametrize(
    ("size", "packed_size", "more"),
    [
        (100_000, 100_000, {}),
        (100_000, 0, {}),
        (100_000, 2**63, {}),
        (100_000, 50_000, {"packing": "brotli"}),
        (100_000, 50_000, {"packing": ""}),
        (100, 50, {"data": bytes(50)}),
    ],
)
def test_an_announcement_of_packing_that_cannot_be_is_refused(size, packed_size, more):
    with pytest.raises(ProtocolError, match="packed"):
        announced(size, packed_size, **more)


def test_a_packed_message_begins_again_after_an_interruption():
    frame = zstd.packed([DATA])
    _, before = announced(len(DATA), len(frame))
    before.got = 100
    channel, message = announced(len(DATA), len(frame))
    assert message.got_of(before) == 0
    room = bytearray(b"\xff" * len(DATA))
    channel.accept(message, memoryview(room), got=message.got_of(before))
    assert read(b"".join(channel.next())) == Grant(1, 0, len(frame))
    assert came(frame, len(DATA)) == DATA


def test_no_cycle_keeps_the_buffer_of_a_packed_message():
    class Room(bytearray):
        pass

    gc.disable()
    try:
        room = Room(len(DATA))
        gone = weakref.ref(room)
        unpacker = zstd.Unpacker(memoryview(room))
        unpacker.feed(zstd.packed([DATA])[:50])
        del room, unpacker
        assert gone() is None
    finally:
        gc.enable()


def test_what_cannot_be_done_is_refused_before_the_run():
    with pytest.raises(ConfigError, match="zstd"):
        fl.server.start_server("127.0.0.1:0", compress="gzip", progress=False)


def test_the_vector_unpacks_to_what_it_says():
    (vector,) = json.loads((VECTORS / "packed.json").read_text("utf-8"))
    packet = read(bytes.fromhex(vector["announce"]))
    content = bytes([vector["byte"]]) * vector["size"]
    assert (packet.size, packet.digest) == (len(content), hashlib.sha256(content).digest())
    assert came(bytes.fromhex(vector["frame"]), len(content)) == content


# A whole run


class Recorder(Link):
    """A link that notes the packets that pass, both ways; a peer of before says nothing of packing in its hello."""

    def __init__(self, inner, packets, *, before):
        self.inner, self.packets, self.before = inner, packets, before

    def start(self, receiver):
        self.receiver = receiver
        self.inner.start(self)

    def packet(self, data):
        self.packets.append(("server", read(bytes(data))))
        self.receiver.packet(data)

    def writable(self):
        self.receiver.writable()

    def closed(self, reason):
        self.receiver.closed(reason)

    def write(self, parts):
        packet = read(b"".join(parts))
        if self.before and isinstance(packet, Hello):
            packet = Hello(packet.version, packet.oldest, packet.name, packet.boot, packet.about)
        self.packets.append(("node", packet))
        return self.inner.write(write(packet))

    def close(self, reason=""):
        self.inner.close(reason)

    def abort(self):
        self.inner.abort()


class Adds(fl.NumPyClient):
    def fit(self, parameters, config):
        return [w + 1 for w in parameters], 1, {}


def played(compress, *, before=False):
    """(the model after two rounds, the packets)"""

    async def main():
        transport, packets = MemoryTransport(), []
        desk = Desk("server", say=lambda text: None, compress=compress)
        await transport.listen("server", desk.arrived)

        async def inline(work):
            return work()

        order = Order(
            strategy=fl.FedAvg(),
            config=fl.ServerConfig(num_rounds=2, min_available_clients=1, seed=1, fraction_evaluate=0.0),
            initial=[np.zeros(100_000, np.float32)],
        )
        conduct = Conduct(order, MemoryStore(), desk, offload=inline, say=lambda text: None)

        async def connect():
            return Recorder(await transport.connect("server"), packets, before=before)

        with ThreadPoolExecutor(1) as pool:
            worker = LocalWorker(lambda context: Adds(), pool, "0", partition=None, threads=None)
            agent = Agent(connect, Identity("0", bytes(16)), worker, MemoryKeeper(), say=lambda text: None)
            life = asyncio.ensure_future(agent.run())
            async with asyncio.timeout(30):
                history = await conduct.drive()
                await desk.close("the end", finished=True)
                await life
        return history.parameters, packets

    return asyncio.run(main())


def packings(packets, who):
    return {
        p.kind: p.packing for sender, p in packets if sender == who and isinstance(p, Announce) and p.size > 100_000
    }


def test_both_sides_pack_and_the_model_is_the_same():
    plain, _ = played(None)
    model, packets = played("zstd")
    assert model == plain
    assert packings(packets, "server") == {"blob": "zstd"}
    assert packings(packets, "node") == {"answer": "zstd"}
    assert sum(len(p.data) for _, p in packets if isinstance(p, Chunk)) < 50_000


@pytest.mark.parametrize(("compress", "before"), [(None, False), ("zstd", True)])
def test_nothing_is_packed_unless_both_sides_want_it(compress, before):
    _, packets = played(compress, before=before)
    assert packings(packets, "server") == {"blob": ""}
    assert packings(packets, "node") == {"answer": ""}
    assert [p.packing for _, p in packets if isinstance(p, Welcome)] == [""]
