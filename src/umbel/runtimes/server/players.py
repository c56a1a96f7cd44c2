"""`NodePlayers`: the clients of a run on real nodes.

It is pure bookkeeping: what has to be sent goes into `outbox`, what arrived comes in as events. Updates are folded as
they come, at most once, and only if the coordinator takes them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, final

from umbel.arrays import Arrays
from umbel.coordinators import Phase, Rounds
from umbel.errors import ClientError, ProtocolError, StoreError, UmbelError
from umbel.message import Ask, Evaluation, Receipt, Task, Update, checked_examples, numbers, validate
from umbel.runtimes.mail import Answer, Basis, blobs_of, left_s, read_answer, read_basis, write_basis, write_letter
from umbel.runtimes.players import Interrupted, Players, Progress, Say, Steps
from umbel.runtimes.program import turn_key
from umbel.runtimes.server.events import (
    Broken,
    CallOff,
    Came,
    Command,
    Deliver,
    Dismiss,
    HurryUp,
    Joined,
    Left,
    Moved,
    Release,
    Settle,
    Spoiled,
    Stalled,
    Stopped,
)
from umbel.runtimes.server.memory import Memory
from umbel.runtimes.server.nodes import Nodes
from umbel.runtimes.server.spool import Sheet, Spooled, read_sheet, validate_sheet
from umbel.runtimes.tally import Tally
from umbel.runtimes.turn import sentence
from umbel.schema import Schema
from umbel.stores import Store
from umbel.strategy import Strategy
from umbel.wire import zstd
from umbel.wire.packets import INLINE_BYTES

HURRY_SHARE, HURRY_LEAST_S = 0.1, 0.5
MAX_QUERY_BYTES = 2**36
TURN_LOOK_S = 0.5


@final
@dataclass
class _Open:
    """The phase under way."""

    task: Task
    kind: str
    attempt: int
    began_s: float
    ends_at_s: float
    schema: dict[str, Schema]
    blobs: dict[str, Arrays]
    digests: dict[str, str]
    asks: dict[str, Ask] = field(default_factory=dict[str, Ask])
    asked_s: dict[str, float] = field(default_factory=dict[str, float])
    hurried: bool = False
    answer_bytes: int = 0


@final
class NodePlayers(Players):
    """Plays cohorts on nodes.

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
        self._open: _Open | None = None
        self.why_not: Callable[[], str | None] = lambda: None
        """Says why the next round may not begin yet; None lets it."""
        self._unsettled: list[tuple[str, int, int, bool]] = []
        self._never_evaluates: set[str] = set()
        # A round's evaluation comes before its commit: where its training left the clients' states is not stored yet.
        self._pending: Mapping[str, bytes] = {}
        self.seats = 0
        """How many more devices the round under way takes in."""

    def tell_through(self, say: Say, progress: Progress | None) -> None:
        """Write warnings with `say`, and tell `progress` how far a phase is."""
        self._say, self._progress = say, progress

    @property
    def spools(self) -> bool:
        """Whether the answers to the phase under way go to disk."""
        return self._spooled is not None

    @property
    def upload_bytes(self) -> int:
        """The most that an answer to the phase under way may have."""
        phase = self._open
        return 0 if phase is None else phase.answer_bytes

    def expects(self, client: str, round: int, attempt: int) -> bool:
        """Whether an answer of this client is still wanted."""
        phase = self._open
        ask = None if phase is None else phase.asks.get(client)
        return ask is not None and (ask.task.round, ask.attempt) == (round, attempt)

    def awaits(self, client: str) -> bool:
        """Whether this client has been asked something that it has not answered."""
        phase = self._open
        return phase is not None and client in phase.asks

    def ready(self, round: int, least: int) -> Steps[None]:
        while (waits := self.why_not()) or self.nodes.size < least:
            self._stop_if_asked((yield self._clock() + TURN_LOOK_S if waits else math.inf))

    def _stop_if_asked(self, events: Sequence[Any]) -> Sequence[Any]:
        for event in events:
            if isinstance(event, Stopped):
                raise Interrupted(event.reason)
            if isinstance(event, Broken):
                raise event.error
        return events

    def fit(self, phase: Phase, task: Task, coordinator: Rounds) -> Steps[tuple[Tally, list[Receipt]]]:
        tally, failures = Tally(), list[Receipt]()
        schema = dict(self.strategy.schema(task, {}))
        self._spooled = self.memory.accumulator(self.strategy, schema, len(phase.clients))
        sentence = self.memory.sentence(self.strategy.reducer, schema, len(phase.clients))
        if sentence and self._spooled is None:
            self._say(phase.round, sentence)
        opened = self._begin(task, "fit", phase.attempt, phase.ends_at_s, schema, phase.clients)
        if coordinator.arrives:
            self._seat_all(phase, coordinator)
        closed = False
        while not closed:
            self.seats = coordinator.seats
            until = min(coordinator.looks_at_s, _hurries_at(opened))
            events = self._stop_if_asked((yield until))
            for event in events:
                if isinstance(event, Came):
                    closed = self._folded(event, coordinator, tally, failures) or closed
                elif isinstance(event, Stalled) and self.expects(event.client, event.round, event.attempt):
                    self._deliver(event.client)
                elif isinstance(event, Spoiled):
                    closed = self._spoiled(event, coordinator, tally, failures) or closed
                elif isinstance(event, Left):
                    self._ask_more(coordinator.lost(event.client, self._clock()).ask)
                elif isinstance(event, Joined) and coordinator.back(event.client):
                    self._deliver(event.client)
                elif isinstance(event, Joined) and coordinator.arrives:
                    self._seat(event.client, coordinator)
            # What is waited with must not hold an update that is folded.
            events = event = None
            if not closed and coordinator.tick(self._clock()):
                closed = True
            self._hurry(opened)
            self._tell(phase.round, "fit", tally, len(phase.clients) or coordinator.config.min_fit_clients)
        self.seats = 0
        self._call_off()
        self._pending, self._spooled = tally.states, None
        return tally, failures

    def _seat_all(self, phase: Phase, coordinator: Rounds) -> None:
        """Of those who came before the round was open, some are in its cohort."""
        for client in self.nodes.names:
            if client not in phase.clients:
                self._seat(client, coordinator)

    def _seat(self, client: str, coordinator: Rounds) -> None:
        seated = coordinator.arrived(client).ask
        self._ask_more(seated)
        if not seated:
            self.outbox.append(Dismiss(client))

    def _begin(
        self,
        task: Task,
        kind: str,
        attempt: int,
        ends_at_s: float,
        schema: dict[str, Schema],
        clients: Sequence[str],
    ) -> _Open:
        blobs = blobs_of(task)
        if self._packs:
            # Once for all nodes, and for the round after an evaluation of the same model.
            known = self._packed
            self._packed = {d: known[d] if d in known else _packed(arrays) for d, arrays in blobs.items()}
        digests = {"": task.arrays.digest, **{name: arrays.digest for name, arrays in task.extra.items()}}
        self._open = _Open(task, kind, attempt, self._clock(), ends_at_s, schema, blobs, digests)
        self._open.answer_bytes = sum(expected.nbytes for expected in schema.values())
        self._ask_more(clients)
        return self._open

    def _ask_more(self, clients: Sequence[str]) -> None:
        phase = self._open
        assert phase is not None
        for client in clients:
            kind: Any = phase.kind
            ask = Ask(client, kind, phase.task, attempt=phase.attempt)
            phase.asks[client] = replace(ask, key=turn_key(self._seed, ask))
            phase.asked_s[client] = self._clock()
            self._deliver(client)

    def _deliver(self, client: str) -> None:
        phase = self._open
        assert phase is not None
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

    def _hurry(self, phase: _Open) -> None:
        """Tell those who still work that time is running out."""
        if self._clock() < _hurries_at(phase):
            return
        phase.hurried = True
        left = left_s(phase.ends_at_s, self._clock())
        self.outbox += [HurryUp(client, ask.task.round, ask.attempt, left) for client, ask in phase.asks.items()]

    def _folded(self, came: Came, coordinator: Rounds, tally: Tally, failures: list[Receipt]) -> bool:
        """Look at an answer and fold it if the coordinator takes it; says whether the round closes."""
        phase = self._open
        assert phase is not None
        self.outbox.append(Release(came.token))
        ask = phase.asks.get(came.client)
        if ask is None:
            return False
        answer, receipt, groups = self._looked_at(came, ask, phase)
        if answer is not None and (answer.round, answer.attempt, answer.kind) != (ask.task.round, ask.attempt, "fit"):
            return False
        return self._counted(phase, receipt, coordinator, tally, failures, answer, groups)

    def _spoiled(self, event: Spoiled, coordinator: Rounds, tally: Tally, failures: list[Receipt]) -> bool:
        phase = self._open
        assert phase is not None
        if not self.expects(event.client, event.round, event.attempt):
            return False
        receipt = Receipt(event.client, event.round, event.attempt, "failed", reason=event.reason)
        return self._counted(phase, receipt, coordinator, tally, failures)

    def _counted(
        self,
        phase: _Open,
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
            kept = self._measure(client, answer.update.metrics, receipt.examples, tally, answer.warnings)
            took_s = self._clock() - phase.asked_s[client]
            loss = None if self._hears is None else kept.get(self._hears)
            tally.receipts.append(replace(receipt, took_s=took_s, loss=loss))
            if answer.has_state:
                tally.states[client] = write_basis(receipt.round, receipt.attempt)
        elif receipt.verdict != "done":
            failures.append(receipt)
            tally.receipts.append(receipt)
        self._unsettled.append((client, receipt.round, receipt.attempt, decision.accept))
        self._ask_more(decision.ask)
        return decision.close

    def _fold(self, tally: Tally, phase: _Open, groups: Any) -> None:
        if self._spooled is None:
            tally.fold(self.strategy.reducer, phase.schema, groups)
            return
        tally.accumulator, tally.schema = self._spooled, phase.schema
        self._spooled.fold_sheet(groups)

    def _looked_at(self, came: Came, ask: Ask, phase: _Open) -> tuple[Answer | None, Receipt, Any]:
        """(the answer, its receipt, the groups to fold); whatever is wrong with it becomes a refusal."""
        blank = Receipt(came.client, ask.task.round, ask.attempt, "refused")
        answer: Answer | None = None
        try:
            groups: Any = None
            if self._spooled is not None:
                sheet = came.data if isinstance(came.data, Sheet) else Sheet.of(self.memory.place, came.data)
                answer, groups = read_sheet(sheet)
            else:
                assert isinstance(came.data, memoryview)
                answer = read_answer(came.data)
            if answer.verdict != "done" or answer.update is None:
                verdict: Any = "failed" if answer.verdict in ("failed", "unwilling") else "refused"
                return answer, replace(blank, verdict=verdict, reason=answer.reason or "sent no update"), None
            update = answer.update
            if self._spooled is not None:
                validate_sheet(came.client, groups, phase.schema)
            else:
                validate(came.client, update.groups, phase.schema)
                groups = self.strategy.open(update, ask.task, ask.own)
            examples = checked_examples(came.client, update.examples)
        except ClientError as error:
            return answer, replace(blank, reason=error.reason), None
        except StoreError:
            raise  # no fault of the client's: there is no room here
        except UmbelError as error:
            return answer, replace(blank, reason=str(error)), None
        except Exception as error:
            return answer, replace(blank, reason=f"its update cannot be opened: {sentence(error)}"), None
        done = replace(blank, verdict="done", examples=examples, steps=update.steps, seconds=answer.seconds)
        return answer, done, groups

    def _measure(
        self, client: str, metrics: Any, examples: float, tally: Tally, warnings: Sequence[str]
    ) -> dict[str, float]:
        kept, sentences = numbers(metrics)
        for text in (*warnings, *sentences):
            self._say(self._round, f"client {client}: {text}")
        tally.measure(examples, kept)
        if self._per_client:
            tally.clients.append({"client": client, "examples": examples, "metrics": kept})
        return kept

    @property
    def _round(self) -> int:
        return 0 if self._open is None else self._open.task.round

    def _call_off(self) -> None:
        """Nobody's answer to this phase is wanted any more."""
        phase = self._open
        if phase is None:
            return
        for client, ask in phase.asks.items():
            self.outbox.append(CallOff(client, ask.task.round, ask.attempt, ask.kind))
            if ask.kind == "fit":
                self._unsettled.append((client, ask.task.round, ask.attempt, False))
        phase.asks.clear()
        self._open = None

    def evaluate(self, phase: Phase, task: Task) -> Steps[Tally]:
        evaluators = self.nodes.evaluators - self._never_evaluates
        able = [client for client in phase.clients if client in evaluators]
        tally = Tally()
        if not able:
            self._say(phase.round, "clients have no evaluate (or no test data); evaluation by clients is skipped")
            return tally
        opened = self._begin(task, "evaluate", 0, self._evaluation_ends_at(), {}, able)
        gone: dict[str, float] = {}
        while opened.asks:
            events = self._stop_if_asked((yield min(self._gives_up_at(opened, gone), opened.ends_at_s)))
            for event in events:
                if isinstance(event, Came):
                    self._judged(event, tally)
                    gone.pop(event.client, None)
                elif isinstance(event, Left) and event.client in opened.asks:
                    gone[event.client] = self._clock()
                elif isinstance(event, Joined) and event.client in opened.asks:
                    gone.pop(event.client, None)
                    self._deliver(event.client)
            if self._clock() >= min(self._gives_up_at(opened, gone), opened.ends_at_s):
                break
            self._tell(phase.round, "evaluate", tally, len(able))
        for client in opened.asks:
            tally.receipts.append(Receipt(client, phase.round, 0, "failed", reason="did not evaluate in time"))
        self._call_off()
        return tally

    def _evaluation_ends_at(self) -> float:
        return math.inf if self._evaluation_timeout_s is None else self._clock() + self._evaluation_timeout_s

    def _gives_up_at(self, phase: _Open, gone: dict[str, float]) -> float:
        if not gone or phase.asks.keys() - gone.keys():
            return math.inf
        return max(gone.values()) + self._grace_s

    def _judged(self, came: Came, tally: Tally) -> None:
        phase = self._open
        assert phase is not None
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
                self._say(self._round, f"client {came.client} does not evaluate: {answer.reason}")
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
            self._count(came.client, judged, examples, answer.warnings, tally)
            tally.receipts.append(replace(blank, verdict="done", examples=examples))
        del phase.asks[came.client]

    def _count(self, client: str, judged: Evaluation, examples: float, warnings: Sequence[str], tally: Tally) -> None:
        self._measure(client, {"loss": judged.loss, **judged.metrics}, examples, tally, warnings)

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
                self._ask_more([client])
                moved_s = self._clock()
            if not opened.asks:
                break
            # Whether an answer is on its way is looked at in between; who joins rings a bell.
            until = math.inf if late and client is None else min(moved_s + patience_s, self._clock() + patience_s / 4)
            for event in self._stop_if_asked((yield until)):
                if isinstance(event, Moved) and progress_counts and event.client in opened.asks:
                    moved_s = self._clock()
                elif isinstance(event, Left):
                    opened.asks.pop(event.client, None)
                elif isinstance(event, Came):
                    told = self._told(event, unable)
                    found = found or told
        self._call_off()
        return found

    def _told(self, came: Came, unable: dict[str, UmbelError]) -> tuple[str, Update] | None:
        """The answer to a query, if there is one in it."""
        self.outbox.append(Release(came.token))
        phase = self._open
        if phase is None or isinstance(came.data, Sheet) or phase.asks.pop(came.client, None) is None:
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
        phase = self._open
        return list(phase.asks) if phase is not None and phase.kind == "query" else []

    def kept(self, round: int, tally: Tally) -> None:
        for client, number, attempt, included in self._unsettled:
            self.outbox.append(Settle(client, number, attempt, included))
        self._unsettled.clear()

    def _tell(self, round: int, kind: str, tally: Tally, total: int) -> None:
        if self._progress is not None:
            done = tally.receipts.done
            self._progress(round, kind, min(done, total), total)

    def close(self) -> None:
        self._call_off()


def _packed(arrays: Arrays) -> bytes | None:
    return zstd.packed([arrays.buffer.data]) if arrays.buffer.nbytes > INLINE_BYTES else None


def _hurries_at(phase: _Open) -> float:
    """When to say that time is running out; never twice."""
    if phase.hurried or math.isinf(phase.ends_at_s):
        return math.inf
    whole = phase.ends_at_s - phase.began_s
    return phase.ends_at_s - min(whole / 2, max(HURRY_LEAST_S, HURRY_SHARE * whole))
