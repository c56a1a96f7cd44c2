"""Secure rounds of virtual clients: the steps of SA1, each played by the engine that plays everything else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, final

from umbel.arrays import Arrays
from umbel.coordinators import Phase, Secure
from umbel.errors import ProtocolError, SecureAborted
from umbel.message import Ask, Task
from umbel.privacy.sa1.conversation import STEPS, Conversation, Step
from umbel.privacy.sa1.encoding import Decoded, Encoding
from umbel.privacy.sa1.keyring import Keyring
from umbel.privacy.sa1.party import Floors
from umbel.privacy.sa1.purpose import Purpose
from umbel.privacy.sa1.ring import RingSum
from umbel.privacy.sa1.secured import Secured, digest_of
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


def purpose_for(settings: Secure, phase: Phase, task: Task, schema: Mapping[str, Schema]) -> Purpose:
    """What the sum of `phase` is of.

    Args:
        schema: of the groups that are summed; empty for an evaluation.
    """
    return Purpose(
        kind=phase.kind,
        round=phase.round,
        attempt=phase.attempt,
        model=digest_of(task),
        encoding=Encoding(
            clip=settings.clip,
            weight_cap=settings.weight_cap,
            clients=len(phase.clients),
            size=sum(expected.size for expected in schema.values()),
            groups=max(1, len(schema)),
            metrics=tuple(settings.metrics),
            metric_clip=settings.metric_clip,
        ),
    )


def keyring_for(settings: Secure, run: str) -> Keyring:
    """The keys of a run's secure sums, at its server."""
    share, near = settings.threshold_share, settings.neighbours
    return Keyring(run, threshold_share=share, neighbours=near, suite=settings.suite)


@final
class SecurePlayers(SummedPlayers):
    """Sums that the clients mask, step after step."""

    def __init__(self, virtual: VirtualPlayers, strategy: Strategy, settings: Secure) -> None:
        super().__init__(virtual, strategy, settings)
        self._root, self._keys = os.urandom(32), keyring_for(settings, virtual.run)
        self._kept: dict[str, bytes] = {}
        """What each client would remember."""

    def summed(self, phase: Phase, task: Task, schema: Mapping[str, Schema]) -> Tally:
        failed: dict[str, str] = {}
        states: dict[str, bytes] = {}
        if len(phase.clients) < 2:
            return summed_tally(
                phase, failed, (), f"a secure sum needs at least 2 clients, {len(phase.clients)} is asked"
            )
        talk = self._keys.conversation(purpose_for(self.settings, phase, task, schema), phase.clients)
        try:
            decoded = self._talked(talk, phase, task, failed, states)
        except SecureAborted as error:
            return summed_tally(phase, failed, (), error.reason)
        self._keys.opened(talk)
        return self.full(phase, schema, decoded, talk.summed, failed, states)

    def _talked(
        self, talk: Conversation, phase: Phase, task: Task, failed: dict[str, str], states: dict[str, bytes]
    ) -> Decoded:
        """Play all steps; returns the opened sum."""
        bare, before = replace(task, arrays=NOTHING, extra={}, shared=()), self._kept
        self._kept = {client: before[client] for client in talk.clients if client in before}
        while (turn := talk.go_on()) is not None:
            step, told = turn
            asks = [
                Ask(client, phase.kind, task if step == "mask" else bare, own, STEPS.index(step), phase.attempt)
                for client, own in self._own(step, told).items()
            ]
            tally = self.virtual.play(asks, phase.round)
            failed.update({receipt.client: receipt.reason for receipt in tally.receipts.failures()})
            self._kept.update({client: own["kept"] for client, own in tally.own.items()})
            if step == "mask":
                states.update(tally.states)
                if isinstance(tally.accumulator, RingSum):
                    talk.masked_sum(tally.own, tally.accumulator.total)
                continue
            _take(talk, tally.own, failed)
        return talk.decoded()

    def _own(self, step: Step, told: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """For each client that is in this step: the server's words, and what the client's own node would add."""
        return {
            client: {**own, "step": step, "kept": self._kept.get(client, b""), "root": self._root}
            for client, own in told.items()
        }


def _take(talk: Conversation, own: Mapping[str, Mapping[str, Any]], failed: dict[str, str]) -> None:
    for client, said in own.items():
        try:
            talk.took(client, said)
        except ProtocolError as error:
            failed[client] = str(error)
