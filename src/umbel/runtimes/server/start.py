"""`start_server`: one run over real nodes, led from a script."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeAlias

from umbel.arrays import ArraysLike
from umbel.coordinators import Overlap, Secure, ServerConfig
from umbel.errors import UmbelError
from umbel.privacy.plan import PrivacyPlan
from umbel.runtimes import keeping
from umbel.runtimes.history import History
from umbel.runtimes.progress import plain_progress
from umbel.runtimes.routed import Routed, once, settled
from umbel.runtimes.server.conduct import Conduct, Order
from umbel.runtimes.server.desk import Desk
from umbel.runtimes.server.doors import open_doors
from umbel.runtimes.server.lead import Leader
from umbel.runtimes.server.memory import Memory, memory_for
from umbel.runtimes.session import Hooks, Observer
from umbel.stores import Store
from umbel.strategy import Strategy
from umbel.transports.tls import Certificates

FIRST_REMINDER_S, REMINDER_S = 1.0, 10.0
LINGER_S = 5.0
Say: TypeAlias = Callable[[str], None]


def start_server(
    server_address: str = "0.0.0.0:8080",
    config: ServerConfig | None = None,
    strategy: Strategy | Routed | None = None,
    *,
    coordinator: Overlap | Secure | None = None,
    privacy: PrivacyPlan | None = None,
    initial_parameters: ArraysLike | None = None,
    evaluate_fn: Callable[..., Any] | None = None,
    on_fit_config_fn: Callable[[int], Mapping[str, Any]] | None = None,
    on_evaluate_config_fn: Callable[[int], Mapping[str, Any]] | None = None,
    fit_metrics_aggregation_fn: Callable[..., Mapping[str, float]] | None = None,
    evaluate_metrics_aggregation_fn: Callable[..., Mapping[str, float]] | None = None,
    certificates: Certificates | None = None,
    flower: str | Literal[False] | None = None,
    spool: bool = False,
    memory_gb: float | None = None,
    compress: str | None = None,
    store: Store | str | Path | None = None,
    resume: str | None = None,
    name: str = "server",
    progress: bool = True,
    observers: Sequence[Observer] = (),
    ready: Callable[[str], None] | None = None,
) -> History:
    """Lead one run over the nodes that connect, then let them go.

    Waits for `min_available_clients` (2 unless the config says otherwise), asks one of them for its parameters if none
    are given, and runs all rounds. Nodes may come before the server and reconnect at any time; a round goes on as the
    config's quorum, over-selection and `round_timeout` say.

    Args:
        server_address: "host:port"; port 0 takes a free one.
        config, strategy, initial_parameters, evaluate_fn, on_…_config_fn, …_aggregation_fn: as in `simulate`.
        coordinator: `Buffered(...)` or `FedAsync(...)` for an asynchronous run, in which `config.num_rounds` counts the
            server's steps, `Tiered(...)` for rounds by speed; `Secure(...)` for rounds that show the server sums
            only; None is rounds. Fewer nodes than `concurrency` do.
        privacy: the differential privacy that the run promises, with `sampling="every"`; None promises none.
        certificates: (CA, certificate, key) as PEM files or bytes: TLS, and nodes must show a certificate of the CA.
            None is plaintext, with a warning where others could listen.
        flower: "host:port" at which clients written for Flower may come, too. At a `grpc://` address in plaintext they
            are understood anyway, unless this is False.
        spool: keep updates on disk, encrypted with keys in memory, instead of in memory.
        memory_gb: how much a round's sums and uploads may take; a round that needs more is spooled, or refused. None is
            most of what the machine has.
        compress: "zstd" packs models and updates, for nodes that have zstandard as well (extra `zstd`). Float weights
            shrink by a tenth and cost processor time; sparse and quantised ones shrink much. None packs nothing.
        store: where events and checkpoints go: a path of an SQLite file, or a store. None keeps them in memory.
        resume: id (or its beginning) of a run in `store` to go on with, or "last".
        name: the run's name in lists.
        progress: print what goes on.
        observers: called with every event.
        ready: called with the address once nodes can connect, and then with that of `flower` if there is one.

    Returns:
        The history; after Ctrl-C that of the finished rounds, with `ended == "interrupted"`.

    Raises:
        ConfigError: an argument is wrong, or the parts cannot work together.
        LinkError: the address cannot be listened at.
        TooFewClients: a round had too few answers.
        StoreError: the run cannot be kept, or not be resumed.
    """
    strategy, config, given = settled(strategy, config)
    order = Order(
        strategy=strategy,
        config=config,
        coordinator=coordinator,
        privacy=privacy,
        hooks=Hooks(
            evaluate_fn=once("evaluate_fn", evaluate_fn, given),
            on_fit_config_fn=once("on_fit_config_fn", on_fit_config_fn, given),
            on_evaluate_config_fn=once("on_evaluate_config_fn", on_evaluate_config_fn, given),
            fit_metrics=once("fit_metrics_aggregation_fn", fit_metrics_aggregation_fn, given),
            evaluate_metrics=once("evaluate_metrics_aggregation_fn", evaluate_metrics_aggregation_fn, given),
        ),
        initial=once("initial_parameters", initial_parameters, given),
        name=name,
        resume=resume,
        observers=[*observers, *([plain_progress()] if progress else [])],
    )
    say, memory = _printed if progress else _silent, memory_for(memory_gb, spool=spool)
    kept = keeping.store_at(store)
    try:
        history = _run(
            lambda: _serve(order, kept, (server_address, flower), certificates, (memory, compress), say, ready)
        )
    finally:
        if kept is not store:
            kept.close()
    if progress:
        _printed(f"\n{history}")
    return history


def _printed(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _silent(text: str) -> None:
    return None


def _run(serve: Callable[[], Coroutine[Any, Any, History]]) -> History:
    """In this thread; in one of its own where an event loop runs already (a notebook)."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(serve())
    with ThreadPoolExecutor(1, "umbel-server") as pool:
        return pool.submit(lambda: asyncio.run(serve())).result()


async def _serve(
    order: Order,
    store: Store,
    addresses: tuple[str, str | Literal[False] | None],
    certificates: Certificates | None,
    means: tuple[Memory, str | None],
    say: Say,
    ready: Callable[[str], None] | None,
) -> History:
    loop, executor = asyncio.get_running_loop(), ThreadPoolExecutor(1, "umbel-run")
    memory, compress = means
    desk = Desk(socket.gethostname(), say=say, compress=compress)
    conduct = Conduct(
        order, store, desk, offload=lambda work: loop.run_in_executor(executor, work), say=say, memory=memory
    )
    doors = await open_doors(desk, *addresses, certificates)
    if ready is not None:
        for address in doors.addresses:
            ready(address)
    doors.announce(say)
    reminder = asyncio.ensure_future(_remind(say, conduct))
    restore = _on_interrupt(conduct.leader)
    reason = "the server was stopped"
    # Devices that are away hear of the end when they come back.
    linger_s = LINGER_S + (2 * (order.config.round_timeout or 0.0) if order.config.arrivals else 0.0)
    try:
        history = await conduct.drive()
        reason = f"the run ended: {history.ended}"
        return history
    except UmbelError as error:
        reason = f"the run failed: {error}"
        raise
    finally:
        restore()
        reminder.cancel()
        await desk.close(reason, finished=True, linger_s=linger_s)
        await doors.close()
        executor.shutdown(wait=False, cancel_futures=True)


async def _remind(say: Say, conduct: Conduct) -> None:
    """Say what is waited for while there are too few clients."""
    if conduct.config.arrivals:
        return
    nodes, wanted = conduct.nodes, conduct.config.min_available_clients or 1
    await asyncio.sleep(FIRST_REMINDER_S)
    while True:
        if nodes.size < wanted:
            match = f" {conduct.are_what}" if conduct.config.where else ""
            say(
                f"waiting for clients: {nodes.size} of {wanted}{match}, start another, or set "
                f"min_available_clients={max(nodes.size, 1)}"
            )
        await asyncio.sleep(REMINDER_S)


def _on_interrupt(leader: Leader) -> Callable[[], None]:
    """Let Ctrl-C end the run after the step under way; a second one breaks off. Returns the way back."""
    if threading.current_thread() is not threading.main_thread():
        return lambda: None
    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)

    def stop() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        leader.stop("interrupted")

    try:
        loop.add_signal_handler(signal.SIGINT, stop)
    except (NotImplementedError, RuntimeError):
        return lambda: None

    def restore() -> None:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)

    return restore
