"""Encrypted rounds of virtual clients: the five steps of a sum under CKKS, each played by the engine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import final

from umbel.coordinators import Phase, Secure
from umbel.errors import ConfigError, ProtocolError, SecureAborted
from umbel.message import Ask, Task
from umbel.privacy.ckks.ciphered import TOTAL, Ciphered, carried
from umbel.privacy.ckks.conversation import STEPS, Conversation, Step
from umbel.privacy.ckks.offer import Offer
from umbel.privacy.ckks.tenseal import library
from umbel.privacy.sa1.encoding import Decoded
from umbel.privacy.sa1.party import Floors
from umbel.privacy.sharing import default_threshold
from umbel.runtimes.players import VirtualPlayers
from umbel.runtimes.secure import NOTHING, purpose_for
from umbel.runtimes.summed import SummedPlayers, check_linear, summed_tally
from umbel.runtimes.tally import Tally
from umbel.schema import Schema
from umbel.strategy import Strategy


def encrypted(strategy: Strategy, settings: Secure) -> Ciphered:
    """The clients' half of `strategy` in encrypted rounds.

    Raises:
        NotSupported: its reducer needs to see single updates.
        ConfigError: `tenseal` is not installed.
    """
    check_linear(strategy)
    library()
    return Ciphered(inner=strategy, floors=Floors(min_cohort=settings.min_cohort, min_threshold_share=0.5))


def conversation(settings: Secure, run: str, phase: Phase, task: Task, schema: Mapping[str, Schema]) -> Conversation:
    """The encrypted sum of a phase, before anybody is asked.

    Args:
        schema: of the groups that are summed; empty for an evaluation.

    Raises:
        SecureAborted: such a sum cannot be.
    """
    assert settings.secure_sum is not None
    purpose, clients = purpose_for(settings, phase, task, schema), len(phase.clients)
    try:
        offer = Offer(
            run=f"{run}/{phase.kind}",
            round=phase.round,
            attempt=phase.attempt,
            model=purpose.model,
            encoding=purpose.encoding,
            settings=settings.secure_sum,
            names=tuple(phase.clients),
            threshold=max(2, default_threshold(clients, settings.threshold_share)),
        )
    except ConfigError as error:
        raise SecureAborted(phase.round, str(error)) from None
    return Conversation(offer)


def sent_in(step: Step, talk: Conversation, task: Task) -> Task:
    """The task as it is sent in a step that needs no model."""
    bare = replace(task, arrays=NOTHING, extra={}, shared=())
    return replace(bare, extra={TOTAL: carried(talk.total)}) if step == "open" else bare


@final
class EncryptedPlayers(SummedPlayers):
    """Sums that the clients encrypt, in five steps."""

    def __init__(self, virtual: VirtualPlayers, strategy: Strategy, settings: Secure) -> None:
        super().__init__(virtual, strategy, settings)
        self._root = os.urandom(32)

    def summed(self, phase: Phase, task: Task, schema: Mapping[str, Schema]) -> Tally:
        failed, states = dict[str, str](), dict[str, bytes]()
        if len(phase.clients) < 2:
            reason = f"a secure sum needs at least 2 clients, {len(phase.clients)} is asked"
            return summed_tally(phase, failed, (), reason)
        try:
            talk = conversation(self.settings, self.virtual.run, phase, task, schema)
            decoded = self._talked(talk, phase, task, failed, states)
        except SecureAborted as error:
            return summed_tally(phase, failed, (), error.reason)
        return self.full(phase, schema, decoded, talk.summed, failed, states)

    def _talked(
        self, talk: Conversation, phase: Phase, task: Task, failed: dict[str, str], states: dict[str, bytes]
    ) -> Decoded:
        """Play all steps; returns the opened sum."""
        members = dict[str, bytes]()
        for step in talk.turns:
            messages = talk.messages(step)
            sent = task if step == "encrypt" else sent_in(step, talk, task)
            asks = [
                Ask(
                    client,
                    phase.kind,
                    sent,
                    {"step": step, "message": message, "member": members.get(client, b""), "root": self._root},
                    STEPS.index(step),
                    phase.attempt,
                )
                for client, message in messages.items()
            ]
            tally = self.virtual.play(asks, phase.round)
            failed.update({receipt.client: receipt.reason for receipt in tally.receipts.failures()})
            members.update({client: own["member"] for client, own in tally.own.items()})
            states.update(tally.states)
            for client in messages:
                if client in tally.own:
                    try:
                        talk.took(step, client, tally.own[client]["message"])
                    except ProtocolError as error:
                        failed[client] = str(error)
        return talk.decoded()
