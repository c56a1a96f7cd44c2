"""Every decoder of bytes from elsewhere, with the errors that it may raise and a valid sample to start from."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from umbel.arrays import Arrays
from umbel.errors import ArraysError, ProtocolError, WireError
from umbel.message import Ask, Group, Task, Update
from umbel.runtimes.mail import Answer, read_answer, read_letter, write_answer, write_letter
from umbel.wire import decode, encode, pack, unpack, zstd
from umbel.wire.packets import KINDS, Announce, Chunk, Hello, read, write
from umbel.wire.protobuf import decode as decode_message

BUDGET_BYTES = 12 * 2**20


@dataclass(frozen=True)
class Target:
    """A decoder.

    Attributes:
        sealed: the bytes end with a SHA-256 that a mutation has to renew, or it is found out at once.
    """

    name: str
    decode: Callable[[bytes], Any]
    allowed: type[Exception]
    samples: tuple[bytes, ...]
    sealed: bool = False

    def run(self, data: bytes) -> Any:
        """The decoded value, or the allowed error; anything else escapes."""
        try:
            return self.decode(data)
        except self.allowed as error:
            return error


def reseal(data: bytes) -> bytes:
    """The bytes with their last 32 made the SHA-256 of the others."""
    return data[:-32] + hashlib.sha256(data[:-32]).digest()


MODEL = Arrays.of({"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.int64(3)}, roles={"n": "averaged"})
TASK = Task(3, MODEL, {"control": MODEL}, {"lr": 0.1, "server_round": 3}, ("w",))
ASK = Ask("7", "fit", TASK, {"share": b"x"}, 0, 1, 2**100)
LETTER = b"".join(write_letter("run", ASK, {"": MODEL.digest, "control": MODEL.digest}, (2, 0), 12.5))
ANSWER = b"".join(
    write_answer(
        Answer(
            "run",
            3,
            1,
            "fit",
            "7",
            seconds=0.5,
            has_state=True,
            warnings=("a metric was left out",),
            update=Update({"delta": Group(MODEL, 5.0)}, 5.0, 2, {"loss": 0.25}),
            facts={"capabilities": ["fit", "evaluate"]},
        )
    )
)
TREE = pack("tree", {"model": MODEL, "inner": {"x": np.arange(3), "list": [1, "a", b"b", {"k": 1.5}]}, "none": None})
PACKETS = tuple(
    b"".join(write(packet))
    for packet in (
        Hello(1, 1, "ward 7", b"0123456789abcdef", '{"gpu": true}'),
        Announce(1, "answer", 5, bytes(32), "run", b"small", 3, 1),
        Chunk(1, 2**18, b"data"),
    )
)


def _all_messages(data: bytes) -> Any:
    """The same bytes as every kind of message that takes them."""
    found: list[Any] = []
    errors: list[ProtocolError] = []
    for kind in KINDS:
        try:
            found.append(decode_message(kind, memoryview(data)))
        except ProtocolError as error:
            errors.append(error)
    if not found:
        raise errors[0]
    return found


def _unpacked(data: bytes) -> bytes:
    """Packed bytes in two pieces, into room for as much as the valid sample holds."""
    room = bytearray(len(ANSWER))
    unpacker = zstd.Unpacker(memoryview(room))
    unpacker.feed(data[: len(data) // 2])
    unpacker.feed(data[len(data) // 2 :])
    unpacker.finish()
    return bytes(room)


TARGETS = {
    target.name: target
    for target in (
        Target("packet", read, ProtocolError, PACKETS),
        Target("protobuf", _all_messages, ProtocolError, tuple(packet[2:] for packet in PACKETS)),
        Target("frame", decode, WireError, (encode("k", {"a": [1, "x", None]}, [b"abc"]), TREE), sealed=True),
        Target("stranger", lambda data: decode(data, budget_bytes=BUDGET_BYTES), WireError, (TREE,), sealed=True),
        Target("records", lambda data: unpack("tree", data), WireError, (TREE,), sealed=True),
        Target("letter", lambda data: read_letter(memoryview(data)), ProtocolError, (LETTER,), sealed=True),
        Target("answer", lambda data: read_answer(memoryview(data)), ProtocolError, (ANSWER,), sealed=True),
        Target("arrays", Arrays.from_buffer, ArraysError, (MODEL.buffer.tobytes(), Arrays.of({}).buffer.tobytes())),
        *([Target("zstd", _unpacked, ProtocolError, (zstd.packed([ANSWER]) or b"",))] if zstd.available() else []),
    )
}
