"""One run, from the first round to the last: the loop that drives a coordinator, a strategy, an engine and a store."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias, cast, final

from umbel.audit.contribution import Contribution
from umbel.audit.notary import Notary
from umbel.coordinators import Coordinator, Ended, Phase
from umbel.dtypes import finite
from umbel.errors import ConfigError, RoundError, StoreError, UmbelError, printable, said
from umbel.message import Receipt, Task
from umbel.runtimes import checkpoint
from umbel.runtimes.budget import Budget
from umbel.runtimes.central import Central, Closing, is_in_order
from umbel.runtimes.history import RoundRecord
from umbel.runtimes.measures import mapping_of, means, summary, worked
from umbel.runtimes.players import Interrupted, Players, Steps, finished
from umbel.runtimes.room import Room
from umbel.runtimes.stepping import settled, stepped
from umbel.runtimes.stopping import unmonitored
from umbel.runtimes.tally import Tally
from umbel.stores import Store
from umbel.stores.link import PLAN
from umbel.strategy import State, Strategy

Observer: TypeAlias = Callable[[Mapping[str, Any]], None]
LISTED_CLIENTS = 1000
ARGUMENTS = {
    "evaluate_fn": "evaluate_fn",
    "on_fit_config_fn": "on_fit_config_fn",
    "on_evaluate_config_fn": "on_evaluate_config_fn",
    "fit_metrics": "fit_metrics_aggregation_fn",
    "evaluate_metrics": "evaluate_metrics_aggregation_fn",
}
"""The names of hooks as the user gives them."""
KEPT_CHECKPOINTS = 2
LED = "led"
"""The kind of the event by which a server says that it leads the run from here on, before it asks anybody."""


def check_observers(observers: object) -> None:
    """Refuse what is no list of functions."""
    given = cast("Sequence[Any]", observers) if isinstance(observers, Sequence) else (None,)
    if not all(callable(observer) for observer in given):
        raise ConfigError(f"observers must be a list of functions, got {observers!r}; try observers=[print]")


@final
@dataclass
class Hooks:
    """The user's functions that run at the server."""

    evaluate_fn: Callable[..., Any] | None = None
    on_fit_config_fn: Callable[[int], Mapping[str, Any]] | None = None
    on_evaluate_config_fn: Callable[[int], Mapping[str, Any]] | None = None
    fit_metrics: Callable[..., Mapping[str, float]] | None = None
    evaluate_metrics: Callable[..., Mapping[str, float]] | None = None
    stop_when: Callable[[RoundRecord], bool] | None = None

    def __post_init__(self) -> None:
        for field_name, argument in ARGUMENTS.items():
            value = getattr(self, field_name)
            if value is not None and not callable(value):
                raise ConfigError(
                    f"{argument} must be a function or None, got {value!r}; leave it out if there is none"
                )

    @property
    def per_client(self) -> bool:
        """Whether a function wants to see each client's metrics."""
        return self.fit_metrics is not None or self.evaluate_metrics is not None


def broken_off(error: Exception) -> str:
    """Why a run ended that failed, in one line for its log."""
    kind = "" if isinstance(error, UmbelError) else f"{type(error).__name__}: "
    return printable(f"failed: {kind}{said(error)}")


@final
@dataclass
class Session:
    """Everything one run needs. `state` and `coordinator` are where it begins: fresh, or from a checkpoint.

    Attributes:
        evaluates: whether clients can evaluate; if not, nobody is asked to and that is said once.
        notes: sentences for the log, known before the first round.
        fresh: whether nothing of the run is kept yet.
        plan: the digest of the run's plan, which its first event names; empty names none.
        players: who plays the clients; set before the first step.
        clock: seconds; what deadlines are measured on.
        room: where a large model lies; None is this process's memory.
        budget: what a private run may still release; None is a run without privacy.
        giver: the client that was asked for the first model; None if nobody was.
        notary: signs the log as it grows; None signs nothing.
        wall_clock: Unix time, for logs that say when a round ended and how long nodes worked; None leaves it out.
    """

    run: str
    strategy: Strategy
    coordinator: Coordinator
    store: Store
    state: State
    hooks: Hooks = field(default_factory=Hooks)
    observers: Sequence[Observer] = ()
    evaluates: bool = True
    notes: Sequence[str] = ()
    fresh: bool = True
    plan: str = ""
    players: Players = field(init=False)
    clock: Callable[[], float] = time.monotonic
    room: Room | None = None
    budget: Budget | None = None
    giver: str | None = None
    notary: Notary | None = None
    wall_clock: Callable[[], float] | None = None
    _owed: list[tuple[int, str, list[Contribution]]] = field(default_factory=list[Any])
    _said: set[str] = field(default_factory=set[str])
    _looked: bool = False
    _closing: Closing | None = None
    _held: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def drive(self) -> str:
        """Run all rounds with players that never wait; returns why it ended. Raises as `steps`."""
        return finished(self.steps())

    def steps(self) -> Steps[str]:
        """All rounds, step by step; returns why the run ended.

        Raises:
            TooFewClients, RoundError: a round could not be closed.
            StoreError: it could not be kept.
        """
        reason = "interrupted"
        try:
            self.state = settled(self.state, self.room)
            for text in self.notes:
                self.say(self.coordinator.round, text)
            if self.fresh:
                self._begin()
            reason = yield from self._rounds()
            self._end(reason)
            self.store.set_status(self.run, "finished")
        except (KeyboardInterrupt, Interrupted):
            self.players.close()
            self._end(reason)
            self.store.set_status(self.run, "interrupted")
        except StoreError:
            raise
        except UmbelError as error:
            self._end(broken_off(error))
            self.store.set_status(self.run, "failed")
            raise
        except Exception as error:
            # A function of the user's raised; what it says is not lost to a store that cannot be written.
            with suppress(StoreError):
                self._end(broken_off(error))
                self.store.set_status(self.run, "failed")
            raise
        return reason

    def lead(self) -> int:
        """Write down that this process leads the run from now on; returns how many have, it included.

        What was begun before it, and undone, counts as well: nothing that an earlier one asked may be asked again.
        """
        leadership = 1 + sum(event["kind"] == LED for event in self.store.log(self.run))
        self._append({"kind": LED, "round": self.coordinator.round, "leadership": leadership})
        return leadership

    def _begin(self) -> None:
        """Evaluate and keep the model as it is before the first round."""
        metrics = self._measured(Central(self.hooks.evaluate_fn, 0, self.state.params))
        event: dict[str, Any] = {"kind": "begun", "round": 0}
        if metrics:
            event |= {"kind": "round", "participants": 0, **summary({}, {}, metrics), **self.players.account()}
        # Whose the first model was, nobody could tell later.
        event |= {"model": self.state.params.digest, "giver": self.giver, **({PLAN: self.plan} if self.plan else {})}
        self._commit(event, 0, {}, self._checkpoint())

    def _rounds(self) -> Steps[str]:
        try:
            return (yield from self._each_round())
        except (Exception, KeyboardInterrupt):
            # The next round could not be had; this one was, and is written down as if nothing had come after it.
            self._settle()
            raise

    def _each_round(self) -> Steps[str]:
        least = self.coordinator.least_available
        while True:
            if self.coordinator.round < self.coordinator.config.num_rounds:
                yield from self.players.ready(self.coordinator.round + 1, least)
            started = time.perf_counter()
            if self._is_spent():
                self._settle()
                return "budget"
            phase = self.coordinator.begin(self.clock())
            if isinstance(phase, Ended):
                return phase.reason
            ended = yield from self._round(phase, started)
            if ended is not None:
                return ended.reason

    def _round(self, phase: Phase, started: float) -> Steps[Ended | None]:
        task = self._task(phase.round, self.hooks.on_fit_config_fn)
        if self.budget is not None and self.budget.first:
            # Who is sent it, or opens their sum, has seen the release: a kill after that must not make it free.
            self._settle()
            self._append(self.budget.entry(phase.round))
        tally, failures = yield from self.players.fit(phase, task, self.coordinator)
        self._settle()
        if self.coordinator.close(examples=tally.examples.value) == "retry":
            self.say(phase.round, f"round {phase.round} had too few answers and is tried again with another cohort")
            return None
        self.state = self._step(phase.round, task, tally)
        self._learn(phase.round, tally, failures)
        central = Central(self.hooks.evaluate_fn, phase.round, self.state.params)
        later = self._may_wait(phase.round)
        evaluation = yield from self._evaluate(phase.round, failures, None if later else central)
        if not later:
            central.result()
        event = self._record(phase, task, tally, failures, evaluation)
        event["seconds"] = time.perf_counter() - started
        closing = Closing(phase.round, central, event, tally, evaluation)
        self.coordinator.count()
        if not later:
            return self._close(closing)
        self._closing = closing
        if not self.players.beside(self._settle):
            self._settle()
        return None

    def _may_wait(self, round: int) -> bool:
        """Whether a round's model may be evaluated at the server while the next round's clients train.

        Not where the round has a checkpoint: that is written before anything else begins, so that a crash costs no more
        than it does anyhow.
        """
        config, coordinator = self.coordinator.config, self.coordinator
        if round % config.checkpoint_every == 0:
            return False
        if self.hooks.evaluate_fn is None or round >= config.num_rounds or coordinator.overlaps:
            return False
        return self.room is None and not is_in_order(self.hooks, config)

    def _settle(self) -> None:
        """Evaluate the model of the round before at the server, if that is left to do, and write the round down."""
        closing, self._closing = self._closing, None
        if closing is None:
            return
        try:
            self._close(closing)
        finally:
            held, self._held = self._held, []
            for event in held:
                self._append(event)

    def _close(self, closing: Closing) -> Ended | None:
        number, config = closing.round, self.coordinator.config
        try:
            central = self._measured(closing.central)
        except BaseException:
            self.coordinator.round = number - 1  # a round that was counted too early
            raise
        found = self._summary(closing, central)
        measured = {**found["metrics"], **({} if found["loss"] is None else {"loss": found["loss"]})}
        event = {**closing.event, **found}
        self._look_for_monitor(number, measured)
        ended = self.coordinator.judge(number, measured)
        stop_when = self.hooks.stop_when
        if stop_when is not None and stop_when(self._told(event)) and ended is None:
            ended = Ended("stopped")
        keep = ended is not None or number % config.checkpoint_every == 0
        self._commit(event, number, closing.tally.states, self._checkpoint() if keep else None)
        if keep:
            self.players.kept(number, closing.tally, self._receipts())
        return ended

    def _told(self, event: Mapping[str, Any]) -> RoundRecord:
        """What ends a run may hang on. Who answered is in no budget, and when a run ends is seen by everybody."""
        record = RoundRecord.of(event)
        if self.budget is None:
            return record
        return RoundRecord(record.round, record.loss, record.metrics, participants=0)

    def _look_for_monitor(self, round: int, measured: Mapping[str, float]) -> None:
        """Say once, after the first round that could have it, that the monitored metric is not there."""
        config = self.coordinator.config
        if self._looked:
            return
        self._looked = round % config.evaluate_every == 0
        sentence = unmonitored(config, round, measured)
        if sentence is not None:
            self.say(round, sentence)

    def _is_spent(self) -> bool:
        """Whether a round more would exceed the privacy budget; if so that is said."""
        sentence = None if self.budget is None else self.budget.sentence
        if sentence is None or self.coordinator.round >= self.coordinator.config.num_rounds:
            return False
        self.say(self.coordinator.round, sentence)
        return True

    def _learn(self, round: int, tally: Tally, failures: Sequence[Receipt]) -> None:
        """Tell the selector who answered how, if it wants to know."""
        if self.coordinator.config.selector.hears is None:
            return
        done = [receipt for receipt in tally.receipts if receipt.verdict == "done"]
        sentence = self.coordinator.learn([*done, *failures])
        if sentence is not None:
            self.say(round, sentence)

    def _task(self, round: int, config_fn: Callable[[int], Mapping[str, Any]] | None) -> Task:
        config = {} if config_fn is None else mapping_of(config_fn, config_fn(round))
        return replace(self.strategy.task(self.state, round), config={"server_round": round, **config})

    def progress(self, round: int, kind: str, done: int, total: int) -> None:
        """Tell the observers how far a phase is."""
        self._tell({"kind": "progress", "round": round, "phase": kind, "done": done, "total": total})

    def _step(self, round: int, task: Task, tally: Tally) -> State:
        if tally.accumulator is None:
            if self.budget is None:
                raise RoundError(round, "no update arrived")
            # That nobody was drawn, or nobody answered, must not show: the release is noise alone.
            tally.started(self.strategy.reducer, self.strategy.schema(task, {}))
        assert tally.accumulator is not None
        if self.budget is not None and not self.budget.first:
            # Before the noise is drawn: a release that is not in the ledger cannot be.
            self._append(self.budget.entry(round))
        population, schema = self.coordinator.population.size, tally.schema or {}
        room = self.room if self.room is not None and not self.room.is_small(self.state.params.schema) else None
        state = stepped(self.strategy, self.state, tally.accumulator, schema, population, room)
        tally.accumulator = None
        for segment in state.params.schema.segments:
            if not finite(state.params.flat(segment), segment.dtype):
                name = next(s.name for s in state.params.schema.specs if not finite(state.params[s.name], s.dtype))
                raise RoundError(round, f"the server's step made {name!r} infinite or NaN; lower the server's lr")
        return state

    def _evaluate(self, round: int, failures: list[Receipt], central: Central | None) -> Steps[Tally | None]:
        """Let clients evaluate, and the server beside them if `central` is given and they leave it free."""
        phase = self.coordinator.evaluation(round)
        if phase is None:
            return None
        if not self.evaluates:
            self.say(round, "clients have no evaluate (or no test data); evaluation by clients is skipped")
            return None
        task = self._task(round, self.hooks.on_evaluate_config_fn)
        if central is not None and self.coordinator.config.client_timeout is None:
            self.players.beside(central.run)
        tally = yield from self.players.evaluate(phase, task)
        failures += tally.receipts.failures()
        return tally

    def _measured(self, central: Central) -> dict[str, float]:
        found, sentences = central.result()
        for sentence in sentences:
            self.say(central.round, sentence)
        return found

    def _summary(self, closing: Closing, central: dict[str, float]) -> dict[str, Any]:
        evaluation = closing.evaluation
        federated = {} if evaluation is None else means(evaluation, self.hooks.evaluate_metrics)
        return summary(means(closing.tally, self.hooks.fit_metrics), federated, central)

    def _record(
        self,
        phase: Phase,
        task: Task,
        tally: Tally,
        failures: list[Receipt],
        evaluation: Tally | None,
    ) -> dict[str, Any]:
        """The round's record, without what was measured."""
        done = tally.receipts.done
        model = task.arrays.nbytes
        sent = model + sum(arrays.nbytes for arrays in task.extra.values())
        back = sum(schema.nbytes for schema in (tally.schema or {}).values())
        event: dict[str, Any] = {
            "kind": "round",
            "round": phase.round,
            "model": self.state.params.digest,
            "participants": done,
            "failures": [[receipt.client, receipt.reason] for receipt in failures],
            "bytes_sent": sent * len(tally.receipts) + (model * len(evaluation.receipts) if evaluation else 0),
            "bytes_received": back * done,
            **self.players.account(),
        }
        if self.wall_clock is not None:
            event["at_s"] = self.wall_clock()
            event["node_seconds"] = math.fsum(worked(receipt) for receipt in tally.receipts)
        if self.coordinator.config.where:
            event["matching"] = self.coordinator.population.size
        if done <= LISTED_CLIENTS:
            event["clients"] = sorted(map(list, tally.receipts.steps()))
        if self.coordinator.config.per_client_metrics:
            fits = [{"kind": "fit", **entry} for entry in tally.clients]
            evaluations = [{"kind": "evaluate", **entry} for entry in (evaluation.clients if evaluation else [])]
            event["per_client"] = sorted([*fits, *evaluations], key=lambda entry: (entry["kind"], entry["client"]))
        return event

    def _commit(
        self, event: dict[str, Any], round: int, states: Mapping[str, bytes], parts: list[bytes | memoryview] | None
    ) -> None:
        event["checkpoint"] = parts is not None
        kept = {*self.store.checkpoints(self.run)[-(KEPT_CHECKPOINTS - 1) :], self.coordinator.best_round}
        written = {"format": 1, **event}
        self.store.commit(self.run, written, round=round, checkpoint=parts, states=states, keep=kept)
        self._owe(event, self._note(written))
        self._tell(event)

    def _checkpoint(self) -> list[bytes | memoryview]:
        """The parts of a checkpoint of now."""
        return checkpoint.write(self.state, {**self.coordinator.state(), **self.players.state()})

    def say(self, round: int, text: str) -> None:
        """Write a warning into the log, once."""
        if text not in self._said:
            self._said.add(text)
            self._append({"kind": "warning", "round": round, "text": text})

    def _append(self, event: dict[str, Any]) -> None:
        if self._closing is not None:
            # Of a round after the one that is still to be written down, which comes first.
            self._held.append(event)
            return
        written = {"format": 1, **event}
        self.store.append(self.run, written)
        self._note(written)
        self._tell(event)

    def _end(self, reason: str) -> None:
        self._append({"kind": "ended", "round": self.coordinator.round, "reason": reason})
        self._sign()

    def _note(self, event: Mapping[str, Any]) -> tuple[int, str] | None:
        if self.notary is None:
            return None
        place = self.notary.noted(event)
        if self.notary.is_due:
            self._sign()
        return place

    def _owe(self, event: Mapping[str, Any], place: tuple[int, str] | None) -> None:
        """Remember that whoever is in a round gets a receipt, as soon as its model is durable."""
        if place is not None and event.get("contributions"):
            self._owed.append((*place, [Contribution(**one) for one in event["contributions"]]))

    def _receipts(self) -> dict[tuple[str, int, int], bytes]:
        owed, self._owed = self._owed, []
        return {} if self.notary is None or not owed else self.notary.receipts(owed)

    def _sign(self) -> None:
        """Sign the log as it is, in an event of its own. Observers are told what happened, which this is not."""
        event = None if self.notary is None else self.notary.tree_head(self.coordinator.round)
        if self.notary is not None and event is not None:
            written = {"format": 1, **event}
            self.store.append(self.run, written)
            self.notary.noted(written)

    def _tell(self, event: Mapping[str, Any]) -> None:
        told = {"run": self.run, **event}
        for observer in self.observers:
            try:
                observer(told)
            except Exception as error:
                # Who only looks on cannot end a run: a terminal that was closed, a full disk of a log.
                self.observers = [other for other in self.observers if other is not observer]
                self.say(
                    int(event.get("round", 0)),
                    f"an observer failed and is told no more ({type(error).__name__}: {said(error)})",
                )
