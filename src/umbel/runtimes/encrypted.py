"""Encrypted rounds of virtual clients: the four steps of a sum under CKKS, each played by the engine."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, final

import numpy as np

from umbel.coordinators import Phase, Secure
from umbel.errors import ProtocolError
from umbel.message import Ask, Task
from umbel.privacy.ckks.ciphered import Ciphered, table, tabled
from umbel.privacy.ckks.parameters import MOST_CLIENTS
from umbel.privacy.ckks.round import Sum, added
from umbel.privacy.ckks.tenseal import library
from umbel.privacy.sa1.encoding import Decoded, Encoding
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.party import Floors
from umbel.privacy.sa1.secured import digest_of
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
    assert settings.secure_sum is not None
    check_linear(strategy)
    library()
    return Ciphered(inner=strategy, settings=settings.secure_sum, floors=Floors(min_cohort=settings.min_cohort))


def _first(answers: Iterable[dict[str, bytes]]) -> dict[str, bytes]:
    """The first answer that there is, of clients that are asked one after the other.

    Raises:
        ProtocolError: nobody answers.
    """
    found = next(filter(None, answers), None)
    if found is None:
        raise ProtocolError("no client is left who would deal or open the encrypted sum")
    return found


@final
@dataclass
class _Talk:
    """One sum as the server has it: what everybody is told of it, who remembers what, who is gone and why."""

    phase: Phase
    task: Task
    common: dict[str, Any]
    about: Sum
    members: dict[str, bytes] = field(default_factory=dict[str, bytes])
    failed: dict[str, str] = field(default_factory=dict[str, str])
    states: dict[str, bytes] = field(default_factory=dict[str, bytes])


@final
class EncryptedPlayers(SummedPlayers):
    """Sums that the clients encrypt, in four steps."""

    def __init__(self, virtual: VirtualPlayers, strategy: Strategy, settings: Secure) -> None:
        super().__init__(virtual, strategy, settings)
        self._root = os.urandom(32)

    def summed(self, phase: Phase, task: Task, schema: Mapping[str, Schema]) -> Tally:
        if not 2 <= len(phase.clients) <= MOST_CLIENTS:
            reason = f"an encrypted sum is of 2 to {MOST_CLIENTS} clients, {len(phase.clients)} are asked; use masks"
            return summed_tally(phase, {}, (), reason)
        talk = self._begun(phase, task, schema)
        try:
            decoded, who = self._talked(talk)
        except ProtocolError as error:
            return summed_tally(phase, talk.failed, (), str(error))
        return self.full(phase, schema, decoded, who, talk.failed, talk.states)

    def _begun(self, phase: Phase, task: Task, schema: Mapping[str, Schema]) -> _Talk:
        assert self.settings.secure_sum is not None
        encoding = purpose_for(self.settings, phase, task, schema).encoding
        place = joined(self.virtual.run.encode(), phase.kind.encode(), f"{phase.round} {phase.attempt}".encode())
        told = {"place": place, "encoding": encoding.data, "model": digest_of(task)}
        about = Sum(
            settings=self.settings.secure_sum,
            about=joined(*told.values()),
            clients=phase.clients,
            length=encoding.length,
        )
        common: dict[str, Any] = {**told, "clients": list(phase.clients), "root": self._root}
        return _Talk(phase, task, common, about)

    def _talked(self, talk: _Talk) -> tuple[Decoded, tuple[str, ...]]:
        """All steps; returns what the sum says and who is in it.

        Raises:
            ProtocolError: nobody is left who could open it.
        """
        adverts = self._said(talk, "advertise", dict.fromkeys(talk.phase.clients, b""))
        dealt = _first(self._said(talk, "deal", {client: tabled(adverts)}) for client in adverts)
        ((dealer, boxes),) = dealt.items()
        sealed = {name: joined(dealer.encode(), adverts[dealer], box) for name, box in table(boxes).items()}
        ciphertexts = self._said(talk, "encrypt", {dealer: b"", **sealed})
        total, refused = added(talk.about, ciphertexts)
        talk.failed |= refused
        answer = next(iter(_first(self._said(talk, "open", {client: total}) for client in ciphertexts).values()))
        words, *who = parted(answer)
        return Encoding.read(talk.common["encoding"]).decode(np.frombuffer(words, np.uint32)), tuple(
            name.decode() for name in who
        )

    def _said(self, talk: _Talk, step: str, messages: Mapping[str, bytes]) -> dict[str, bytes]:
        """What these clients answer in a step; why the others do not is kept."""
        bare = replace(talk.task, arrays=NOTHING, extra={}, shared=())
        asks = [
            Ask(
                client,
                talk.phase.kind,
                talk.task if step == "encrypt" else bare,
                {**talk.common, "step": step, "message": message, "member": talk.members.get(client, b"")},
                ("advertise", "deal", "encrypt", "open").index(step),
                talk.phase.attempt,
            )
            for client, message in messages.items()
        ]
        tally = self.virtual.play(asks, talk.phase.round)
        talk.failed.update({receipt.client: receipt.reason for receipt in tally.receipts.failures()})
        talk.members.update({client: own["member"] for client, own in tally.own.items()})
        talk.states.update(tally.states)
        return {client: tally.own[client]["message"] for client in messages if client in tally.own}
