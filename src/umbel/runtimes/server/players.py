"""`NodePlayers`: the clients of a run on real nodes.

It is pure bookkeeping: what has to be sent goes into `outbox`, what arrived comes in as events. Whom to train with is
for those made of it: `CohortPlayers` and `StreamPlayers`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from umbel.arrays import Arrays
from umbel.audit.contribution import Contribution
from umbel.coordinators import Phase
from umbel.errors import ClientError, ProtocolError, TooFewClients, UmbelError
from umbel.message import Ask, Receipt, Task, Update, checked_examples, numbers
from umbel.runtimes.mail import Answer, Basis, blobs_of, left_s, read_answer, read_basis, write_basis, write_letter
from umbel.runtimes.players import Interrupted, Players, Progress, Say, Steps
from umbel.runtimes.program import turn_key
from umbel.runtimes.server.events import (
    Broken,
    CallOff,
    Came,
    Command,
    Deliver,
    Joined,
    Keep,
    Left,
    Moved,
    Release,
    Settle,
    Stopped,
)
from umbel.runtimes.server.memory import Memory
from umbel.runtimes.server.nodes import Nodes
from umbel.runtimes.server.opened import Opened
from umbel.runtimes.server.spool import Sheet, Spooled
from umbel.runtimes.tally import Tally
from umbel.schema import Schema
from umbel.stores import Store
from umbel.strategy import Strategy
from umbel.wire import zstd
from umbel.wire.packets import INLINE_BYTES

MAX_QUERY_BYTES = 2**36
TURN_LOOK_S = 0.5


class NodePlayers(Players):
    """What rounds and asynchronous runs have in common: asks go out, evaluations and queries come back.

    Args:
        nodes: who is there; kept up to date by the server.
        seed: the run's root seed, from which each client gets its own key.
        clock: the session's clock.
        evaluation_timeout_s: how long a cohort may evaluate; None waits.
        grace_s: how long an evaluation waits for nodes that are gone.
        memory: what a round may take.
        packs: whether to pack large arrays for nodes that can unpack them.
        hears: the metric of `fit` that the run's selector learns from.
    """

    def __init__(
        self,
        run: str,
        strategy: Strategy,
        nodes: Nodes,
        store: Store,
        *,
        seed: int,
        clock: Callable[[], float],
        per_client_metrics: bool = False,
        evaluation_timeout_s: float | None = None,
        grace_s: float = 10.0,
        memory: Memory | None = None,
        packs: bool = False,
        hears: str | None = None,
    ) -> None:
        self._hears = hears
        self._packs, self._packed = packs, dict[str, bytes | None]()
        self.run, self.strategy, self.nodes, self.store = run, strategy, nodes, store
        self.outbox: list[Command] = []
        self.memory = memory or Memory()
        self._spooled: Spooled | None = None
        self._seed, self._clock = seed, clock
        self._say: Say = lambda number, text: None
        self._progress: Progress | None = None
        self._per_client = per_client_metrics
        self._evaluation_timeout_s, self._grace_s = evaluation_timeout_s, grace_s
        self._phases: tuple[Opened, ...] = ()
        """Those with asks out, the newest last. Replaced as a whole: the event loop reads it from its own thread."""
        self._later: list[Any] = []
        """What came for a phase while another one was led."""
        self._waits_since_s = math.inf
        """Since when an answer has been among that."""
        self.why_not: Callable[[], str | None] = lambda: None
        """Says why the next round may not begin yet; None lets it."""
        self.refusals: Callable[[], str | None] = lambda: None
        """Which nodes refuse the run, where all that are there have decided and some do."""
        self._refused_since_s = math.inf
        self._unsettled: list[tuple[str, int, int, bool]] = []
        self._contributed: list[Contribution] = []
        """What went into the round under way."""
        self._never_evaluates: set[str] = set()
        # A round's evaluation comes before its commit: where its training left the clients' states is not stored yet.
        self._pending: Mapping[str, bytes] = {}
        self.leadership = 0
        """How many processes have led the run, this one included, where that has to be known."""
        self.seats = 0
        """How many more devices the round under way takes in."""

    @abstractmethod
    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave to a checkpoint."""

    def tell_through(self, say: Say, progress: Progress | None) -> None:
        """Write warnings with `say`, and tell `progress` how far a phase is."""
        self._say, self._progress = say, progress

    @property
    def spools(self) -> bool:
        """Whether the answers to the phase under way go to disk."""
        return self._spooled is not None

    @property
    def upload_bytes(self) -> int:
        """The most that an answer to what is out may have."""
        return max((phase.answer_bytes for phase in self._phases), default=0)

    def expects(self, client: str, round: int, attempt: int) -> bool:
        """Whether an answer of this client is still wanted."""
        asks = [phase.asks.get(client) for phase in self._phases]
        return any(ask is not None and (ask.task.round, ask.attempt) == (round, attempt) for ask in asks)

    def awaits(self, client: str) -> bool:
        """Whether this client has been asked something that it has not answered."""
        return any(client in phase.asks for phase in self._phases)

    def ready(self, round: int, least: int) -> Steps[None]:
        while (waits := self.why_not()) or self.nodes.size < least:
            until_s = self._clock() + TURN_LOOK_S if waits else self.refused_until(round, self.refusals())
            self._meant_for(None, (yield until_s))

    def refused_until(self, round: int, refusals: str | None) -> float:
        """Until when a round that too few nodes take part in waits for one that refuses to think better of it.

        Raises:
            TooFewClients: they have refused for as long as a round may take.
        """
        if refusals is None or self._evaluation_timeout_s is None:
            self._refused_since_s = math.inf
            return math.inf
        self._refused_since_s = min(self._refused_since_s, self._clock())
        until_s = self._refused_since_s + self._evaluation_timeout_s
        if self._clock() < until_s:
            return until_s
        raise TooFewClients(
            round,
            f"too few nodes take part, and for round_timeout={self._evaluation_timeout_s:g} s nodes have refused "
            f"({refusals}); have their owners let the run in (umbel agree, or their policy), then resume it",
        )

    def _meant_for(self, phase: Opened | None, events: Sequence[Any]) -> list[Any]:
        """The events but those of clients with asks of other phases, which are kept for these."""
        others = [other for other in self._phases if other is not phase]
        mine = list[Any]()
        for event in self._stop_if_asked(events):
            client = getattr(event, "client", None)
            if any(client in other.asks for other in others):
                self._later.append(event)
                if isinstance(event, Came):
                    self._waits_since_s = min(self._waits_since_s, self._clock())
            else:
                mine.append(event)
        return mine

    def _stop_if_asked(self, events: Sequence[Any]) -> Sequence[Any]:
        for event in events:
            if isinstance(event, Stopped):
                raise Interrupted(event.reason)
            if isinstance(event, Broken):
                raise event.error
        return events

    def _begin(
        self,
        task: Task,
        kind: str,
        attempt: int,
        ends_at_s: float,
        schema: dict[str, Schema],
        clients: Sequence[str],
    ) -> Opened:
        digests = {"": task.arrays.digest, **{name: arrays.digest for name, arrays in task.extra.items()}}
        opened = Opened(task, kind, attempt, self._clock(), ends_at_s, schema, blobs_of(task), digests)
        opened.answer_bytes = sum(expected.nbytes for expected in schema.values())
        self._phases = (*self._phases, opened)
        if self._packs:
            # Once for all nodes, and for the round after an evaluation of the same model.
            known = self._packed
            blobs = {digest: arrays for phase in self._phases for digest, arrays in phase.blobs.items()}
            self._packed = {d: known[d] if d in known else _packed(arrays) for d, arrays in blobs.items()}
        self._keep_blobs()
        self._ask_more(opened, clients)
        return opened

    def _keep_blobs(self) -> None:
        """Nodes may ask for the arrays of what is out, and for no others any more."""
        self.outbox.append(Keep(frozenset(digest for phase in self._phases for digest in phase.blobs)))

    def _ask_more(self, phase: Opened, clients: Sequence[str]) -> None:
        for client in clients:
            kind: Any = phase.kind
            ask = Ask(client, kind, phase.task, attempt=phase.attempt)
            phase.asks[client] = replace(ask, key=turn_key(self._seed, ask))
            phase.asked_s[client] = self._clock()
            self._deliver(phase, client)

    def _deliver(self, phase: Opened, client: str) -> None:
        ask = phase.asks[client]
        basis = self._basis(ask)
        parts = write_letter(self.run, ask, phase.digests, basis, left_s(phase.ends_at_s, self._clock()))
        self.outbox.append(Deliver(client, ask, parts, phase.blobs, self._packed_now))

    @property
    def _packed_now(self) -> dict[str, bytes]:
        return {digest: data for digest, data in self._packed.items() if data is not None}

    def _basis(self, ask: Ask) -> Basis:
        pending = self._pending.get(ask.client) if ask.kind == "evaluate" else None
        return read_basis(pending or self.store.state(self.run, ask.client, ask.task.round - (ask.kind == "fit")))

    def _measure(
        self, round: int, client: str, metrics: Any, examples: float, tally: Tally, warnings: Sequence[str]
    ) -> dict[str, float]:
        kept, sentences = numbers(metrics)
        for text in (*warnings, *sentences):
            self._say(round, f"client {client}: {text}")
        tally.measure(examples, kept)
        if self._per_client:
            tally.clients.append({"client": client, "examples": examples, "metrics": kept})
        return kept

    def _taken(self, answer: Answer, receipt: Receipt, opened: Opened, round: int, tally: Tally) -> None:
        """Note what came with an update that is folded, to an ask of the phase `opened`."""
        assert answer.update is not None
        client = receipt.client
        kept = self._measure(round, client, answer.update.metrics, receipt.examples, tally, answer.warnings)
        asked_s = opened.asked_s.get(client)
        took_s = None if asked_s is None else self._clock() - asked_s
        loss = None if self._hears is None else kept.get(self._hears)
        tally.receipts.append(replace(receipt, took_s=took_s, loss=loss))
        self._contributes(receipt, receipt.examples)
        if answer.has_state:
            tally.states[receipt.client] = write_basis(receipt.round, receipt.attempt)

    def _contributes(self, receipt: Receipt, examples: float | None = None) -> None:
        card = self.nodes.cards.get(receipt.client)
        self._contributed.append(
            Contribution(receipt.client, receipt.round, receipt.attempt, receipt.update, examples, card)
        )

    def account(self) -> dict[str, Any]:
        """Whose answers are in the round's model."""
        contributed, self._contributed = sorted(self._contributed), []
        return {"contributions": [one.plain() for one in contributed]} if contributed else {}

    def _call_off(self, phase: Opened, clients: Sequence[str] | None = None) -> None:
        """Nobody's answer to this phase is wanted any more, or not that of some clients."""
        for client in list(phase.asks) if clients is None else clients:
            ask = phase.asks.pop(client)
            self.outbox.append(CallOff(client, ask.task.round, ask.attempt, ask.kind))
            if ask.kind == "fit":
                self._unsettled.append((client, ask.task.round, ask.attempt, False))
        if clients is None:
            self._phases = tuple(other for other in self._phases if other is not phase)

    def evaluate(self, phase: Phase, task: Task) -> Steps[Tally]:
        """Let those of a cohort evaluate that do not train.

        Where others train meanwhile, their answers are kept waiting for `grace_s` at most.
        """
        evaluators = self.nodes.evaluators - self._never_evaluates
        able = [client for client in phase.clients if client in evaluators]
        tally = Tally()
        if not able:
            self._say(phase.round, "clients have no evaluate (or no test data); evaluation by clients is skipped")
            return tally
        idle = [client for client in able if not self.awaits(client)]
        opened = self._begin(task, "evaluate", 0, self._evaluation_ends_at(), {}, idle)
        gone: dict[str, float] = {}
        while opened.asks:
            for event in self._meant_for(opened, (yield self._evaluates_until(opened, gone))):
                if isinstance(event, Came):
                    self._judged(event, opened, tally)
                    gone.pop(event.client, None)
                elif isinstance(event, Left) and event.client in opened.asks:
                    gone[event.client] = self._clock()
                elif isinstance(event, Joined) and event.client in opened.asks:
                    gone.pop(event.client, None)
                    self._deliver(opened, event.client)
            if self._clock() >= self._evaluates_until(opened, gone):
                break
            self._tell(phase.round, "evaluate", tally, len(idle))
        for client in opened.asks:
            tally.receipts.append(Receipt(client, phase.round, 0, "failed", reason="did not evaluate in time"))
        self._call_off(opened)
        return tally

    def _evaluates_until(self, phase: Opened, gone: dict[str, float]) -> float:
        return min(self._gives_up_at(phase, gone), phase.ends_at_s, self._waits_since_s + self._grace_s)

    def _evaluation_ends_at(self) -> float:
        return math.inf if self._evaluation_timeout_s is None else self._clock() + self._evaluation_timeout_s

    def _gives_up_at(self, phase: Opened, gone: dict[str, float]) -> float:
        if not gone or phase.asks.keys() - gone.keys():
            return math.inf
        return max(gone.values()) + self._grace_s

    def _judged(self, came: Came, phase: Opened, tally: Tally) -> None:
        self.outbox.append(Release(came.token))
        ask = phase.asks.get(came.client)
        if ask is None or isinstance(came.data, Sheet):
            return  # a sheet is an update that comes too late
        blank = Receipt(came.client, ask.task.round, ask.attempt, "refused")
        try:
            answer = read_answer(came.data)
            if (answer.round, answer.kind) != (ask.task.round, "evaluate"):
                return
            judged = answer.evaluation
            if answer.verdict == "unwilling":
                # As with a client that has no `evaluate`: said once, and no failure.
                self._say(phase.task.round, f"client {came.client} does not evaluate: {answer.reason}")
                self._never_evaluates.add(came.client)
                del phase.asks[came.client]
                return
            if judged is None:
                raise ClientError(came.client, answer.reason or "sent no evaluation")
            examples = checked_examples(came.client, judged.examples)
        except ClientError as error:
            tally.receipts.append(replace(blank, reason=error.reason))
        except UmbelError as error:
            tally.receipts.append(replace(blank, reason=str(error)))
        else:
            measured = {"loss": judged.loss, **judged.metrics}
            self._measure(phase.task.round, came.client, measured, examples, tally, answer.warnings)
            tally.receipts.append(replace(blank, verdict="done", examples=examples))
        del phase.asks[came.client]

    def query(
        self,
        next_client: Callable[[set[str]], str | None],
        task: Task,
        unable: dict[str, UmbelError],
        *,
        patience_s: float,
        progress_counts: bool,
        say: Callable[[str], None],
    ) -> Steps[tuple[str, Update] | None]:
        """Ask one node one thing, and one more each time that they take too long; the first answer counts.

        Args:
            next_client: whom to ask, other than these; None if there is nobody.
            unable: where it is noted who has no answer, and why.
            patience_s: how long to wait before another node is asked as well.
            progress_counts: whether that is without anything of an answer coming, or in all.
            say: told that another node is asked.

        Returns:
            (client, update); None if all that were asked have left or have no answer.
        """
        opened = self._begin(task, "query", 0, math.inf, {}, [])
        opened.answer_bytes = MAX_QUERY_BYTES
        tried: set[str] = set()
        moved_s = -math.inf
        found: tuple[str, Update] | None = None
        while found is None:
            late = self._clock() >= moved_s + patience_s
            client = next_client(tried) if late or not tried else None
            if client is not None:
                if tried:
                    unheard = " and ".join(sorted(opened.asks))
                    say(f"no first model has come from {unheard} for {patience_s:g} s; {client} is asked, too")
                tried.add(client)
                self._ask_more(opened, [client])
                moved_s = self._clock()
            if not opened.asks:
                break
            # Whether an answer is on its way is looked at in between; who joins rings a bell.
            until = math.inf if late and client is None else min(moved_s + patience_s, self._clock() + patience_s / 4)
            for event in self._meant_for(opened, (yield until)):
                if isinstance(event, Moved) and progress_counts and event.client in opened.asks:
                    moved_s = self._clock()
                elif isinstance(event, Left):
                    opened.asks.pop(event.client, None)
                elif isinstance(event, Came):
                    told = self._told(event, opened, unable)
                    found = found or told
        self._call_off(opened)
        return found

    def _told(self, came: Came, phase: Opened, unable: dict[str, UmbelError]) -> tuple[str, Update] | None:
        """The answer to a query, if there is one in it."""
        self.outbox.append(Release(came.token))
        if isinstance(came.data, Sheet) or phase.asks.pop(came.client, None) is None:
            return None
        try:
            answer = read_answer(came.data)
        except ProtocolError as error:
            unable[came.client] = error
            return None
        if answer.update is None:
            unable[came.client] = ClientError(came.client, answer.reason or "answers no queries")
            return None
        return came.client, answer.update

    @property
    def queried(self) -> list[str]:
        """The clients whose answer to a query is waited for."""
        return [client for phase in self._phases if phase.kind == "query" for client in phase.asks]

    def kept(self, round: int, tally: Tally, receipts: Mapping[tuple[str, int, int], bytes]) -> None:
        for client, number, attempt, included in self._unsettled:
            receipt = receipts.get((client, number, attempt), b"") if included else b""
            self.outbox.append(Settle(client, number, attempt, included, receipt))
        self._unsettled.clear()

    def _tell(self, round: int, kind: str, tally: Tally, total: int) -> None:
        if self._progress is not None:
            done = sum(receipt.verdict == "done" for receipt in tally.receipts)
            self._progress(round, kind, min(done, total), total)

    def close(self) -> None:
        for phase in self._phases:
            self._call_off(phase)


def _packed(arrays: Arrays) -> bytes | None:
    return zstd.packed([arrays.buffer.data]) if arrays.buffer.nbytes > INLINE_BYTES else None
