"""A house behind its real door, in a thread with an event loop of its own: what strangers can reach of a server."""

import asyncio
import http.client
import json
import socket
import threading
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np

import umbel as fl
from umbel.runtimes.app import App
from umbel.runtimes.server import front
from umbel.runtimes.server.api import api
from umbel.runtimes.server.house import House
from umbel.runtimes.server.strangers import Strangers
from umbel.stores import SQLiteStore
from umbel.transports.tls import server_tls

CONFIG = {"num_rounds": 2, "lr": 0.5, "label": "plain", "flag": True, "layers": [1, 2]}


def describe(config):
    plan = fl.ServerConfig(num_rounds=config["num_rounds"], min_available_clients=1)
    return fl.Run(num_clients=1, config=plan, initial_parameters=[np.zeros(2, np.float32)])


def app(run=describe):
    return App(Path("toy"), "toy", lambda context: None, run, "0" * 64, CONFIG)


class OpenHouse:
    """What is at an address, and what it said; `on_loop` does something where the house lives."""

    def __init__(self, folder, *, authority=None, run=describe, patience=None):
        self.said, self.faults = [], []
        self.authority = authority
        self._folder, self._run, self._patience = folder, run, patience
        self.loop = asyncio.new_event_loop()
        self.loop.set_exception_handler(lambda loop, context: self.faults.append(context))
        self._thread = threading.Thread(target=self.loop.run_forever)

    def on_loop(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(timeout=60)

    async def _open(self):
        self.house = House(
            SQLiteStore(self._folder / "runs.db"),
            [app(self._run)],
            name="open",
            say=self.said.append,
            authority=self.authority,
        )
        tls = None
        if self.authority is not None:
            tls = server_tls(self.authority.server_certificates(), clients=False).server_context()
        self.strangers = Strangers(api(self.house, self.authority), self._patience)
        self.door, self.address = await front.listen("127.0.0.1:0", self.house.desk.arrived, self.strangers, tls=tls)

    async def _close(self):
        self.door.close()
        await self.house.close()
        await self.strangers.farewell()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    def ask(self, verb, path, body=None, *, context=None, headers=None):
        """(status, JSON or bytes) of one request."""
        host, port = self.address.split(":")
        kind = http.client.HTTPConnection if context is None else http.client.HTTPSConnection
        more = {} if context is None else {"context": context}
        with closing(kind(host, int(port), timeout=30, **more)) as connection:
            data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
            connection.request(verb, path, data, headers or {})
            answer = connection.getresponse()
            raw = answer.read()
            if answer.getheader("content-type") == "application/json":
                return answer.status, json.loads(raw)
            return answer.status, raw

    def socket(self):
        host, port = self.address.split(":")
        return socket.create_connection((host, int(port)), timeout=30)

    def __enter__(self):
        self._thread.start()
        self.on_loop(self._open())
        return self

    def __exit__(self, *why):
        self.on_loop(self._close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@contextmanager
def node(house, **hello):
    """What a node hears that says this hello: packets, as they come."""
    from umbel.transports import transport_for
    from umbel.wire.packets import Hello, read, write

    class Ear:
        def __init__(self):
            self.heard, self.bell = [], threading.Condition()

        def packet(self, data):
            with self.bell:
                self.heard.append(read(bytes(data)))
                self.bell.notify_all()

        def writable(self):
            pass

        def closed(self, reason):
            pass

        def hears(self, kind):
            with self.bell:
                assert self.bell.wait_for(lambda: any(isinstance(p, kind) for p in self.heard), timeout=30), self.heard
                return next(p for p in self.heard if isinstance(p, kind))

    async def begin():
        transport, place = transport_for(house.address)
        link = await transport.connect(place)
        link.start(ear)
        link.write(write(Hello(1, 1, **hello)))
        return link

    ear = Ear()
    link = house.on_loop(begin())
    yield ear
    house.loop.call_soon_threadsafe(link.abort)
