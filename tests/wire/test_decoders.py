"""Whatever bytes come, a decoder gives a value or its own error, and takes no more memory than the bytes allow."""

import random
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.targets import TARGETS, reseal
from umbel.arrays import Arrays
from umbel.errors import ProtocolError, WireError
from umbel.runtimes.mail import read_answer
from umbel.wire import decode, encode, pack, unpack
from umbel.wire.plain import read, weigh

MOST_BYTES = 16 * 2**20


def within(data: bytes, action, times: int = 4) -> None:
    """Expect that an action on `data` takes at most `times` its size and 16 MiB."""
    tracemalloc.start()
    try:
        kept = action()
        peak = tracemalloc.get_traced_memory()[1]
        del kept
    finally:
        tracemalloc.stop()
    assert peak <= times * len(data) + MOST_BYTES, f"{peak} bytes were taken for {len(data)}"


def mutated(sample: bytes, seed: int) -> bytes:
    """A few of the changes that break parsers: bytes flipped, cut out, put in, repeated, made large."""
    rng = random.Random(seed)
    data = bytearray(sample)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(data) + 1)
        length = rng.choice((1, 1, 2, 8, 64))
        match rng.randrange(5):
            case 0:
                data[place : place + 1] = bytes([rng.randrange(256)])
            case 1:
                del data[place : place + length]
            case 2:
                data[place:place] = rng.randbytes(length)
            case 3:
                data[place:place] = data[place : place + length]
            case _:
                data[place : place + length] = rng.choice((b"\xff", b"\0", b"[", b'"', b"9")) * length
    return bytes(data)


@pytest.mark.parametrize("name", TARGETS)
@given(data=st.binary(max_size=2_000))
def test_random_bytes(name, data):
    within(data, lambda: TARGETS[name].run(data))


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_of_valid_bytes(name):
    target = TARGETS[name]
    for sample in target.samples:
        assert not isinstance(target.run(sample), Exception)
        for seed in range(1_500):
            data = mutated(sample, seed)
            if target.sealed and seed % 4 and len(data) > 32:
                data = reseal(data)
            within(data, lambda data=data: target.run(data))


def test_a_decoder_that_lets_another_error_out_is_found():
    with pytest.raises(ZeroDivisionError):
        TARGETS["packet"].__class__("broken", lambda data: 1 // len(data), WireError, (b"",)).run(b"")


@pytest.mark.parametrize(
    "unit", ["[]", "{}", '{"a":1}', '"ab"', "1.5", "[1]", "[[]]", '{"a":{}}', '""', '"é"', '"\U0001f33f"', '{"b":[{}]}']
)
def test_no_json_is_larger_than_it_weighs(unit):
    text = f"[{','.join([unit] * 50_000)}]".encode()
    tracemalloc.start()
    kept = read(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(kept) == 50_000
    assert peak <= weigh(text)


def test_unlike_keys_are_no_larger_than_they_weigh():
    text = ("{" + ",".join(f'"{k}":0' for k in range(50_000)) + "}").encode()
    tracemalloc.start()
    kept = read(text)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(kept) == 50_000
    assert peak <= weigh(text)


@pytest.mark.parametrize("unit", [[], {}, [[]], {"a": {}}, "ab", 1.5])
def test_a_peers_header_that_would_fill_memory_is_refused(unit):
    data = pack("answer", {"facts": [unit] * 1_000_000})

    def action():
        with pytest.raises(ProtocolError, match="bytes of memory"):
            read_answer(memoryview(data))

    within(data, action)


def test_a_peer_cannot_name_one_buffer_again_and_again():
    model = Arrays.of({"value": np.zeros(2**18)})
    data = encode("tree", ["map", {str(k): ["array", 0] for k in range(1_000)}], [model.buffer])

    def action():
        with pytest.raises(WireError, match="cannot be read"):
            unpack("tree", data)

    within(data, action)


def test_a_peer_cannot_send_a_million_empty_buffers():
    data = encode("tree", ["map", {}], [b""] * 100_000)

    def action():
        with pytest.raises(WireError, match=r"memory|buffers"):
            unpack("tree", data, budget_bytes=3 * len(data) + 12 * 2**20)

    within(data, action)


def test_a_peer_cannot_send_a_model_of_a_million_names():
    data = pack("tree", {"m": Arrays.of({str(k): np.int8(0) for k in range(100_000)})})

    def action():
        with pytest.raises(WireError, match="headers of the arrays"):
            unpack("tree", data, budget_bytes=3 * len(data) + 12 * 2**20)

    within(data, action)


def test_an_honest_model_of_thousands_of_arrays_is_within_the_budget():
    data = pack("tree", {"m": Arrays.of({f"layer.{k}.weight": np.zeros((8, 8), np.float32) for k in range(5_000)})})
    within(data, lambda: unpack("tree", data, budget_bytes=3 * len(data) + 12 * 2**20))


@pytest.mark.parametrize(
    "body",
    [
        b'{"$bytes":5}',
        b'{"$bytes":"?"}',
        b'{"$float":"1"}',
        b'{"$float":1}',
        b'{"$x":1}',
        b'{"$bytes":"","a":1}',
        b'"\\ud800"',
        b'{"\\udfff":1}',
        b"NaN",
        b"-Infinity",
        b'"\xff"',
        b"[" * 40 + b"]" * 40,
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_what_is_no_plain_data_is_refused(body):
    text = b'{"kind":"k","body":' + body + b',"buffers":[]}'
    text += b" " * (-(16 + len(text)) % 64)
    data = b"UMBL\1\0\0\0" + len(text).to_bytes(8, "little") + text + bytes(32)
    with pytest.raises(WireError, match="header is not readable"):
        decode(reseal(data))


def test_half_a_surrogate_pair_is_not_written():
    with pytest.raises(WireError, match="surrogate"):
        encode("k", "\ud800")
