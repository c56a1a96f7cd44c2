"""`start_client` and `start_numpy_client`: a script's client on a real server."""

from __future__ import annotations

import asyncio
import os
import queue
import secrets
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor, Future
from typing import Any, TypeVar, final

from umbel.clients import as_client
from umbel.coordinators.where import checked_attributes
from umbel.errors import ConfigError
from umbel.message import Context
from umbel.runtimes.matching import versions
from umbel.runtimes.node.agent import Agent, Identity
from umbel.runtimes.node.gate import reporter
from umbel.runtimes.node.keep import MemoryKeeper
from umbel.runtimes.node.numbers import check_numbers
from umbel.runtimes.node.worker import LocalWorker
from umbel.transports import InTurn, Link
from umbel.transports.tls import Certificates, Pem, client_tls

Result = TypeVar("Result")


def start_client(
    server_address: str = "127.0.0.1:8080",
    client: Any = None,
    *,
    client_fn: Callable[..., Any] | None = None,
    name: str | None = None,
    partition: int | None = None,
    root_certificates: Pem | None = None,
    certificates: Certificates | None = None,
    threads: int | None = None,
    attributes: Mapping[str, Any] | None = None,
    give_up_s: float | None = None,
    check_in: bool = False,
    progress: bool = True,
) -> None:
    """Take part in a server's run until it has finished.

    May be called before the server is there: it tries again until it is, and after every interruption. User code runs
    in this thread; the connection lives in another, so that a long training loses no heartbeat.

    Args:
        server_address: "host:port"; several with commas between them are tried in turn (a server and its standby).
        client: a `NumPyClient`, `Client`, `TorchClient`, `SklearnClient` or any object with `fit` or `evaluate`.
        client_fn: builds a client when it is asked, as in `simulate`, instead of `client`.
        name: the client's id, which stays the same over restarts; by default host and process.
        partition: `context.partition_id`, at least 0; by default what `name` says if it is a number, else 0.
        root_certificates: the CA whose certificate the server has to show, as a PEM file or bytes: TLS.
        certificates: (CA, certificate, key): TLS, and this client shows who it is.
        threads: threads for NumPy and torch, at least 1; None leaves them as they are.
        attributes: what this client says of itself, for runs that ask where something holds: names and values such as
            {"gpu": True, "region": "eu"}.
        give_up_s: how long to try before the first contact; None tries for ever.
        check_in: connect for a moment, take a task or come back when the server says; for devices that are online now
            and then, in runs with `ServerConfig(arrivals=True)`. Others have nothing for such a client.
        progress: print what goes on.

    Raises:
        ConfigError: an argument is wrong.
        LinkError: the server will not have this client, or was not found within `give_up_s`.
    """
    check_numbers(partition=partition, threads=threads)
    build = _client_fn(client, client_fn)
    about = {"versions": versions(), "attributes": checked_attributes(attributes or {})}
    own = name or f"{socket.gethostname()}-{os.getpid()}"
    server = InTurn(server_address)
    tls = None
    if certificates is not None or root_certificates is not None:
        ca, certificate, key = certificates or (root_certificates, None, None)
        assert ca is not None
        tls = client_tls(ca, certificate, key)

    async def connect() -> Link:
        return await server.connect(tls)

    executor = ThisThread()
    say = _printed if progress else _silent
    reports = reporter(None) if check_in else None
    agent = _agent(connect, build, (own, about), partition, threads, executor, say, reports)
    executor.run(lambda: agent(give_up_s))


def start_numpy_client(server_address: str = "127.0.0.1:8080", client: Any = None, **more: Any) -> None:
    """`start_client`, under the name that scripts know."""
    start_client(server_address, client, **more)


def _client_fn(client: Any, client_fn: Callable[..., Any] | None) -> Callable[..., Any]:
    if (client is None) == (client_fn is None):
        raise ConfigError("give either client=... (an object) or client_fn=... (a function that builds one)")
    if client_fn is not None:
        return client_fn
    as_client(client)  # one that can do nothing is refused here, not by the server

    def the_one(context: Context) -> Any:
        return client

    return the_one


def _agent(
    connect: Callable[[], Awaitable[Link]],
    build: Callable[..., Any],
    who: tuple[str, Mapping[str, Any]],
    partition: int | None,
    threads: int | None,
    executor: Executor,
    say: Callable[[str], None],
    check_in: Callable[[], Awaitable[Mapping[str, Any]]] | None,
) -> Callable[[float | None], Awaitable[str]]:
    name, about = who

    async def live(give_up_s: float | None) -> str:
        worker = LocalWorker(build, executor, name, partition=partition, threads=threads)
        identity = Identity(name, secrets.token_bytes(16), about)
        agent = Agent(connect, identity, worker, MemoryKeeper(), say=say, check_in=check_in)
        reason = await agent.run(give_up_s=give_up_s)
        say(reason)
        return reason

    return live


def _printed(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _silent(text: str) -> None:
    return None


@final
class ThisThread(Executor):
    """Runs what is submitted in the thread that calls `run`, while an event loop lives in another one."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        future: Future[Result] = Future()
        self._jobs.put((future, lambda: fn(*args, **kwargs)))
        return future

    def run(self, main: Callable[[], Awaitable[Result]]) -> Result:
        """Run `main` in an event loop of its own, and the jobs here, until `main` is done."""
        outcome: Future[Result] = Future()
        stop: list[Callable[[], None]] = []

        async def whole() -> None:
            loop, task = asyncio.get_running_loop(), asyncio.ensure_future(main())
            stop.append(lambda: loop.call_soon_threadsafe(task.cancel) and None)
            try:
                outcome.set_result(await task)
            except BaseException as error:
                outcome.set_exception(error)
            finally:
                self._jobs.put(None)

        thread = threading.Thread(target=lambda: asyncio.run(whole()), name="umbel-link", daemon=True)
        thread.start()
        try:
            self._work()
        except KeyboardInterrupt:
            for cancel in stop:
                cancel()
            raise
        finally:
            thread.join(5)
        return outcome.result()

    def _work(self) -> None:
        while True:
            # A wait without an end would not let Ctrl-C through on every system.
            try:
                job = self._jobs.get(timeout=0.5)
            except queue.Empty:
                continue
            if job is None:
                return
            future, work = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                future.set_result(work())
            except KeyboardInterrupt:
                future.cancel()
                raise
            except BaseException as error:
                future.set_exception(error)
