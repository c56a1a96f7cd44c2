"""Flower clients made by hand: gRPC's own client, and messages of a real protobuf library compiled from the .proto."""

import contextlib
import io
import threading
from concurrent.futures import Future
from pathlib import Path
from queue import Queue

import grpc
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc

import umbel as fl
from umbel.runtimes import flower

PROTO = Path(flower.__file__).with_name("flower.proto")


class Dialect:
    """The messages of a .proto: `said = dialect.ServerMessage.FromString(data)`."""

    def __init__(self, folder: Path, text: str) -> None:
        folder.mkdir()
        (folder / "dialect.proto").write_text(text, "utf-8")
        out = folder / "dialect.bin"
        assert protoc.main(["", f"-I{folder}", f"--descriptor_set_out={out}", str(folder / "dialect.proto")]) == 0
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
        pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            pool.Add(file)
        for name in ("ServerMessage", "ClientMessage", "Scalar", "Parameters"):
            setattr(self, name, message_factory.GetMessageClass(pool.FindMessageTypeByName(f"flwr.proto.{name}")))


def saved(array) -> bytes:
    """What `numpy.save` writes."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()


def loaded(data: bytes):
    return np.load(io.BytesIO(data), allow_pickle=False)


class Adds:
    """Client i adds i + 1, as a well-behaved Flower client answers. Change a method to misbehave."""

    def __init__(self, dialect, index: int = 0) -> None:
        self.dialect, self.number = dialect, index + 1
        self.heard: list = []

    def __call__(self, data: bytes):
        """The answer: bytes, or None to go away."""
        said = self.dialect.ServerMessage.FromString(data)
        kind = said.WhichOneof("msg")
        self.heard.append(said)
        answer = self.dialect.ClientMessage()
        getattr(self, kind)(getattr(said, kind), answer)
        return answer.SerializeToString()

    def reconnect_ins(self, ins, answer):
        answer.disconnect_res.reason = 1

    def get_parameters_ins(self, ins, answer):
        answer.get_parameters_res.status.code = 0
        self.fill(answer.get_parameters_res.parameters, [np.zeros(3, np.float32), np.zeros((2, 2))])

    def fit_ins(self, ins, answer):
        arrays = [loaded(tensor) + self.number for tensor in ins.parameters.tensors]
        self.fill(answer.fit_res.parameters, arrays)
        answer.fit_res.num_examples = self.number
        answer.fit_res.metrics["number"].double = self.number

    def evaluate_ins(self, ins, answer):
        answer.evaluate_res.loss = float(loaded(ins.parameters.tensors[0])[0])
        answer.evaluate_res.num_examples = self.number
        answer.evaluate_res.metrics["accuracy"].double = 0.25 * self.number

    def fill(self, parameters, arrays):
        parameters.tensor_type = "numpy.ndarray"
        parameters.tensors.extend([array if isinstance(array, bytes) else saved(array) for array in arrays])


class UmbelAdds(fl.NumPyClient):
    """The same client for Umbel."""

    def __init__(self, index: int) -> None:
        self.number = index + 1

    def get_parameters(self, config):
        return [np.zeros(3, np.float32), np.zeros((2, 2))]

    def fit(self, parameters, config):
        return [p + self.number for p in parameters], self.number, {"number": float(self.number)}

    def evaluate(self, parameters, config):
        return float(parameters[0][0]), self.number, {"accuracy": 0.25 * self.number}


class Site:
    """A server in a thread, and clients that come to it."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def serve(self, address="grpc://127.0.0.1:0", **server):
        """(the history, later; the addresses, as they come)."""
        addresses: Queue[str] = Queue()
        run = lambda: fl.server.start_server(address, ready=addresses.put, **{"progress": False, **server})  # noqa: E731
        return self.spawn(run), addresses

    def flower(self, address, answer, **more) -> Future:
        """A hand-made client; done when its stream has ended, with the status that gRPC tells."""
        return self.spawn(lambda: converse(address, answer, **more))

    def umbel(self, address, name, client_fn) -> Future:
        return self.spawn(lambda: fl.client.start_client(address, client_fn=client_fn, name=name, progress=False))

    def spawn(self, work) -> Future:
        done: Future = Future()

        def outcome():
            try:
                done.set_result(work())
            except BaseException as error:
                done.set_exception(error)

        threading.Thread(target=outcome, daemon=True).start()
        return done

    def run(self, *answers, **server):
        """The history of a run with these hand-made clients."""
        history, addresses = self.serve(**server)
        address = addresses.get(timeout=20)
        clients = [self.flower(address, answer) for answer in answers]
        found = history.result(timeout=60)
        self.statuses = [client.result(timeout=20) for client in clients]
        return found


def converse(address, answer, *, credentials=None, first=None) -> str:
    """Answer message by message until the server ends the stream or `answer` gives None; returns the status."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    channel = (
        grpc.insecure_channel(address, options=options)
        if credentials is None
        else grpc.secure_channel(address, credentials, options=options)
    )
    outbox: Queue = Queue()
    if first is not None:
        outbox.put(first)
    with channel, contextlib.suppress(grpc.RpcError):
        call = channel.stream_stream("/flwr.proto.FlowerService/Join")(iter(outbox.get, None))
        for data in call:
            reply = answer(data)
            if reply is None:
                call.cancel()
                break
            outbox.put(reply)
        outbox.put(None)
        return call.code().name
    outbox.put(None)
    return call.code().name
