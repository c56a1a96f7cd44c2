"""A trial before a run: whether its clients are faster in blocks, and end where their loops do."""

from __future__ import annotations

import itertools
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import final

import numpy as np

from umbel.arrays import Arrays, Vector
from umbel.block import BlockClient, ClientSource
from umbel.errors import NotSupported
from umbel.local import delta_of, run_steps
from umbel.local_client import LocalClient, StepClient
from umbel.message import Ask
from umbel.randomness import seed_process
from umbel.runtimes.blocks import LEAST, together, wanted
from umbel.runtimes.many import gives_one_gradient, sums_rows
from umbel.runtimes.program import Program, turn_key
from umbel.runtimes.threads import one_thread_each, threads_restored
from umbel.runtimes.turn import sentence

STEPS = 2
TURNS = 1_000
"""In runs of fewer turns a trial costs more than it finds."""
MEMBERS = 32
FASTER = 1.5
"""So many times as fast blocks must be: machines of about one speed then choose alike."""
NEAR = 1e-3
"""How far from the loop's change that of a block may be, relative to it; more is no rounding."""
LONGEST_S = 2.0
"""A client whose trial takes longer has steps so large that nothing is won by calling fewer of them."""


def is_worth(program: Program, client: LocalClient, turns: int) -> bool:
    """Whether such clients may train in blocks at all, and so often that a trial pays."""
    return turns >= TURNS and (isinstance(program.client_fn, ClientSource) or isinstance(client, BlockClient))


@final
@dataclass(frozen=True)
class Verdict:
    """What a trial found.

    Attributes:
        pays: whether blocks are to be taken.
        reason: why they could not be tried; "" where they were.
    """

    pays: bool
    reason: str = ""

    @property
    def notes(self) -> list[str]:
        """What the run says of it."""
        if not self.reason:
            return []
        return [f'engine="auto" lets clients train one by one and not in blocks: {self.reason}']


def tried(program: Program, clients: Sequence[str], params: Arrays) -> Verdict:
    """Whether clients train at least `FASTER` times as fast together as one by one, and to the same result.

    Some are built and train both ways, here and with the run's threads, for two steps; or for a turn, where their
    source trains them unbuilt.

    Args:
        clients: the ids of some who can be asked.
        params: the model that they start from.
    """
    with threads_restored():
        try:
            one_thread_each(program.threads)
            task = program.strategy.task(program.strategy.init(params), 1)
            asks = [Ask(name, "fit", task) for name in clients[:MEMBERS]]
            members = _Members(program, asks)
            ways = [members, _Unbuilt(program, asks), _OneGradient(program, asks)]
            if all(way.count < LEAST for way in ways):
                return Verdict(False, members.reason)
            return Verdict(any(_pays(way) for way in ways))
        except Exception as error:
            # What cannot be tried is not chosen.
            return Verdict(False, sentence(error))


class _Way(ABC):
    """Some clients that can train one by one and together."""

    count: int

    @abstractmethod
    def alone(self) -> Arrays:
        """The change of the first client's model when it trains alone."""

    @abstractmethod
    def together(self) -> Arrays:
        """The same when it trains with the others."""


@final
class _Members(_Way):
    """Built clients, for so many steps."""

    def __init__(self, program: Program, asks: Sequence[Ask]) -> None:
        until_s = time.perf_counter() + LONGEST_S
        # Those that load their data when they are built are not all waited for.
        in_time = itertools.takewhile(lambda _: time.perf_counter() < until_s, asks)
        self.members, self.reason = together(program, in_time)
        self.count = len(self.members)

    def alone(self) -> Arrays:
        first = self.members[0]
        seed_process(first.ctx.key)  # as when it was built; the others were built since
        # The clock counts steps: it has struck when so many are done.
        ctx = replace(first.ctx, clock=itertools.count(1).__next__, ends_at_s=STEPS)
        return delta_of(run_steps(first.client, first.start, ctx, first.correction), first.start, ctx)

    def together(self) -> Arrays:
        first = self.members[0]
        return delta_of(type(first.client).train_block(self.members, most_steps=STEPS)[0], first.start, first.ctx)


@final
class _Unbuilt(_Way):
    """Clients of a source that trains them by itself, for a turn."""

    def __init__(self, program: Program, asks: Sequence[Ask]) -> None:
        self.program, self.asks, self.source = program, asks, program.client_fn
        self.count = len(asks) if isinstance(self.source, ClientSource) and sums_rows(program.strategy) else 0

    def alone(self) -> Arrays:
        ctx = self.program.context(self.asks[0], None)
        client = self.program.build(ctx)
        assert isinstance(client, StepClient)
        found = wanted(self.program, self.asks[0], client, ctx)
        if found is None:
            raise NotSupported("it is not to train")
        return delta_of(run_steps(client, found[0], ctx, found[1]), found[0], ctx)

    def together(self) -> Arrays:
        ask, strategy = self.asks[0], self.program.strategy
        assert isinstance(self.source, ClientSource)
        assert sums_rows(strategy)
        ctx = self.program.context(ask, None)
        correction = strategy.correction(ask, ask.task.arrays, ctx)
        partitions = [self.program.partition_of(each.client) for each in self.asks]
        keys = [turn_key(self.program.seed, each) for each in self.asks]
        trained = self.source.train_many(ask.task.arrays, ctx, partitions, keys, correction)
        delta = ask.task.arrays.schema.delta
        return Arrays(delta, trained.rows[0, : delta.nbytes])


@final
class _OneGradient(_Way):
    """Clients of a source that computes their gradients as one."""

    def __init__(self, program: Program, asks: Sequence[Ask]) -> None:
        self.program, self.asks, self.source = program, asks, program.client_fn
        taken = isinstance(self.source, ClientSource) and gives_one_gradient(program.strategy)
        self.count = len(asks) if taken else 0

    def alone(self) -> Arrays:
        ctx = self.program.context(self.asks[0], None)
        client = self.program.build(ctx)
        assert isinstance(client, StepClient)
        start = self.asks[0].task.arrays
        return delta_of(client.gradient(start, ctx), start, ctx)

    def together(self) -> Arrays:
        assert isinstance(self.source, ClientSource)
        ctx, start = self.program.context(self.asks[0], None), self.asks[0].task.arrays
        partitions = [self.program.partition_of(ask.client) for ask in self.asks]
        self.source.gradient_many(start, ctx, partitions, uniform=False)
        return self.source.gradient_many(start, ctx, partitions[:1], uniform=False).change


def _pays(way: _Way) -> bool:
    if way.count < LEAST:
        return False
    alone, alone_s = _timed(way.alone)
    if alone_s > LONGEST_S:
        return False
    block, block_s = _timed(way.together)
    return alone_s * way.count > FASTER * block_s and _near(alone, block)


def _timed(train: Callable[[], Arrays]) -> tuple[Arrays, float]:
    """(what came of it, the seconds it takes when all is warm)."""
    found, least_s = _once(train)
    for _ in range(2):
        if least_s < LONGEST_S:
            found, seconds = _once(train)
            least_s = min(least_s, seconds)
    return found, least_s


def _once(train: Callable[[], Arrays]) -> tuple[Arrays, float]:
    started = time.perf_counter()
    return train(), time.perf_counter() - started


def _near(one: Arrays, other: Arrays) -> bool:
    """Whether two changes differ by no more than rounding does."""
    difference = Vector.of(one).values - Vector.of(other).values
    return float(np.linalg.norm(difference)) <= NEAR * one.norm()
