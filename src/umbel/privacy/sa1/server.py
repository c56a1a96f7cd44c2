"""The server's side of a sum: carries messages, sums masked vectors, and opens the sum when enough clients let it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from concurrent.futures import Executor
from typing import Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from umbel.errors import ProtocolError
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.gathering import Gathered, enough
from umbel.privacy.sa1.keys import is_signed
from umbel.privacy.sa1.opening import Opening
from umbel.privacy.sa1.purpose import Purpose
from umbel.privacy.sa1.sets import Sets
from umbel.privacy.sa1.shamir import LIMBS, unpacked

U32 = NDArray[np.uint32]
Stage: TypeAlias = Literal["mask", "agree", "release", "done"]


@final
class SecureServer:
    """One sum at the server. Each step takes in messages by client until it is closed.

    A message that is not in order raises `ProtocolError`: its client counts as dropped out.

    Args:
        gathered: the clients' keys and shares, which serve one sum.
        purpose: what the sum is of.
        executor: threads for the masks of clients that dropped out.
    """

    def __init__(self, gathered: Gathered, purpose: Purpose, *, executor: Executor | None = None) -> None:
        self.header, self.purpose = gathered.header, purpose
        self.bound = purpose.bound(self.header.digest)
        self.step: Stage = "mask"
        self.total = np.zeros(purpose.encoding.length, np.uint32)
        self._gathered, self._executor = gathered, executor
        self._index = {advert.name: index for index, advert in enumerate(self.header.adverts)}
        self._shared = frozenset(gathered.commitments)
        self._summed: set[int] = set()
        self._full = Sets.full(len(self._index))
        self._sets: Sets | None = None
        self._signatures: dict[int, bytes] = {}
        self._opened: dict[int, list[bytes]] = {}

    @property
    def summed(self) -> tuple[str, ...]:
        """The clients whose vectors are in the sum."""
        return tuple(name for name, index in self._index.items() if index in self._summed)

    @property
    def inboxes(self) -> dict[str, bytes]:
        """For each client that shared what the sum is of, and the shares that are for it."""
        return {name: joined(self.purpose.data, *box) for name, box in self._gathered.inboxes.items()}

    def masked(self, client: str, vector: U32) -> None:
        """Take in a masked vector; it is added to the sum and not kept."""
        index = self._summable(client)
        if vector.shape != self.total.shape or vector.dtype != np.uint32:
            raise ProtocolError(f"client {client} sent {vector.size} words, the sum has {self.total.size}")
        self.total += vector
        self._summed.add(index)

    def masked_sum(self, clients: Sequence[str], total: U32) -> None:
        """Take in the sum of these clients' masked vectors, which somebody nearer to them added up."""
        indices = [self._summable(client) for client in clients]
        if len(set(indices)) < len(indices) or total.shape != self.total.shape:
            raise ProtocolError("a partial sum has a client twice, or another size")
        self.total += total
        self._summed.update(indices)

    def early(self, client: str, message: bytes) -> None:
        """Take in a client's signature that everybody is in the sum; of no use if it is none, or somebody is not."""
        index = self._known("mask", client, self._signatures)
        if is_signed(self.header.adverts[index].identity, message, self._full.signed(self.bound)):
            self._signatures[index] = message

    @property
    def is_agreed(self) -> bool:
        """Whether everybody is in the sum and enough have signed that already: step 4 can be left out."""
        everybody = len(self._summed) == len(self._index)
        return everybody and len(self._signatures) >= self.header.offer.threshold

    def close_masked(self) -> bytes:
        """Who is in the sum, for those that are.

        Raises:
            TooFew: of the clients.
        """
        self._at("mask")
        self._enough(self._summed, "sent masked vectors")
        self._sets = Sets(len(self._index), self._shared, frozenset(self._summed))
        self._signatures.clear()
        self.step = "agree"
        return self._sets.data

    def signature(self, client: str, message: bytes) -> None:
        """Take in a client's signature of who is in the sum."""
        index = self._known("agree", client, self._signatures)
        sets = self._agreed()
        if index not in sets.summed:
            raise ProtocolError(f"client {client} signs a sum that it is not in")
        if not is_signed(self.header.adverts[index].identity, message, sets.signed(self.bound)):
            raise ProtocolError(f"client {client} did not sign these sets")
        self._signatures[index] = message

    def close_signatures(self) -> dict[str, bytes]:
        """For each client that signed the signatures of its neighbours.

        Raises:
            TooFew: of the clients.
        """
        if self.step == "mask" and self.is_agreed:
            self._sets, self.step = self._full, "agree"
        self._at("agree")
        self._enough(self._signatures, "signed who is in the sum")
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
        return sorted([index, *(j for j in self.header.neighbours[index] if j in self._shared)])

    def result(self) -> U32:
        """The sum of the vectors of all clients that sent one, modulo 2^32.

        Raises:
            ProtocolError: too few clients released shares, or what they released does not belong together.
        """
        self._at("release")
        sets, released = self._agreed(), dict[int, dict[int, bytes]]()
        for holder, parts in self._opened.items():
            for owner, part in zip(self.holders(holder), parts, strict=True):
                released.setdefault(owner, {})[holder] = part
        self.step = "done"
        opening = Opening(self.header, self.bound, sets, self._gathered.commitments)
        opening.unmask(self.total, released, self._executor)
        return self.total

    def _agreed(self) -> Sets:
        if self._sets is None:
            raise ProtocolError("who is in the sum is known when step 3 is closed")
        return self._sets

    def _summable(self, client: str) -> int:
        index = self._known("mask", client, self._summed)
        if index not in self._shared:
            raise ProtocolError(f"client {client} sends a vector without having shared its keys")
        return index

    def _known(self, step: Stage, client: str, given: Collection[int]) -> int:
        self._at(step)
        index = self._index.get(client)
        if index is None or index in given:
            raise ProtocolError(f"client {client} is not in the sum's header, or answers twice")
        return index

    def _at(self, step: Stage) -> None:
        if self.step != step:
            raise ProtocolError(f"the secure sum is at step {self.step!r}, this belongs to {step!r}")

    def _enough(self, found: Collection[int], what: str) -> None:
        if len(found) < self.header.offer.threshold:
            self.step = "done"
        enough(len(found), self.header.offer, what)
