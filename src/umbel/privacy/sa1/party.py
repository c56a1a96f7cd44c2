"""Who takes part in a secure round, and what its owner insists on whatever the server asks."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias, final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from umbel.errors import SecureRefused
from umbel.privacy.sa1.encoding import Encoding
from umbel.privacy.sharing import Sharing, default_threshold

Trusts: TypeAlias = Callable[[str, bytes, bytes], bool]
"""Whether a name belongs to an Ed25519 key, by the credential that came with it."""


class Offered(Protocol):
    """What floors look at in an offer, of whatever kind of sum."""

    @property
    def clients(self) -> int: ...
    @property
    def neighbourhood(self) -> int: ...
    @property
    def threshold(self) -> int: ...


@final
@dataclass(frozen=True, kw_only=True)
class Floors:
    """What a client insists on; the server cannot lower it.

    Args:
        min_cohort: a sum of fewer clients is refused, at least 2.
        min_threshold_share: more than this share of a neighbourhood has to stay, at least 0.5: with half or less a
            server could open two different sums with two disjoint groups.
        max_weight_cap: larger ones let one client's weight drown the others'.
    """

    min_cohort: int = 3
    min_threshold_share: float = 2 / 3
    max_weight_cap: float = math.inf

    def check(self, name: str, offer: Offered) -> None:
        """Refuse an offer below the floors.

        Raises:
            SecureRefused: says which.
        """
        share = max(0.5, self.min_threshold_share)
        least = default_threshold(offer.neighbourhood, share)
        if offer.clients < self.min_cohort:
            raise SecureRefused(
                name, f"the cohort has {offer.clients} clients, the owner allows sums of at least {self.min_cohort}"
            )
        if offer.threshold < least:
            raise SecureRefused(
                name,
                f"the threshold is {offer.threshold} of {offer.neighbourhood}, the owner wants at least "
                f"{least}, more than {share:.3g} of them",
            )

    def check_encoding(self, name: str, encoding: Encoding) -> None:
        """Refuse a sum in which others could weigh too much.

        Raises:
            SecureRefused: says how much.
        """
        if encoding.weight_cap > self.max_weight_cap:
            raise SecureRefused(
                name, f"weights up to {encoding.weight_cap:g} would count, the owner allows {self.max_weight_cap:g}"
            )


@final
@dataclass(frozen=True, kw_only=True)
class Party:
    """A client as its owner set it up.

    Args:
        name: its name in the federation.
        secret: its Ed25519 key, 32 bytes; it signs and is never sent.
        trusts: whether a name belongs to an Ed25519 public key, by a credential: the enrolment.
        credential: shows to others that the key is this name's.
        floors: see `Floors`.
        sharing: of noise that the clients make together; a sum with too little of it is not opened.
        entropy: gives so many unpredictable bytes. Only tests replace the operating system's.
    """

    name: str
    secret: bytes
    trusts: Trusts
    credential: bytes = b""
    floors: Floors = Floors()
    sharing: Sharing | None = None
    entropy: Callable[[int], bytes] = os.urandom

    @cached_property
    def identity(self) -> bytes:
        """The public half of its Ed25519 key."""
        return self._key.public_key().public_bytes_raw()

    @cached_property
    def _key(self) -> Ed25519PrivateKey:
        return Ed25519PrivateKey.from_private_bytes(self.secret)

    def sign(self, message: bytes) -> bytes:
        """Its signature."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"Party({self.name!r})"
