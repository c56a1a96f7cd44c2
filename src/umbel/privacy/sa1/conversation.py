"""A secure round as its messenger sees it: five steps, in each a message for some clients and one back from each."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import final

from umbel.privacy.sa1.encoding import Decoded
from umbel.privacy.sa1.offer import Offer
from umbel.privacy.sa1.server import SecureServer, Step

STEPS: tuple[Step, ...] = ("advertise", "share", "mask", "agree", "release")


@final
class Conversation:
    """The server's messages, step after step.

    Args:
        clients: who is asked.
    """

    def __init__(self, offer: Offer, clients: Sequence[str], *, executor: Executor | None = None) -> None:
        self.server = SecureServer(offer, executor=executor)
        self.clients = tuple(clients)
        self.summed: tuple[str, ...] = ()

    def messages(self, step: Step) -> dict[str, bytes]:
        """What each client is sent in this step; it closes the one before.

        Raises:
            SecureAborted: too few clients answered.
        """
        server = self.server
        if step == "advertise":
            return dict.fromkeys(self.clients, server.offer.data)
        if step == "share":
            header = server.close_adverts()
            return dict.fromkeys(server.names, header)
        if step == "mask":
            return server.close_shares()
        if step == "agree":
            sets = server.close_masked()
            self.summed = server.summed
            return dict.fromkeys(self.summed, sets)
        return server.close_signatures()

    def took(self, step: Step, client: str, message: bytes) -> None:
        """Take in a client's answer to any step but "mask".

        Raises:
            ProtocolError: it is not in order; its client counts as dropped out.
        """
        take = {
            "advertise": self.server.advert,
            "share": self.server.shares,
            "agree": self.server.signature,
            "release": self.server.opened,
        }[step]
        take(client, message)

    def decoded(self) -> Decoded:
        """The opened sum.

        Raises:
            SecureAborted: it cannot be opened.
        """
        return self.server.offer.encoding.decode(self.server.result())
