"""A secure sum as its messenger sees it: steps, in each a message for some clients and one back from each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from typing import Any, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from umbel.errors import ProtocolError, SecureAborted
from umbel.privacy.sa1.encoding import Decoded
from umbel.privacy.sa1.gathering import Gathered, Gathering
from umbel.privacy.sa1.offer import Offer
from umbel.privacy.sa1.purpose import Purpose
from umbel.privacy.sa1.server import SecureServer

Step: TypeAlias = Literal["advertise", "share", "mask", "agree", "release"]
STEPS: tuple[Step, ...] = ("advertise", "share", "mask", "agree", "release")
Told: TypeAlias = Mapping[str, Any]
"""What an ask's or an answer's `own` has of a secure sum: `message`, and with it what is for the next sum (`ahead`)."""


@final
class Conversation:
    """The server's messages of one sum, and with them the first two steps of the next.

    At best a sum has two steps: its keys were made while the one before was under way, and everybody is in it.

    Args:
        keys: what to offer the clients, or what was gathered ahead.
        purpose: what the sum is of.
        clients: who is asked.
        ahead: what to offer them for the next sum.
    """

    def __init__(
        self,
        keys: Offer | Gathered,
        purpose: Purpose,
        clients: Sequence[str],
        *,
        ahead: Offer | None = None,
        executor: Executor | None = None,
    ) -> None:
        self.purpose, self.clients = purpose, tuple(clients)
        self._executor = executor
        self._gathering = Gathering(keys) if isinstance(keys, Offer) else None
        self._server = None if isinstance(keys, Offer) else SecureServer(keys, purpose, executor=executor)
        self._next = None if ahead is None else Gathering(ahead)
        self._step: Step | None = None
        self.gathered: Gathered | None = None
        """Keys for the next sum, once this one is opened, if enough clients made some."""

    @property
    def server(self) -> SecureServer:
        """The sum, once there are keys."""
        if self._server is None:
            raise ProtocolError("there are no keys yet that a sum could be made with")
        return self._server

    @property
    def summed(self) -> tuple[str, ...]:
        """The clients whose vectors are in the sum."""
        return () if self._server is None else self._server.summed

    def go_on(self) -> tuple[Step, dict[str, dict[str, Any]]] | None:
        """The next step, and what each client's `own` has in it; it closes the one before. None: the sum can be opened.

        Raises:
            SecureAborted: too few clients answered.
        """
        try:
            step = self._step = self._after()
            if step is None:
                return None
            told = {name: {"message": message} for name, message in self._messages(step).items()}
            return step, self._with_ahead(step, told)
        except ProtocolError as error:
            raise SecureAborted(self.purpose.round, str(error)) from None

    def _after(self) -> Step | None:
        if self._step is None:
            return "mask" if self._gathering is None else "advertise"
        if self._step == "mask":
            return "release" if self.server.is_agreed else "agree"
        following = STEPS.index(self._step) + 1
        return None if following == len(STEPS) else STEPS[following]

    def _messages(self, step: Step) -> dict[str, bytes]:
        gathering = self._gathering
        if step == "advertise" and gathering is not None:
            return dict.fromkeys(self.clients, gathering.offer.data)
        if step == "share" and gathering is not None:
            header = gathering.close_adverts()
            return dict.fromkeys(gathering.names, header)
        if step == "mask":
            if gathering is not None:
                self._server = SecureServer(gathering.close_shares(), self.purpose, executor=self._executor)
            return self.server.inboxes
        if step == "agree":
            return dict.fromkeys(self.summed, self.server.close_masked())
        return self.server.close_signatures()

    def _with_ahead(self, step: Step, told: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """With each message to a client, what is for the next sum: the offer as it trains, then everybody's keys."""
        if self._next is None:
            return told
        if step == "mask":
            return {name: {**own, "ahead": self._next.offer.data} for name, own in told.items()}
        if step == "release":
            try:
                header = self._next.close_adverts()
            except ProtocolError:
                self._next = None  # the next sum begins with its own first step
                return told
            there = set(self._next.names)
            return {name: {**own, "ahead": header} if name in there else own for name, own in told.items()}
        return told

    def took(self, client: str, told: Told) -> None:
        """Take in a client's answer to any step but "mask".

        Raises:
            ProtocolError: it is not in order; its client counts as dropped out.
        """
        message = told.get("message")
        if not isinstance(message, bytes):
            raise ProtocolError("an answer in a secure sum has a message")
        if self._step == "advertise" and self._gathering is not None:
            self._gathering.advert(client, message)
        elif self._step == "share" and self._gathering is not None:
            self._gathering.shares(client, message)
        elif self._step == "agree":
            self.server.signature(client, message)
        else:
            self.server.opened(client, message)
            self._took_ahead(client, told)

    def masked(self, client: str, vector: NDArray[np.uint32], told: Told) -> None:
        """Take in a client's masked vector, and what came with it.

        Raises:
            ProtocolError: it is not in order; its client counts as dropped out.
        """
        self.server.masked(client, vector)
        self._came_with(client, told)

    def masked_sum(self, told: Mapping[str, Told], total: NDArray[np.uint32]) -> None:
        """Take in the sum of these clients' masked vectors, and what came with each."""
        self.server.masked_sum(list(told), total)
        for client, own in told.items():
            self._came_with(client, own)

    def _came_with(self, client: str, told: Told) -> None:
        signed = told.get("signature")
        if isinstance(signed, bytes):
            self.server.early(client, signed)
        self._took_ahead(client, told)

    def _took_ahead(self, client: str, told: Told) -> None:
        """Keys for the next sum that are not in order are of a client that is not in them, and no fault in this sum."""
        message = told.get("ahead")
        if self._next is None or not isinstance(message, bytes):
            return
        try:
            (self._next.advert if self._step == "mask" else self._next.shares)(client, message)
        except ProtocolError:
            return

    def decoded(self) -> Decoded:
        """The opened sum.

        Raises:
            SecureAborted: it cannot be opened.
        """
        try:
            total = self.server.result()
        except ProtocolError as error:
            raise SecureAborted(self.purpose.round, str(error)) from None
        if self._next is not None:
            try:
                self.gathered = self._next.close_shares()
            except ProtocolError:
                self.gathered = None
        return self.purpose.encoding.decode(total)
