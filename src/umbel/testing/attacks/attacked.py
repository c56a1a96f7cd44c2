"""`Attacked`: a strategy some of whose clients are bad, for tests and research."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np

from umbel.arrays import Arrays
from umbel.errors import ConfigError
from umbel.local_client import LocalClient
from umbel.message import Ask, ClientState, Context, Group, Task, Update
from umbel.reducers import Reduction
from umbel.schema import ArraySpec, Schema
from umbel.strategy import State, Strategy
from umbel.testing.attacks.attack import Attack, altered
from umbel.testing.attacks.infiltrated import MARK, Infiltrated

_MARKS = Schema([ArraySpec(MARK, "F32", (1,))])


@final
@dataclass(frozen=True)
class Attacked(Strategy):
    """The same method, in which some clients send what `attack` makes of their update.

    Bad clients give themselves away by a group of their own, of which the reducer is not told: so attacks that look at
    the honest updates can put theirs in their place, on any engine. For simulations only.

    Args:
        strategy: the method under attack, with the reducer that is to withstand it.
        attack: what bad clients do.
        clients: their ids, such as ("0", "1") in a simulation.

    Example:
        >>> from umbel.reducers import Krum
        >>> from umbel.strategies import FedAvg
        >>> from umbel.testing.attacks import IPM
        >>> attacked = Attacked(FedAvg(reducer=Krum(f=2)), IPM(), clients=("0", "1"))
        >>> attacked.reducer.least_updates
        5
    """

    strategy: Strategy
    attack: Attack
    clients: Sequence[str] = field(kw_only=True)

    def __post_init__(self) -> None:
        listed = isinstance(self.clients, Sequence) and not isinstance(self.clients, str)  # pyright: ignore[reportUnnecessaryIsInstance]
        if not listed or not all(isinstance(name, str) for name in self.clients):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f'clients must be ids such as ("0", "1"), got {self.clients!r}')
        if not isinstance(self.attack, Attack):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"attack must be one of umbel.testing.attacks such as SignFlip(), got {self.attack!r}")
        object.__setattr__(self, "clients", tuple(self.clients))
        object.__setattr__(self, "reducer", Infiltrated(self.strategy.reducer, self.attack))
        for name in ("needs", "takes_stale", "counts_clients"):
            object.__setattr__(self, name, getattr(self.strategy, name))

    @property
    def corrects(self) -> str | None:
        return self.strategy.corrects

    def init(self, params: Arrays) -> State:
        return self.strategy.init(params)

    def task(self, state: State, round: int) -> Task:
        return self.strategy.task(state, round)

    def schema(self, task: Task, own: Mapping[str, Any]) -> Mapping[str, Schema]:
        return {**self.strategy.schema(task, own), MARK: _MARKS}

    def local(self, ask: Ask, client: LocalClient, ctx: Context) -> tuple[Update, ClientState]:
        unknown = [name for name in self.clients if not name.isdecimal() or int(name) >= ctx.num_partitions]
        if unknown:
            # An attack by nobody would make every reducer look robust.
            raise ConfigError(f"clients names {unknown[0]!r}; in this run there are 0 to {ctx.num_partitions - 1}")
        update, memory = self.strategy.local(ask, client, ctx)
        bad = ask.client in self.clients
        groups = {name: self._sent(group, ctx) if bad else group for name, group in update.groups.items()}
        mark = Arrays.of({MARK: np.full(1, bad, np.float32)})
        return replace(update, groups={**groups, MARK: Group(mark, 1.0)}), memory

    def _sent(self, group: Group, ctx: Context) -> Group:
        return replace(group, arrays=altered(group.arrays, lambda values: self.attack.sent(values, ctx.rng)))

    def open(self, update: Update, task: Task, own: Mapping[str, Any]) -> Mapping[str, Group]:
        inner = replace(update, groups={name: group for name, group in update.groups.items() if name != MARK})
        return {**self.strategy.open(inner, task, own), MARK: update.groups[MARK]}

    def step(self, state: State, reduced: Reduction) -> State:
        return self.strategy.step(state, reduced)
