"""Our encoding against the real protobuf library, with the `.proto` compiled at test time."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.errors import ProtocolError
from umbel.wire.packets import KINDS, MAX_PACKET_BYTES, Announce, Chunk, Goodbye, Hello, Ping, Progress, read, write
from umbel.wire.protobuf import MAX_FIELDS, MAX_TEXT_BYTES, decode, fields_of, varint

pytest.importorskip("grpc_tools")
pytest.importorskip("google.protobuf")

KIND_TYPES = {  # descriptor.proto's numbers of the scalar types
    1: (float, 64),
    4: (int, 64),
    8: (bool, 64),
    9: (str, 64),
    12: (bytes, 64),
    13: (int, 32),
}


def values(spec):
    if spec.kind is int:
        return st.integers(0, spec.mask)
    return {
        bool: st.booleans(),
        float: st.floats(),
        str: st.text(max_size=40),
        bytes: st.binary(max_size=300),
    }[spec.kind]


def packets(kind):
    return st.builds(kind, **{spec.name: values(spec) for spec in fields_of(kind)})


any_packet = st.one_of([packets(kind) for kind in KINDS])


def name_of(packet) -> str:
    return type(packet).__name__.lower()


def same(ours, theirs) -> bool:
    """Equal to the bit: NaN is NaN, and minus zero is not zero."""
    if isinstance(ours, float):
        return struct.pack("<d", ours) == struct.pack("<d", theirs)
    return ours == theirs


def test_the_proto_and_the_classes_have_the_same_kinds_and_fields(proto):
    kinds = proto.DESCRIPTOR.oneofs_by_name["kind"].fields
    assert [(f.number, f.message_type.name) for f in kinds] == [(n, k.__name__) for n, k in enumerate(KINDS, start=1)]
    for field, kind in zip(kinds, KINDS, strict=True):
        told = {f.number: (f.name, *KIND_TYPES[f.type]) for f in field.message_type.fields}
        assert told == {s.number: (s.name, s.kind, s.mask.bit_length()) for s in fields_of(kind)}


@given(packet=any_packet)
def test_what_we_write_is_what_protobuf_writes_and_reads(proto, packet):
    ours = b"".join(write(packet))
    message = proto.FromString(ours)
    assert message.WhichOneof("kind") == name_of(packet)
    inner = getattr(message, name_of(packet))
    for spec in fields_of(type(packet)):
        assert same(getattr(packet, spec.name), getattr(inner, spec.name))
    assert message.SerializeToString(deterministic=True) == ours


@given(packet=any_packet)
def test_what_protobuf_writes_we_read(proto, packet):
    message = proto()
    inner = getattr(message, name_of(packet))
    inner.SetInParent()
    for spec in fields_of(type(packet)):
        setattr(inner, spec.name, getattr(packet, spec.name))
    back = read(message.SerializeToString())
    assert type(back) is type(packet)
    for spec in fields_of(type(packet)):
        assert same(getattr(packet, spec.name), getattr(back, spec.name))


@given(value=st.integers(0, 2**64 - 1))
def test_a_number_too_long_for_its_field_loses_its_upper_bits(proto, value):
    data = b"\x0a" + varint(len(body := b"\x08" + varint(value))) + body
    assert read(data).version == proto.FromString(data).hello.version == value % 2**32


UNKNOWN = [
    varint(100 << 3) + varint(7),
    varint(101 << 3 | 1) + bytes(8),
    varint(102 << 3 | 2) + varint(5) + b"later",
    varint(103 << 3 | 5) + bytes(4),
]


@pytest.mark.parametrize("extra", UNKNOWN)
def test_unknown_fields_are_skipped(proto, extra):
    body = b"\x08\x05" + extra + b"\x10\x06"
    inside = b"\x3a" + varint(len(body)) + body
    assert proto.FromString(inside).acknowledge.id == 5
    assert read(inside).id == 5
    outside = extra + b"".join(write(Ping(9))) + extra
    assert proto.FromString(outside).ping.number == 9
    assert read(outside) == Ping(9)


def test_a_packet_of_an_unknown_kind_is_nothing(proto):
    data = varint(99 << 3 | 2) + b"\x00"
    assert proto.FromString(data).WhichOneof("kind") is None
    assert read(data) is None
    assert read(b"") is None


def test_of_two_kinds_the_last_one_counts(proto):
    data = b"".join(write(Ping(1))) + b"".join(write(Hello(name="n")))
    assert proto.FromString(data).WhichOneof("kind") == "hello"
    assert read(data) == Hello(name="n")


@given(data=st.binary(max_size=60))
def test_what_we_read_protobuf_reads(proto, data):
    """We are stricter in a few places, never laxer."""
    try:
        packet = read(data)
    except ProtocolError:
        return
    message = proto.FromString(data)
    assert message.WhichOneof("kind") == (None if packet is None else name_of(packet))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x0a", "in the middle of a number"),
        (b"\x0a\x05abc", "field of 5 bytes where 3 are left"),
        (b"\x08\x01", "wire type 0, 2 is right"),
        (b"\x0b", "unknown wire type 3"),
        (b"\x02\x00", "number 0"),
        (b"\x80" * 10 + b"\x01", "more than 64 bits"),
        (b"\xff" * 9 + b"\x02", "more than 64 bits"),
        (b"\x0a\x03\x1a\x01\xff", "'name' is not UTF-8"),
        (b"\x0a\x02\x0a\x00", "'version' has wire type 2"),
        (b"\x0a\x02\x18\x00", "'name' has wire type 0"),
        (varint(99 << 3) + b"\0" + (varint(99 << 3) + b"\0") * MAX_FIELDS, "fields"),
        (bytes(MAX_PACKET_BYTES + 1), "at most"),
        (b"".join(write(Hello(about="x" * (MAX_TEXT_BYTES + 1)))), "bytes of text"),
    ],
)
def test_what_is_no_packet_is_refused_with_the_reason(data, why):
    with pytest.raises(ProtocolError, match=why):
        read(data)


def test_large_bytes_are_neither_copied_on_the_way_out_nor_on_the_way_in():
    data = memoryview(bytearray(b"abc" * 1000))
    parts = write(Chunk(1, 2, data))
    assert any(part is data for part in parts)
    whole = bytearray(b"".join(parts))
    back = read(whole)
    whole[-1] = ord("!")
    assert bytes(back.data[-3:]) == b"ab!"


def test_a_sentence_with_half_a_surrogate_pair_goes_out_all_the_same():
    assert read(b"".join(write(Goodbye("file \udcff")))) == Goodbye("file ?")


def test_minus_zero_is_not_zero(proto):
    data = b"".join(write(Progress(done=-0.0)))
    assert proto.FromString(data).SerializeToString() == data
    assert str(proto.FromString(data).progress.done) == str(read(data).done) == "-0.0"


def test_zeros_are_not_written():
    assert b"".join(write(Announce())) == b"\x22\x00"
    assert decode(Progress, memoryview(b"")) == Progress()
