"""Keys of SA1: what clients are asked to make them for, and the header that lists everybody's."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import final

from umbel.errors import ConfigError, ProtocolError
from umbel.message import require
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.graph import COMPLETE_UP_TO, near_of, neighbours_of

SUITES = ("SA1", "SA1-C")
"""Masks from AES-256-CTR, or from ChaCha20 for processors without AES. A hybrid with ML-KEM would be a third."""
_NUMBERS = struct.Struct("<IIIII")
KEY_BYTES = 32
SIGNATURE_BYTES = 64
MOST_CREDENTIAL_BYTES = 2**14
MOST_NAME_BYTES = 2**10
MOST_NEIGHBOURHOOD = 1024


@final
@dataclass(frozen=True, kw_only=True)
class Offer:
    """What the server proposes to clients that are to be in a sum together; what it is of they hear with the shares.

    Args:
        run: the run's id.
        leadership: how many servers have led the run, this one included; 0 where there is none to be killed.
        number: which offer of this server's it is; each is a later one.
        clients: how many are asked, at least 2.
        threshold: how many of a neighbourhood (a client and its neighbours) have to stay until the end.
        neighbours: each client's number of them, even; 0 is all, which up to 60 clients is the only choice.
        beacon: digest of the run's last header; zeros before there is one.
        suite: "SA1" or "SA1-C".
    """

    run: str
    leadership: int
    number: int
    clients: int
    threshold: int
    neighbours: int = 0
    beacon: bytes = bytes(32)
    suite: str = "SA1"

    def __post_init__(self) -> None:
        require(self.suite in SUITES, f"suite must be one of {', '.join(SUITES)}, got {self.suite!r}")
        require(len(self.beacon) == 32, "the beacon is a SHA-256 digest of 32 bytes")
        require(self.clients >= 2, f"a secure sum needs at least 2 clients, got {self.clients}")
        require(
            self.neighbours == 0 or (self.neighbours % 2 == 0 and COMPLETE_UP_TO < self.clients > self.neighbours > 1),
            f"neighbours must be 0 (all), or above {COMPLETE_UP_TO} clients an even number below {self.clients}, got "
            f"{self.neighbours}",
        )
        require(
            self.neighbourhood <= MOST_NEIGHBOURHOOD,
            f"{self.neighbourhood} clients would mask together, {MOST_NEIGHBOURHOOD} at most may; set neighbours",
        )
        require(
            1 < self.threshold <= self.neighbourhood,
            f"threshold must be from 2 to {self.neighbourhood}, got {self.threshold}",
        )

    @property
    def neighbourhood(self) -> int:
        """A client and its neighbours."""
        return self.neighbours + 1 if self.neighbours else self.clients

    @property
    def order(self) -> tuple[int, int]:
        """What grows from one offer of a run to the next, also when a server goes back to an older checkpoint."""
        return self.leadership, self.number

    @cached_property
    def data(self) -> bytes:
        """The canonical bytes."""
        numbers = _NUMBERS.pack(self.leadership, self.number, self.clients, self.threshold, self.neighbours)
        return joined(b"umbel SA1 offer 2", self.suite.encode(), self.run.encode(), numbers, self.beacon)

    @cached_property
    def digest(self) -> bytes:
        return sha256(self.data).digest()

    @classmethod
    def read(cls, data: bytes) -> Offer:
        """The offer in these bytes.

        Raises:
            ProtocolError: there is none.
        """
        tag, suite, run, numbers, beacon = parted(data, 5)
        try:
            leadership, number, clients, threshold, neighbours = _NUMBERS.unpack(numbers)
            found = cls(
                run=run.decode(),
                leadership=leadership,
                number=number,
                clients=clients,
                threshold=threshold,
                neighbours=neighbours,
                beacon=beacon,
                suite=suite.decode(),
            )
        except (ConfigError, UnicodeDecodeError, struct.error) as error:
            raise ProtocolError(f"this is no offer of SA1: {error}") from None
        if tag != b"umbel SA1 offer 2" or found.data != data:
            raise ProtocolError("this is no offer of SA1, version 2")
        return found


def named(name: bytes, credential: bytes) -> str:
    """The name in an advert, of whatever kind of sum, beside the credential that shows whose it is.

    Raises:
        ProtocolError: one of them is longer than any, or the name is no text.
    """
    if len(name) > MOST_NAME_BYTES:
        raise ProtocolError(f"a client's name has {len(name)} bytes, allowed are {MOST_NAME_BYTES}")
    if len(credential) > MOST_CREDENTIAL_BYTES:
        raise ProtocolError(f"a credential has {len(credential)} bytes, allowed are {MOST_CREDENTIAL_BYTES}")
    try:
        return name.decode()
    except UnicodeDecodeError:
        raise ProtocolError("the name in an advert is no UTF-8") from None


@final
@dataclass(frozen=True)
class Advert:
    """A client's keys for one sum: X25519 for the channel and for masks, signed by its Ed25519 identity.

    `credential` shows that the identity is enrolled under the name, in a form that clients agree on; it may be empty.
    """

    name: str
    identity: bytes
    credential: bytes
    channel: bytes
    mask: bytes
    signature: bytes

    @cached_property
    def data(self) -> bytes:
        return joined(self.name.encode(), self.identity, self.credential, self.channel, self.mask, self.signature)

    def signed(self, offer: Offer) -> bytes:
        """What the signature is of."""
        who = (self.name.encode(), self.identity, self.credential)
        return joined(b"umbel SA1 keys 2", offer.digest, *who, self.channel, self.mask)

    @classmethod
    def read(cls, data: bytes) -> Advert:
        """The advert in these bytes.

        Raises:
            ProtocolError: there is none.
        """
        name, identity, credential, channel, mask, signature = parted(data, 6)
        if not len(identity) == len(channel) == len(mask) == KEY_BYTES or len(signature) != SIGNATURE_BYTES:
            raise ProtocolError("an advert of SA1 has three keys of 32 bytes and a signature of 64")
        return cls(named(name, credential), identity, credential, channel, mask, signature)


@final
@dataclass(frozen=True)
class Header:
    """The offer and everybody's keys, in one order. Its digest goes into every key that is agreed on."""

    offer: Offer
    adverts: tuple[Advert, ...]

    @cached_property
    def data(self) -> bytes:
        return joined(self.offer.data, *(advert.data for advert in self.adverts))

    @cached_property
    def digest(self) -> bytes:
        return sha256(b"umbel SA1 header 2" + self.data).digest()

    @property
    def complete(self) -> bool:
        """Whether everybody is everybody's neighbour; if so few came that a ring has no room, too."""
        # No larger neighbourhood than the threshold is for: with less than half of one, two sums could be opened.
        return self.offer.neighbours == 0 or len(self.adverts) <= self.offer.neighbours + 1

    @cached_property
    def neighbours(self) -> tuple[tuple[int, ...], ...]:
        """Each client's neighbours by index, in ascending order."""
        return neighbours_of(len(self.adverts), 0 if self.complete else self.offer.neighbours, self.digest)

    def near(self, index: int) -> tuple[int, ...]:
        """One client's neighbours, as in `neighbours`."""
        return near_of(len(self.adverts), 0 if self.complete else self.offer.neighbours, self.digest, index)

    @classmethod
    def read(cls, data: bytes) -> Header:
        """The header in these bytes.

        Raises:
            ProtocolError: there is none.
        """
        offer, *adverts = parted(data, least=1)
        return cls(Offer.read(offer), tuple(map(Advert.read, adverts)))
