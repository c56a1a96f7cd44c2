"""`SecureNodePlayers`: secure rounds on real nodes, small messages around one masked or encrypted upload each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

from umbel.coordinators import Phase, Rounds, Secure
from umbel.errors import ClientError, ProtocolError, SecureAborted, UmbelError
from umbel.message import Ask, Receipt, Task, Update
from umbel.privacy.private import Private
from umbel.privacy.sa1.encoding import Decoded
from umbel.privacy.tries import leadership_of, offered
from umbel.runtimes.mail import Answer, blobs_of, read_answer, write_basis
from umbel.runtimes.node.vault import ATTEMPT_STEPS
from umbel.runtimes.players import Steps
from umbel.runtimes.privately import check_exact
from umbel.runtimes.program import turn_key
from umbel.runtimes.secure import keyring_for
from umbel.runtimes.server.events import Came, Joined, Left, Release, Spoiled, Stalled
from umbel.runtimes.server.looking import sealed
from umbel.runtimes.server.opened import Opened
from umbel.runtimes.server.players import NodePlayers
from umbel.runtimes.server.spool import Sheet
from umbel.runtimes.server.sums import Masked, SecureSum
from umbel.runtimes.summed import fill, summed_tally, warn
from umbel.runtimes.tally import Tally
from umbel.schema import Schema

STEP_S = 60.0
"""How long a step of small messages waits."""


@final
@dataclass(frozen=True)
class _Course:
    """One secure round under way.

    Attributes:
        failed: client → why it dropped out.
        states: client → where its node keeps the state that went with its vector.
        vectors: client → the receipt of its masked or encrypted vector.
    """

    talk: SecureSum
    opened: Opened
    failed: dict[str, str] = field(default_factory=dict[str, str])
    states: dict[str, bytes] = field(default_factory=dict[str, bytes])
    vectors: dict[str, Receipt] = field(default_factory=dict[str, "Receipt"])


@final
class SecureNodePlayers(NodePlayers):
    """Plays cohorts on nodes so that what is handed back is an opened sum."""

    def __init__(self, settings: Secure, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.settings, self._keys = settings, keyring_for(settings, self.run)
        self._kind = _kind_of(settings)
        self._is_first = True

    def fit(self, phase: Phase, task: Task, coordinator: Rounds) -> Steps[tuple[Tally, list[Receipt]]]:
        """Play all steps; a sum that cannot be opened leaves a cohort of failures."""
        self._contributed = []
        tally = yield from self._summed(phase, task, dict(self.strategy.schema(task, {})), coordinator.needed)
        order = {client: position for position, client in enumerate(phase.clients)}
        coordinator.receipts(tally.receipts, order)
        included = {receipt.client for receipt in tally.receipts if receipt.verdict == "done"}
        self._settle(phase, included)
        self._pending = tally.states
        return tally, sorted(tally.receipts.failures(), key=lambda receipt: order[receipt.client])

    def evaluate(self, phase: Phase, task: Task) -> Steps[Tally]:
        able = tuple(client for client in phase.clients if client in self.nodes.evaluators)
        if len(able) < max(2, self.settings.min_cohort):
            self._say(phase.round, "too few clients can evaluate for a secure sum; evaluation by clients is skipped")
            return Tally()
        tally = yield from self._summed(replace(phase, clients=able), task, {})
        return tally

    def _settle(self, phase: Phase, included: set[str]) -> None:
        """What nodes keep of this round is wanted no more, but for the state that went with a summed vector."""
        turn = self._turn(phase, self._kind.trains_in)
        self._unsettled += [(client, phase.round, turn, client in included) for client in phase.clients]

    def _turn(self, phase: Phase, step: str) -> int:
        """What a node knows a step by: no other step of the run, of no other leadership either, has this attempt."""
        return offered(self.leadership, phase.attempt) * ATTEMPT_STEPS + self._kind.steps.index(step)

    def _summed(self, phase: Phase, task: Task, schema: Mapping[str, Schema], needed: int = 0) -> Steps[Tally]:
        if len(phase.clients) < 2:
            return summed_tally(phase, {}, (), f"a secure sum needs at least 2 clients, {len(phase.clients)} is asked")
        if isinstance(self.strategy, Private):
            check_exact(self.strategy, len(phase.clients))
        named = replace(phase, attempt=offered(self.leadership, phase.attempt))
        self._keys.leadership = self.leadership
        try:
            talk = self._kind(self.settings, self.run, named, task, schema, self._keys)
        except SecureAborted as error:
            return summed_tally(phase, {}, (), error.reason)
        opened = self._begin(task, phase.kind, self._turn(phase, self._kind.steps[0]), phase.ends_at_s, {}, [])
        opened.answer_bytes = talk.answer_bytes
        course = _Course(talk, opened)
        try:
            decoded = yield from self._talked(course, phase, needed)
        except SecureAborted as error:
            return summed_tally(phase, course.failed, (), _with_last(error.reason, course.failed))
        finally:
            self._call_off(opened)
        talk.ended(self._keys)
        tally = summed_tally(phase, course.failed, talk.summed, "dropped out of the secure round")
        tally.states = {client: state for client, state in course.states.items() if client in set(talk.summed)}
        if phase.kind == "fit":
            for client in talk.summed:
                self._contributes(course.vectors[client])
        fill(tally, decoded, schema, len(talk.summed))
        warn(self._say, self.settings, phase.round, decoded, len(talk.summed))
        return tally

    def _talked(self, course: _Course, phase: Phase, needed: int) -> Steps[Decoded]:
        talk, opened, task = course.talk, course.opened, course.opened.task
        before = ""
        for step in talk.turns:
            if before == self._kind.trains_in and len(talk.summed) < needed:
                # The round would be thrown away. Once its sum is opened, one with those who are missing could not be.
                said = f"{len(talk.summed)} of {len(phase.clients)} clients sent their vectors, {needed} are needed"
                raise SecureAborted(phase.round, said)
            before = step
            attempt, messages = self._turn(phase, step), talk.messages(step)
            self._sends(opened, talk.task(step, task))
            opened.ends_at_s = phase.ends_at_s if self._takes_long(step) else self._clock() + STEP_S + talk.more_s(step)
            for client, own in messages.items():
                number = talk.steps.index(step)
                self._ask_step(opened, Ask(client, phase.kind, opened.task, own, number, attempt))
            yield from self._step(course, step)
            self._is_first = False
        return talk.decoded()

    def _sends(self, opened: Opened, task: Task) -> None:
        if task is opened.task:
            return
        opened.task, opened.blobs = task, blobs_of(task)
        opened.digests = {"": task.arrays.digest, **{name: arrays.digest for name, arrays in task.extra.items()}}
        self._keep_blobs()

    def _takes_long(self, step: str) -> bool:
        """Whether a client may have to train before it answers: also for a server that led the run before this one."""
        return step == self._kind.trains_in or (self._is_first and self.leadership > 1)

    def _ask_step(self, opened: Opened, ask: Ask) -> None:
        opened.asks[ask.client] = replace(ask, key=turn_key(self._seed, ask))
        opened.asked_s[ask.client] = self._clock()
        self._deliver(opened, ask.client)

    def _step(self, course: _Course, step: str) -> Steps[None]:
        """Take answers in until all that were asked have answered, are given up, or time is up."""
        opened, failed = course.opened, course.failed
        # Who left after its last answer is asked all the same: it may be back at once.
        there = set(self.nodes.names)
        gone = {client: self._clock() for client in opened.asks if client not in there}
        while opened.asks and self._clock() < (until := min(self._gives_up_at(opened, gone), opened.ends_at_s)):
            for event in self._stop_if_asked((yield until)):
                client = getattr(event, "client", "")
                if isinstance(event, Came):
                    self._took(course, step, event)
                elif client not in opened.asks:
                    continue
                elif isinstance(event, Left):
                    gone[client] = self._clock()
                elif isinstance(event, (Joined, Stalled)):
                    gone.pop(client, None)
                    self._deliver(opened, client)
                elif isinstance(event, Spoiled):
                    failed[client] = event.reason
                    del opened.asks[client]
            gone = {client: since for client, since in gone.items() if client in opened.asks}
        for client in list(opened.asks):
            failed.setdefault(client, f"did not answer in step {step!r} of the secure round")
            self._call_off(opened, [client])

    def _took(self, course: _Course, step: str, came: Came) -> None:
        """Look at an answer and take it in; whatever is wrong with it makes its client one that dropped out."""
        self.outbox.append(Release(came.token))
        opened, failed = course.opened, course.failed
        ask = opened.asks.get(came.client)
        if ask is None or isinstance(came.data, Sheet):
            return
        try:
            answer = read_answer(came.data)
            found = _order(answer.round, answer.kind, answer.attempt)
            wanted = _order(ask.task.round, ask.kind, ask.attempt)
            if found < wanted:
                return  # to an ask of before the link broke, or of the server before; that to this one is to come
            if found != wanted:
                raise ProtocolError("an answer in a secure round is that to another step")
            course.talk.took(step, came.client, _update(answer))
            if step == self._kind.trains_in:
                course.vectors[came.client] = Receipt(
                    came.client, answer.round, answer.attempt, "done", update=sealed(came)
                )
            if answer.has_state:
                course.states[came.client] = write_basis(answer.round, answer.attempt)
        except ClientError as error:
            failed[came.client] = error.reason
        except UmbelError as error:
            failed[came.client] = str(error)
        opened.asks.pop(came.client, None)

    def restore(self, state: Mapping[str, Any]) -> None:
        return None

    def state(self) -> dict[str, Any]:
        return {}


def _order(round: int, kind: str, attempt: int) -> tuple[int, int, bool, int]:
    """What grows from one ask of a run to the next."""
    return leadership_of(attempt // ATTEMPT_STEPS), round, kind == "evaluate", attempt


def _with_last(reason: str, failed: dict[str, str]) -> str:
    """Why a sum was not opened, and what went wrong with a client last: if it was a client, that ended it."""
    return next((f"{reason} (client {client}: {failed[client]})" for client in reversed(failed)), reason)


def _update(answer: Answer) -> Update:
    if answer.verdict != "done" or answer.update is None:
        raise ClientError(answer.client, answer.reason or "sent nothing")
    return answer.update


def _kind_of(settings: Secure) -> type[SecureSum]:
    if settings.secure_sum is None:
        return Masked
    from umbel.runtimes.server.encrypted import Encrypted

    return Encrypted
