"""The server's side of steps 1 and 2: everybody's keys, and everybody's sealed shares. No sum is spoken of yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from umbel.errors import ProtocolError
from umbel.privacy.sa1.fields import parted
from umbel.privacy.sa1.keys import is_signed, pair_key
from umbel.privacy.sa1.offer import Advert, Header, Offer
from umbel.privacy.sa1.shamir import SHARE_BYTES

_PROBE = X25519PrivateKey.from_private_bytes(bytes(range(32)))
SEALED_BYTES = 2 * SHARE_BYTES + 16


class TooFew(ProtocolError):
    """Too few clients took a step; what has been gathered is thrown away."""


@final
@dataclass(frozen=True)
class Gathered:
    """Keys that one sum can be made with.

    Attributes:
        commitments: index → what each client that shared committed its seed to.
        inboxes: client → the sealed shares that are for it, each with its sender's index.
    """

    header: Header
    commitments: Mapping[int, bytes]
    inboxes: Mapping[str, list[bytes]]

    @property
    def clients(self) -> tuple[str, ...]:
        """Who shared, in the order of the header."""
        return tuple(self.inboxes)


@final
class Gathering:
    """Takes in clients' keys, then their shares.

    A message that is not in order raises `ProtocolError`: its client counts as dropped out.
    """

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self._adverts: dict[str, Advert] = {}
        self._index: dict[str, int] = {}
        self._header: Header | None = None
        self._commitments: dict[int, bytes] = {}
        self._sealed: dict[int, list[bytes]] = {}

    @property
    def header(self) -> Header:
        """Everybody's keys, after step 1."""
        if self._header is None:
            raise ProtocolError("the header is known when step 1 is closed")
        return self._header

    @property
    def names(self) -> tuple[str, ...]:
        """The clients in the order of the header."""
        return tuple(self._index)

    def advert(self, client: str, message: bytes) -> None:
        """Take in a client's keys."""
        found = Advert.read(message)
        full = len(self._adverts) >= self.offer.clients
        if self._header is not None or found.name != client or client in self._adverts or full:
            raise ProtocolError(f"client {client} advertises keys as {found.name}, twice, late or uninvited")
        if not is_signed(found.identity, found.signature, found.signed(self.offer)):
            raise ProtocolError(f"the keys of client {client} are not signed for this offer")
        for key in (found.channel, found.mask):
            pair_key(_PROBE, key, b"channel", b"", 0, 0)  # every other client would refuse the header for it
        self._adverts[client] = found

    def close_adverts(self) -> bytes:
        """The header, for everybody.

        Raises:
            TooFew: of the clients.
        """
        enough(len(self._adverts), self.offer, "sent keys")
        self._header = Header(self.offer, tuple(advert for _, advert in sorted(self._adverts.items())))
        self._index = {advert.name: index for index, advert in enumerate(self._header.adverts)}
        return self._header.data

    def shares(self, client: str, message: bytes) -> None:
        """Take in a client's sealed shares."""
        index = self._index.get(client)
        if index is None or index in self._sealed:
            raise ProtocolError(f"client {client} is not in the header, or shares twice")
        commitment, *sealed = parted(message, 1 + len(self.header.neighbours[index]))
        if len(commitment) != 32 or any(len(part) != SEALED_BYTES for part in sealed):
            raise ProtocolError(f"client {client} sent shares of another size")
        self._commitments[index], self._sealed[index] = commitment, sealed

    def close_shares(self) -> Gathered:
        """All that a sum needs of steps 1 and 2.

        Raises:
            TooFew: of the clients.
        """
        enough(len(self._sealed), self.offer, "shared their keys")
        near = self.header.neighbours
        boxes: dict[int, list[bytes]] = {index: [] for index in sorted(self._sealed)}
        for sender in sorted(self._sealed):
            for receiver, sealed in zip(near[sender], self._sealed[sender], strict=True):
                if receiver in boxes:
                    boxes[receiver].append(sender.to_bytes(4, "little") + sealed)
        names = [advert.name for advert in self.header.adverts]
        inboxes = {names[index]: box for index, box in boxes.items()}
        self._sealed.clear()
        return Gathered(self.header, self._commitments, inboxes)


def enough(found: int, offer: Offer, what: str) -> None:
    """Refuse to go on with fewer than the threshold.

    Raises:
        TooFew: says how many are needed.
    """
    if found < offer.threshold:
        raise TooFew(
            f"{found} of {offer.clients} clients {what}, {offer.threshold} are needed; ask more clients or lower the "
            "threshold's share"
        )
