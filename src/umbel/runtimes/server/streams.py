"""`StreamPlayers`: asynchronous runs on real nodes. Each ask names its version of the model, that of the step in which
it went out; several are out at once, and an update is scaled by its staleness when it is folded."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

from umbel.cohort import Receipts
from umbel.coordinators import Overlapping, Phase
from umbel.errors import NotSupported, RoundError
from umbel.message import Ask, Receipt, Task
from umbel.runtimes.asynchronous import GIVES_UP
from umbel.runtimes.measures import worked
from umbel.runtimes.parcel import task_in, task_tree
from umbel.runtimes.players import Steps
from umbel.runtimes.program import turn_key
from umbel.runtimes.server.events import Came, Joined, Left, Release, Spoiled, Stalled
from umbel.runtimes.server.looking import looked_at
from umbel.runtimes.server.opened import Opened
from umbel.runtimes.server.players import NodePlayers
from umbel.runtimes.session import LISTED_CLIENTS
from umbel.runtimes.staleness import counted
from umbel.runtimes.tally import Tally
from umbel.schema import Schema


@final
@dataclass
class _Step:
    """The step that is being made."""

    opened: Opened
    coordinator: Overlapping
    tally: Tally = field(default_factory=Tally)
    failures: list[Receipt] = field(default_factory=list[Receipt])
    began: dict[str, int] = field(default_factory=dict[str, int])
    """Whose update is in it, and which version it began from."""

    @property
    def round(self) -> int:
        return self.opened.task.round


@final
class StreamPlayers(NodePlayers):
    """Plays turns on nodes that outlive the step in which they began.

    A version of the model is held as long as an ask on it is out: a node may still have to fetch it. With V versions
    out, at most twice `places` and at most `max_staleness` + 1, a server holds V models, the sums of one step and
    the few uploads that it lets come at a time.
    """

    _began: tuple[int, Mapping[str, int]] = (0, {})
    _taken_up = True

    @property
    def versions(self) -> list[int]:
        """The steps whose models are held."""
        return [phase.task.round for phase in self._phases if phase.kind == "fit"]

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up the asks that a checkpoint has: they go out again when their nodes are there."""
        self._taken_up = False
        for tree in state["versions"].values():
            task = task_in(tree)
            opened = self._begin(task, "fit", 0, math.inf, dict(self.strategy.schema(task, {})), [])
            for client, version in state["training"]:
                if version == task.round:
                    ask = Ask(client, "fit", task)
                    opened.asks[client] = replace(ask, key=turn_key(self._seed, ask))

    def fit(self, phase: Phase, task: Task, coordinator: Overlapping) -> Steps[tuple[Tally, list[Receipt]]]:
        schema = dict(self.strategy.schema(task, {}))
        self._check_memory(phase.round, schema, coordinator.updates)
        self._let_go(coordinator.outdated())
        step = _Step(self._begin(task, "fit", phase.attempt, math.inf, schema, phase.clients), coordinator)
        if not self._taken_up:
            self._take_up(step)
        self._forget(step)
        closed, events = False, self._kept_events()
        while True:
            while events and not closed:
                closed = self._happened(events.popleft(), step)
            if closed:
                break
            self._ask_more(step.opened, coordinator.fill())
            if self._clock() >= coordinator.gives_up_at_s:
                break
            self._tell(phase.round, "fit", step.tally, coordinator.updates)
            events = deque(self._stop_if_asked((yield coordinator.gives_up_at_s)))
        self._later += events
        self._end(step)
        return step.tally, step.failures

    def _check_memory(self, round: int, schema: Mapping[str, Schema], updates: int) -> None:
        if self.memory.accumulator(self.strategy, schema, updates) is not None:
            raise NotSupported(
                "a step of this size needs a spool, and an asynchronous run scales updates in memory; lower "
                "buffer_size, or raise memory_gb"
            )
        sentence = self.memory.sentence(self.strategy.reducer, schema, updates)
        if sentence:
            self._say(round, sentence)

    def _kept_events(self) -> deque[Any]:
        """What came while others were waited for."""
        events, self._later, self._waits_since_s = deque(self._later), [], math.inf
        return events

    def _take_up(self, step: _Step) -> None:
        """After a restart: nodes that are there are asked again, the others when they come."""
        self._taken_up = True
        for client, version in list(step.coordinator.training.items()):
            opened = self._out(client)
            if client not in self.nodes.names:
                self._lost(client, step.coordinator)
            elif opened is not None and version < step.round:
                self._deliver(opened, client)

    def _out(self, client: str) -> Opened | None:
        """The version that a client was asked to train on."""
        return next((phase for phase in self._phases if phase.kind == "fit" and client in phase.asks), None)

    def _let_go(self, clients: Sequence[str]) -> None:
        """Their updates are not wanted any more."""
        for client in clients:
            opened = self._out(client)
            if opened is not None:
                self._call_off(opened, [client])

    def _lost(self, client: str, coordinator: Overlapping) -> None:
        given_up = coordinator.lost(client, self._clock())
        if given_up is not None:
            self._let_go([given_up])

    def _happened(self, event: Any, step: _Step) -> bool:
        """Do what an event asks for; says whether the step is complete."""
        if isinstance(event, Came):
            return self._folded(event, step)
        if isinstance(event, Left):
            self._lost(event.client, step.coordinator)
            self._forget(step)
            return step.coordinator.complete
        if isinstance(event, Spoiled) and self.expects(event.client, event.round, event.attempt):
            receipt = Receipt(event.client, event.round, event.attempt, "failed", reason=event.reason)
            return self._counted(receipt, step)
        if isinstance(event, (Stalled, Joined)) and step.coordinator.back(event.client):
            opened = self._out(event.client)
            if opened is not None:
                self._deliver(opened, event.client)
        return False

    def _folded(self, came: Came, step: _Step) -> bool:
        """Look at an answer and fold it if the coordinator takes it; says whether the step is complete."""
        self.outbox.append(Release(came.token))
        opened = self._out(came.client)
        if opened is None:
            return False
        ask = opened.asks[came.client]
        answer, receipt, groups = looked_at(came, ask, opened, self.strategy)
        if answer is not None and (answer.round, answer.attempt, answer.kind) != (ask.task.round, ask.attempt, "fit"):
            return False
        return self._counted(receipt, step, answer, groups)

    def _counted(self, receipt: Receipt, step: _Step, answer: Any = None, groups: Any = None) -> bool:
        """Do what the coordinator says to a receipt; says whether the step is complete."""
        opened = self._out(receipt.client)
        assert opened is not None
        ask = opened.asks.pop(receipt.client)
        decision = step.coordinator.receipt(self._timed(receipt, opened))
        self._unsettled.append((receipt.client, receipt.round, receipt.attempt, decision.accept))
        if decision.accept:
            # What it counts for is known only now: by the steps that were made since it was asked.
            stale = opened is not step.opened
            onto = step.opened.task.arrays if stale and step.coordinator.mixes else None
            ask = replace(ask, scale=step.coordinator.scale(receipt.round), onto=onto)
            step.tally.fold(self.strategy.reducer, opened.schema, counted(groups, ask))
            self._taken(answer, receipt, opened, step.round, step.tally)
            step.began[receipt.client] = receipt.round
        elif receipt.verdict != "done":
            step.failures.append(receipt)
            step.tally.receipts.append(receipt)
        self._forget(step)
        return self._closes(step, decision.close)

    def _timed(self, receipt: Receipt, opened: Opened) -> Receipt:
        """What the coordinator hears: how long the turn took as seen from here, with its transfers.

        After a restart that is not known, and the node's own word is taken if it is a time.
        """
        asked_s = opened.asked_s.get(receipt.client)
        if asked_s is not None:
            return replace(receipt, seconds=self._clock() - asked_s)
        return replace(receipt, seconds=worked(receipt))

    def _closes(self, step: _Step, close: bool) -> bool:
        """Whether the step is made now. Of updates without examples none can be: their clients have failed, then."""
        if close and step.began and not step.tally.examples.value:
            empty = [receipt for receipt in step.tally.receipts if receipt.verdict == "done"]
            failed = [replace(receipt, verdict="failed", reason="has no examples") for receipt in empty]
            self._unsettled = [(c, n, a, kept and step.began.get(c) != n) for c, n, a, kept in self._unsettled]
            step.failures += failed
            step.tally, step.began, self._contributed = Tally(receipts=Receipts(step.failures)), {}, []
            close = step.coordinator.refuse(failed)
        if len(step.failures) >= GIVES_UP and not step.tally.examples.value:
            first = step.failures[0].reason
            raise RoundError(step.round, f"{len(step.failures)} clients failed and none answered; the first: {first}")
        return close

    def _forget(self, step: _Step | None = None) -> None:
        """Let go of versions on which nobody works."""
        current = None if step is None else step.opened
        phases = tuple(phase for phase in self._phases if phase.asks or phase is current)
        if len(phases) < len(self._phases):
            self._phases = phases
            self._keep_blobs()

    def _end(self, step: _Step) -> None:
        """The step is made; after the last one nobody's update is of any use."""
        if step.round >= step.coordinator.config.num_rounds:
            self._let_go(list(step.coordinator.training))
            step.coordinator.abandon()
        self._began, self._pending = (step.round, step.began), step.tally.states
        self._forget()

    def account(self) -> dict[str, Any]:
        """As for all nodes, and by how many steps the model was ahead of the updates, which version each began from."""
        (number, began), self._began = self._began, (0, {})
        found = super().account()
        if not began:
            return found
        found["staleness"] = sum(number - version for version in began.values()) / len(began)
        if len(began) <= LISTED_CLIENTS:
            found["versions"] = sorted([client, version] for client, version in began.items())
        return found

    def state(self) -> dict[str, Any]:
        """The versions that asks are out on."""
        phases = [phase for phase in self._phases if phase.kind == "fit" and phase.asks]
        return {"versions": {str(phase.task.round): task_tree(phase.task) for phase in phases}}
