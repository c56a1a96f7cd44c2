"""Secure rounds of virtual clients: the five steps of SA1, each played by the engine that plays everything else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

from umbel.arrays import Arrays
from umbel.coordinators import Phase, Secure
from umbel.errors import ProtocolError, SecureAborted
from umbel.message import Ask, Task
from umbel.privacy.sa1.conversation import STEPS, Conversation
from umbel.privacy.sa1.encoding import Decoded, Encoding
from umbel.privacy.sa1.offer import Offer
from umbel.privacy.sa1.party import Floors
from umbel.privacy.sa1.ring import RingSum
from umbel.privacy.sa1.secured import Secured, digest_of
from umbel.privacy.sa1.server import Step
from umbel.privacy.sharing import default_threshold
from umbel.runtimes.players import VirtualPlayers
from umbel.runtimes.summed import SummedPlayers, check_linear, summed_tally
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
    check_linear(strategy)
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
class SecurePlayers(SummedPlayers):
    """Sums that the clients mask, in five steps."""

    def __init__(self, virtual: VirtualPlayers, strategy: Strategy, settings: Secure) -> None:
        super().__init__(virtual, strategy, settings)
        self._root, self._beacon = os.urandom(32), bytes(32)

    def summed(self, phase: Phase, task: Task, schema: Mapping[str, Schema]) -> Tally:
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
        return self.full(phase, schema, decoded, talk.summed, failed, states)

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


def _take(talk: Conversation, step: Step, own: Mapping[str, Mapping[str, Any]], failed: dict[str, str]) -> None:
    for client, said in own.items():
        try:
            talk.took(step, client, said["message"])
        except ProtocolError as error:
            failed[client] = str(error)
