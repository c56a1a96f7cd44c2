"""`CohortPlayers`: rounds on real nodes. Updates are folded as they come, at most once, and only if the coordinator
takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, final

from umbel.coordinators import Phase, Rounds
from umbel.message import Receipt, Task
from umbel.runtimes.mail import Answer, left_s
from umbel.runtimes.players import Steps
from umbel.runtimes.server.events import Came, Dismiss, HurryUp, Joined, Left, Release, Spoiled, Stalled
from umbel.runtimes.server.looking import looked_at
from umbel.runtimes.server.opened import Opened
from umbel.runtimes.server.players import NodePlayers
from umbel.runtimes.tally import Tally


@final
class CohortPlayers(NodePlayers):
    """Plays cohorts on nodes, one after the other."""

    def fit(self, phase: Phase, task: Task, coordinator: Rounds) -> Steps[tuple[Tally, list[Receipt]]]:
        tally, failures, self._contributed = Tally(), list[Receipt](), []
        schema = dict(self.strategy.schema(task, {}))
        self._spooled = self.memory.accumulator(self.strategy, schema, len(phase.clients))
        sentence = self.memory.sentence(self.strategy.reducer, schema, len(phase.clients))
        if sentence and self._spooled is None:
            self._say(phase.round, sentence)
        opened = self._begin(task, "fit", phase.attempt, phase.ends_at_s, schema, phase.clients)
        if coordinator.arrives:
            self._seat_all(phase, opened, coordinator)
        # In a round that is nobody's turn nothing would ever happen.
        closed = not phase.clients and not coordinator.arrives
        while not closed:
            self.seats = coordinator.seats
            until = min(coordinator.looks_at_s, opened.hurries_at_s)
            events = self._stop_if_asked((yield until))
            for event in events:
                if isinstance(event, Came):
                    closed = self._folded(event, opened, coordinator, tally, failures) or closed
                elif isinstance(event, Stalled) and self.expects(event.client, event.round, event.attempt):
                    self._deliver(opened, event.client)
                elif isinstance(event, Spoiled):
                    closed = self._spoiled(event, opened, coordinator, tally, failures) or closed
                elif isinstance(event, Left):
                    self._ask_more(opened, coordinator.lost(event.client, self._clock()).ask)
                elif isinstance(event, Joined) and coordinator.back(event.client):
                    self._deliver(opened, event.client)
                elif isinstance(event, Joined) and coordinator.arrives:
                    self._seat(event.client, opened, coordinator)
            # What is waited with must not hold an update that is folded.
            events = event = None
            if not closed and coordinator.tick(self._clock()):
                closed = True
            self._hurry(opened)
            self._tell(phase.round, "fit", tally, len(phase.clients) or coordinator.config.min_fit_clients)
        self.seats = 0
        self._call_off(opened)
        self._pending, self._spooled = tally.states, None
        return tally, failures

    def _seat_all(self, phase: Phase, opened: Opened, coordinator: Rounds) -> None:
        """Of those who came before the round was open, some are in its cohort."""
        for client in self.nodes.names:
            if client not in phase.clients:
                self._seat(client, opened, coordinator)

    def _seat(self, client: str, opened: Opened, coordinator: Rounds) -> None:
        seated = coordinator.arrived(client).ask
        self._ask_more(opened, seated)
        if not seated:
            self.outbox.append(Dismiss(client))

    def _hurry(self, phase: Opened) -> None:
        """Tell those who still work that time is running out."""
        if self._clock() < phase.hurries_at_s:
            return
        phase.hurried = True
        left = left_s(phase.ends_at_s, self._clock())
        self.outbox += [HurryUp(client, ask.task.round, ask.attempt, left) for client, ask in phase.asks.items()]

    def _folded(self, came: Came, phase: Opened, coordinator: Rounds, tally: Tally, failures: list[Receipt]) -> bool:
        """Look at an answer and fold it if the coordinator takes it; says whether the round closes."""
        self.outbox.append(Release(came.token))
        ask = phase.asks.get(came.client)
        if ask is None:
            return False
        spool = self.memory.place if self.spools else None
        answer, receipt, groups = looked_at(came, ask, phase, self.strategy, spool)
        if answer is not None and (answer.round, answer.attempt, answer.kind) != (ask.task.round, ask.attempt, "fit"):
            return False
        return self._counted(phase, receipt, coordinator, tally, failures, answer, groups)

    def _spoiled(
        self, event: Spoiled, phase: Opened, coordinator: Rounds, tally: Tally, failures: list[Receipt]
    ) -> bool:
        if not self.expects(event.client, event.round, event.attempt):
            return False
        receipt = Receipt(event.client, event.round, event.attempt, "failed", reason=event.reason)
        return self._counted(phase, receipt, coordinator, tally, failures)

    def _counted(
        self,
        phase: Opened,
        receipt: Receipt,
        coordinator: Rounds,
        tally: Tally,
        failures: list[Receipt],
        answer: Answer | None = None,
        groups: Any = None,
    ) -> bool:
        """Do what the coordinator says to a receipt; says whether the round closes."""
        client = receipt.client
        del phase.asks[client]
        decision = coordinator.receipt(receipt)
        if decision.accept and answer is not None and answer.update is not None:
            self._fold(tally, phase, groups)
            self._taken(answer, receipt, phase, phase.task.round, tally)
        elif receipt.verdict != "done":
            failures.append(receipt)
            tally.receipts.append(receipt)
        self._unsettled.append((client, receipt.round, receipt.attempt, decision.accept))
        self._ask_more(phase, decision.ask)
        return decision.close

    def _fold(self, tally: Tally, phase: Opened, groups: Any) -> None:
        if self._spooled is None:
            tally.fold(self.strategy.reducer, phase.schema, groups)
            return
        tally.accumulator, tally.schema = self._spooled, phase.schema
        self._spooled.fold_sheet(groups)

    def restore(self, state: Mapping[str, Any]) -> None:
        return None

    def state(self) -> dict[str, Any]:
        return {}
