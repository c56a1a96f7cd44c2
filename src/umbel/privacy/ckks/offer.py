"""What an encrypted sum is about, before anybody's keys are known, and the header that binds both."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import final

from umbel.errors import ConfigError, ProtocolError
from umbel.message import require
from umbel.privacy.ckks.parameters import MOST_CLIENTS, Ckks
from umbel.privacy.sa1.encoding import Encoding
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.keys import is_signed
from umbel.privacy.sa1.offer import KEY_BYTES, SIGNATURE_BYTES, named

_NUMBERS = struct.Struct("<IIIII")
OFFER, KEYS, HEADER = b"umbel ckks offer 2", b"umbel ckks keys 2", b"umbel ckks header 2"
ROOM_BYTES = 1024
"""More than what comes with the parts of a message, each."""


@final
@dataclass(frozen=True, kw_only=True)
class Offer:
    """What the server proposes to the clients of an encrypted sum.

    Args:
        run: the run's id and the kind of ask.
        round, attempt: which round of it, and which try.
        model: SHA-256 of what the clients are sent: model and configuration.
        encoding: how numbers become integers.
        settings: the lattice.
        names: the clients that are asked, in the cohort's order.
        threshold: so many have to sign who is in the sum; more than half.
    """

    run: str
    round: int
    attempt: int
    model: bytes
    encoding: Encoding
    settings: Ckks
    names: tuple[str, ...]
    threshold: int

    def __post_init__(self) -> None:
        require(len(self.model) == 32, "model is a SHA-256 digest of 32 bytes")
        require(
            2 <= self.clients <= MOST_CLIENTS,
            f"an encrypted sum is of 2 to {MOST_CLIENTS} clients, {self.clients} are asked; use masks",
        )
        require(len(set(self.names)) == self.clients, "two clients have the same name")
        require(
            self.clients < 2 * self.threshold <= 2 * self.clients,
            f"threshold must be more than half of {self.clients} clients and at most all, got {self.threshold}",
        )
        require(
            self.encoding.clients >= self.clients,
            f"the encoding has room for {self.encoding.clients} clients, {self.clients} are asked",
        )

    @property
    def clients(self) -> int:
        return len(self.names)

    @property
    def neighbourhood(self) -> int:
        """Everybody has everybody's key."""
        return self.clients

    @property
    def length(self) -> int:
        """Words of a vector."""
        return self.encoding.length

    @property
    def parts(self) -> int:
        """Ciphertexts of a vector."""
        return math.ceil(self.length / self.settings.slots)

    @property
    def sizes(self) -> list[int]:
        """Words in each part."""
        return [self.settings.slots] * (self.parts - 1) + [self.length - (self.parts - 1) * self.settings.slots]

    @property
    def most_bytes(self) -> int:
        """More than a client's vector can have as ciphertexts."""
        return (self.parts + 1) * ROOM_BYTES + self.parts * self.settings.most_bytes

    @cached_property
    def data(self) -> bytes:
        """The canonical bytes."""
        one = self.settings
        numbers = _NUMBERS.pack(self.round, self.attempt, self.threshold, one.poly_modulus_degree, one.scale_bits)
        names = joined(*(name.encode() for name in self.names))
        return joined(
            OFFER, self.run.encode(), numbers, bytes(one.coeff_mod_bits), self.model, self.encoding.data, names
        )

    @cached_property
    def digest(self) -> bytes:
        return sha256(self.data).digest()

    @classmethod
    def read(cls, data: bytes) -> Offer:
        """The offer in these bytes.

        Raises:
            ProtocolError: there is none, or its lattice is weak.
        """
        tag, run, numbers, bits, model, encoding, names = parted(data, 7)
        try:
            number, attempt, threshold, degree, scale_bits = _NUMBERS.unpack(numbers)
            found = cls(
                run=run.decode(),
                round=number,
                attempt=attempt,
                model=model,
                encoding=Encoding.read(encoding),
                settings=Ckks(poly_modulus_degree=degree, coeff_mod_bits=tuple(bits), scale_bits=scale_bits),
                names=tuple(name.decode() for name in parted(names)),
                threshold=threshold,
            )
        except (ConfigError, UnicodeDecodeError, struct.error) as error:
            raise ProtocolError(f"this is no offer of an encrypted sum: {error}") from None
        if tag != OFFER or found.data != data:
            raise ProtocolError("this is no offer of an encrypted sum, version 2; do both sides run the same Umbel?")
        return found


@final
@dataclass(frozen=True)
class Advert:
    """A client's X25519 key for one sum, signed by its Ed25519 identity, for which its credential vouches."""

    name: str
    identity: bytes
    credential: bytes
    key: bytes
    signature: bytes

    @cached_property
    def data(self) -> bytes:
        return joined(self.name.encode(), self.identity, self.credential, self.key, self.signature)

    def signed(self, offer: Offer) -> bytes:
        """What the signature is of."""
        return joined(KEYS, offer.digest, self.name.encode(), self.identity, self.credential, self.key)

    def is_signed(self, offer: Offer) -> bool:
        return is_signed(self.identity, self.signature, self.signed(offer))

    @classmethod
    def read(cls, data: bytes) -> Advert:
        """The advert in these bytes.

        Raises:
            ProtocolError: there is none.
        """
        name, identity, credential, key, signature = parted(data, 5)
        if not len(identity) == len(key) == KEY_BYTES or len(signature) != SIGNATURE_BYTES:
            raise ProtocolError("an advert for an encrypted sum has two keys of 32 bytes and a signature of 64")
        return cls(named(name, credential), identity, credential, key, signature)


@final
@dataclass(frozen=True)
class Header:
    """The offer and the adverts of all that answered, in one order. Its digest goes into every key and signature."""

    offer: Offer
    adverts: tuple[Advert, ...]

    @cached_property
    def data(self) -> bytes:
        return joined(self.offer.data, *(advert.data for advert in self.adverts))

    @cached_property
    def digest(self) -> bytes:
        return sha256(HEADER + self.data).digest()

    @classmethod
    def read(cls, data: bytes) -> Header:
        """The header in these bytes.

        Raises:
            ProtocolError: there is none.
        """
        offer, *adverts = parted(data, least=1)
        return cls(Offer.read(offer), tuple(map(Advert.read, adverts)))
