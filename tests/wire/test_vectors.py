"""The committed vectors are what the code writes, and what the real protobuf library reads."""

import hashlib
import json
import runpy
from pathlib import Path

import numpy as np
import pytest

from umbel.arrays import Arrays
from umbel.errors import WireError
from umbel.wire import decode, unpack
from umbel.wire.channel import Channel
from umbel.wire.packets import KINDS, MAX_PACKET_BYTES, read

FOLDER = Path(__file__).parents[2] / "docs" / "vectors"
MADE = runpy.run_path(str(FOLDER / "make.py"))
NAMES = sorted(MADE["FILES"])


def vectors(name):
    return json.loads((FOLDER / name).read_text("utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_the_script_writes_what_is_committed(name):
    assert (FOLDER / name).read_text("utf-8") == MADE["text"](name)


def test_there_is_a_packet_of_each_kind():
    assert {vector["kind"] for vector in vectors("packets.json")} == {kind.__name__ for kind in KINDS}


@pytest.mark.parametrize("vector", vectors("packets.json"), ids=lambda vector: vector["kind"])
def test_packets_are_read_as_told(vector):
    packet = read(bytes.fromhex(vector["hex"]))
    assert type(packet).__name__ == vector["kind"]
    assert {name: MADE["told"](getattr(packet, name)) for name in vector["fields"]} == vector["fields"]


@pytest.mark.parametrize("vector", vectors("buffers.json"), ids=lambda vector: vector["digest"][:6])
def test_buffers_are_read_as_told(vector):
    data = bytes.fromhex(vector["hex"])
    assert hashlib.sha256(data).hexdigest() == vector["digest"]
    arrays = Arrays.from_buffer(data)
    assert [spec.name for spec in arrays.schema] == [told["name"] for told in vector["arrays"]]
    for told in vector["arrays"]:
        spec = arrays.schema.by_name[told["name"]]
        assert (spec.dtype, list(spec.shape), spec.role) == (told["dtype"], told["shape"], told["role"])
        assert arrays[told["name"]].ravel().tolist() == told["values"]
        assert np.isfinite(told["values"]).all()


@pytest.mark.parametrize("vector", vectors("frames.json"), ids=lambda vector: vector["what"])
def test_frames_are_read_as_told_and_any_flipped_byte_is_found(vector):
    data = bytes.fromhex(vector["hex"])
    assert decode(data).kind == vector["header"]["kind"]
    assert MADE["header"](data) == vector["header"]
    for place in range(0, len(data), 7):
        damaged = bytearray(data)
        damaged[place] ^= 1
        with pytest.raises(WireError):
            decode(bytes(damaged))


def test_the_conversation_can_be_held():
    told = vectors("conversation.json")
    sides = {"node": Channel(), "server": Channel()}
    seen = []
    for line in told["packets"]:
        data = bytes.fromhex(line["hex"])
        assert len(data) <= MAX_PACKET_BYTES
        seen.append((line["from"], type(read(data)).__name__))
    assert seen[:2] == [("node", "Hello"), ("server", "Welcome")]
    assert ("server", "Chunk") in seen
    assert seen[-1] == ("server", "Goodbye")
    assert sides["node"].next() is None
    plan = next(v for v in vectors("frames.json") if v["what"] == "plan")
    assert unpack("plan", bytes.fromhex(plan["hex"]))["plan"]["client_half"]["name"] == "FedAvg"
