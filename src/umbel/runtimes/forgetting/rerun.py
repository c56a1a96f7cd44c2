"""`Rerun`: the program of a run that is kept, to train with it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import signature
from typing import Any, final

from umbel.coordinators import Registered, ServerConfig
from umbel.errors import ConfigError, NotSupported, StoreError
from umbel.plan import check_same, describe
from umbel.runtimes import checkpoint, probe
from umbel.runtimes.choose import choose
from umbel.runtimes.forgetting.influence import Influence, began, gave_first, influence
from umbel.runtimes.history import History
from umbel.runtimes.matching import population
from umbel.runtimes.measures import mapping_of
from umbel.runtimes.program import ClientFn, Program
from umbel.runtimes.routed import once, settled
from umbel.runtimes.session import Hooks
from umbel.runtimes.simulate import choice_of, simulate
from umbel.runtimes.simulated import Course
from umbel.runtimes.worth.measuring import Measuring
from umbel.stores import RunInfo, Store
from umbel.strategy import Strategy


@final
@dataclass(frozen=True)
class Rerun:
    """What `simulate` was given.

    Attributes:
        given: all of its arguments but the config.
        info: the run.
        gone: who was forgotten before or was not there, and is not trained again.
    """

    client_fn: ClientFn
    num_clients: int
    strategy: Strategy
    config: ServerConfig
    given: Mapping[str, Any]
    info: RunInfo
    gone: frozenset[str]

    @classmethod
    def of(
        cls, client_fn: ClientFn, num_clients: int, info: RunInfo, given: Mapping[str, Any], gone: frozenset[str]
    ) -> Rerun:
        """The program of the run `info`, with the seed that it had.

        Raises:
            ConfigError: `simulate` has no such argument, or the seed is another one.
        """
        unknown = sorted(given.keys() - signature(simulate).parameters.keys() | given.keys() & {"resume"})
        if unknown:
            raise ConfigError(f"forget() does not take {unknown[0]!r}; it takes those that fl.simulate had for the run")
        strategy, config, routed = settled(given.get("strategy"), given.get("config"))
        seed = info.plan["config"]["seed"]
        if config.seed not in (None, seed):
            raise ConfigError(f"run {info.id} has the seed {seed}, got {config.seed}; give that, or none")
        config = replace(config, seed=seed)
        first = once("initial_parameters", given.get("initial_parameters"), routed)
        rest = {**routed, **given, "strategy": strategy, "initial_parameters": first}
        del rest["config"]
        return cls(client_fn, num_clients, strategy, config, rest, info, gone)

    @property
    def program(self) -> Program:
        """How clients are built and play."""
        settings, threads = dict(self.given.get("settings") or {}), self.given.get("threads", 1)
        assert self.config.seed is not None
        return Program(self.client_fn, self.strategy, self.config.seed, self.num_clients, settings, "cpu", threads)

    def part(self, log: Sequence[Mapping[str, Any]], client: str) -> Influence:
        """What a client had to do with the run.

        Args:
            log: as `whole_log` gives it.
        """
        gave = gave_first(log, self.info.plan, client)
        gave = self._gave_first(client) if gave is None else gave
        return influence(log, client, gave_first=gave, steered=self.steered and client not in self._absent)

    @property
    def _absent(self) -> Sequence[str]:
        return self.info.plan.get("without", ())

    def _gave_first(self, client: str) -> bool:
        """Whether the client is asked for the first model, where the log does not say whose that was."""
        if self.given.get("initial_parameters") is not None or client in self._absent:
            return False
        asked = population(self.config, self.num_clients, self.given.get("attributes"), self._absent)
        _, ctx = probe.probe(self.program, asked.first(probe.PROBES))
        return ctx.client == client

    @property
    def steered(self) -> bool:
        """Whether the run ends by what clients measure."""
        config = self.config
        ends = config.target is not None or config.patience is not None or self.given.get("stop_when") is not None
        return ends and config.fraction_evaluate > 0

    def others(self, client: str) -> set[str]:
        """All clients that there are without this one."""
        return set(self._left(client).listed() or ())

    def _left(self, client: str) -> Registered:
        return population(self.config, self.num_clients, self.given.get("attributes"), {*self.gone, client})

    def check(self, client: str, log: Sequence[Mapping[str, Any]]) -> None:
        """Refuse, while nothing is in the store yet, what `simulate` would refuse to train without the client.

        Args:
            log: as `whole_log` gives it.

        Raises:
            ConfigError: the arguments are not those of the run.
            NotSupported: too few clients would be left.
        """
        given, config, left = self.given, self.config, self._left(client)
        if given.get("privacy") is not None:
            raise ConfigError(f"run {self.info.id} had no privacy=; give the arguments that it had")
        coordinator: Any = given.get("coordinator")
        try:
            course = Course.of(self.strategy, config, left, given.get("system"), coordinator)
        except NotSupported as error:
            raise NotSupported(f"without client {client}: {error}; {REMOVE}") from None
        least = course.coordinator.least_available
        if left.size < least:
            raise NotSupported(
                f"without client {client} {left.size} clients are left to train, and a round needs {least}; {REMOVE}"
            )
        plan = {
            "strategy": describe(self.strategy),
            "config": describe(config),
            "num_clients": self.num_clients,
            "settings": describe(dict(given.get("settings") or {})),
            **course.plan,
        }
        check_same(self.info.plan, plan)
        engine, workers, block = given.get("engine", "auto"), given.get("workers"), given.get("block")
        at_once: int | None = getattr(coordinator, "buffer_size", None)
        choose(engine, workers, config, self.num_clients, given.get("cluster"), at_once=at_once, block=block)
        choice_of(engine, workers, self.program, config, self.info, at_once, block, 1)
        self._check_first(log, left)

    def _check_first(self, log: Sequence[Mapping[str, Any]], left: Registered) -> None:
        """Refuse another first model than the run's, where its log says which that was."""
        one, ctx = probe.probe(self.program, left.first(probe.PROBES))
        first, event = self.given.get("initial_parameters"), began(log)
        if event is None:
            return
        if first is None and event["giver"] is None:
            raise ConfigError(f"run {self.info.id} began with initial_parameters, and none are given; give those")
        if first is None:
            return
        if self.strategy.init(probe.initial(one, ctx, first)).params.digest != event["model"]:
            whose = "" if event["giver"] is None else f", which client {event['giver']} was asked for"
            raise ConfigError(
                f"run {self.info.id} began with the model {event['model'][:16]}…{whose}, and initial_parameters are "
                f"another; give what it had, or where that cannot be had, {REMOVE}"
            )

    def fit_config(self, round: int) -> dict[str, Any]:
        """What clients are told in this round."""
        return {"server_round": round, **_called(self.given.get("on_fit_config_fn"), round)}

    def measuring(self, clients: Sequence[str]) -> Measuring:
        """What measures a model by these clients alone."""
        return Measuring(
            self.program, Hooks(on_evaluate_config_fn=self.given.get("on_evaluate_config_fn")), tuple(clients)
        )


REMOVE = "method='remove' removes the checkpoints and trains nothing"


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
