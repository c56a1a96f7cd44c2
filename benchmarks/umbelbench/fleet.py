"""Many protocol nodes in one process: each speaks the packets of a real one and does no work.

    python -m umbelbench.fleet ADDRESS COUNT [--certificates FOLDER] [--noise]
    python -m umbelbench.fleet make COUNT --certificates FOLDER       # a CA, a server's certificate, COUNT nodes' ones

Prints a line of JSON once all are connected, and another when the server has finished. With --noise an update is not
zeros, and of each node is told when the model was there and when its update began to travel.
"""

import argparse
import asyncio
import datetime
import hashlib
import ipaddress
import json
import os
import resource
import time
from pathlib import Path

import numpy as np

from umbel.arrays import Arrays
from umbel.errors import LinkError
from umbel.message import Group, Update
from umbel.runtimes.mail import Answer, read_letter, seal_answer, write_answer
from umbel.runtimes.room import fresh
from umbel.runtimes.stream import Stream
from umbel.transports import transport_for
from umbel.transports.tls import client_tls
from umbel.wire.channel import Announced, Arrived
from umbel.wire.packets import Goodbye, Hello, Ping, Want

CONNECTING_AT_ONCE = 200


class Node:
    """Takes asks and answers at once with a delta of zeros."""

    def __init__(self, fleet, number):
        self.fleet, self.name = fleet, f"node-{number}"
        self.waiting, self.announced = [], []

    def tls(self):
        folder = self.fleet.certificates
        if folder is None:
            return None
        return client_tls(folder / "server-ca.pem", folder / f"{self.name}.pem", folder / "node-key.pem")

    async def connect(self):
        for attempt in range(20):
            try:
                link = await self.fleet.transport.connect(self.fleet.place, tls=self.tls(), timeout_s=60)
                break
            except LinkError:
                await asyncio.sleep(0.05 * 2 ** min(attempt, 5) * (1 + np.random.random()))
        else:
            raise SystemExit(f"{self.name} cannot connect")
        self.stream = Stream(link, self.happened, self.ended)
        self.stream.say(Hello(1, 1, self.name, os.urandom(16), "{}"))
        self.stream.start()

    def ended(self, reason):
        self.fleet.left()

    def happened(self, event):
        if isinstance(event, Announced):
            message = event.message
            if message.kind == "blob" and message.digest.hex() in self.fleet.blobs:
                self.stream.channel.have(message)
            elif message.kind == "blob" and not self.fleet.is_first(message.digest.hex()):
                self.announced.append(message)
            else:
                self.stream.channel.accept(message, fresh(message.size))
        elif isinstance(event, Arrived):
            self.arrived(event.message)
        elif isinstance(event, Goodbye):
            self.stream.link.close()

    def arrived(self, message):
        if message.kind == "plan":
            facts = {"capabilities": ["fit"], "kind": "Load", "schema": None}
            ready = Answer(message.run, 0, 0, "properties", self.name, facts=facts)
            self.stream.send("ready", write_answer(ready), run=message.run)
        elif message.kind == "blob":
            digest = hashlib.sha256(message.buffer).hexdigest()
            self.fleet.tell(here=time.time(), client=self.name)
            self.fleet.keep(digest, message.buffer)
            for node in self.fleet.nodes if self.fleet.noise else [self]:
                node.has(digest)
        elif message.kind == "ask":
            letter = read_letter(message.buffer)
            if letter.model in self.fleet.blobs:
                self.answer(letter)
            else:
                self.waiting.append(letter)
                if self.fleet.is_first(letter.model):
                    self.stream.say(Want(bytes.fromhex(letter.model), letter.run))

    def has(self, digest):
        for message in [message for message in self.announced if message.digest.hex() == digest]:
            self.announced.remove(message)
            self.stream.channel.have(message)
            self.stream.pump()
        for letter in [letter for letter in self.waiting if letter.model == digest]:
            self.waiting.remove(letter)
            self.answer(letter)

    def answer(self, letter):
        update = Update({"delta": Group(self.fleet.zeros(letter.model), 1.0)}, 1.0, 1)
        answer = Answer(letter.run, letter.round, letter.attempt, "fit", letter.client, update=update)
        if self.fleet.noise:
            # The digest of a gigabyte takes a second, and many of them longer than a server waits for a sign of life.
            self.fleet.later.append(asyncio.ensure_future(self.answer_later(answer, letter)))
        else:
            self.send(letter, *seal_answer(answer))

    async def answer_later(self, answer, letter):
        async with self.fleet.one_at_a_time:
            parts, digest = await asyncio.to_thread(seal_answer, answer)
        self.send(letter, parts, digest)

    def send(self, letter, parts, digest):
        self.fleet.tell(sent=time.time(), client=self.name)
        place = {"run": letter.run, "round": letter.round, "attempt": letter.attempt}
        self.stream.send("answer", parts, digest=digest, **place)


class Fleet:
    def __init__(self, address, count, certificates, noise=False):
        self.transport, self.place = transport_for(address)
        self.count, self.certificates = count, certificates
        self.blobs, self._zeros, self.noise = {}, {}, noise
        self.nodes, self.wanted = [], set()
        self.later, self.one_at_a_time = [], asyncio.Lock()
        self.gone = 0
        self.done = asyncio.Event()

    def keep(self, digest, data):
        if digest not in self.blobs:
            if len(self.blobs) >= (1 if self.noise else 5):
                oldest = next(iter(self.blobs))
                del self.blobs[oldest]
                self._zeros.pop(oldest, None)
            self.blobs[digest] = Arrays.from_buffer(data)

    def zeros(self, digest):
        if digest not in self._zeros:
            delta = Arrays.zeros(self.blobs[digest].schema.delta)
            if self.noise:
                some = np.random.default_rng(len(self._zeros)).standard_normal(2**20, np.float32)
                for view in delta.views.values():
                    for at in range(0, view.size, some.size):
                        view[at : at + some.size] = some[: view.size - at]
            self._zeros[digest] = delta.frozen()
        return self._zeros[digest]

    def tell(self, **line):
        if self.noise:
            print(json.dumps(line), flush=True)

    def is_first(self, digest):
        """Whether a node is to fetch a model. With --noise models are large, and one of each is enough for all."""
        first = digest not in self.wanted
        if self.noise:
            self.wanted.add(digest)
        return first

    def left(self):
        self.gone += 1
        if self.gone == self.count:
            self.done.set()

    async def run(self):
        begun = time.perf_counter()
        gate = asyncio.Semaphore(CONNECTING_AT_ONCE)
        self.nodes = [Node(self, number) for number in range(self.count)]

        async def one(node):
            async with gate:
                await node.connect()

        await asyncio.gather(*(one(node) for node in self.nodes))
        print(json.dumps({"connected": self.count, "seconds": time.perf_counter() - begun}), flush=True)

        async def beat():
            while True:
                await asyncio.sleep(7)
                for node in self.nodes:
                    node.stream.say(Ping(1))

        beating = asyncio.ensure_future(beat())
        await self.done.wait()
        beating.cancel()
        print(json.dumps({"left": self.gone}), flush=True)


def make(folder, count):
    """A CA, a server's certificate and one for each node; all nodes share one key, which only a load test may do."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    now = datetime.datetime.now(datetime.UTC)

    def name(text):
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    def signed(subject, key, *, ca=False, hosts=()):
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(subject))
            .issuer_name(name("load test"))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=2))
            .add_extension(x509.BasicConstraints(ca, None), True)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName(hosts), False)
        return builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def private(key):
        kinds = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        return key.private_bytes(serialization.Encoding.PEM, *kinds)

    ca_key, server_key, node_key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(3))
    here = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    (folder / "server-ca.pem").write_bytes(signed("load test", ca_key, ca=True))
    (folder / "server-cert.pem").write_bytes(signed("server", server_key, hosts=here))
    (folder / "server-key.pem").write_bytes(private(server_key))
    (folder / "node-key.pem").write_bytes(private(node_key))
    for number in range(count):
        (folder / f"node-{number}.pem").write_bytes(signed(f"node-{number}", node_key))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("count", type=int)
    parser.add_argument("--certificates", type=Path)
    parser.add_argument("--noise", action="store_true")
    options = parser.parse_args()
    if options.address == "make":
        make(options.certificates, options.count)
        return
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))

    async def run():
        await Fleet(options.address, options.count, options.certificates, options.noise).run()

    asyncio.run(run())


if __name__ == "__main__":
    main()
