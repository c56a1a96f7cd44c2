"""Servers and clients of one process, each in its own thread, on a free port of this machine."""

import threading
from concurrent.futures import Future
from queue import Queue

import pytest

import umbel as fl


class Federation:
    """A server in a thread; `clients` are started when it listens, each with the arguments that `more` has for it."""

    def __init__(self, more=lambda name: {}) -> None:
        self._more = more
        self._threads: list[threading.Thread] = []

    def run(self, names, client_fn, *, listen="127.0.0.1:0", check_in=False, **server):
        """The history of a server's run with a client for each name."""
        addresses: Queue[str] = Queue()
        history: Future = Future()
        self.spawn(history, lambda: fl.server.start_server(listen, progress=False, ready=addresses.put, **server))
        scheme = listen.partition("://")[0] + "://" if "://" in listen else ""
        address = scheme + addresses.get(timeout=20)
        clients = [self.client(address, name, client_fn, check_in=check_in) for name in names]
        found = history.result(timeout=60)
        for client in clients:
            client.result(timeout=20)
        return found

    def client(self, address, name, client_fn, **more) -> Future:
        done: Future = Future()
        more = {"client_fn": client_fn, "name": name, "progress": False, **self._more(name), **more}
        self.spawn(done, lambda: fl.client.start_client(address, **more))
        return done

    def spawn(self, future, work) -> None:
        def outcome():
            try:
                future.set_result(work())
            except BaseException as error:
                future.set_exception(error)

        thread = threading.Thread(target=outcome, daemon=True)
        thread.start()
        self._threads.append(thread)


@pytest.fixture
def federation():
    return Federation()
