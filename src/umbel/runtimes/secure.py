"""Secure rounds of virtual clients: the five steps of SA1, each played by the engine that plays everything else."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, final

from umbel.arrays import Arrays
from umbel.cohort import Receipts
from umbel.coordinators import Coordinator, Phase, Secure
from umbel.errors import NotSupported, ProtocolError, SecureAborted
from umbel.message import Ask, Receipt, Task
from umbel.privacy.sa1.conversation import STEPS, Conversation
from umbel.privacy.sa1.encoding import Decoded, Encoding
from umbel.privacy.sa1.offer import Offer
from umbel.privacy.sa1.party import Floors
from umbel.privacy.sa1.ring import RingSum
from umbel.privacy.sa1.secured import Secured, digest_of, opened
from umbel.privacy.sa1.server import Step
from umbel.privacy.sharing import default_threshold
from umbel.reducers.exact import ExactSum
from umbel.runtimes.players import Players, Say, Steps, VirtualPlayers
from umbel.runtimes.tally import Tally
from umbel.schema import Schema
from umbel.strategy import Strategy

NOTHING = Arrays.of({}).frozen()
"""What travels in a step that needs no model."""


def secured(strategy: Strategy, settings: Secure) -> Secured:
    """The clients' half of `strategy` in secure rounds.

    Raises:
        NotSupported: its reducer needs to see single updates.
    """
    if not strategy.reducer.linear:
        raise NotSupported(
            f"Secure() needs a linear reducer such as Mean(), got {strategy.reducer!r}: a robust rule looks at single "
            "updates, which a secure sum hides"
        )
    return Secured(inner=strategy, floors=Floors(min_cohort=settings.min_cohort, min_threshold_share=0.5))


def offer_for(
    settings: Secure, run: str, phase: Phase, task: Task, schema: Mapping[str, Schema], beacon: bytes
) -> Offer:
    """What the cohort of `phase` is offered.

    Args:
        schema: of the groups that are summed; empty for an evaluation.
        beacon: digest of the last header.
    """
    clients = len(phase.clients)
    neighbours = settings.neighbours if clients > max(60, settings.neighbours) else 0
    return Offer(
        run=f"{run}/{phase.kind}",
        round=phase.round,
        attempt=phase.attempt,
        model=digest_of(task),
        encoding=Encoding(
            clip=settings.clip,
            weight_cap=settings.weight_cap,
            clients=clients,
            size=sum(expected.size for expected in schema.values()),
            groups=max(1, len(schema)),
            metrics=tuple(settings.metrics),
            metric_clip=settings.metric_clip,
        ),
        clients=clients,
        threshold=max(2, default_threshold(neighbours + 1 if neighbours else clients, settings.threshold_share)),
        neighbours=neighbours,
        beacon=beacon,
        suite=settings.suite,
    )


@final
class SecurePlayers(Players):
    """Plays cohorts of virtual clients so that what is handed back is an opened sum.

    The clients' identities are generated: in a simulation everybody is in one process, so what this shows is the
    arithmetic and the cost, not the protection.
    """

    def __init__(self, virtual: VirtualPlayers, strategy: Strategy, settings: Secure) -> None:
        self.virtual, self.strategy, self.settings = virtual, strategy, settings
        self._root, self._beacon = os.urandom(32), bytes(32)

    def ready(self, round: int, least: int) -> Steps[None]:
        return self.virtual.ready(round, least)

    def fit(self, phase: Phase, task: Task, coordinator: Coordinator) -> Steps[tuple[Tally, list[Receipt]]]:
        """Play the five steps; a sum that cannot be opened leaves a cohort of failures."""
        schema = dict(self.strategy.schema(task, {}))
        tally = self._summed(phase, task, schema)
        order = {client: position for position, client in enumerate(phase.clients)}
        # Whom the coordinator would ask instead comes too late: the cohort is in the header.
        coordinator.receipts(tally.receipts, order)
        self.virtual.pending = tally.states
        return tally, sorted(tally.receipts.failures(), key=lambda receipt: order[receipt.client])
        yield

    def evaluate(self, phase: Phase, task: Task) -> Steps[Tally]:
        return self._summed(phase, task, {})
        yield

    def _summed(self, phase: Phase, task: Task, schema: Mapping[str, Schema]) -> Tally:
        """The tally of a phase: an opened sum, or none and the reason at each client."""
        failed: dict[str, str] = {}
        states: dict[str, bytes] = {}
        if len(phase.clients) < 2:
            return summed_tally(
                phase, failed, (), f"a secure sum needs at least 2 clients, {len(phase.clients)} is asked"
            )
        offer = offer_for(self.settings, self.virtual.run, phase, task, schema, self._beacon)
        talk = Conversation(offer, phase.clients)
        try:
            decoded = self._talked(talk, phase, task, failed, states)
        except SecureAborted as error:
            return summed_tally(phase, failed, (), error.reason)
        self._beacon = talk.server.header.digest
        tally = summed_tally(phase, failed, talk.summed, "dropped out of the secure round")
        tally.states = {client: state for client, state in states.items() if client in set(talk.summed)}
        fill(tally, decoded, schema, len(talk.summed))
        warn(self.virtual.say, self.settings, phase.round, decoded, len(talk.summed))
        return tally

    def _talked(
        self, talk: Conversation, phase: Phase, task: Task, failed: dict[str, str], states: dict[str, bytes]
    ) -> Decoded:
        """Play all steps; returns the opened sum."""
        bare, members = replace(task, arrays=NOTHING, extra={}, shared=()), dict[str, bytes]()
        for number, step in enumerate(STEPS):
            asks = [
                Ask(client, phase.kind, task if step == "mask" else bare, own, number, phase.attempt)
                for client, own in self._own(talk, step, members).items()
            ]
            tally = self.virtual.play(asks, phase.round)
            failed.update({receipt.client: receipt.reason for receipt in tally.receipts.failures()})
            members.update({client: own["member"] for client, own in tally.own.items()})
            if step == "mask":
                states.update(tally.states)
                if isinstance(tally.accumulator, RingSum):
                    talk.server.masked_sum(list(tally.own), tally.accumulator.total)
                continue
            _take(talk, step, tally.own, failed)
        return talk.decoded()

    def _own(self, talk: Conversation, step: Step, members: Mapping[str, bytes]) -> dict[str, dict[str, Any]]:
        """For each client that is in this step: the server's message, and what the client's own node would add."""
        words = talk.server.offer.encoding.length
        return {
            client: {
                "step": step,
                "message": message,
                "member": members.get(client, b""),
                "root": self._root,
                "words": words,
            }
            for client, message in talk.messages(step).items()
        }

    def kept(self, round: int, tally: Tally, receipts: Mapping[tuple[str, int, int], bytes]) -> None:
        self.virtual.kept(round, tally, receipts)

    def account(self) -> dict[str, Any]:
        return self.virtual.account()

    def state(self) -> dict[str, Any]:
        return self.virtual.state()

    def close(self) -> None:
        self.virtual.close()


def _take(talk: Conversation, step: Step, own: Mapping[str, Mapping[str, Any]], failed: dict[str, str]) -> None:
    for client, said in own.items():
        try:
            talk.took(step, client, said["message"])
        except ProtocolError as error:
            failed[client] = str(error)


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
