"""A node written from docs/protocol.md and the `.proto` alone takes part in a run: nothing of Umbel is used in it."""

import hashlib
import json
import socket
import struct
import threading

import numpy as np
import pytest

import umbel as fl

pytest.importorskip("grpc_tools")
pytest.importorskip("google.protobuf")
SIZE = 100_000  # floats: a model of several chunks


def padded(data: bytes, start: int, fill: bytes) -> bytes:
    return data + fill * (-(start + len(data)) % 64)


def leaf(value):
    """Plain data, or a table of nodes."""
    if isinstance(value, dict):
        return ["map", {key: leaf(item) for key, item in value.items()}]
    return value if isinstance(value, list) and value[:1] == ["arrays"] else ["plain", value]


def frame(kind: str, tree: dict, buffers=()) -> bytes:
    head = json.dumps({"kind": kind, "body": leaf(tree), "buffers": [len(b) for b in buffers]}, separators=(",", ":"))
    text = padded(head.encode(), 16, b" ")
    data = b"UMBL" + struct.pack("<HHQ", 1, 0, len(text)) + text + b"".join(padded(b, 0, b"\0") for b in buffers)
    return data + hashlib.sha256(data).digest()


def unframed(data: bytes) -> dict:
    assert data[:4] == b"UMBL"
    assert hashlib.sha256(data[:-32]).digest() == data[-32:]
    (length,) = struct.unpack("<Q", data[8:16])
    return plain(json.loads(data[16 : 16 + length])["body"])


def plain(node):
    kind, content = node
    return {key: plain(item) for key, item in content.items()} if kind == "map" else content


def one_array(name: str, values: np.ndarray) -> bytes:
    entry = {"dtype": "F32", "shape": list(values.shape), "data_offsets": [0, values.nbytes]}
    text = padded(json.dumps({name: entry}, separators=(",", ":")).encode(), 8, b" ")
    return struct.pack("<Q", len(text)) + text + values.astype("<f4").tobytes()


def the_array(buffer: bytes, name: str) -> np.ndarray:
    (length,) = struct.unpack("<Q", buffer[:8])
    begin, end = json.loads(buffer[8 : 8 + length])[name]["data_offsets"]
    return np.frombuffer(buffer[8 + length + begin : 8 + length + end], "<f4")


class ForeignNode:
    """Adds its number to every weight; reads and writes packets with the protobuf library."""

    def __init__(self, packet_class, address: str, name: str, step: float, examples: float) -> None:
        self.packet_class, self.name, self.step, self.examples = packet_class, name, step, examples
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        self.incoming, self.blobs, self.outgoing, self.waiting = {}, {}, {}, []
        self.next_id = 1
        self.settled = []
        self.reason = ""

    def run(self) -> None:
        with self.socket:
            self.socket.sendall(b"UMBL/1\r\n")
            assert self.exactly(8) == b"UMBL/1\r\n"
            self.say(hello={"version": 1, "oldest": 1, "name": self.name, "boot": bytes(16), "about": "{}"})
            while not self.reason:
                self.heard(self.packet())

    def exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.socket.recv(size - len(data)) or pytest.fail("the server hung up without a goodbye")
        return data

    def packet(self):
        return self.packet_class.FromString(self.exactly(struct.unpack("<I", self.exactly(4))[0]))

    def say(self, **packet) -> None:
        data = self.packet_class(**packet).SerializeToString()
        self.socket.sendall(struct.pack("<I", len(data)) + data)

    def heard(self, packet) -> None:
        kind = packet.WhichOneof("kind")
        what = getattr(packet, kind)
        if kind == "announce":
            if what.data or not what.size:
                self.message(what, what.data)
            else:
                self.incoming[what.id] = (what, bytearray())
                self.say(grant={"id": what.id, "offset": 0, "limit": what.size})
        elif kind == "chunk":
            about, data = self.incoming[what.id]
            assert what.offset == len(data)
            data += what.data
            if len(data) == about.size:
                self.message(about, bytes(data))
        elif kind == "grant":
            data = self.outgoing[what.id]
            for offset in range(what.offset, what.limit, 2**18):
                piece = data[offset : min(offset + 2**18, what.limit)]
                self.say(chunk={"id": what.id, "offset": offset, "data": piece})
        elif kind == "settled":
            self.settled.append((what.round, what.included))
        elif kind == "ping":
            self.say(pong={"number": what.number})
        elif kind == "goodbye":
            assert what.finished
            self.reason = what.reason

    def message(self, about, data: bytes) -> None:
        assert hashlib.sha256(data).digest() == about.digest
        self.say(acknowledge={"id": about.id})
        if about.kind == "blob":
            self.blobs[about.digest.hex()] = data
            waiting, self.waiting = self.waiting, []
            for ask in waiting:
                self.asked(ask)
        elif about.kind == "plan":
            assert unframed(data)["plan"]["client_half"]["name"] == "FedAvg"
            facts = {"capabilities": ["fit", "evaluate"], "schema": None}
            self.send(
                "ready", about.run, 0, 0, frame("answer", self.answer(about.run, 0, 0, "properties", facts=facts))
            )
        elif about.kind == "ask":
            self.asked(unframed(data))

    def answer(self, run: str, round: int, attempt: int, kind: str, **more) -> dict:
        said = {"run": run, "round": round, "attempt": attempt, "kind": kind, "client": self.name, "verdict": "done"}
        return {**said, "reason": "", "seconds": 0.0, "has_state": False, "warnings": [], "facts": {}, **more}

    def asked(self, ask: dict) -> None:
        if ask["model"] not in self.blobs:
            self.waiting.append(ask)  # an ask is small and overtakes the model that it speaks of
            return
        model = the_array(self.blobs[ask["model"]], "w")
        numbers = {"examples": self.examples, "metrics": {"level": float(model[0])}}
        if ask["kind"] == "fit":
            delta = one_array("w", np.full_like(model, self.step))
            groups = {"delta": {"weight": self.examples, "arrays": ["arrays", 0]}}
            more, buffers = {**numbers, "steps": 1, "groups": groups}, [delta]
        else:
            more, buffers = {**numbers, "loss": float(model[0])}, []
        tree = self.answer(ask["run"], ask["round"], ask["attempt"], ask["kind"], **more)
        self.send("answer", ask["run"], ask["round"], ask["attempt"], frame("answer", tree, buffers))

    def send(self, kind: str, run: str, round: int, attempt: int, data: bytes) -> None:
        about = {"id": self.next_id, "kind": kind, "size": len(data), "digest": hashlib.sha256(data).digest()}
        self.outgoing[self.next_id] = data
        self.next_id += 1
        at_once = data if len(data) <= 16 * 1024 else b""
        self.say(announce={**about, "run": run, "round": round, "attempt": attempt, "data": at_once})


@pytest.mark.timeout(60)
def test_nodes_written_from_the_protocol_alone_take_part(proto):
    nodes, threads = [], []

    def start(address: str) -> None:
        for number, name in enumerate(("first", "second")):
            nodes.append(ForeignNode(proto, address, name, step=number + 1.0, examples=1.0 + 2 * number))
            threads.append(threading.Thread(target=nodes[-1].run, daemon=True))
            threads[-1].start()

    history = fl.server.start_server(
        "127.0.0.1:0",
        fl.ServerConfig(num_rounds=2, min_available_clients=2, seed=1),
        fl.FedAvg(),
        initial_parameters={"w": np.zeros(SIZE, np.float32)},
        progress=False,
        ready=start,
    )
    for thread in threads:
        thread.join(30)
    # (1·1 + 2·3) / (1 + 3) a round
    assert history.parameters["w"].tolist() == [3.5] * SIZE
    assert [record.loss for record in history.rounds if record.round] == [1.75, 3.5]
    assert all("finished" in node.reason for node in nodes)
    assert [node.settled for node in nodes] == [[(1, True), (2, True)]] * 2
