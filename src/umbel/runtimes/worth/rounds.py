"""What a coalition is worth by its updates in the run as it was: in each round, the step with its updates alone.

References:
    T. Wang, J. Rausch, C. Zhang, R. Jia, D. Song, "A Principled Approach to Data Valuation for Federated Learning",
    Federated Learning, LNCS 12500, 2020, https://arxiv.org/abs/2009.06192
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

import numpy as np

from umbel.coordinators import Ended, Phase, Rounds
from umbel.coordinators.selection import Uniform
from umbel.errors import NotSupported, RoundError
from umbel.message import Ask, Task
from umbel.runtimes.matching import population
from umbel.runtimes.measures import mapping_of
from umbel.runtimes.serial import SerialEngine
from umbel.runtimes.stepping import stepped
from umbel.runtimes.tally import Tally
from umbel.runtimes.worth.federation import Federation
from umbel.runtimes.worth.game import Coalition
from umbel.strategy import State


@final
@dataclass(frozen=True)
class Part:
    """One client's folded answer, which can be added to any number of sums."""

    plain: dict[str, Any]
    buffers: list[Any]

    @classmethod
    def of(cls, tally: Tally) -> Part:
        plain, buffers = tally.export()
        return cls(plain, [np.array(buffer) for buffer in buffers])


@final
@dataclass(frozen=True)
class Played:
    """One round: where it began, who answered what, where it ended.

    Attributes:
        before, after: the strategy's state.
        parts: client → its answer, of those that are in the step.
        size: how many clients could have been asked.
        states: what clients keep at home after it.
    """

    round: int
    before: State
    after: State
    parts: dict[str, Part]
    size: int
    states: Mapping[str, bytes]

    def stepped(self, federation: Federation, coalition: Coalition) -> State:
        """The state after the round if only these clients had answered; nobody takes no step."""
        mine = [self.parts[client] for client in self.parts if client in coalition]
        if not mine:
            return self.before
        if len(mine) == len(self.parts):
            return self.after
        return _stepped(federation, self.before, mine, self.size)


def played(federation: Federation) -> list[Played]:
    """The run once more, with each client's answers kept apart.

    Raises:
        NotSupported: its rounds are not plain ones.
        RoundError: a round cannot be closed.
    """
    _check(federation)
    config = replace(federation.config, min_available_clients=None)
    coordinator = Rounds(
        config,
        population(config, federation.num_clients, federation.attributes, federation.absent),
        least_updates=federation.strategy.reducer.least_updates,
    )
    engine, states, state = SerialEngine(federation.measuring.program), dict[str, bytes](), _start(federation)
    found: list[Played] = []
    while not isinstance(phase := coordinator.begin(), Ended):
        tallies = _answers(federation, phase, state, engine, states, coordinator)
        if coordinator.close(examples=math.fsum(tally.examples.value for tally in tallies.values())) == "retry":
            continue
        for tally in tallies.values():
            states |= tally.states
        parts = {client: Part.of(tally) for client, tally in tallies.items()}
        after = _stepped(federation, state, list(parts.values()), coordinator.population.size)
        found.append(Played(phase.round, state, after, parts, coordinator.population.size, dict(states)))
        state = after
        coordinator.finish({})
    return found


def _start(federation: Federation) -> State:
    return federation.strategy.init(federation.initial)


def _answers(
    federation: Federation,
    phase: Phase,
    state: State,
    engine: SerialEngine,
    states: dict[str, bytes],
    coordinator: Rounds,
) -> dict[str, Tally]:
    """Client → its answer, of those that the coordinator takes in."""
    task, found = _task(federation, state, phase.round), dict[str, Tally]()
    clients = phase.clients
    while clients:
        tallies = {client: engine.play([Ask(client, "fit", task, attempt=phase.attempt)], states) for client in clients}
        clients = ()
        for client, tally in tallies.items():
            (receipt,) = tally.receipts
            decision = coordinator.receipt(receipt)
            clients += decision.ask
            if decision.accept:
                found[client] = tally
    return found


def _task(federation: Federation, state: State, round: int) -> Task:
    function = federation.hooks["on_fit_config_fn"]
    config = {} if function is None else mapping_of(function, function(round))
    return replace(federation.strategy.task(state, round), config={"server_round": round, **config})


def _stepped(federation: Federation, before: State, parts: Sequence[Part], size: int) -> State:
    """The strategy's step on the sum of these answers."""
    strategy, total = federation.strategy, Tally()
    for part in parts:
        total.absorb(Tally.restore(strategy.reducer, part.plain, [buffer.copy() for buffer in part.buffers]))
    if total.accumulator is None or total.examples.value <= 0:
        return before
    return stepped(strategy, before, total.accumulator, total.schema or {}, size, None)


def _check(federation: Federation) -> None:
    config, rest = federation.config, federation.rest
    for name in ("system", "coordinator"):
        if rest.get(name) is not None:
            raise NotSupported(f'of="rounds" takes plain rounds apart, got {name}={rest[name]!r}; use of="retrained"')
    if federation.follows or not isinstance(config.selector, Uniform):
        raise NotSupported(
            'of="rounds" plays a run whose rounds do not hang on what is measured on the way, and this one has a '
            'target, patience, stop_when or a selector; use of="retrained"'
        )
    if federation.strategy.reducer.least_updates > 1:
        raise NotSupported(
            f"{federation.strategy.reducer!r} needs {federation.strategy.reducer.least_updates} updates, which smaller "
            'coalitions do not have; use of="retrained", method="leave-one-out"'
        )


@final
class RoundsWorth:
    """The sum over rounds of how much better the model is after a step with the coalition's updates than before it.

    A round is measured once for each different set of those of its clients that are in the coalition.
    """

    def __init__(self, federation: Federation, metric: Any) -> None:
        self.federation, self.metric = federation, metric
        self.rounds = played(federation)
        self._known: dict[tuple[int, Coalition], float] = {}
        if not self.rounds:
            raise RoundError(0, "the run has no rounds, so nobody contributed")
        self.digest = self.rounds[-1].after.params.digest
        self.empty = self._measured(_start(federation), 0, {})

    def worth(self, coalitions: Sequence[Coalition]) -> list[float]:
        """v(∅) is what the first model is worth, v(everybody) what the last one is."""
        return [self._worth(coalition) for coalition in coalitions]

    def _worth(self, coalition: Coalition) -> float:
        return self.empty + math.fsum(self._gain(place, coalition) for place in range(len(self.rounds)))

    def _gain(self, place: int, coalition: Coalition) -> float:
        one = self.rounds[place]
        key = (place, frozenset(coalition.intersection(one.parts)))
        if key not in self._known:
            before = (
                self.empty if place == 0 else self._measured(one.before, one.round - 1, self.rounds[place - 1].states)
            )
            after = before
            if key[1]:
                after = self._measured(one.stepped(self.federation, key[1]), one.round, one.states)
            self._known[key] = after - before
        return self._known[key]

    def _measured(self, state: State, round: int, states: Mapping[str, bytes]) -> float:
        return self.metric(self.federation.measuring.measure(state, round, states))
