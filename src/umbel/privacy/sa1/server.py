"""The server's side: carries messages, sums masked vectors, and opens the sum when enough clients let it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor
from typing import Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from umbel.errors import ProtocolError, SecureAborted
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.keys import is_signed
from umbel.privacy.sa1.offer import Advert, Header, Offer
from umbel.privacy.sa1.opening import Opening
from umbel.privacy.sa1.sets import Sets
from umbel.privacy.sa1.shamir import LIMBS, SHARE_BYTES, unpacked

U32 = NDArray[np.uint32]
SEALED_BYTES = 2 * SHARE_BYTES + 16
Step: TypeAlias = Literal["advertise", "share", "mask", "agree", "release", "done"]


@final
class SecureServer:
    """One round at the server. Each step takes in messages by client until it is closed.

    A message that is not in order raises `ProtocolError`: its client counts as dropped out.

    Args:
        offer: what was proposed.
        executor: threads for the masks of clients that dropped out.
    """

    def __init__(self, offer: Offer, *, executor: Executor | None = None) -> None:
        self.offer = offer
        self.step: Step = "advertise"
        self.total = np.zeros(offer.encoding.length, np.uint32)
        self._executor = executor
        self._adverts: dict[str, Advert] = {}
        self._index: dict[str, int] = {}
        self._header: Header | None = None
        self._commitments: dict[int, bytes] = {}
        self._sealed: dict[int, list[bytes]] = {}
        self._summed: set[int] = set()
        self._sets: Sets | None = None
        self._signatures: dict[int, bytes] = {}
        self._opened: dict[int, list[bytes]] = {}

    @property
    def header(self) -> Header:
        """The round's header, after everybody's keys are there."""
        if self._header is None:
            raise ProtocolError("the header is known when step 1 is closed")
        return self._header

    @property
    def names(self) -> tuple[str, ...]:
        """The clients in the order of the header."""
        return tuple(self._index)

    @property
    def summed(self) -> tuple[str, ...]:
        """The clients whose vectors are in the sum."""
        return tuple(name for name, index in self._index.items() if index in self._summed)

    def advert(self, client: str, message: bytes) -> None:
        """Take in a client's keys."""
        self._at("advertise")
        found = Advert.read(message)
        if found.name != client or client in self._adverts or len(self._adverts) >= self.offer.clients:
            raise ProtocolError(f"client {client} advertises keys as {found.name}, twice, or uninvited")
        if not is_signed(found.identity, found.signature, found.signed(self.offer)):
            raise ProtocolError(f"the keys of client {client} are not signed for this round")
        self._adverts[client] = found

    def close_adverts(self) -> bytes:
        """The header, for everybody."""
        self._at("advertise")
        self._enough(len(self._adverts), self.offer.threshold, "sent keys")
        self._header = Header(self.offer, tuple(advert for _, advert in sorted(self._adverts.items())))
        self._index = {advert.name: index for index, advert in enumerate(self._header.adverts)}
        self.step = "share"
        return self._header.data

    def shares(self, client: str, message: bytes) -> None:
        """Take in a client's sealed shares."""
        index = self._known("share", client, self._sealed)
        commitment, *sealed = parted(message, 1 + len(self.header.neighbours[index]))
        if len(commitment) != 32 or any(len(part) != SEALED_BYTES for part in sealed):
            raise ProtocolError(f"client {client} sent shares of another size")
        self._commitments[index], self._sealed[index] = commitment, sealed

    def close_shares(self) -> dict[str, bytes]:
        """For each client that shared the shares that are for it."""
        self._at("share")
        self._enough(len(self._sealed), self.offer.threshold, "shared their keys")
        near, inboxes = self.header.neighbours, dict[str, bytes]()
        boxes: dict[int, list[bytes]] = {index: [] for index in self._sealed}
        for sender in sorted(self._sealed):
            for receiver, sealed in zip(near[sender], self._sealed[sender], strict=True):
                if receiver in boxes:
                    boxes[receiver].append(sender.to_bytes(4, "little") + sealed)
        for name, index in self._index.items():
            if index in boxes:
                inboxes[name] = joined(*boxes[index])
        self._sealed = {index: [] for index in self._sealed}
        self.step = "mask"
        return inboxes

    def masked(self, client: str, vector: U32) -> None:
        """Take in a masked vector; it is added to the sum and not kept."""
        index = self._summable(client)
        if vector.shape != self.total.shape or vector.dtype != np.uint32:
            raise ProtocolError(f"client {client} sent {vector.size} words, the header has {self.total.size}")
        self.total += vector
        self._summed.add(index)

    def masked_sum(self, clients: Sequence[str], total: U32) -> None:
        """Take in the sum of these clients' masked vectors, which somebody nearer to them added up."""
        indices = [self._summable(client) for client in clients]
        if len(set(indices)) < len(indices) or total.shape != self.total.shape:
            raise ProtocolError("a partial sum has a client twice, or another size")
        self.total += total
        self._summed.update(indices)

    def close_masked(self) -> bytes:
        """Who is in the sum, for those that are."""
        self._at("mask")
        self._enough(len(self._summed), self.offer.threshold, "sent masked vectors")
        self._sets = Sets(len(self._index), frozenset(self._sealed), frozenset(self._summed))
        self.step = "agree"
        return self._sets.data

    def signature(self, client: str, message: bytes) -> None:
        """Take in a client's signature of who is in the sum."""
        index = self._known("agree", client, self._signatures)
        sets = self._agreed()
        if index not in sets.summed:
            raise ProtocolError(f"client {client} signs a sum that it is not in")
        if not is_signed(self.header.adverts[index].identity, message, sets.signed(self.header.digest)):
            raise ProtocolError(f"client {client} did not sign these sets")
        self._signatures[index] = message

    def close_signatures(self) -> dict[str, bytes]:
        """For each client that signed the signatures of its neighbours."""
        self._at("agree")
        self._enough(len(self._signatures), self.offer.threshold, "signed who is in the sum")
        self.step = "release"
        found = {index: index.to_bytes(4, "little") + mark for index, mark in self._signatures.items()}
        near = self.header.neighbours
        return {
            name: joined(*(found[j] for j in near[index] if j in found))
            for name, index in self._index.items()
            if index in found
        }

    def opened(self, client: str, message: bytes) -> None:
        """Take in the shares that a client releases."""
        index = self._known("release", client, self._opened)
        if index not in self._signatures:
            raise ProtocolError(f"client {client} releases shares without having signed")
        parts = parted(message, len(self.holders(index)))
        for part in parts:
            if unpacked(part).size != LIMBS:
                raise ProtocolError(f"client {client} releases a share of another size")
        self._opened[index] = parts

    def holders(self, index: int) -> list[int]:
        """Whose shares this client holds: its own and those of its neighbours that shared."""
        return sorted([index, *(j for j in self.header.neighbours[index] if j in self._sealed)])

    def result(self) -> U32:
        """The sum of the vectors of all clients that sent one, modulo 2^32.

        Raises:
            SecureAborted: too few clients released shares, or what they released does not belong together.
        """
        self._at("release")
        sets, released = self._agreed(), dict[int, dict[int, bytes]]()
        for holder, parts in self._opened.items():
            for owner, part in zip(self.holders(holder), parts, strict=True):
                released.setdefault(owner, {})[holder] = part
        self.step = "done"
        opening = Opening(self.header, sets, self._commitments)
        try:
            opening.unmask(self.total, released, self._executor)
        except ProtocolError as error:
            raise SecureAborted(self.offer.round, str(error)) from None
        return self.total

    def _agreed(self) -> Sets:
        if self._sets is None:
            raise ProtocolError("who is in the sum is known when step 3 is closed")
        return self._sets

    def _summable(self, client: str) -> int:
        index = self._known("mask", client, {})
        if index not in self._sealed or index in self._summed:
            raise ProtocolError(f"client {client} sends a vector twice, or without having shared its keys")
        return index

    def _known(self, step: Step, client: str, given: dict[int, bytes] | dict[int, list[bytes]]) -> int:
        self._at(step)
        index = self._index.get(client)
        if index is None or index in given:
            raise ProtocolError(f"client {client} is not in the round's header, or answers twice")
        return index

    def _at(self, step: Step) -> None:
        if self.step != step:
            raise ProtocolError(f"the secure round is at step {self.step!r}, this belongs to {step!r}")

    def _enough(self, found: int, needed: int, what: str) -> None:
        if found < needed:
            self.step = "done"
            raise SecureAborted(
                self.offer.round,
                f"{found} of {self.offer.clients} clients {what}, {needed} are needed; ask more clients or lower the "
                "threshold's share",
            )
