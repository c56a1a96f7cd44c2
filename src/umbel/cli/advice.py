"""What will hurt later, in sentences: the plan's numbers, the model, the first clients."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, final

from umbel.arrays import Arrays
from umbel.coordinators import Everyone, Phase, Rounds, Secure, ServerConfig
from umbel.errors import NotSupported, TooFewClients
from umbel.local import LocalClient, StepClient, assemble
from umbel.message import Ask, Context
from umbel.runtimes.app import App
from umbel.runtimes.history import History
from umbel.runtimes.program import Program
from umbel.runtimes.run import Run
from umbel.runtimes.simulate import simulate
from umbel.runtimes.stopping import why_never
from umbel.runtimes.turn import sentence
from umbel.strategies.averaging import Averaging

LOOKED_AT = 3
BATCHES = 20
SKEW = 0.2


def advise(app: App, run: Run, settings: Mapping[str, Any]) -> list[str]:
    """Sentences on what will go wrong or is likely not meant; none if all is well."""
    return [*about_numbers(run), *_about_parts(app, run, settings)]


def about_numbers(run: Run) -> Iterator[str]:
    """What the plan's numbers alone tell."""
    config, clients = run.config, run.num_clients
    if config.num_rounds == 0:
        yield "num_rounds is 0, so nothing is trained; set it to at least 1"
    if config.seed is None:
        yield "there is no seed, so no run can be repeated; give ServerConfig a seed, such as seed=1"
    if config.round_timeout is not None and run.system is None:
        yield (
            "round_timeout does nothing in a simulation without a clock; give fl.Run(system=fl.SystemModel(...)), or "
            "use client_timeout for clients that hang"
        )
    yield from _about_counts(config, clients)
    yield from _about_cohort(config, clients)
    yield from _about_stopping(run)


def _about_counts(config: ServerConfig, clients: int) -> Iterator[str]:
    for name in ("min_available_clients", "min_fit_clients", "min_evaluate_clients"):
        value = getattr(config, name) or 0
        if value > clients:
            then = "every run fails at once" if name == "min_available_clients" else "all are asked every time"
            yield f"{name} is {value} but there are {clients} clients, so {then}; lower it to {clients} or less"
    if 0 < config.fraction_fit * clients < 1:
        yield (
            f"fraction_fit={config.fraction_fit} of {clients} clients is less than one client, so min_fit_clients "
            f"alone decides; raise it to at least {1 / clients:.2g}"
        )


def _about_cohort(config: ServerConfig, clients: int) -> Iterator[str]:
    wanted = cohort(config, clients)
    if clients == 1:
        yield "there is one client, which is ordinary training; raise num_clients"
    elif wanted == 1:
        yield f"each round asks 1 of {clients} clients, so nothing is averaged; raise fraction_fit or min_fit_clients"
    spare = clients - wanted
    reserve = math.ceil(wanted * config.over_selection)
    if reserve > spare:
        yield (
            f"over_selection={config.over_selection} wants {reserve} clients in reserve, only {spare} are left over; "
            "lower fraction_fit"
        )


def cohort(config: ServerConfig, clients: int) -> int:
    """How many clients a round asks."""
    settled = replace(config, seed=0, num_rounds=1, min_available_clients=0, over_selection=0.0)
    phase = Rounds(settled, Everyone(clients)).begin()
    return len(phase.clients) if isinstance(phase, Phase) else 0


def _about_stopping(run: Run) -> Iterator[str]:
    config = run.config
    never = why_never(config, central=run.evaluate_fn is not None)
    if never is not None:
        yield never
    evaluations = math.ceil(config.num_rounds / config.evaluate_every)
    if config.patience is not None and 0 < evaluations <= config.patience:
        yield f"patience={config.patience} is not less than the {evaluations} evaluations there are; lower it"


def _about_parts(app: App, run: Run, settings: Mapping[str, Any]) -> Iterator[str]:
    """Begin the run without any round, then look at the model and at the first clients."""
    config = replace(run.config, num_rounds=0, seed=run.config.seed or 0)
    if config.where and run.attributes is None:
        yield f"where={config.where!r} is for nodes; umbel run needs fl.Run(attributes=...) to simulate it"
        config = replace(config, where=None)
    coordinator = run.coordinator
    if coordinator is not None and not isinstance(coordinator, Secure) and run.system is None:
        name = type(coordinator).__name__
        yield f"{name} is for nodes as it stands; umbel run needs fl.Run(system=fl.SystemModel(...)) to simulate it"
        coordinator = None
    try:
        history = simulate(
            app.client_fn,
            run.num_clients,
            strategy=run.strategy,
            config=config,
            system=run.system,
            coordinator=coordinator,
            privacy=run.privacy,
            initial_parameters=run.initial_parameters,
            evaluate_fn=run.evaluate_fn,
            attributes=run.attributes,
            engine="serial",
            settings=settings,
            progress=False,
        )
    except (NotSupported, TooFewClients) as error:
        yield str(error)
        return
    yield from history.warnings
    yield from _about_model(history.parameters)
    program = Program(app.client_fn, run.strategy, config.seed or 0, run.num_clients, dict(settings))
    yield from _about_clients(program, run, history)


def _about_model(params: Arrays) -> Iterator[str]:
    wide = [spec for spec in params.schema.specs if spec.dtype == "F64"]
    if sum(spec.nbytes for spec in wide) > params.schema.data_bytes / 2:
        names = ", ".join(spec.name for spec in wide[:3]) + (", …" if len(wide) > 3 else "")
        yield f"initial parameters are float64 ({names}), twice the bytes of float32; try .astype(np.float32)"


@final
@dataclass(frozen=True)
class _Looked:
    """A client that was built, or why it could not be."""

    index: int
    client: LocalClient | None
    ctx: Context
    trouble: str = ""


def _about_clients(program: Program, run: Run, history: History) -> Iterator[str]:
    task = run.strategy.task(run.strategy.init(history.parameters), 1)
    indices = sorted({0, program.num_clients // 2, program.num_clients - 1})
    looked = [_look(program, Ask(str(index), "evaluate", task)) for index in indices[:LOOKED_AT]]
    for one in looked:
        if one.client is None:
            yield f"client {one.index} cannot be built: {one.trouble}"
    built = [(one.client, one.ctx) for one in looked if one.client is not None]
    if not built:
        return
    yield from _about_evaluation(built[0], run, history, task)
    yield from _about_batch_norm(built, run)


def _look(program: Program, ask: Ask) -> _Looked:
    ctx = program.context(ask, None)
    try:
        return _Looked(int(ask.client), program.build(ctx), ctx)
    except Exception as error:
        return _Looked(int(ask.client), None, ctx, sentence(error))


def _about_evaluation(first: tuple[LocalClient, Context], run: Run, history: History, task: Any) -> Iterator[str]:
    client, ctx = first
    config = run.config
    federated = config.fraction_evaluate > 0 and "evaluate" in client.capabilities
    reported = {f"central_{name}" for name in history.metrics} | set(history.metrics)
    if not federated and run.evaluate_fn is None:
        if config.fraction_evaluate > 0:
            name = type(getattr(client, "user", client)).__name__
            yield f"{name} has no evaluate and the run no evaluate_fn, so nothing is measured; give it one of them"
        return
    if federated:
        try:
            answer = client.evaluate_arrays(assemble(task, client, ctx), ctx)
        except Exception as error:
            yield f"client {ctx.client} cannot evaluate the first model: {sentence(error)}"
            return
        reported |= {"loss", *map(str, answer.metrics)}
    elif history.loss is not None:
        reported.add("loss")
    watched = config.target is not None or config.patience is not None or config.monitor != "loss"
    if watched and config.monitor not in reported and not config.monitor.startswith("train_"):
        there = ", ".join(sorted(reported)) or "nothing"
        yield f"monitor={config.monitor!r} is never reported; there is {there}"


def _about_batch_norm(built: list[tuple[LocalClient, Context]], run: Run) -> Iterator[str]:
    shared = run.strategy.shared if isinstance(run.strategy, Averaging) else None
    if shared is not None:
        return
    names = {name for client, _ in built for name in _batch_norms(client)}
    if not names:
        return
    skew = _skew([_labels(client, ctx) for client, ctx in built])
    if skew is not None and skew < SKEW:
        return
    why = "may differ" if skew is None else f"differ ({skew:.0%} of the labels would have to change)"
    yield (
        f"the model has {', '.join(sorted(names))} and the clients' data {why}; averaged batch statistics then suit "
        'nobody: keep these layers local (FedBN) with shared=["*", "!*bn*"], or use GroupNorm'
    )


def _batch_norms(client: LocalClient) -> set[str]:
    """Kinds of batch normalisation in a torch model, which is known by its methods: torch is not imported."""
    model = getattr(client, "model", None) or getattr(getattr(client, "user", None), "model", None)
    modules = getattr(model, "modules", None)
    if not callable(modules):
        return set()
    found: Any = modules()
    return {name for module in found if "BatchNorm" in (name := type(module).__name__)}


def _labels(client: LocalClient, ctx: Context) -> dict[int, float] | None:
    """Shares of the labels in the first batches; None where there are none to be seen."""
    if not isinstance(client, StepClient):
        return None
    counts: dict[int, int] = {}
    try:
        for batch in islice(client.batches(ctx), BATCHES):
            for label in batch[1].tolist():
                if not isinstance(label, int):
                    return None
                counts[label] = counts.get(label, 0) + 1
    except Exception:
        # Data of another form tell nothing about labels; training itself will say what is wrong with them.
        return None
    total = sum(counts.values())
    return {label: count / total for label, count in counts.items()} if total else None


def _skew(shares: list[dict[int, float] | None]) -> float | None:
    """The largest total variation distance between two clients' labels; None if unknown."""
    known = [share for share in shares if share is not None]
    if len(known) < 2:
        return None
    pairs = [(a, b) for place, a in enumerate(known) for b in known[place + 1 :]]
    return max(sum(abs(a.get(n, 0) - b.get(n, 0)) for n in {*a, *b}) / 2 for a, b in pairs)
