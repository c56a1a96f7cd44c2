"""Who plays the clients of a phase: virtual clients on an engine, or real nodes.

A session is a chain of steps. Each step may *wait*: it yields the time (on the session's clock) until which it waits
and is sent the events that arrived meanwhile. Virtual clients never wait. So the session itself knows neither threads
nor sockets, and whoever drives it (a loop in this process, a server's event loop, a simulated network) decides how to
wait.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar, final

from umbel.cohort import Asks, clients_of
from umbel.coordinators import Coordinator, Phase
from umbel.errors import UmbelError
from umbel.message import Ask, Receipt, Task
from umbel.runtimes.engine import Engine, Meanwhile
from umbel.runtimes.tally import Tally
from umbel.stores import Store

Result = TypeVar("Result")
Steps: TypeAlias = Generator[float, Sequence[Any], Result]
Say: TypeAlias = Callable[[int, str], None]
Progress: TypeAlias = Callable[[int, str, int, int], None]
Leader: TypeAlias = Any
"""The coordinator, of the kind that the players know."""


@final
class Interrupted(UmbelError):
    """Somebody wants the run to end now; it can be resumed."""


class Players(ABC):
    """Plays the clients of a phase. `fit` and `evaluate` hand every answer of a phase back as one tally."""

    @abstractmethod
    def ready(self, round: int, least: int) -> Steps[None]:
        """Wait until there are `least` clients."""

    @abstractmethod
    def fit(self, phase: Phase, task: Task, coordinator: Leader) -> Steps[tuple[Tally, list[Receipt]]]:
        """Play a cohort until the coordinator has it closed; returns the tally and those that failed."""

    @abstractmethod
    def evaluate(self, phase: Phase, task: Task) -> Steps[Tally]:
        """Let a cohort evaluate."""

    def beside(self, work: Meanwhile) -> bool:
        """Have `work` done while the clients of the next phase work, if they leave this process free; says if so.

        It may be left undone if that phase fails or asks nobody.
        """
        return False

    @abstractmethod
    def kept(self, round: int, tally: Tally, receipts: Mapping[tuple[str, int, int], bytes]) -> None:
        """The round's checkpoint is durable: what is in `tally` will never be asked for again.

        Args:
            receipts: what the clients get for their answers, by client, round and attempt.
        """

    @abstractmethod
    def account(self) -> dict[str, Any]:
        """What a round's record says of its time and of its updates, since the last call."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of turns that are under way, as plain data and arrays."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything. Safe to call twice."""


def finished(steps: Steps[Result]) -> Result:
    """Go through steps that never wait.

    Raises:
        UmbelError: they wait after all.
    """
    try:
        next(steps)
    except StopIteration as end:
        return end.value
    raise UmbelError("a step waits for events where there are none")


@final
class VirtualPlayers(Players):
    """Clients of a simulation, played by an engine; their states lie in the store."""

    def __init__(self, engine: Engine, store: Store, run: str, *, say: Say, progress: Progress | None = None) -> None:
        self.engine, self.store, self.run = engine, store, run
        self.say, self._progress = say, progress
        # A round's evaluation comes before its commit: what its training left at the clients is not in the store yet.
        self.pending: Mapping[str, bytes] = {}
        self._work: Meanwhile | None = None

    def ready(self, round: int, least: int) -> Steps[None]:
        return
        yield

    def fit(self, phase: Phase, task: Task, coordinator: Coordinator) -> Steps[tuple[Tally, list[Receipt]]]:
        """Play the cohort and, in the place of clients that failed, the reserve."""
        clients = phase.clients
        total, failures = Tally(), list[Receipt]()
        while clients:
            tally = self.play(Asks(clients, "fit", task, phase.attempt), phase.round, more=bool(total.receipts))
            order = {client: position for position, client in enumerate(clients)}
            failures += sorted(tally.receipts.failures(), key=lambda receipt: order[receipt.client])
            clients = coordinator.receipts(tally.receipts, order)
            total.absorb(tally)
        self.pending = total.states
        return total, failures
        yield

    def evaluate(self, phase: Phase, task: Task) -> Steps[Tally]:
        return self.play(Asks(phase.clients, "evaluate", task), phase.round)
        yield

    def play(self, asks: Sequence[Ask], round: int, *, more: bool = False) -> Tally:
        """Play these clients with the states they have before `round`, or for an evaluation in it."""
        kind, clients = asks[0].kind, clients_of(asks)
        states = self.store.states(self.run, clients, round - (kind == "fit"))
        work, self._work = self._work, None
        # Where work is left to do, the round before is not committed either.
        if self.pending and (kind == "evaluate" or work is not None):
            states |= {client: self.pending[client] for client in clients if client in self.pending}
        tally = self.engine.play(asks, states, self._told(round, kind), more=more, meanwhile=work)
        for sentence in tally.warnings:
            self.say(round, sentence)
        return tally

    def _told(self, round: int, kind: str) -> Callable[[int, int], None] | None:
        progress = self._progress
        if progress is None:
            return None
        return lambda done, total: progress(round, kind, done, total)

    def beside(self, work: Meanwhile) -> bool:
        if self.engine.elsewhere:
            self._work = work
        return self.engine.elsewhere

    def kept(self, round: int, tally: Tally, receipts: Mapping[tuple[str, int, int], bytes]) -> None:
        return None

    def account(self) -> dict[str, Any]:
        return {}

    def state(self) -> dict[str, Any]:
        return {}

    def close(self) -> None:
        self.engine.close()
