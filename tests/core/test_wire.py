"""Frames: decode(encode) is identity, any flipped byte is refused, sizes are checked before they are believed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.arrays import Arrays
from umbel.errors import WireError
from umbel.wire import decode, encode, pack, unpack

scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text() | st.binary()
)
keys = st.text(max_size=6).filter(lambda k: not k.startswith("$"))
plain = st.recursive(scalars, lambda x: st.lists(x, max_size=4) | st.dictionaries(keys, x, max_size=4), max_leaves=12)


@given(plain, st.lists(st.binary(max_size=200), max_size=4))
def test_a_frame_comes_back_as_it_was(body, buffers):
    frame = decode(encode("test", body, buffers))
    assert frame.kind == "test"
    assert frame.body == body
    assert [b.tobytes() for b in frame.buffers] == buffers


def test_any_flipped_byte_is_refused():
    data = pack("state", {"w": Arrays.of([np.arange(5.0)]), "n": 3})
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= 0x40
        with pytest.raises(WireError):
            unpack("state", bytes(damaged))


def test_any_cut_is_refused():
    data = pack("state", {"w": np.arange(5.0)})
    for length in range(len(data)):
        with pytest.raises(WireError):
            unpack("state", data[:length])


def test_lying_lengths_are_refused_even_without_the_digest():
    honest = encode("x", {}, [b"abc"])
    for lie in (b"[99]}", b"[-1]}", b"[1e9]}"[:5]):
        with pytest.raises(WireError):
            decode(honest.replace(b"[3]} ", lie), verify=False)


def test_nan_and_infinity_travel_and_other_objects_do_not():
    body = decode(encode("x", {"a": float("inf"), "b": float("nan")})).body
    assert body["a"] == float("inf")
    assert body["b"] != body["b"]
    with pytest.raises(WireError, match="is not plain data"):
        encode("x", {"a": object()})
    with pytest.raises(WireError, match="keys are text"):
        encode("x", {"$bytes": 1})


def test_a_tree_of_arrays_and_plain_data_comes_back():
    model = Arrays.of({"w": np.ones((2, 2), np.float32)}, roles={"w": "averaged"})
    tree = {"model": model, "inner": {"x": np.arange(3), "list": [1, "a", b"b"]}, "none": None}
    back = unpack("tree", pack("tree", tree))
    assert back["model"] == model
    assert back["inner"]["x"].tolist() == [0, 1, 2]
    back["inner"]["x"][0] = 5  # plain arrays are private copies
    assert back["inner"]["list"] == [1, "a", b"b"]
    assert back["none"] is None


def test_a_frame_of_another_kind_or_a_later_format_is_refused():
    with pytest.raises(WireError, match="expected a frame of kind 'a'"):
        unpack("a", pack("b", {}))
    data = bytearray(pack("a", {}))
    data[4] = 9
    with pytest.raises(WireError, match="format 9"):
        unpack("a", bytes(data))
