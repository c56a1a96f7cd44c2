"""Five private strategies with a fault each, such as real systems had: what checks privacy has to find them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, final

import numpy as np

from umbel.arrays import Arrays, Vector
from umbel.dtypes import Float64
from umbel.local_client import LocalClient, StepClient
from umbel.message import Ask, ClientState, Context, Group, Task, Update
from umbel.privacy.private import Private
from umbel.reducers import Reduction
from umbel.schema import Schema
from umbel.strategy import State, Strategy

Opens: TypeAlias = Callable[[Private, Update, Task], Mapping[str, Group]]
Steps: TypeAlias = Callable[[Private, State, Reduction], State]
Trains: TypeAlias = Callable[[Private, Ask, LocalClient, Context], "tuple[Update, ClientState]"]


def _opens(inner: Private, update: Update, task: Task) -> Mapping[str, Group]:
    return inner.open(update, task, {})


def _steps(inner: Private, state: State, reduced: Reduction) -> State:
    return inner.step(state, reduced)


def _trains(inner: Private, ask: Ask, client: LocalClient, ctx: Context) -> tuple[Update, ClientState]:
    return inner.local(ask, client, ctx)


@final
@dataclass(frozen=True, kw_only=True)
class Broken(Strategy):
    """A private strategy with a fault in its clients' half, its opening or its step."""

    inner: Private
    trains: Trains = _trains
    opens: Opens = _opens
    steps: Steps = _steps

    def __post_init__(self) -> None:
        object.__setattr__(self, "reducer", self.inner.reducer)

    def init(self, params: Arrays) -> State:
        return self.inner.init(params)

    def task(self, state: State, round: int) -> Task:
        return self.inner.task(state, round)

    def schema(self, task: Task, own: Mapping[str, Any]) -> Mapping[str, Schema]:
        return self.inner.schema(task, own)

    def local(self, ask: Ask, client: LocalClient, ctx: Context) -> tuple[Update, ClientState]:
        return self.trains(self.inner, ask, client, ctx)

    def open(self, update: Update, task: Task, own: Mapping[str, Any]) -> Mapping[str, Group]:
        return self.opens(self.inner, update, task)

    def step(self, state: State, reduced: Reduction) -> State:
        return self.steps(self.inner, state, reduced)


def _scaled(groups: Mapping[str, Group], factor: float) -> dict[str, Group]:
    return {name: replace(group, weight=factor * group.weight) for name, group in groups.items()}


def weight_not_capped(private: Private) -> Broken:
    """A client weighs ten times what it may."""
    return Broken(inner=private, opens=lambda inner, update, task: _scaled(inner.open(update, task, {}), 10))


def not_clipped(private: Private) -> Broken:
    """Updates are summed as they came; gradients of single examples are clipped to ten times the bound."""
    if private.plan.unit == "example":
        clip = private.plan.clip
        wide = {name: 10 * bound for name, bound in clip.items()} if isinstance(clip, Mapping) else 10 * clip
        loose = replace(private, plan=replace(private.plan, clip=wide))
        return Broken(inner=private, trains=lambda inner, ask, client, ctx: loose.local(ask, client, ctx))

    def opens(inner: Private, update: Update, task: Task) -> Mapping[str, Group]:
        return {**inner.open(update, task, {}), "delta": replace(update.groups["delta"], weight=1.0)}

    return Broken(inner=private, opens=opens)


def divided_by_replies(private: Private) -> Broken:
    """The sum is divided by how many came, not by how many were expected."""
    if private.plan.unit == "example":
        return Broken(inner=private, trains=_mean_of_examples)

    def steps(inner: Private, state: State, reduced: Reduction) -> State:
        after, start = inner.step(state, reduced), Vector.of(state.params)
        moved = Vector.of(after.params).values - start.values
        share = next(iter(reduced.values())).count / inner.mechanism.cohort
        return replace(after, params=Vector(start.schema, start.values + moved / share).arrays())

    return Broken(inner=private, steps=steps)


def _mean_of_examples(inner: Private, ask: Ask, client: LocalClient, ctx: Context) -> tuple[Update, ClientState]:
    update, memory = inner.local(ask, client, ctx)
    assert isinstance(client, StepClient)
    total = Vector.of(update.groups["delta"].arrays)
    total.values *= (inner.plan.expected_examples or 1) / (client.num_examples or 1)
    return replace(update, groups={"delta": Group(total.arrays(), 1.0)}), memory


def divided_twice(private: Private) -> Private:
    """The noise is a twentieth of what it should be."""

    def draw(count: int) -> Float64:
        return private.source(count) / 20

    return replace(private, draw=draw)


def the_same_again(private: Private) -> Private:
    """The noise comes from a generator with a seed."""

    def draw(count: int) -> Float64:
        return np.random.default_rng(1).standard_normal(count)

    return replace(private, draw=draw)


def anew(strategy: Strategy) -> Strategy:
    """The same, whose noise knows nothing of earlier rounds."""
    if isinstance(strategy, Broken):
        return replace(strategy, inner=replace(strategy.inner, draw=strategy.inner.source))
    return replace(strategy, draw=strategy.source) if isinstance(strategy, Private) else strategy


def silent(strategy: Strategy) -> Strategy:
    """The same without noise. Such a strategy protects nobody: it is for measuring what is under the noise."""
    if isinstance(strategy, Broken):
        return replace(strategy, inner=replace(strategy.inner, draw=np.zeros))
    return replace(strategy, draw=np.zeros) if isinstance(strategy, Private) else strategy


MUTANTS: Mapping[str, Callable[[Private], Strategy]] = {
    "weight not capped": weight_not_capped,
    "not clipped": not_clipped,
    "divided by replies": divided_by_replies,
    "noise divided twice": divided_twice,
    "noise with a seed": the_same_again,
}
