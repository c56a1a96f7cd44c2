"""`simulate`: a whole federation in one process or on the cores of one machine."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

from umbel.arrays import Arrays, ArraysLike
from umbel.coordinators import Overlap, Secure, ServerConfig
from umbel.coordinators.config import LARGEST
from umbel.errors import ConfigError
from umbel.local_client import LocalClient
from umbel.message import Context
from umbel.plan import FORMAT, describe
from umbel.privacy.plan import PrivacyPlan
from umbel.privacy.promised import Promised
from umbel.runtimes import choose, devices, enough, keeping, probe, trial
from umbel.runtimes.budget import Budget
from umbel.runtimes.cluster import Cluster
from umbel.runtimes.engine import Engine
from umbel.runtimes.history import History, RoundRecord
from umbel.runtimes.matching import AttributesFn, check_counted, checked_without, noted, population
from umbel.runtimes.players import VirtualPlayers
from umbel.runtimes.privately import Parts
from umbel.runtimes.program import ClientFn, Program
from umbel.runtimes.progress import plain_progress
from umbel.runtimes.routed import Routed, once, settled
from umbel.runtimes.session import Hooks, Observer, Session, check_observers
from umbel.runtimes.simulated import Course, check_simulated
from umbel.runtimes.stopping import check_stopping
from umbel.runtimes.system import SystemModel
from umbel.stores import RunInfo, Store
from umbel.strategy import Strategy

LINEAGE = ("without", "origin")
"""What a plan keeps when its run goes on: who is left out, and from which run it came."""


def simulate(
    client_fn: ClientFn,
    num_clients: int,
    *,
    strategy: Strategy | Routed | None = None,
    config: ServerConfig | None = None,
    initial_parameters: ArraysLike | None = None,
    evaluate_fn: Callable[..., Any] | None = None,
    on_fit_config_fn: Callable[[int], Mapping[str, Any]] | None = None,
    on_evaluate_config_fn: Callable[[int], Mapping[str, Any]] | None = None,
    attributes: AttributesFn | None = None,
    without: Collection[str] = (),
    system: SystemModel | None = None,
    coordinator: Overlap | Secure | None = None,
    privacy: PrivacyPlan | None = None,
    fit_metrics_aggregation_fn: Callable[..., Mapping[str, float]] | None = None,
    evaluate_metrics_aggregation_fn: Callable[..., Mapping[str, float]] | None = None,
    stop_when: Callable[[RoundRecord], bool] | None = None,
    engine: str = "auto",
    workers: int | None = None,
    block: int | None = None,
    cluster: Cluster | None = None,
    threads: int = 1,
    device: str | Sequence[str] = "cpu",
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
        evaluate_fn: central evaluation, `(server_round, parameters, config) → (loss, metrics)` or None. With worker
            processes it may run while the next round's clients train, unless one of the functions below, `target`,
            `patience` or `client_timeout` is given.
        on_fit_config_fn, on_evaluate_config_fn: `(server_round) → dict` for the clients' `config`.
        attributes: what each client says of itself, `(client_id) → dict`, for the config's `where`; ids are "0", "1", …
        without: ids of clients that are not there, as if they never had been; a run that goes on stays without those
            that it was without.
        system: how fast clients are and when they are there; None has no time.
        coordinator: `Buffered(...)` or `FedAsync(...)` for an asynchronous run, in which `config.num_rounds` counts the
            server's steps, `Tiered(...)` for rounds by speed, which need `system`; `Secure(...)` for rounds that show
            the server sums only; None is rounds.
        privacy: the differential privacy that the run promises; None promises none.
        fit_metrics_aggregation_fn, evaluate_metrics_aggregation_fn: `[(num_examples, metrics), …] → metrics`, in the
            place of means weighted by examples.
        stop_when: asked after each round, with its record, whether the run is to end there; `ended` is then "stopped".
            Under `privacy` the record has the round, its loss and its metrics alone, and nothing of who answered.
        engine: "serial" plays one client after the other here, "pool" uses one single-threaded worker per core, "ray" a
            pool on each node of a cluster; all give the same bits. "vmap" trains clients in blocks, each step of a
            block one batched computation, here or in workers; it gives the same bits as itself and those of the others
            but for rounding (1e-4). "auto" takes "vmap" where a trial shows that it is faster, else "pool" or "serial";
            the run's plan says what it took.
        workers: processes of the pool, on each node of a cluster; None takes one per core.
        block: how many clients "vmap" trains together, at least 2; None takes what suits the model, the cohort and the
            machine's cores, and equal bits need equal blocks.
        cluster: which cluster "ray" uses; None starts one on this machine.
        threads: threads that each client may use; equal bits need equal threads.
        device: a torch device name for `context.device`, or several, which the workers take in turn. Where it is not
            "cpu" the memory that clients need there is estimated, said and, where it can be seen that it is not free,
            refused before the first round.
        settings: the app's plain settings, for `context.config`.
        store: where events and checkpoints go: a path of an SQLite file, or a store. None is `MemoryStore()`.
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
    strategy, config, given = settled(strategy, config)
    hooks = Hooks(
        evaluate_fn=once("evaluate_fn", evaluate_fn, given),
        on_fit_config_fn=once("on_fit_config_fn", on_fit_config_fn, given),
        on_evaluate_config_fn=once("on_evaluate_config_fn", on_evaluate_config_fn, given),
        fit_metrics=once("fit_metrics_aggregation_fn", fit_metrics_aggregation_fn, given),
        evaluate_metrics=once("evaluate_metrics_aggregation_fn", evaluate_metrics_aggregation_fn, given),
        stop_when=stop_when,
    )
    initial_parameters = once("initial_parameters", initial_parameters, given)
    _check_arguments(client_fn, num_clients, threads, stop_when)
    check_observers(observers)
    keeping.check_name(name)
    names = devices.named(device)
    at_once: int | None = getattr(coordinator, "buffer_size", None)
    # Refuses what cannot be, before anything is opened.
    if isinstance(coordinator, Secure):
        check_simulated(coordinator, config, system=system, engine=engine, per_client=hooks.per_client)
    choose.choose(engine, workers, config, num_clients, cluster, at_once=at_once, block=block)
    kept, led, started = keeping.store_at(store), None, None
    try:
        info = keeping.found(kept, resume)
        if config.seed is None:
            config = replace(config, seed=info.plan["config"]["seed"] if info else secrets.randbits(53))
        assert config.seed is not None
        lineage: dict[str, Any] = {key: info.plan[key] for key in LINEAGE if key in info.plan} if info else {}
        absent = checked_without(without, num_clients, lineage.get("without", ()))
        asked = population(config, num_clients, attributes, absent)
        if privacy is not None:
            check_counted(asked)
            parts = Parts(strategy, config, coordinator).under(
                privacy,
                asked.size,
                has_model=initial_parameters is not None,
                system=system,
                per_client=hooks.per_client,
            )
            strategy, config, coordinator = parts.strategy, parts.config, parts.coordinator
            assert config.seed is not None
        named = config.per_client_metrics or hooks.per_client
        hears = config.selector.hears
        program = Program(
            client_fn, strategy, config.seed, num_clients, _plain(settings), names[0], threads, named, hears=hears
        )
        program = program if len(names) == 1 else replace(program, devices=names)
        client, ctx = probe.probe(program, asked.first(probe.PROBES))
        if engine != "ray":
            # What nodes of a cluster have is not seen from here.
            devices.check_there([*names, *([client.own_device] if client.own_device else [])])
        check_stopping(config, central=hooks.evaluate_fn is not None, clients="evaluate" in client.capabilities)
        course = Course.of(strategy, config, asked, system, coordinator)
        played = replace(program, strategy=course.clients(strategy))
        initial = cache(lambda: probe.initial(client, ctx, initial_parameters))
        verdict = trial.Verdict(False)
        if engine == "auto" and info is None and config.client_timeout is None:
            turns = config.num_rounds * choose.cohort_size(config, num_clients, at_once)
            if trial.is_worth(program, client, turns):
                verdict = trial.tried(program, asked.first(trial.MEMBERS), initial())
                engine = "vmap" if verdict.pays else engine
        model_bytes = initial().nbytes if engine == "vmap" and info is None else 1
        choice = choice_of(engine, workers, program, config, info, at_once, block, model_bytes)
        lineage |= {"without": list(absent)} if absent else {}
        plan = {**_plan(program, config, app), **course.plan, **lineage, "engine": choice}
        quiet = names == ("cpu",) or choice["name"] == "ray"
        said = (
            [] if quiet else devices.check_memory(client.footprint(), names, choice["workers"], choice.get("block", 1))
        )
        started = choose.start(choice, played, config, cluster)
        # Before anything is written down: a cluster that is not there leaves no failed run.
        started.prepare()
        session = _session(program, course, plan, kept, info, name, initial, hooks, client, ctx)
        crowds = enough.crowds(config, asked.size, at_once) if session.evaluates else []
        noted_here = [*noted(asked, config), *crowds, *verdict.notes, *said, *course.notes(num_clients)]
        session.notes = [*session.notes, *noted_here]
        session.giver = ctx.client if initial_parameters is None else None
        led = session.run
        wanted = _on_terminal() if progress is None else progress
        if isinstance(strategy, Promised):
            session.budget = Budget.of(strategy, kept.log(session.run), config.num_rounds)
        session.observers = [*observers, *([plain_progress()] if wanted else [])]
        ended = _driven(session, started, course)
        history = History.of(kept.log(session.run), session.state.params, session.run, plan)
    finally:
        if started is not None:
            started.close()
        if led is not None:
            kept.release(led)
        if kept is not store:
            kept.close()
    return replace(history, ended=ended)


def _check_arguments(client_fn: object, num_clients: object, threads: object, stop_when: object) -> None:
    for name, value in (("num_clients", num_clients), ("threads", threads)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{name} must be a whole number of at least 1, got {value!r}")
    if isinstance(num_clients, int) and num_clients > LARGEST:
        raise ConfigError(
            f"num_clients must be at most {LARGEST}, got {num_clients}; take as many as there are data for"
        )
    if not callable(client_fn):
        raise ConfigError(f"client_fn must be a function that builds a client, got {type(client_fn).__name__}")
    if stop_when is not None and not callable(stop_when):
        raise ConfigError(f"stop_when must be a function of a round's record, got {stop_when!r}")


def _plain(settings: object) -> dict[str, Any]:
    """The app's settings.

    Raises:
        ConfigError: they are no mapping.
    """
    if settings is not None and not isinstance(settings, Mapping):
        raise ConfigError(f'settings must map names to plain values, got {settings!r}; try settings={{"lr": 0.1}}')
    return dict(cast("Mapping[str, Any]", settings or {}))


def choice_of(
    engine: str,
    workers: int | None,
    program: Program,
    config: ServerConfig,
    info: RunInfo | None,
    at_once: int | None,
    block: int | None,
    model_bytes: int,
) -> Mapping[str, Any]:
    """The engine that is taken: for a run that goes on, with the blocks that it had."""
    stored: Mapping[str, Any] | None = None if info is None else info.plan.get("engine") or {}
    if engine == "auto" and stored is not None and stored.get("block", 1) > 1:
        engine = "vmap"
    choice = choose.choose(
        engine, workers, config, program.num_clients, at_once=at_once, block=block, model_bytes=model_bytes
    )
    return choice if stored is None else choose.resumed(engine, choice, stored, block)


def _driven(session: Session, engine: Engine, course: Course) -> str:
    progress = session.progress if session.observers else None
    virtual = VirtualPlayers(engine, session.store, session.run, say=session.say, progress=progress)
    session.players = course.players(virtual, session.strategy)
    try:
        return session.drive()
    finally:
        engine.close()
        # Players and session know each other: without this the engine's memory would wait for the garbage collector.
        del session.players


def _session(
    program: Program,
    course: Course,
    plan: Mapping[str, Any],
    store: Store,
    info: RunInfo | None,
    name: str,
    initial: Callable[[], Arrays],
    hooks: Hooks,
    client: LocalClient,
    ctx: Context,
) -> Session:
    """The session at its first round, or where the run that `info` names was left."""
    run = keeping.kept(store, info, name, plan)
    try:
        session = run.session(
            program.strategy,
            course.coordinator,
            hooks,
            initial,
            course.restore,
        )
        probe.check_private(program.strategy, client, ctx)
    except BaseException:
        store.release(run.run)
        raise
    session.evaluates = "evaluate" in client.capabilities
    if course.timeline is not None:
        session.clock = course.timeline.clock
    return session


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
    return bool(sys.stdout and sys.stdout.isatty())
