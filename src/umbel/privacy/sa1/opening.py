"""Opening a secure sum: find the seeds of those that stayed, the mask keys of those that left; take their masks off."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from umbel.errors import ProtocolError
from umbel.privacy.sa1 import shamir
from umbel.privacy.sa1.joining import commitment
from umbel.privacy.sa1.keys import derived, pair_key, public_of
from umbel.privacy.sa1.masks import add_masks
from umbel.privacy.sa1.offer import Header
from umbel.privacy.sa1.sets import Sets

U32 = NDArray[np.uint32]


@final
@dataclass(frozen=True)
class Opening:
    """What the server knows of a round when its sum is to be opened.

    Attributes:
        bound: the digest of the sum.
        commitments: index → what each client committed its seed to.
    """

    header: Header
    bound: bytes
    sets: Sets
    commitments: Mapping[int, bytes]

    def unmask(self, total: U32, released: Mapping[int, Mapping[int, bytes]], executor: Executor | None) -> None:
        """Take all masks off `total`, in place.

        Args:
            released: owner → holder → the share that the holder released.

        Raises:
            ProtocolError: a secret has fewer shares than the threshold, or they do not belong together. Nothing is
                taken off then.
        """
        secrets = self._secrets(released)
        self._check(secrets)
        add_masks(total, list(self._masks(secrets)), self.header.offer.suite, executor)

    def _secrets(self, released: Mapping[int, Mapping[int, bytes]]) -> dict[int, bytes]:
        """Of each that shared, its seed or its mask key."""
        owners, threshold = sorted(self._needed), self.header.offer.threshold
        places = np.zeros((len(owners), threshold), np.uint64)
        shares = np.zeros((len(owners), threshold, shamir.LIMBS), np.uint64)
        for row, owner in enumerate(owners):
            found = released.get(owner, {})
            if len(found) < threshold:
                name = self.header.adverts[owner].name
                raise ProtocolError(
                    f"{len(found)} shares of a secret of client {name} were released, {threshold} are needed"
                )
            chosen = sorted(found)[:threshold]
            places[row] = np.array(chosen, np.uint64) + 1
            data = b"".join(found[holder] for holder in chosen)
            shares[row] = shamir.unpacked(data).reshape(threshold, shamir.LIMBS)
        limbs = shamir.recover(places, shares)
        return {owner: shamir.secret_of(row) for owner, row in zip(owners, limbs, strict=True)}

    @property
    def _needed(self) -> frozenset[int]:
        """Whose secrets have to be found: who left without a neighbour in the sum has no mask there."""
        near, summed = self.header.neighbours, self.sets.summed
        return frozenset(i for i in self.sets.shared if i in summed or summed.intersection(near[i]))

    def _check(self, secrets: Mapping[int, bytes]) -> None:
        """Refuse secrets that are not those that their owners announced."""
        digest = self.header.digest
        for owner, secret in secrets.items():
            advert = self.header.adverts[owner]
            if owner in self.sets.summed:
                good = commitment(secret, digest, owner) == self.commitments[owner]
            else:
                good = public_of(secret) == advert.mask
            if not good:
                raise ProtocolError(
                    f"the released shares of client {advert.name} do not give the secret that it announced"
                )

    def _masks(self, secrets: Mapping[int, bytes]) -> Iterator[tuple[bytes, bool]]:
        """The masks that are in the sum, each to be taken off."""
        bound, summed = self.bound, self.sets.summed
        for owner, secret in secrets.items():
            if owner in summed:
                yield derived(secret, b"self", bound, owner, owner), True
                continue
            private = X25519PrivateKey.from_private_bytes(secret)
            for other in self.header.neighbours[owner]:
                if other in summed:
                    low, high = min(owner, other), max(owner, other)
                    key = pair_key(private, self.header.adverts[other].mask, b"mask", bound, low, high)
                    # The other added it if it is the lower one, and subtracted it otherwise.
                    yield key, other == low
