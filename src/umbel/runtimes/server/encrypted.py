"""`Encrypted`: a secure round on nodes whose clients encrypt their vectors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, final

from umbel.coordinators import Phase, Secure
from umbel.errors import ProtocolError
from umbel.message import Task, Update
from umbel.privacy.ckks.ciphered import CARRIED, CARRIES, bytes_in
from umbel.privacy.ckks.conversation import STEPS
from umbel.privacy.sa1.encoding import Decoded
from umbel.privacy.sa1.keyring import Keyring
from umbel.runtimes.encrypted import conversation, sent_in
from umbel.runtimes.server.sums import SLOW_BYTES_PER_S, SecureSum
from umbel.schema import Schema


@final
class Encrypted(SecureSum):
    """A sum of ciphertexts."""

    steps = tuple(STEPS)
    trains_in = "encrypt"

    def __init__(
        self, settings: Secure, run: str, phase: Phase, task: Task, schema: Mapping[str, Schema], keys: Keyring
    ) -> None:
        self._talk = conversation(settings, run, phase, task, schema)
        offer = self._talk.offer
        self.answer_bytes = max(offer.most_bytes, 4 * offer.length)

    @property
    def turns(self) -> Iterator[str]:
        return self._talk.turns

    @property
    def summed(self) -> tuple[str, ...]:
        return self._talk.summed

    def ended(self, keys: Keyring) -> None:
        return None

    def messages(self, step: Any) -> dict[str, dict[str, Any]]:
        told = self._talk.messages(step)
        return {client: {"step": step, "message": message} for client, message in told.items()}

    def task(self, step: Any, task: Task) -> Task:
        # The model is on its way to everybody from the first step on; one client alone has to have the sum.
        return sent_in(step, self._talk, task) if step == "open" else task

    def more_s(self, step: str) -> float:
        return self.answer_bytes / SLOW_BYTES_PER_S if step == "open" else 0.0

    def took(self, step: Any, client: str, update: Update) -> None:
        if step in CARRIES:
            if set(update.groups) != {CARRIED}:
                raise ProtocolError(f"an answer to step {step!r} of an encrypted round carries bytes, and nothing else")
            message: Any = bytes_in(update.groups[CARRIED].arrays)
        else:
            message = update.own.get("message")
        if not isinstance(message, bytes):
            raise ProtocolError("an answer in a secure round has a message")
        self._talk.took(step, client, message)

    def decoded(self) -> Decoded:
        return self._talk.decoded()
