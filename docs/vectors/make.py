"""Writes the test vectors of docs/protocol.md: `python docs/vectors/make.py`. Bytes stand in hexadecimal digits."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from umbel.arrays import Arrays
from umbel.message import Ask, Evaluation, Group, Task, Update
from umbel.runtimes.mail import Answer, write_answer, write_letter
from umbel.transports.tcp import MAGIC
from umbel.wire import encode, pack
from umbel.wire.channel import Announced, Arrived, Channel
from umbel.wire.packets import (
    Acknowledge,
    Announce,
    Cancel,
    Chunk,
    Goodbye,
    Grant,
    Hello,
    Hurry,
    Packet,
    Ping,
    Pong,
    Progress,
    Refuse,
    Settled,
    Want,
    Welcome,
    Withdraw,
    write,
)

FOLDER = Path(__file__).parent
RUN = "2b5d"
MODEL = Arrays.of({"w": np.array([[1, 2, 3], [4, 5, 6]], np.float32), "seen": np.int64(7)}, roles={"seen": "averaged"})
DELTA = Arrays.of({"w": np.full((2, 3), -0.5, np.float32), "seen": np.int64(1)}, roles={"seen": "averaged"})
LARGE = Arrays.of({"w": np.arange(4_200, dtype=np.float32) / 8})
PLAN = {
    "run": RUN,
    "name": "server",
    "app": None,
    "client_half": {"name": "FedAvg", "shared": None, "weighting": "examples"},
    "settings": {},
    "num_clients": None,
    "cohort": 2,
    "per_client_metrics": False,
}
ASK = Ask("ward-7", "fit", Task(1, MODEL, config={"server_round": 1, "lr": 0.1}), key=2**120 + 5)
READY = Answer(RUN, 0, 0, "properties", "ward-7", facts={"capabilities": ["evaluate", "fit"], "schema": None})
FITTED = Answer(
    RUN,
    1,
    0,
    "fit",
    "ward-7",
    seconds=0.25,
    update=Update({"delta": Group(DELTA, 40.0)}, 40.0, 4, {"loss": 0.5}),
)
JUDGED = Answer(RUN, 1, 0, "evaluate", "ward-7", seconds=0.125, evaluation=Evaluation(0.75, 10.0, {"accuracy": 0.5}))
FAILED = Answer(RUN, 1, 0, "fit", "ward-7", verdict="failed", reason="ValueError: no data (hospital.py, line 12)")


def told(value: Any) -> Any:
    """A value as JSON can show it."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value).hex()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def joined(parts: list[Any]) -> bytes:
    return b"".join(parts)


def packets() -> list[dict[str, Any]]:
    """One packet of each kind, and the corners of the encoding."""
    samples: list[Packet] = [
        Hello(1, 1, "ward-7", bytes(range(16)), '{"gpu":false}'),
        Hello(1, 1, "phone-7", bytes(16), '{"conditions":{"charging":true},"since_s":3600,"willing":true}', True),
        Hello(1, 1, "ward-7", bytes(16), "{}", unpacks="zstd"),
        Welcome(1, "hub", 15_000),
        Welcome(1, "hub", 15_000, "zstd"),
        Goodbye("the run has finished", finished=True),
        Goodbye("come back later", retry_ms=2_000),
        Goodbye("this server stands by", standby=True),
        Announce(1, "ask", 5, bytes(range(32)), RUN, b"hello", 1, 0),
        Announce(300, "answer", 1_000_000, bytes(32), RUN, b"", 2, 1),
        Announce(301, "blob", 1_000_000, bytes(32), RUN, packing="zstd", packed_size=20_000),
        Grant(300, 262_144, 1_000_000),
        Chunk(300, 262_144, b"a piece"),
        Acknowledge(300),
        Refuse(300, "this answer is no longer wanted"),
        Cancel(RUN, 2, 1, "fit"),
        Hurry(RUN, 2, 1, 1_500),
        Settled(RUN, 2, 1, included=True),
        Progress(RUN, 2, 0.75),
        Ping(1),
        Pong(2**64 - 1),
        Want(bytes(range(32)), RUN),
        Withdraw(300),
    ]
    return [
        {
            "kind": type(packet).__name__,
            "fields": {field.name: told(getattr(packet, field.name)) for field in dataclasses.fields(packet)},
            "hex": joined(write(packet)).hex(),
        }
        for packet in samples
    ]


def described(arrays: Arrays) -> list[dict[str, Any]]:
    return [
        {
            "name": s.name,
            "dtype": s.dtype,
            "shape": list(s.shape),
            "role": s.role,
            "values": arrays[s.name].ravel().tolist(),
        }
        for s in arrays.schema
    ]


def buffers() -> list[dict[str, Any]]:
    """Named arrays as buffers, with their digests."""
    kinds = Arrays.of(
        {
            "half": np.array([1.5], np.float16),
            "whole": np.array([1, -1], np.int8),
            "double": np.array(0.1),
            "flags": np.array([True, False]),
        }
    )
    # Names that a JSON parser of some languages would put in another order than they stand in.
    order = Arrays.of({name: np.array([i], np.int8) for i, name in enumerate(("w", "10", "2", '"é\\', "a"))})
    return [
        {"arrays": described(arrays), "hex": arrays.buffer.tobytes().hex(), "digest": arrays.digest}
        for arrays in (MODEL, DELTA, kinds, order, Arrays.of({}))
    ]


def frames() -> list[dict[str, Any]]:
    """A message of each kind that is a frame; the answer's and the ask's fields are told in docs/protocol.md."""
    digests = {"": MODEL.digest}
    made = {
        "plan": pack("plan", {"plan": PLAN}),
        "ready": joined(write_answer(READY)),
        "ask": joined(write_letter(RUN, ASK, digests, None, 30.0)),
        "ask that goes on from a state, without a deadline": joined(write_letter(RUN, ASK, digests, (1, 0), math.inf)),
        "answer with an update": joined(write_answer(FITTED)),
        "answer with an evaluation": joined(write_answer(JUDGED)),
        "answer of a client that failed": joined(write_answer(FAILED)),
        "plain data of every kind": encode(
            "any",
            {"n": None, "t": True, "i": -5, "f": 0.1, "nan": math.nan, "b": b"\0\xff", "s": "é", "l": [1, {"k": []}]},
        ),
    }
    return [{"what": what, "header": header(data), "hex": data.hex()} for what, data in made.items()]


def header(data: bytes) -> Any:
    """The JSON header of a frame."""
    return json.loads(data[16 : 16 + int.from_bytes(data[8:16], "little")])


class Talk:
    """Two sides and everything that they say, written down."""

    def __init__(self) -> None:
        self.sides = {"node": Channel(), "server": Channel()}
        self.lines: list[dict[str, str]] = []

    def move(self, who: str, note: str, taken: Callable[[Channel, Any], None] | None = None) -> None:
        """Pass on what one side has to say."""
        other = self.sides["server" if who == "node" else "node"]
        while (parts := self.sides[who].next()) is not None:
            data = joined(parts)
            self.lines.append({"from": who, "hex": data.hex(), "note": note})
            event = other.receive(data)
            if taken is not None and event is not None:
                taken(other, event)


def accepted(channel: Channel, event: Any) -> None:
    if isinstance(event, Announced):
        channel.accept(event.message, memoryview(bytearray(event.message.size)))
    else:
        assert not isinstance(event, Arrived) or len(event.message.buffer or b"") == event.message.size


def conversation() -> dict[str, Any]:
    """One round of one node, with a model that is too large to come at once."""
    talk = Talk()
    node, server = talk.sides["node"], talk.sides["server"]
    ask = dataclasses.replace(ASK, task=dataclasses.replace(ASK.task, arrays=LARGE))
    node.say(Hello(1, 1, "ward-7", bytes(range(16)), "{}"))
    talk.move("node", "who it is")
    server.say(Welcome(1, "hub", 15_000))
    talk.move("server", "it may stay")
    server.send("plan", [pack("plan", {"plan": PLAN})], run=RUN)
    talk.move("server", "a run begins", accepted)
    talk.move("node", "the plan is here")
    node.send("ready", write_answer(READY), run=RUN)
    talk.move("node", "what its client can", accepted)
    talk.move("server", "the answer is here")
    server.send("blob", [LARGE.buffer.data], run=RUN)
    server.send("ask", write_letter(RUN, ask, {"": LARGE.digest}, None, 30.0), run=RUN, round=1)
    talk.move("server", "a model is announced; the ask that speaks of it is small and comes at once", accepted)
    talk.move("node", "the model may come; the ask is here")
    talk.move("server", "the model; one of more than 256 KiB would come in several chunks")
    talk.move("node", "the model is here")
    node.send("answer", write_answer(FITTED), run=RUN, round=1)
    talk.move("node", "the update", accepted)
    talk.move("server", "the update is here")
    server.say(Settled(RUN, 1, 0, included=True))
    talk.move("server", "the update is in a stored model")
    server.send("retire", [b""], run=RUN)
    talk.move("server", "the run is over", accepted)
    talk.move("node", "noted")
    server.say(Goodbye("the run has finished", finished=True))
    talk.move("server", "nothing is left to do")
    return {"tcp_first_bytes": MAGIC.hex(), "packets": talk.lines}


def invitations() -> list[dict[str, str]]:
    """Codes with what is in them; the lengths of the addresses differ, so that every rest of base32 comes up."""
    from umbel.identity.code import Code, write_code

    digest, secret = bytes(range(32)), bytes(range(0xF0, 0x100))
    addresses = ("10.0.0.1:8080", "fl.example.org:443", "[::1]:8080", "tcp://hub:65535", "a.example.org:9")
    return [
        {
            "address": address,
            "ca_digest": digest.hex(),
            "secret": secret.hex(),
            "code": write_code(Code(address, digest, secret)),
        }
        for address in addresses
    ]


def packed() -> list[dict[str, Any]]:
    """A packed message: how it is announced, and one Zstandard frame of its content (there are others, as right).

    The frame by hand: magic, a descriptor (0x60), the size less 256 in two bytes, and one last block that says "this
    byte, 20,000 times".
    """
    size, byte = 20_000, 7
    block = 1 | 1 << 1 | size << 3
    frame = (
        bytes.fromhex("28b52ffd60") + (size - 256).to_bytes(2, "little") + block.to_bytes(3, "little") + bytes([byte])
    )
    digest = hashlib.sha256(bytes([byte]) * size).digest()
    announce = Announce(7, "blob", size, digest, RUN, packing="zstd", packed_size=len(frame))
    return [{"announce": joined(write(announce)).hex(), "frame": frame.hex(), "size": size, "byte": byte}]


FILES: dict[str, Callable[[], Any]] = {
    "packets.json": packets,
    "buffers.json": buffers,
    "frames.json": frames,
    "conversation.json": conversation,
    "invitations.json": invitations,
    "packed.json": packed,
}


def text(name: str) -> str:
    return json.dumps(FILES[name](), indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in FILES:
        (FOLDER / name).write_text(text(name), "utf-8")
