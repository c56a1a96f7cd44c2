"""`Rerun`: the program of a run that is kept, to train with it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from umbel.coordinators import ServerConfig
from umbel.errors import StoreError
from umbel.runtimes import checkpoint, probe
from umbel.runtimes.history import History
from umbel.runtimes.matching import population
from umbel.runtimes.measures import mapping_of
from umbel.runtimes.program import ClientFn, Program
from umbel.runtimes.routed import once, settled
from umbel.runtimes.session import Hooks
from umbel.runtimes.simulate import simulate
from umbel.runtimes.worth.measuring import Measuring
from umbel.stores import RunInfo, Store
from umbel.strategy import Strategy


@final
@dataclass(frozen=True)
class Rerun:
    """What `simulate` was given.

    Attributes:
        given: all of its arguments but the config.
    """

    client_fn: ClientFn
    num_clients: int
    strategy: Strategy
    config: ServerConfig
    given: Mapping[str, Any]

    @classmethod
    def of(cls, client_fn: ClientFn, num_clients: int, info: RunInfo, given: Mapping[str, Any]) -> Rerun:
        """The program of the run `info`, with the seed that it had."""
        strategy, config, routed = settled(given.get("strategy"), given.get("config"))
        config = replace(config, seed=info.plan["config"]["seed"])
        first = once("initial_parameters", given.get("initial_parameters"), routed)
        rest = {**routed, **given, "strategy": strategy, "initial_parameters": first}
        del rest["config"]
        return cls(client_fn, num_clients, strategy, config, rest)

    @property
    def program(self) -> Program:
        """How clients are built and play."""
        settings, threads = dict(self.given.get("settings") or {}), self.given.get("threads", 1)
        assert self.config.seed is not None
        return Program(self.client_fn, self.strategy, self.config.seed, self.num_clients, settings, "cpu", threads)

    def giver(self, info: RunInfo) -> str | None:
        """The client that was asked for the first model; None if it was given."""
        if self.given.get("initial_parameters") is not None:
            return None
        asked = population(self.config, self.num_clients, self.given.get("attributes"), info.plan.get("without", ()))
        _, ctx = probe.probe(self.program, asked.first(probe.PROBES))
        return ctx.client

    @property
    def steered(self) -> bool:
        """Whether the run ends by what clients measure."""
        config = self.config
        ends = config.target is not None or config.patience is not None or self.given.get("stop_when") is not None
        return ends and config.fraction_evaluate > 0

    def others(self, info: RunInfo, client: str) -> set[str]:
        """All clients that there are without this one."""
        gone = {*info.plan.get("without", ()), client}
        return set(population(self.config, self.num_clients, self.given.get("attributes"), gone).listed() or ())

    def fit_config(self, round: int) -> dict[str, Any]:
        """What clients are told in this round."""
        return {"server_round": round, **_called(self.given.get("on_fit_config_fn"), round)}

    def measuring(self, clients: Sequence[str]) -> Measuring:
        """What measures a model by these clients alone."""
        return Measuring(
            self.program, Hooks(on_evaluate_config_fn=self.given.get("on_evaluate_config_fn")), tuple(clients)
        )


def _called(function: Callable[..., Any] | None, round: int) -> dict[str, Any]:
    return {} if function is None else mapping_of(function, function(round))


def gone_on(store: Store, run: str, again: Rerun) -> History:
    """A run that was branched off, to its end; if it was there before, what it gave.

    Raises:
        StoreError: it was interrupted.
    """
    info = store.find(run)
    assert info is not None
    if info.status == "finished":
        _, state, _, _ = checkpoint.latest(store, run)
        return History.of(store.log(run), state.params, run, info.plan)
    given: dict[str, Any] = {"progress": False, **again.given, "config": again.config, "store": store, "resume": run}
    history = simulate(again.client_fn, again.num_clients, **given)
    if history.ended == "interrupted":
        raise StoreError(f"interrupted; the new run {run} is kept, and the same command goes on with it")
    return history
