"""Virtual clients of whom the server is handed sums alone: what rounds that mask and rounds that encrypt share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from umbel.cohort import Receipts
from umbel.coordinators import Coordinator, Phase, Secure
from umbel.errors import NotSupported
from umbel.message import Receipt, Task
from umbel.privacy.sa1.encoding import Decoded
from umbel.privacy.sa1.secured import opened
from umbel.reducers.exact import ExactSum
from umbel.runtimes.players import Players, Say, Steps, VirtualPlayers
from umbel.runtimes.tally import Tally
from umbel.schema import Schema
from umbel.strategy import Strategy


class SummedPlayers(Players):
    """Plays cohorts of virtual clients so that what is handed back is an opened sum.

    The clients' identities are generated: in a simulation everybody is in one process, so what this shows is the
    arithmetic and the cost, not the protection.
    """

    def __init__(self, virtual: VirtualPlayers, strategy: Strategy, settings: Secure) -> None:
        self.virtual, self.strategy, self.settings = virtual, strategy, settings

    @abstractmethod
    def summed(self, phase: Phase, task: Task, schema: Mapping[str, Schema]) -> Tally:
        """The tally of a phase: an opened sum, or none and the reason at each client.

        Args:
            schema: of the groups that are summed; empty for an evaluation.
        """

    def ready(self, round: int, least: int) -> Steps[None]:
        return self.virtual.ready(round, least)

    def fit(self, phase: Phase, task: Task, coordinator: Coordinator) -> Steps[tuple[Tally, list[Receipt]]]:
        """Play all steps; a sum that cannot be opened leaves a cohort of failures."""
        tally = self.summed(phase, task, dict(self.strategy.schema(task, {})))
        order = {client: position for position, client in enumerate(phase.clients)}
        # Whom the coordinator would ask instead comes too late: the cohort is decided when a sum is begun.
        coordinator.receipts(tally.receipts, order)
        self.virtual.pending = tally.states
        return tally, sorted(tally.receipts.failures(), key=lambda receipt: order[receipt.client])
        yield

    def evaluate(self, phase: Phase, task: Task) -> Steps[Tally]:
        return self.summed(phase, task, {})
        yield

    def full(
        self,
        phase: Phase,
        schema: Mapping[str, Schema],
        decoded: Decoded,
        who: Sequence[str],
        failed: Mapping[str, str],
        states: Mapping[str, bytes],
    ) -> Tally:
        """The tally of an opened sum.

        Args:
            who: the clients that are in it; only their `states` are kept.
            failed: why others are not, where that is known.
        """
        tally = summed_tally(phase, failed, who, "dropped out of the secure round")
        there = set(who)
        tally.states = {client: state for client, state in states.items() if client in there}
        fill(tally, decoded, schema, len(who))
        warn(self.virtual.say, self.settings, phase.round, decoded, len(who))
        return tally

    def kept(self, round: int, tally: Tally, receipts: Mapping[tuple[str, int, int], bytes]) -> None:
        self.virtual.kept(round, tally, receipts)

    def account(self) -> dict[str, Any]:
        return self.virtual.account()

    def state(self) -> dict[str, Any]:
        return self.virtual.state()

    def close(self) -> None:
        self.virtual.close()


def check_linear(strategy: Strategy) -> None:
    """Refuse a strategy whose reducer needs to see single updates.

    Raises:
        NotSupported: says so.
    """
    if not strategy.reducer.linear:
        raise NotSupported(
            f"Secure() needs a linear reducer such as Mean(), got {strategy.reducer!r}: a robust rule looks at single "
            "updates, which a secure sum hides"
        )


def summed_tally(phase: Phase, failed: Mapping[str, str], summed: Sequence[str], otherwise: str) -> Tally:
    """A tally without a sum: one receipt for each client, of those that are in the sum that they are done."""
    there, receipts = set(summed), Receipts()
    for client in phase.clients:
        verdict: Literal["done", "failed"] = "done" if client in there else "failed"
        reason = "" if client in there else failed.get(client, otherwise)
        receipts.append(Receipt(client, phase.round, phase.attempt, verdict, reason=reason))
    return Tally(receipts=receipts)


def fill(tally: Tally, decoded: Decoded, schema: Mapping[str, Schema], count: int) -> None:
    """Add an opened sum to its tally."""
    tally.examples.add(decoded.examples)
    for name, (total, examples) in decoded.metrics.items():
        if examples:
            tally.metrics[name] = (ExactSum([total]), ExactSum([examples]))
    if schema:
        tally.accumulator, tally.schema = opened(decoded, schema, count), schema


def warn(say: Say, settings: Secure, round: int, decoded: Decoded, summed: int) -> None:
    """Say how many clients were cut, if any."""
    if decoded.saturated:
        say(
            round,
            f"round {round}: {decoded.saturated} of {summed} clients had values beyond clip={settings.clip:g} or a "
            f"weight beyond weight_cap={settings.weight_cap:g}, which were cut; raise them",
        )
