"""`Federation`: the run whose clients are valued, as it can be trained and measured again."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, final

from umbel.arrays import Arrays
from umbel.coordinators import Secure, ServerConfig
from umbel.errors import ConfigError, NotSupported
from umbel.plan import describe
from umbel.runtimes import probe
from umbel.runtimes.matching import AttributesFn, checked_without, population
from umbel.runtimes.program import ClientFn, Program
from umbel.runtimes.routed import once, settled
from umbel.runtimes.session import Hooks
from umbel.runtimes.worth.measuring import Measuring
from umbel.strategy import Strategy

PASSED = ("system", "coordinator", "settings", "threads", "engine", "block")
"""Arguments of `simulate` that coalitions train with as they are."""
HOOKED = {
    "evaluate_fn": "evaluate_fn",
    "on_fit_config_fn": "on_fit_config_fn",
    "on_evaluate_config_fn": "on_evaluate_config_fn",
    "fit_metrics_aggregation_fn": "fit_metrics",
    "evaluate_metrics_aggregation_fn": "evaluate_metrics",
}
KNOWN = (*PASSED, *HOOKED, "strategy", "config", "initial_parameters", "attributes", "without", "stop_when", "privacy")


@final
@dataclass(frozen=True)
class Federation:
    """The arguments of `simulate`, with the first model and the seed settled.

    Attributes:
        players: the ids of all clients that could be asked.
        initial: the model that every coalition starts from.
        absent: who is left out.
        hooks: the user's functions, as `simulate` takes them.
        rest: what else `simulate` is given.
    """

    client_fn: ClientFn
    players: tuple[str, ...]
    num_clients: int
    strategy: Strategy
    config: ServerConfig
    initial: Arrays
    attributes: AttributesFn | None
    absent: tuple[str, ...]
    hooks: Mapping[str, Any]
    rest: Mapping[str, Any]
    measuring: Measuring

    @classmethod
    def of(cls, client_fn: ClientFn, num_clients: int, arguments: Mapping[str, Any]) -> Federation:
        """The federation that these arguments of `simulate` describe.

        Raises:
            ConfigError: an argument is none that can be used here.
            NotSupported: a value per client would say what the run promises to hide.
        """
        unknown = sorted(arguments.keys() - set(KNOWN))
        if unknown:
            raise ConfigError(
                f"contributions() does not take {unknown[0]!r}; it takes those of simulate: {', '.join(KNOWN)}"
            )
        strategy, config, given = settled(arguments.get("strategy"), arguments.get("config"))
        check_open(arguments.get("coordinator"), arguments.get("privacy"), strategy)
        config = replace(config, seed=secrets.randbits(53) if config.seed is None else config.seed)
        hooks = {name: once(name, arguments.get(name), given) for name in HOOKED}
        attributes, absent = arguments.get("attributes"), checked_without(arguments.get("without", ()), num_clients)
        players = population(config, num_clients, attributes, absent).listed()
        if not players:
            raise ConfigError(
                "there is no client to value, or there are more than 10,000; look at num_clients and where"
            )
        program = _program(client_fn, num_clients, strategy, config, arguments, hooks)
        client, ctx = probe.probe(program, players[: probe.PROBES])
        initial = probe.initial(client, ctx, once("initial_parameters", arguments.get("initial_parameters"), given))
        evaluates = "evaluate" in client.capabilities and config.fraction_evaluate > 0
        own = Hooks(**{field: hooks[name] for name, field in HOOKED.items()})
        rest = {name: arguments[name] for name in (*PASSED, "stop_when") if name in arguments}
        measuring = Measuring(program, own, tuple(players) if evaluates else ())
        return cls(
            client_fn=client_fn,
            players=tuple(players),
            num_clients=num_clients,
            strategy=strategy,
            config=config,
            initial=initial,
            attributes=attributes,
            absent=absent,
            hooks=hooks,
            rest=rest,
            measuring=measuring,
        )

    @property
    def digest(self) -> str:
        """The SHA-256 of what its coalitions' worth depends on, but for the clients' code and data."""
        rest = {name: describe(value) for name, value in self.rest.items() if name != "threads"}
        plan = {"strategy": describe(self.strategy), "config": describe(self.config), **rest}
        about = [self.players, self.num_clients, self.initial.digest, self.measuring.clients, plan]
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()

    @property
    def follows(self) -> bool:
        """Whether what is measured on the way decides when a run ends."""
        config = self.config
        return config.target is not None or config.patience is not None or self.rest.get("stop_when") is not None


def _program(
    client_fn: ClientFn,
    num_clients: int,
    strategy: Strategy,
    config: ServerConfig,
    arguments: Mapping[str, Any],
    hooks: Mapping[str, Callable[..., Any] | None],
) -> Program:
    assert config.seed is not None
    named = hooks["fit_metrics_aggregation_fn"] is not None or hooks["evaluate_metrics_aggregation_fn"] is not None
    settings, threads = dict(arguments.get("settings") or {}), arguments.get("threads", 1)
    return Program(client_fn, strategy, config.seed, num_clients, settings, "cpu", threads, named)


def check_open(coordinator: object, privacy: object, strategy: Strategy) -> None:
    """Refuse runs that promise to show nothing of a single client.

    Raises:
        NotSupported: says what it would show, and what can be had in its place.
    """
    instead = 'method="participation" says what the log says anyhow'
    if isinstance(coordinator, Secure):
        raise NotSupported(
            "the difference of two secure sums is one client's update, and a client's value is made of such "
            f"differences; {instead}"
        )
    if privacy is not None:
        raise NotSupported(
            "a client's value is computed from its data without the noise that privacy= promises, so it would cost "
            f"more than the budget says; {instead}"
        )
    if getattr(strategy, "patterns", ()):
        raise NotSupported(
            "with shared= each client keeps arrays of its own, which a client outside of a coalition has not trained; "
            "value a run without shared="
        )
