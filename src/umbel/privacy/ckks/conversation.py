"""An encrypted sum as its messenger sees it: five steps, in each a message for some clients and one back from each.

    advertise  everybody    its X25519 key of this sum, signed by its identity
    deal       one client   a fresh secret key, sealed for each other client; the server cannot open it
    encrypt    everybody    its vector in ciphertexts, and a check of it that only holders of the key can read
    agree      everybody    its signature of who is in the sum
    open       one client   the sum, if enough signed and it is the sum of these

The server is handed signed public keys, sealed keys, ciphertexts, signatures and, at the end, integers. It never has a
key.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from umbel.errors import ProtocolError, SecureAborted
from umbel.privacy.ckks.check import SEALED_BYTES
from umbel.privacy.ckks.offer import Advert, Header, Offer
from umbel.privacy.ckks.tenseal import Adder
from umbel.privacy.sa1.encoding import Decoded
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.keys import is_signed
from umbel.privacy.sa1.sets import Sets

Step: TypeAlias = Literal["advertise", "deal", "encrypt", "agree", "open"]
STEPS: tuple[Step, ...] = ("advertise", "deal", "encrypt", "agree", "open")
BOX_BYTES, SEAL_BYTES = 48, 16


@final
class Conversation:
    """The server's messages, step after step. A pure state machine: bytes in, bytes out.

    Go through `turns`; for each send `messages` and take in what comes back with `took`.
    """

    def __init__(self, offer: Offer) -> None:
        self.offer = offer
        self._step: Step = "advertise"
        self._adverts: dict[str, Advert] = {}
        self._header: Header | None = None
        self._index: dict[str, int] = {}
        self._asked: set[str] = set()
        """Who is asked in a step that one client does alone."""
        self._dealt: tuple[int, bytes, list[bytes]] | None = None
        self._adder: Adder | None = None
        self._totals: list[Any] = []
        self._checks: dict[int, bytes] = {}
        self._sets: Sets | None = None
        self._signatures: dict[int, bytes] = {}
        self._words: NDArray[np.uint32] | None = None

    @property
    def turns(self) -> Iterator[Step]:
        """The steps as they come: those that one client does alone come again until one has."""
        yield "advertise"
        while self._dealt is None:
            yield "deal"
        yield "encrypt"
        yield "agree"
        while self._words is None:
            yield "open"

    @property
    def header(self) -> Header:
        """Whose key is in the sum, after everybody's are there."""
        return self._closed_adverts()

    @property
    def summed(self) -> tuple[str, ...]:
        """The clients whose vectors are in the sum, in the offer's order."""
        return tuple(name for name, index in self._index.items() if index in self._checks)

    @property
    def total(self) -> bytes:
        """The sum, which one client is asked to open."""
        return joined(*(total.serialize() for total in self._totals))

    def messages(self, step: Step) -> dict[str, bytes]:
        """What each client is sent in this step; it closes the one before.

        Raises:
            SecureAborted: too few clients answered, or nobody is left for what one does alone.
        """
        if step != self._step:
            self._step, self._asked = step, set()
        if step == "advertise":
            return dict.fromkeys(self.offer.names, self.offer.data)
        if step == "deal":
            header = self._closed_adverts()
            return {self._next(list(self._index), "deal its key"): header.data}
        if step == "encrypt":
            return self._keys()
        if step == "agree":
            return dict.fromkeys(self.summed, self._closed_sum().data)
        self._enough(len(self._signatures), "signed who is in the sum")
        signers = [name for name, index in self._index.items() if index in self._signatures]
        signatures = joined(*(index.to_bytes(4, "little") + mark for index, mark in self._signatures.items()))
        checks = joined(*(one for _, one in sorted(self._checks.items())))
        return {self._next(signers, "open it"): joined(signatures, checks)}

    def took(self, step: Step, client: str, message: bytes) -> None:
        """Take in a client's answer.

        Raises:
            ProtocolError: it is not in order; its client counts as dropped out.
        """
        if step != self._step:
            raise ProtocolError(f"the encrypted sum is at step {self._step!r}, this belongs to {step!r}")
        if step == "advertise":
            self._advert(client, message)
            return
        index = self._index.get(client)
        if index is None:
            raise ProtocolError(f"client {client} is not in the header of this sum")
        {"deal": self._deal, "encrypt": self._encrypted, "agree": self._signed, "open": self._opened}[step](
            client, index, message
        )

    def decoded(self) -> Decoded:
        """The opened sum."""
        if self._words is None:
            raise ProtocolError("the sum is not opened yet")
        return self.offer.encoding.decode(self._words)

    def _advert(self, client: str, message: bytes) -> None:
        found = Advert.read(message)
        if found.name != client or client not in self.offer.names or client in self._adverts:
            raise ProtocolError(f"client {client} advertises a key as {found.name}, twice, or uninvited")
        if not found.is_signed(self.offer):
            raise ProtocolError(f"the key of client {client} is not signed for this sum")
        self._adverts[client] = found

    def _closed_adverts(self) -> Header:
        if self._header is None:
            self._enough(len(self._adverts), "sent keys")
            there = [self._adverts[name] for name in self.offer.names if name in self._adverts]
            self._header = Header(self.offer, tuple(there))
            self._index = {advert.name: index for index, advert in enumerate(there)}
        return self._header

    def _next(self, clients: list[str], what: str) -> str:
        """Who is asked next to do what one client does; another one begins in each round and try."""
        first = (self.offer.round + self.offer.attempt) % len(clients)
        left = [name for name in clients[first:] + clients[:first] if name not in self._asked]
        if not left:
            raise SecureAborted(self.offer.round, f"no client is left who would {what}")
        self._asked.add(left[0])
        return left[0]

    def _deal(self, client: str, index: int, message: bytes) -> None:
        bulk, *boxes = parted(message, 1 + len(self._index))
        sizes = [0 if place == index else BOX_BYTES for place in range(len(boxes))]
        if client not in self._asked or self._dealt is not None or [len(box) for box in boxes] != sizes:
            raise ProtocolError(f"client {client} deals a key in another form, uninvited, or after another one")
        if len(bulk) > self.offer.settings.most_key_bytes + SEAL_BYTES:
            raise ProtocolError(f"client {client} deals a key of {len(bulk)} bytes, which is more than any has")
        self._dealt = index, bulk, boxes

    def _keys(self) -> dict[str, bytes]:
        assert self._dealt is not None
        dealer, bulk, boxes = self._dealt
        header, place = self._closed_adverts().data, dealer.to_bytes(4, "little")
        return {
            name: joined(header, place, b"" if index == dealer else bulk, boxes[index])
            for name, index in self._index.items()
        }

    def _encrypted(self, client: str, index: int, message: bytes) -> None:
        if index in self._checks:
            raise ProtocolError(f"client {client} sends a vector twice")
        offer = self.offer
        one, *parts = parted(message, 1 + offer.parts)
        if len(one) != SEALED_BYTES:
            raise ProtocolError(f"client {client} sends a check of {len(one)} bytes, {SEALED_BYTES} are right")
        adder = self._adder = self._adder or Adder(offer.settings)
        vectors = [adder.load(part, size) for part, size in zip(parts, offer.sizes, strict=True)]
        if self._totals:
            vectors = [adder.add(*pair) for pair in zip(self._totals, vectors, strict=True)]
        self._totals = vectors
        self._checks[index] = one

    def _closed_sum(self) -> Sets:
        if self._sets is None:
            self._enough(len(self._checks), "sent encrypted vectors")
            count = len(self._index)
            self._sets = Sets(count, frozenset(range(count)), frozenset(self._checks))
        return self._sets

    def _signed(self, client: str, index: int, message: bytes) -> None:
        sets, header = self._closed_sum(), self._closed_adverts()
        if index not in sets.summed or index in self._signatures:
            raise ProtocolError(f"client {client} signs a sum that it is not in, or twice")
        if not is_signed(header.adverts[index].identity, message, sets.signed(header.digest)):
            raise ProtocolError(f"client {client} did not sign who is in the sum")
        self._signatures[index] = message

    def _opened(self, client: str, index: int, message: bytes) -> None:
        if client not in self._asked or self._words is not None or len(message) != 4 * self.offer.length:
            raise ProtocolError(f"client {client} opens another sum, uninvited, or after another one")
        self._words = np.frombuffer(message, "<u4")

    def _enough(self, found: int, what: str) -> None:
        if found < self.offer.threshold:
            raise SecureAborted(
                self.offer.round,
                f"{found} of {self.offer.clients} clients {what}, {self.offer.threshold} are needed; ask more clients "
                "or lower the threshold's share",
            )
