"""`simulate`: a whole federation in one process or on the cores of one machine."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, TypeAlias

from umbel.arrays import Arrays, ArraysLike, is_numbered
from umbel.coordinators import Everyone, Rounds, ServerConfig
from umbel.errors import ConfigError, NotSupported, StoreError, UmbelError
from umbel.local import LocalClient, StepClient
from umbel.message import Ask, Context, Task
from umbel.plan import FORMAT, check_same, describe
from umbel.runtimes import checkpoint
from umbel.runtimes.engine import Engine
from umbel.runtimes.history import History
from umbel.runtimes.pool import PoolEngine
from umbel.runtimes.program import ClientFn, Program
from umbel.runtimes.progress import plain_progress
from umbel.runtimes.serial import SerialEngine
from umbel.runtimes.session import Hooks, Observer, Session
from umbel.runtimes.turn import sentence
from umbel.stores import MemoryStore, RunInfo, SQLiteStore, Store
from umbel.strategies import FedAvg
from umbel.strategy import Strategy

EngineName: TypeAlias = Literal["auto", "serial", "pool"]
PROBES = 3


def simulate(
    client_fn: ClientFn,
    num_clients: int,
    *,
    strategy: Strategy | None = None,
    config: ServerConfig | None = None,
    initial_parameters: ArraysLike | None = None,
    evaluate_fn: Callable[..., Any] | None = None,
    on_fit_config_fn: Callable[[int], Mapping[str, Any]] | None = None,
    on_evaluate_config_fn: Callable[[int], Mapping[str, Any]] | None = None,
    engine: EngineName | str = "auto",
    workers: int | None = None,
    threads: int = 1,
    device: str = "cpu",
    settings: Mapping[str, Any] | None = None,
    store: Store | str | Path | None = None,
    resume: str | None = None,
    name: str = "simulation",
    app: Mapping[str, Any] | None = None,
    progress: bool | None = None,
    observers: Sequence[Observer] = (),
) -> History:
    """Train one model on `num_clients` clients that never show their data.

    Args:
        client_fn: builds a client when it is asked: `client_fn(context)`; it is dropped after its turn.
        num_clients: how many partitions there are, at least 1.
        strategy: default `FedAvg()`.
        config: default `ServerConfig()`.
        initial_parameters: a list or mapping of arrays; None asks a client.
        evaluate_fn: central evaluation, `(server_round, parameters, config) → (loss, metrics)` or None.
        on_fit_config_fn, on_evaluate_config_fn: `(server_round) → dict` for the clients' `config`.
        engine: "serial" plays one client after the other here, "pool" uses one single-threaded worker per core,
            "auto" chooses. All give the same bits.
        workers: processes of the pool; None takes one per core.
        threads: threads that each client may use; equal bits need equal threads.
        device: a torch device name for `context.device`.
        settings: the app's plain settings, for `context.config`.
        store: where events and checkpoints go: a path of an SQLite file, or a store. None keeps them in memory.
        resume: id (or its beginning) of a run in `store` to continue.
        name: the run's name in lists.
        app: what names the app in the plan; a plan without one is marked as not portable.
        progress: print a line per round; None does so only on a terminal.
        observers: called with every event.

    Returns:
        The history; after Ctrl-C that of the finished rounds, with `ended == "interrupted"`.

    Raises:
        ConfigError: an argument is wrong, or the parts cannot work together.
        TooFewClients: a round had too few answers.
        StoreError: the run cannot be kept, or not be resumed.

    Example:
        >>> import numpy as np
        >>> import umbel as fl
        >>> class Mean(fl.NumPyClient):
        ...     def __init__(self, value): self.value = value
        ...     def fit(self, parameters, config): return [np.array([self.value])], 1, {}
        >>> history = fl.simulate(lambda context: Mean(float(context.partition_id)), 3, initial_parameters=[[0.0]],
        ...                       engine="serial", progress=False)
        >>> history.parameters["0"]
        array([1.])
    """
    if not isinstance(num_clients, int) or num_clients < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"num_clients must be a whole number of at least 1, got {num_clients!r}")
    if not callable(client_fn):
        raise ConfigError(f"client_fn must be a function that builds a client, got {type(client_fn).__name__}")
    strategy = strategy or FedAvg()
    _check_strategy(strategy)
    config = config or ServerConfig()
    kept = _store(store)
    info = _find(kept, resume)
    seed = config.seed if config.seed is not None else info.plan["config"]["seed"] if info else secrets.randbits(63)
    config = replace(config, seed=seed)
    program = Program(
        client_fn, strategy, seed, num_clients, dict(settings or {}), device, threads, config.per_client_metrics
    )
    plan = _plan(program, config, app)
    watching = [*observers, *([plain_progress()] if progress or (progress is None and _on_terminal()) else [])]
    if info is not None:
        check_same(info.plan, plan)
    else:
        plan["engine"] = _choose(engine, workers, config, num_clients)
    choice = plan["engine"] if info is None else _choose(engine, workers, config, num_clients)
    coordinator = Rounds(config, Everyone(num_clients))
    hooks = Hooks(evaluate_fn, on_fit_config_fn, on_evaluate_config_fn)
    start, notes = _start(program, initial_parameters, kept, info, coordinator)
    run = info.id if info is not None else _new_run(kept, name, plan)
    players = _engine(choice, program, config)
    session = Session(run, strategy, coordinator, players, kept, start, hooks, watching)
    try:
        for note in notes:
            session.note(note)
        if info is None:
            session.begin()
        else:
            kept.set_status(run, "running")
        ended = session.drive()
    finally:
        players.close()
    history = History.of(kept.events(run), session.state.params, run, plan)
    if isinstance(store, (str, Path)):
        kept.close()
    return replace(history, ended=ended)


def _check_strategy(strategy: object) -> None:
    if not isinstance(strategy, Strategy):
        raise ConfigError(f"strategy must be a Strategy such as FedAvg(), got {strategy!r}")


def _store(store: Store | str | Path | None) -> Store:
    if store is None:
        return MemoryStore()
    return store if isinstance(store, Store) else SQLiteStore(store)


def _find(store: Store, resume: str | None) -> RunInfo | None:
    if resume is None:
        return None
    info = store.find(resume)
    if info is None:
        ids = ", ".join(run.id for run in store.runs()[-5:]) or "no run at all"
        raise StoreError(f"the store has no single run {resume!r} to resume; it has {ids}")
    return info


def _plan(program: Program, config: ServerConfig, app: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "app": None if app is None else dict(app),
        "portable": app is not None,
        "strategy": describe(program.strategy),
        "config": describe(config),
        "num_clients": program.num_clients,
        "settings": describe(program.config),
        "threads": program.threads,
    }


def _on_terminal() -> bool:
    import sys

    return sys.stdout is not None and sys.stdout.isatty()  # pyright: ignore[reportUnnecessaryComparison]


def _choose(engine: str, workers: int | None, config: ServerConfig, num_clients: int) -> dict[str, Any]:
    """The engine with its number of workers, as the log keeps it."""
    if engine not in ("auto", "serial", "pool"):
        raise ConfigError(f'engine must be "auto", "serial" or "pool", got {engine!r}')
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1 or None, got {workers}")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cohort = max(1, round(config.fraction_fit * num_clients), config.min_fit_clients)
    if engine == "auto":
        engine = "pool" if (workers or cores) > 1 and cohort > 1 and hasattr(os, "fork") else "serial"
    return {"name": engine, "workers": 1 if engine == "serial" else workers or cores}


def _engine(choice: Mapping[str, Any], program: Program, config: ServerConfig) -> Engine:
    if choice["name"] == "serial":
        return SerialEngine(program, client_timeout=config.client_timeout)
    return PoolEngine(program, workers=choice["workers"], client_timeout=config.client_timeout)


def _start(
    program: Program, given: ArraysLike | None, store: Store, info: RunInfo | None, coordinator: Rounds
) -> tuple[Any, list[str]]:
    if info is not None:
        round, state, coordination, sentences = checkpoint.latest(store, info.id)
        coordinator.restore(coordination)
        store.rewind(info.id, round)
        return state, sentences
    client, ctx = _probe(program)
    params = _named_like(client, ctx, Arrays.of(given)) if given is not None else client.parameters(ctx)
    if not len(params):
        raise ConfigError("the initial parameters are empty; a model has at least one array")
    return program.strategy.init(params), []


def _named_like(client: LocalClient, ctx: Context, given: Arrays) -> Arrays:
    """The given parameters with the names and roles that an open client's model has."""
    if not isinstance(client, StepClient):
        return given
    own = client.parameters(ctx).schema
    if is_numbered(list(given)) and len(given) == len(own):
        given = Arrays.of(dict(zip(own.by_name, given.values(), strict=True)))
    if given.keys() != own.by_name.keys():
        differing = next(iter(given.keys() ^ own.by_name.keys()))
        raise ConfigError(f"initial_parameters and the client's model differ in the array {differing!r}")
    ordered = {spec.name: given[spec.name] for spec in own.specs}
    return Arrays.of(ordered, roles={spec.name: spec.role for spec in own.specs})


def _probe(program: Program) -> tuple[LocalClient, Context]:
    """Build one client, to see what it can and perhaps to ask for its parameters.

    Raises:
        ConfigError: none of the first clients can be built, or such clients do not suit the strategy.
    """
    problem: Exception | None = None
    for index in range(min(PROBES, program.num_clients)):
        ask = Ask(str(index), "properties", Task(0, Arrays.of({})))
        ctx = program.context(ask, None)
        try:
            client = program.build(ctx)
        except UmbelError:
            raise
        except Exception as error:
            problem = error
            continue
        _check_capable(program.strategy, client)
        return client, ctx
    assert problem is not None
    raise ConfigError(f"client_fn cannot build client 0: {sentence(problem)}") from problem


def _check_capable(strategy: Strategy, client: LocalClient) -> None:
    name = type(getattr(client, "user", client)).__name__
    missing = strategy.needs - client.capabilities
    corrected = strategy.corrects
    if corrected is not None and "inside" not in client.capabilities and corrected not in client.corrections:
        missing = missing | {"inside"}
    if "inside" in missing:
        raise NotSupported(
            f"{type(strategy).__name__} reaches inside the training loop, which a {name} keeps closed; use TorchClient "
            f"or GradientClient, or FedAvg"
            + (f', or apply the correction yourself and declare corrections = ("{corrected}",)' if corrected else "")
        )
    if missing:
        raise NotSupported(
            f"{type(strategy).__name__} needs clients that can {', '.join(sorted(missing))}; {name} cannot"
        )


def _new_run(store: Store, name: str, plan: Mapping[str, Any]) -> str:
    run = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    store.create(RunInfo(run, name, time.time(), "running", plan))
    return run
