"""Devices that check in and are told when to come back, as fast as a server takes them.

    python -m umbelbench.checkin server [--certificates FOLDER]      # prints its address, then answers each input line
    python -m umbelbench.checkin load ADDRESS SECONDS [--certificates FOLDER] [--resume]

The server prints {"check_ins": ..., "cpu_s": ...} for each line that it reads. The load prints how many check-ins it
made in how many seconds, the bytes that one took on the connection, both ways, and how many TLS sessions were resumed.
"""

import argparse
import asyncio
import json
import os
import socket
import ssl
import struct
import sys
import threading
import time
from pathlib import Path

from umbel.runtimes.server.desk import Desk
from umbel.transports import transport_for
from umbel.transports.tcp import MAGIC
from umbel.transports.tls import server_tls
from umbel.wire.packets import Goodbye, Hello, read, write

AT_ONCE = 8
ABOUT = json.dumps({"conditions": {"idle": True, "charging": True, "unmetered": True}, "since_s": 3600.0})


async def serve(folder: Path | None) -> None:
    desk = Desk("server", say=lambda text: None)
    names = ("ca", "cert", "key")
    tls = None if folder is None else server_tls(tuple(folder / f"server-{name}.pem" for name in names))
    transport, place = transport_for("tcp://127.0.0.1:0")
    listener = await transport.listen(place, desk.arrived, tls=tls)
    print(json.dumps({"address": listener.address}), flush=True)
    loop = asyncio.get_running_loop()
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps({"check_ins": desk.checked_in, "cpu_s": time.process_time()}), flush=True)
    await listener.close()


class Wire:
    """A blocking connection that counts its bytes, with TLS inside if there is a context."""

    def __init__(self, address, context, session):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.bytes, self.inside = 0, None
        if context is not None:
            self.into, self.out = ssl.MemoryBIO(), ssl.MemoryBIO()
            self.inside = context.wrap_bio(self.into, self.out, server_hostname=host, session=session)
            self._until(self.inside.do_handshake)

    def _flush(self):
        data = self.out.read()
        if data:
            self.bytes += len(data)
            self.socket.sendall(data)

    def _until(self, step, *what):
        while True:
            try:
                done = step(*what)
            except ssl.SSLWantReadError:
                self._flush()
                data = self.socket.recv(65536)
                self.bytes += len(data)
                if not data:
                    raise ConnectionError("the server hung up") from None
                self.into.write(data)
            else:
                self._flush()
                return done

    def send(self, data):
        if self.inside is not None:
            self._until(self.inside.write, data)
        else:
            self.bytes += len(data)
            self.socket.sendall(data)

    def recv(self):
        if self.inside is not None:
            return self._until(self.inside.read, 65536)
        data = self.socket.recv(65536)
        self.bytes += len(data)
        return data


class Load:
    def __init__(self, address, folder, resume):
        self.address, self.resume = address, resume
        self.contexts = []
        self.count = self.resumed = self.bytes = 0
        self.lock = threading.Lock()
        for number in range(AT_ONCE if folder else 0):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(folder / "server-ca.pem")
            context.load_cert_chain(folder / f"node-{number}.pem", folder / "node-key.pem")
            self.contexts.append(context)

    def check_in(self, number, session):
        """One device's check-in; returns its TLS session."""
        wire = Wire(self.address, self.contexts[number] if self.contexts else None, session)
        with wire.socket:
            packet = b"".join(write(Hello(1, 1, f"node-{number}", os.urandom(16), ABOUT, True)))
            wire.send(MAGIC + struct.pack("<I", len(packet)) + packet)
            data = b""
            while len(data) < 12 or len(data) < 12 + struct.unpack_from("<I", data, 8)[0]:
                data += wire.recv()
            goodbye = read(data[12:])
            assert isinstance(goodbye, Goodbye), goodbye
            assert goodbye.retry_ms, goodbye
            session = wire.inside.session if wire.inside is not None else None
            with self.lock:
                self.count += 1
                self.bytes += wire.bytes
                self.resumed += wire.inside is not None and wire.inside.session_reused
        return session if self.resume else None

    def work(self, number, until):
        session = None
        while time.perf_counter() < until:
            session = self.check_in(number, session)

    def run(self, seconds):
        begun = time.perf_counter()
        threads = [threading.Thread(target=self.work, args=(n, begun + seconds)) for n in range(AT_ONCE)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took = time.perf_counter() - begun
        told = {"count": self.count, "seconds": took, "bytes": self.bytes / self.count, "resumed": self.resumed}
        print(json.dumps(told), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["server", "load"])
    parser.add_argument("address", nargs="?")
    parser.add_argument("seconds", nargs="?", type=float)
    parser.add_argument("--certificates", type=Path)
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    if options.what == "server":
        asyncio.run(serve(options.certificates))
    else:
        Load(options.address, options.certificates, options.resume).run(options.seconds)


if __name__ == "__main__":
    main()
