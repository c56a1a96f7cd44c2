"""`TimedPlayers`: virtual clients on a simulated clock.

What a turn takes does not depend on what is learned in it. So the story of a round is told first: who is asked when,
who comes back when, and whom the coordinator takes. Only then are the clients played whose updates count; those that
come too late, drop out or are called off cost nothing to simulate.

A client may fail when it is really played, which the story did not know. Then the round is told again from its
beginning, with that failure at its time, until the story and what was played agree: the outcome is what would have
happened if everybody had been played as time went by.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

from umbel.cohort import Receipts
from umbel.coordinators import Coordinator, Phase
from umbel.coordinators.population import Either
from umbel.errors import RoundError, TooFewClients
from umbel.message import Ask, Receipt, Task
from umbel.runtimes.asynchronous import GIVES_UP
from umbel.runtimes.engine import Meanwhile
from umbel.runtimes.players import Players, Steps, VirtualPlayers
from umbel.runtimes.system import Present, Timeline, Turn
from umbel.runtimes.tally import Tally
from umbel.strategy import Strategy

PATIENCE = 2_000
"""How often to wait for somebody else to come before the selector is taken at its word that it draws nobody."""


@final
@dataclass
class _Story:
    """How a round went: whose updates count, in the order of their arrival, who failed, how often it was waited."""

    accepted: list[Turn] = field(default_factory=list[Turn])
    failures: list[Receipt] = field(default_factory=list[Receipt])
    waits: int = 0


@final
class TimedPlayers(Players):
    """Plays on `timeline` what `present` and the coordinator say; `virtual` plays the clients themselves."""

    def __init__(
        self,
        virtual: VirtualPlayers,
        strategy: Strategy,
        timeline: Timeline,
        present: Present,
        draws: Callable[[], bool] = lambda: True,
    ) -> None:
        self.virtual, self.strategy, self._draws = virtual, strategy, draws
        self.timeline, self.present = timeline, present

    def ready(self, round: int, least: int) -> Steps[None]:
        """Let time pass until there are enough clients, and some whom the selector can draw."""
        for _ in range(PATIENCE if not self.timeline.flying else 0):
            least = max(least, 1)
            time_s = self.present.soonest(least)
            if math.isinf(time_s):
                raise TooFewClients(round, f"there are never {least} clients at a time; look at the availability")
            self.timeline.advance(time_s)
            others_s = math.inf if self._draws() else self.present.soonest(1, self.present)
            if math.isinf(others_s):
                return
            self.timeline.advance(others_s)
        return
        yield

    def fit(self, phase: Phase, task: Task, coordinator: Coordinator) -> Steps[tuple[Tally, list[Receipt]]]:
        self.timeline.tasks[phase.round] = task
        before = coordinator.mark(), self.timeline.mark()
        broken: dict[str, Receipt] = {}
        total, played = Tally(), set[str]()
        while True:
            story = self._told(phase, task, coordinator, broken)
            if not played <= {turn.client for turn in story.accepted}:
                total, played = Tally(), set[str]()  # an update that does not count after all cannot be taken out again
            asks = [self._ask(turn, task, coordinator) for turn in story.accepted if turn.client not in played]
            tally = self._play(asks, phase.round, more=bool(total.receipts))
            failed = {receipt.client: receipt for receipt in tally.receipts.failures()}
            played |= {ask.client for ask in asks if ask.client not in failed}
            total.absorb(tally)
            if not failed and coordinator.overlaps:
                failed = _empty(total)
            if not failed:
                break
            broken |= failed
            if coordinator.overlaps and len(broken) >= GIVES_UP and not total.examples.value:
                reason = next(iter(broken.values())).reason
                raise RoundError(phase.round, f"{len(broken)} clients failed and none answered; the first: {reason}")
            coordinator.reset(before[0])
            self.timeline.reset(before[1])
        self._close(phase, coordinator, story)
        took_s = {turn.client: turn.seconds for turn in story.accepted}
        total.receipts = Receipts(replace(receipt, took_s=took_s.get(receipt.client)) for receipt in total.receipts)
        self.virtual.pending = total.states
        return total, story.failures
        yield

    def _close(self, phase: Phase, coordinator: Coordinator, story: _Story) -> None:
        if coordinator.overlaps:
            self.timeline.folded([phase.round - turn.round for turn in story.accepted])
            self.timeline.forget()
        else:
            self.timeline.abandon()

    def _told(self, phase: Phase, task: Task, coordinator: Coordinator, broken: Mapping[str, Receipt]) -> _Story:
        """The round as it goes if just the clients in `broken` fail when they are played."""
        story, timeline = _Story(), self.timeline
        self._start(phase.clients, phase, task)
        while True:
            if timeline.next_s > timeline.now_s:
                self._start(coordinator.fill(), phase, task)
            if timeline.next_s > coordinator.looks_at_s:
                timeline.advance(coordinator.looks_at_s)
                if coordinator.tick(timeline.now_s):
                    return story
            elif not timeline.flying:
                if not self._waited(coordinator, story):
                    return story
            elif math.isinf(timeline.next_s):
                raise RoundError(
                    phase.round, f"{timeline.flying} clients take forever; look at bandwidths or set a round_timeout"
                )
            elif self._ended(timeline.pop(), phase, task, coordinator, broken, story):
                return story

    def _ended(
        self,
        turn: Turn,
        phase: Phase,
        task: Task,
        coordinator: Coordinator,
        broken: Mapping[str, Receipt],
        story: _Story,
    ) -> bool:
        """Tell the coordinator how a turn ended and do what it says; whether the round closes."""
        receipt = Receipt(turn.client, turn.round, turn.attempt, "done", seconds=turn.seconds)
        if turn.lost:
            receipt = replace(receipt, verdict="failed", reason=turn.lost)
        elif turn.client in broken:
            receipt = replace(broken[turn.client], seconds=turn.seconds)
        decision = coordinator.receipt(receipt)
        if decision.accept:
            story.accepted.append(turn)
        elif receipt.verdict != "done":
            story.failures.append(receipt)
        self._start(decision.ask, phase, task)
        return decision.close

    def _waited(self, coordinator: Coordinator, story: _Story) -> bool:
        """Whether there was something to wait for when nobody was under way: somebody who may be asked later."""
        story.waits += 1
        if not coordinator.overlaps or story.waits > PATIENCE:
            return False
        time_s = self.present.soonest(1, coordinator.excluded)
        if time_s <= self.timeline.now_s and not self._draws():
            # Of those who are there the selector draws none.
            time_s = self.present.soonest(1, Either(coordinator.excluded, self.present))
        if math.isinf(time_s) or time_s <= self.timeline.now_s:
            return False
        self.timeline.advance(time_s)
        return True

    def _start(self, clients: Sequence[str], phase: Phase, task: Task) -> None:
        if not clients:
            return
        down = task.arrays.nbytes + sum(arrays.nbytes for arrays in task.extra.values())
        up = sum(schema.nbytes for schema in self.strategy.schema(task, {}).values())
        self.timeline.start(clients, phase.round, phase.attempt, down, up, phase.ends_at_s)

    def _ask(self, turn: Turn, current: Task, coordinator: Coordinator) -> Ask:
        task, mixed = self.timeline.tasks[turn.round], coordinator.mixes
        onto = current.arrays if mixed and task is not current else None
        scale = coordinator.scale(turn.round)
        return Ask(turn.client, "fit", task, attempt=turn.attempt, scale=scale, onto=onto, share=turn.share)

    def _play(self, asks: Sequence[Ask], round: int, *, more: bool) -> Tally:
        """Play asks of several tasks."""
        if self.virtual.engine.several_tasks:
            return self.virtual.play(asks, round, more=more) if asks else Tally()
        total = Tally()
        for version in dict.fromkeys(ask.task.round for ask in asks):
            some = [ask for ask in asks if ask.task.round == version]
            total.absorb(self.virtual.play(some, round, more=more or bool(total.receipts)))
        return total

    def evaluate(self, phase: Phase, task: Task) -> Steps[Tally]:
        """Let a cohort evaluate: it is measuring, and takes no simulated time."""
        return (yield from self.virtual.evaluate(phase, task))

    def beside(self, work: Meanwhile) -> bool:
        return self.virtual.beside(work)

    def kept(self, round: int, tally: Tally, receipts: Mapping[tuple[str, int, int], bytes]) -> None:
        self.virtual.kept(round, tally, receipts)

    def account(self) -> dict[str, Any]:
        return self.timeline.account()

    def state(self) -> dict[str, Any]:
        return self.timeline.state()

    def close(self) -> None:
        self.virtual.close()


def _empty(total: Tally) -> dict[str, Receipt]:
    """Who has no examples, if nobody who was played has any: no step can be made of that, so others are asked."""
    if total.examples.value:
        return {}
    done = [receipt for receipt in total.receipts if receipt.verdict == "done"]
    return {receipt.client: replace(receipt, verdict="failed", reason="has no examples") for receipt in done}
