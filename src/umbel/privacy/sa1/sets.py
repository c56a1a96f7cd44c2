"""What all clients of a round must agree on before anything is opened: who shared keys, and whose vectors are in."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import final

import numpy as np

from umbel.errors import ProtocolError
from umbel.privacy.sa1.fields import joined, parted


@final
@dataclass(frozen=True)
class Sets:
    """Indices of a round's clients: those that shared their keys and, among them, those whose vectors were summed."""

    clients: int
    shared: frozenset[int]
    summed: frozenset[int]

    @cached_property
    def data(self) -> bytes:
        return joined(
            self.clients.to_bytes(4, "little"), _bits(self.clients, self.shared), _bits(self.clients, self.summed)
        )

    @classmethod
    def full(cls, clients: int) -> Sets:
        """Everybody shared, and is in the sum."""
        everybody = frozenset(range(clients))
        return cls(clients, everybody, everybody)

    def signed(self, bound: bytes) -> bytes:
        """What a client signs: the sets, under the digest of the sum."""
        return joined(b"umbel SA1 sets 2", bound, self.data)

    @classmethod
    def read(cls, data: bytes, clients: int) -> Sets:
        """The sets in these bytes, of a round of so many clients.

        Raises:
            ProtocolError: there are none.
        """
        count, shared, summed = parted(data, 3)
        if len(count) != 4 or not len(shared) == len(summed) == (clients + 7) // 8:
            raise ProtocolError(f"these are no sets of a round with {clients} clients")
        found = cls(int.from_bytes(count, "little"), _indices(shared), _indices(summed))
        beyond = max(found.shared | found.summed, default=0) >= clients
        if found.clients != clients or beyond or found.data != data:
            raise ProtocolError(f"these are no sets of a round with {clients} clients")
        return found


def _bits(clients: int, members: Collection[int]) -> bytes:
    flags = np.zeros(clients, np.uint8)
    flags[list(members)] = 1
    return np.packbits(flags, bitorder="little").tobytes()


def _indices(data: bytes) -> frozenset[int]:
    bits = np.unpackbits(np.frombuffer(data, np.uint8), bitorder="little")
    return frozenset(np.flatnonzero(bits).tolist())
