"""Messages over packets: turns, grants, resumption, and what is no part of the agreement."""

import hashlib
from collections import deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from umbel.errors import ProtocolError
from umbel.wire import channel as module
from umbel.wire.channel import Announced, Arrived, Channel, Refused, Taken, Withdrawn
from umbel.wire.packets import (
    CHUNK_BYTES,
    INLINE_BYTES,
    Acknowledge,
    Announce,
    Chunk,
    Goodbye,
    Grant,
    Hello,
    Ping,
    Refuse,
    Withdraw,
    read,
    write,
)

LARGE = bytes(range(256)) * 4096


def said(channel):
    """Everything that a channel has to say, as packets."""
    found = []
    while (parts := channel.next()) is not None:
        found.append(read(b"".join(parts)))
    return found


def hears(channel, packet):
    return channel.receive(b"".join(write(packet)))


def pass_on(one, other):
    """Bring all that one side says to the other; returns what happened there."""
    return [event for packet in said(one) if (event := hears(other, packet)) is not None]


def announced(channel, other, data=LARGE, **about):
    channel.send("answer", [data], **about)
    (event,) = pass_on(channel, other)
    assert isinstance(event, Announced)
    return event.message


@pytest.fixture
def pair():
    return Channel(), Channel()


def test_a_small_message_comes_at_once(pair):
    near, far = pair
    number = near.send("ask", [b"what", b" now"], run="r", round=3, attempt=1)
    (event,) = pass_on(near, far)
    assert isinstance(event, Arrived)
    message = event.message
    assert bytes(message.buffer) == b"what now"
    assert (message.kind, message.run, message.round, message.attempt) == ("ask", "r", 3, 1)
    assert message.digest == hashlib.sha256(b"what now").digest()
    assert pass_on(far, near) == [Taken(number)]


def test_an_empty_message_comes_at_once(pair):
    near, far = pair
    near.send("retire", [b""])
    (event,) = pass_on(near, far)
    assert bytes(event.message.buffer) == b""


def test_a_large_message_waits_until_it_is_granted(pair):
    near, far = pair
    message = announced(near, far)
    assert said(near) == []
    far.accept(message, memoryview(buffer := bytearray(len(LARGE))))
    assert pass_on(far, near) == []
    assert [type(event) for event in pass_on(near, far)] == [Arrived]
    assert buffer == LARGE
    assert pass_on(far, near) == [Taken(message.id)]


def test_parts_of_any_size_are_sent_as_one_message(pair):
    near, far = pair
    parts = [LARGE[:1], b"", LARGE[1:300_000], LARGE[300_000:300_001], LARGE[300_001:]]
    near.send("answer", parts)
    (event,) = pass_on(near, far)
    far.accept(event.message, memoryview(buffer := bytearray(len(LARGE))))
    pass_on(far, near)
    assert [type(event) for event in pass_on(near, far)] == [Arrived]
    assert buffer == LARGE


def test_large_messages_take_turns_and_control_goes_first(pair):
    near, far = pair
    for _ in range(2):
        far.accept(announced(near, far), memoryview(bytearray(len(LARGE))))
    pass_on(far, near)
    order = [read(b"".join(near.next())) for _ in range(3)]
    near.say(Ping(1))
    order += said(near)
    assert [type(packet) for packet in order[:4]] == [Chunk, Chunk, Chunk, Ping]
    chunks = [packet for packet in order if isinstance(packet, Chunk)]
    assert [chunk.id for chunk in chunks] == [1, 2] * (len(LARGE) // CHUNK_BYTES)
    assert all(len(chunk.data) <= CHUNK_BYTES for chunk in chunks)


def test_no_byte_is_sent_beyond_what_was_granted(pair):
    near, far = pair
    announced(near, far)
    hears(near, Grant(1, 0, 300_000))
    chunks = said(near)
    assert sum(len(chunk.data) for chunk in chunks) == 300_000
    hears(near, Grant(1, 0, 300_001))
    (chunk,) = said(near)
    assert (chunk.offset, len(chunk.data)) == (300_000, 1)


def test_a_later_grant_may_come_while_the_first_is_being_used(pair):
    near, far = pair
    announced(near, far)
    hears(near, Grant(1, 0, 2 * CHUNK_BYTES))
    near.next()
    hears(near, Grant(1, 0, len(LARGE)))
    assert [chunk.offset for chunk in said(near)] == [CHUNK_BYTES, 2 * CHUNK_BYTES, 3 * CHUNK_BYTES]


def test_after_a_reconnection_the_rest_is_enough(pair):
    near, far = pair
    message = announced(near, far)
    far.accept(message, memoryview(buffer := bytearray(len(LARGE))))
    pass_on(far, near)
    for _ in range(2):
        hears(far, read(b"".join(near.next())))
    near, far = Channel(), Channel()
    again = announced(near, far)
    assert again.digest == message.digest
    far.accept(again, memoryview(buffer), got=message.got)
    pass_on(far, near)
    chunks = said(near)
    assert chunks[0].offset == 2 * CHUNK_BYTES
    assert [type(event) for chunk in chunks if (event := hears(far, chunk))] == [Arrived]
    assert buffer == LARGE


def test_what_is_held_already_is_not_sent(pair):
    near, far = pair
    far.have(announced(near, far))
    assert pass_on(far, near) == [Taken(1)]
    assert said(near) == []


def test_what_is_refused_is_not_sent(pair):
    near, far = pair
    far.refuse(announced(near, far), "too late")
    assert pass_on(far, near) == [Refused(1, "too late")]
    assert said(near) == []


def test_what_is_refused_on_the_way_stops_and_what_still_comes_is_dropped(pair):
    near, far = pair
    message = announced(near, far)
    far.accept(message, memoryview(bytearray(len(LARGE))))
    pass_on(far, near)
    chunk = read(b"".join(near.next()))
    far.refuse(message, "the round is closed")
    assert hears(far, chunk) is None
    assert pass_on(far, near) == [Refused(1, "the round is closed")]
    assert said(near) == []


def test_what_is_withdrawn_stops_and_the_other_side_is_told(pair):
    near, far = pair
    message = announced(near, far)
    far.accept(message, memoryview(bytearray(len(LARGE))))
    pass_on(far, near)
    hears(far, read(b"".join(near.next())))
    near.withdraw(1)
    assert said(near) == [Withdraw(1)]
    assert hears(far, Withdraw(1)) == Withdrawn(message)
    assert hears(far, Withdraw(1)) is None
    with pytest.raises(ValueError, match="does not wait"):
        far.accept(message, memoryview(bytearray(len(LARGE))))
    assert hears(near, Grant(1, 0, 5)) is None


def test_the_last_words_come_after_the_control_packets_and_no_chunk_comes(pair):
    near, far = pair
    far.accept(announced(near, far), memoryview(bytearray(len(LARGE))))
    pass_on(far, near)
    near.say(Ping(1))
    assert [read(b"".join(parts)) for parts in near.last(Goodbye("bye"))] == [Ping(1), Goodbye("bye")]
    assert near.next() is None


@pytest.mark.parametrize(("size", "got"), [(len(LARGE) - 1, 0), (len(LARGE), -1), (len(LARGE), len(LARGE))])
def test_a_buffer_that_does_not_fit_is_refused(pair, size, got):
    near, far = pair
    message = announced(near, far)
    with pytest.raises(ValueError, match="do not fit"):
        far.accept(message, memoryview(bytearray(size)), got=got)


def large(number=1, **more):
    return Announce(number, **{"kind": "answer", "size": len(LARGE), "digest": bytes(32), **more})


VIOLATIONS = {
    "an id that does not rise": ([large(2), large(2)], "announced after"),
    "the id 0": ([large(0)], "announced after"),
    "a short digest": ([large(digest=b"short")], "32 are right"),
    "a kind without end": ([large(kind="k" * 65)], "kind or run"),
    "a run without end": ([large(run="r" * 257)], "kind or run"),
    "too much at once": ([large(size=INLINE_BYTES + 1, data=bytes(INLINE_BYTES + 1))], "comes at once"),
    "less than it claims": ([large(size=5, data=b"four")], "claims 5 bytes"),
    "data for nothing": ([large(size=0, data=b"x")], "claims 0 bytes"),
    "too many at a time": ([large(k) for k in range(1, module.MAX_HELD + 2)], "wait for a grant"),
    "a chunk of nothing": ([Chunk(1, 0, b"x")], "never announced"),
    "a chunk before its grant": ([large(), Chunk(1, 0, b"x")], "0 was granted"),
    "a withdrawal of nothing": ([Withdraw(1)], "never announced"),
    "a grant of nothing": ([Grant(1, 0, 1)], "never announced by this side"),
    "an acknowledgement of nothing": ([Acknowledge(1)], "never announced by this side"),
    "a refusal of nothing": ([Refuse(1)], "never announced by this side"),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_violations_are_protocol_errors(name):
    packets, why = VIOLATIONS[name]
    channel = Channel()
    for packet in packets[:-1]:
        hears(channel, packet)
    with pytest.raises(ProtocolError, match=why):
        hears(channel, packets[-1])


@pytest.mark.parametrize(
    "chunk",
    [Chunk(1, 1, b"x"), Chunk(1, 0, b""), Chunk(1, 0, bytes(CHUNK_BYTES + 1)), Chunk(1, len(LARGE), b"x")],
)
def test_chunks_that_do_not_fit_are_protocol_errors(pair, chunk):
    near, far = pair
    far.accept(announced(near, far), memoryview(bytearray(len(LARGE))))
    with pytest.raises(ProtocolError, match="chunk"):
        hears(far, chunk)


def test_a_chunk_beyond_the_end_is_a_protocol_error(pair):
    near, far = pair
    far.accept(announced(near, far, bytes(INLINE_BYTES + 1)), memoryview(bytearray(INLINE_BYTES + 1)))
    with pytest.raises(ProtocolError, match="does not fit"):
        hears(far, Chunk(1, 0, bytes(INLINE_BYTES + 2)))


@pytest.mark.parametrize(
    "grants",
    [
        [Grant(1, 0, len(LARGE) + 1)],
        [Grant(1, 2, 1)],
        [Grant(1, 0, 5), Grant(1, 0, 4)],
    ],
)
def test_grants_that_do_not_fit_are_protocol_errors(pair, grants):
    near, far = pair
    announced(near, far)
    for grant in grants[:-1]:
        hears(near, grant)
    with pytest.raises(ProtocolError, match="does not fit"):
        hears(near, grants[-1])


def test_a_grant_of_a_message_that_came_at_once_is_a_protocol_error(pair):
    near, far = pair
    near.send("ask", [b"small"])
    pass_on(near, far)
    with pytest.raises(ProtocolError, match="does not fit"):
        hears(near, Grant(1, 0, 5))


def test_who_sends_and_never_reads_is_a_protocol_error():
    channel = Channel()

    def flood():
        for number in range(1, module.MAX_UNSAID + 3):
            hears(channel, Announce(number, "ask", 1, bytes(32), data=b"x"))

    with pytest.raises(ProtocolError, match="without reading"):
        flood()


def test_packets_of_the_owner_are_handed_on(pair):
    assert hears(pair[0], Hello(1, 1, "n")) == Hello(1, 1, "n")


@settings(max_examples=80, stateful_step_count=60)
class Conversation(RuleBasedStateMachine):
    """Two sides in any order of sending, delivering, granting, refusing, withdrawing and losing the connection."""

    sizes = st.sampled_from([0, 1, INLINE_BYTES, INLINE_BYTES + 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES - 5])

    def __init__(self):
        super().__init__()
        self.kept: dict[bytes, tuple[bytearray, int]] = {}
        self.to_send: dict[bytes, bytes] = {}
        self.arrived: dict[bytes, bytes] = {}
        self.connect()

    def connect(self):
        self.sides = (Channel(), Channel())
        self.lines: tuple[deque, deque] = (deque(), deque())
        self.waiting: list[tuple[int, object]] = []
        self.open: dict[tuple[int, int], bytes] = {}

    @rule(side=st.integers(0, 1), size=sizes, salt=st.integers(0, 255), cut=st.integers(0, 20_000))
    def send(self, side, size, salt, cut):
        data = bytes((salt + 31 * k) % 256 for k in range(256)) * (size // 256 + 1)
        data = bytes([salt, side]) + data[:size]
        digest = hashlib.sha256(data).digest()
        number = self.sides[side].send("answer", [data[:cut], data[cut:]], digest=digest)
        self.to_send[digest] = data
        self.open[side, number] = digest

    @rule(side=st.integers(0, 1), count=st.integers(1, 8))
    def write(self, side, count):
        for _ in range(count):
            if (parts := self.sides[side].next()) is not None:
                self.lines[side].append(b"".join(parts))

    @rule(side=st.integers(0, 1), count=st.integers(1, 8))
    def deliver(self, side, count):
        for _ in range(min(count, len(self.lines[side]))):
            event = self.sides[1 - side].receive(self.lines[side].popleft())
            if isinstance(event, Announced):
                self.waiting.append((1 - side, event.message))
            elif isinstance(event, Arrived):
                self.arrived[event.message.digest] = bytes(event.message.buffer)
                self.kept.pop(event.message.digest, None)
            elif isinstance(event, Withdrawn):
                self.waiting = [entry for entry in self.waiting if entry[1] is not event.message]

    @precondition(lambda self: self.waiting)
    @rule(place=st.integers(0, 99), what=st.sampled_from(["accept", "accept", "accept", "have", "refuse"]))
    def decide(self, place, what):
        side, message = self.waiting.pop(place % len(self.waiting))
        channel = self.sides[side]
        if what == "accept":
            buffer, before = self.kept.get(message.digest, (bytearray(message.size), None))
            got = 0 if before is None else before.got
            self.kept[message.digest] = (buffer, message)
            channel.accept(message, memoryview(buffer), got=got)
        elif what == "have":
            channel.have(message)
        else:
            channel.refuse(message, "not now")

    @precondition(lambda self: self.open)
    @rule(place=st.integers(0, 99))
    def withdraw(self, place):
        side, number = list(self.open)[place % len(self.open)]
        self.sides[side].withdraw(number)

    @rule()
    def reconnect(self):
        self.connect()

    @invariant()
    def what_arrived_is_what_was_sent(self):
        for digest, data in self.arrived.items():
            assert data == self.to_send[digest]


TestConversation = Conversation.TestCase
