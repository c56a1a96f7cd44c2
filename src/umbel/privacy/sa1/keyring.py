"""`Keyring`: which keys the next secure sum of a run is made with: such as were gathered ahead, or new ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from umbel.privacy.sa1.conversation import Conversation
from umbel.privacy.sa1.gathering import Gathered
from umbel.privacy.sa1.graph import COMPLETE_UP_TO
from umbel.privacy.sa1.offer import Offer
from umbel.privacy.sa1.purpose import Purpose
from umbel.privacy.sharing import default_threshold


@final
class Keyring:
    """A server's, for the sums of one run, one after the other.

    Keys serve one sum, and one alone. They are gathered ahead, with the messages of the sum before, where the same
    clients are likely to be asked again: if the last two sums were of the same ones, or there was but one.

    Args:
        threshold_share: more than this share of a neighbourhood has to stay until the end.
        neighbours: with how many others each client masks; 0 is all.
        suite: "SA1" or "SA1-C".
    """

    def __init__(self, run: str, *, threshold_share: float, neighbours: int, suite: str) -> None:
        self._run, self._share, self._neighbours, self._suite = run, threshold_share, neighbours, suite
        self.leadership = 0
        """How many servers have led the run, this one included; set before the first sum."""
        self._number, self._beacon = 0, bytes(32)
        self._ahead: Gathered | None = None
        self._last: frozenset[str] | None = None

    def conversation(self, purpose: Purpose, clients: Sequence[str]) -> Conversation:
        """The next sum, of these clients."""
        there, ahead = frozenset(clients), self._ahead
        again = self._last in (None, there)
        self._last, self._ahead = there, None
        fits = ahead is not None and frozenset(ahead.clients) == there and len(ahead.header.adverts) == len(there)
        keys = ahead if ahead is not None and fits else self._offer(len(there))
        return Conversation(keys, purpose, clients, ahead=self._offer(len(there)) if again else None)

    def opened(self, talk: Conversation) -> None:
        """Take what a sum that was opened leaves for the next."""
        self._beacon = talk.server.header.digest
        self._ahead = talk.gathered

    def _offer(self, clients: int) -> Offer:
        number, self._number = self._number, self._number + 1
        neighbours = self._neighbours if clients > max(COMPLETE_UP_TO, self._neighbours) else 0
        return Offer(
            run=self._run,
            leadership=self.leadership,
            number=number,
            clients=clients,
            threshold=max(2, default_threshold(neighbours + 1 if neighbours else clients, self._share)),
            neighbours=neighbours,
            beacon=self._beacon,
            suite=self._suite,
        )
