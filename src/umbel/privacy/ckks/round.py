"""One encrypted sum, as pure functions on bytes: what clients and server say, and what each remembers.

    advertise  client → server   its X25519 key of this round, signed by its identity
    deal       first client      a fresh secret key, sealed for each other client; the server cannot open it
    encrypt    client → server   its vector, a ciphertext per part, and in each part a tag that only key holders know
    open       one client        the sum, if its tags say that it is one of enough clients, each once

The server is handed signed public keys, sealed keys, ciphertexts and, at the end, integers. It never has a key. It has
to keep to the last step: of two openings of the same round it learns the difference.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from umbel.errors import ProtocolError, SecureRefused
from umbel.message import require
from umbel.privacy.ckks.parameters import MOST_CLIENTS, Ckks
from umbel.privacy.ckks.tenseal import I64, Adder, Key
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.keys import derived, identity_of, is_signed, pair_key, public_of, seal, signature, unseal
from umbel.privacy.sa1.party import Party

TAG_LOW, TAG_HIGH = 2**18, 2**20
U32 = NDArray[np.uint32]


@final
@dataclass(frozen=True, kw_only=True)
class Sum:
    """What a sum is about; everything that is signed or sealed is bound to it.

    Args:
        about: canonical bytes of run, round, attempt, model and encoding.
        clients: their names, in the cohort's order.
        length: words of a vector.
    """

    settings: Ckks
    about: bytes
    clients: tuple[str, ...]
    length: int

    def __post_init__(self) -> None:
        count = len(self.clients)
        require(
            2 <= count <= MOST_CLIENTS, f"an encrypted sum is of 2 to {MOST_CLIENTS} clients, got {count}; use masks"
        )
        require(len(set(self.clients)) == count, "two clients have the same name")

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of all of it."""
        one = self.settings
        lattice = repr((one.poly_modulus_degree, one.coeff_mod_bits, one.scale_bits, self.length)).encode()
        names = (name.encode() for name in self.clients)
        return hashlib.sha256(joined(b"umbel ckks 1", self.about, lattice, *names)).digest()

    @property
    def room(self) -> int:
        """Words in a part: what tags leave of a ciphertext."""
        return self.settings.slots - len(self.clients)

    @property
    def parts(self) -> int:
        return max(1, math.ceil(self.length / self.room))

    def sizes(self) -> list[int]:
        """Slots of each part, tags included."""
        count, last = len(self.clients), self.length - (self.parts - 1) * self.room
        return [self.settings.slots] * (self.parts - 1) + [count + last]


@final
@dataclass(frozen=True)
class Member:
    """What a client remembers in a round. `key` is the secret key's bytes, once it has them."""

    secret: bytes
    key: bytes = b""

    @property
    def data(self) -> bytes:
        return joined(self.secret, self.key)

    @classmethod
    def read(cls, data: bytes) -> Member:
        return cls(*parted(data, 2))


def advertise(party: Party, about: Sum) -> tuple[Member, bytes]:
    """A fresh key for this round, signed.

    Raises:
        SecureRefused: the sum is one of too few clients, or this client is not in it.
    """
    if party.name not in about.clients:
        raise SecureRefused(party.name, "the cohort that the server names does not have this client in it")
    if len(about.clients) < party.floors.min_cohort:
        raise SecureRefused(
            party.name,
            f"the cohort has {len(about.clients)} clients, the owner allows sums of at least {party.floors.min_cohort}",
        )
    secret = party.entropy(32)
    public = public_of(secret)
    signed = signature(party.secret, _signed(about, party.name, public))
    return Member(secret), joined(public, signed, identity_of(party.secret), party.credential)


def deal(party: Party, about: Sum, member: Member, adverts: Mapping[str, bytes]) -> tuple[Member, dict[str, bytes]]:
    """A fresh secret key, sealed for each of the others that advertised.

    Raises:
        SecureRefused: too few advertised, one is not who it says, or this client has a key of this sum already.
    """
    if member.key:
        # Two keys under one seal (AES-GCM, one nonce) would show the server their XOR.
        raise SecureRefused(party.name, "it has a key of this sum already, and deals no other")
    if len(adverts) < party.floors.min_cohort:
        raise SecureRefused(party.name, f"{len(adverts)} clients are left, the owner wants {party.floors.min_cohort}")
    own, key = X25519PrivateKey.from_private_bytes(member.secret), Key.fresh(about.settings).data
    mine = about.clients.index(party.name)
    sealed: dict[str, bytes] = {}
    for name, advert in adverts.items():
        public = _public(party, about, name, advert)
        if name != party.name:
            pair = pair_key(own, public, b"ckks key", about.digest, mine, about.clients.index(name))
            sealed[name] = seal(pair, mine, about.digest, key)
    return Member(member.secret, key), sealed


def receive(party: Party, about: Sum, member: Member, dealer: str, advert: bytes, sealed: bytes) -> Member:
    """The key that the dealer sealed for this client.

    Raises:
        SecureRefused, ProtocolError: it is not the dealer's, or not for this sum.
    """
    public, theirs = _public(party, about, dealer, advert), about.clients.index(dealer)
    own, mine = X25519PrivateKey.from_private_bytes(member.secret), about.clients.index(party.name)
    key = unseal(pair_key(own, public, b"ckks key", about.digest, theirs, mine), theirs, about.digest, sealed)
    Key.read(about.settings, key)
    return Member(member.secret, key)


def encrypt(name: str, about: Sum, member: Member, vector: U32) -> bytes:
    """A client's vector, in parts: its tag among the others' empty places, then words as signed numbers."""
    if vector.shape != (about.length,):
        raise ProtocolError(f"the vector has {vector.size} words, the sum is of {about.length}")
    key, words, place = Key.read(about.settings, member.key), vector.view(np.int32), about.clients.index(name)
    sent: list[bytes] = []
    for part, tags in enumerate(_tags(about, member.key)):
        own = np.zeros(len(about.clients), np.int64)
        own[place] = tags[place]
        some = words[part * about.room : (part + 1) * about.room].astype(np.int64)
        sent.append(key.encrypt(np.concatenate([own, some])))
    return joined(*sent)


def added(about: Sum, sent: Mapping[str, bytes]) -> tuple[bytes, dict[str, str]]:
    """The server's work: the sum, part by part, and whose bytes are not in it because they are no ciphertexts, and why.

    Raises:
        ProtocolError: nobody sent any.
    """
    adder, refused, totals = Adder(about.settings), dict[str, str](), list[Any]()
    for name, data in sent.items():
        try:
            parts = parted(data, about.parts)
            vectors = [adder.load(part, size) for part, size in zip(parts, about.sizes(), strict=True)]
        except ProtocolError as error:
            refused[name] = str(error)
            continue
        totals = [adder.add(*pair) for pair in zip(totals, vectors, strict=True)] if totals else vectors
    if not totals:
        raise ProtocolError("no client sent its part of the encrypted sum")
    return joined(*(total.serialize() for total in totals)), refused


def opened(party: Party, about: Sum, member: Member, total: bytes) -> tuple[U32, tuple[str, ...]]:
    """The words of a sum and who is in it.

    What is given away is integers, each the exact sum of what clients put in, and so nothing of the ciphertexts' noise.

    Raises:
        SecureRefused: it is a sum of too few, or was put together otherwise than by adding each client once.
    """
    key, found, included = Key.read(about.settings, member.key), list[I64](), set[tuple[int, ...]]()
    parts = parted(total, about.parts)
    for part, (tags, size) in enumerate(zip(_tags(about, member.key), about.sizes(), strict=True)):
        numbers = key.decrypt(parts[part], size)
        seen, words = numbers[: len(about.clients)], numbers[len(about.clients) :]
        if not bool(np.all((seen == 0) | (seen == tags))) or bool(np.any(np.abs(words) >= 2**31)):
            raise SecureRefused(party.name, "what is to be opened is no sum of each client's vector once")
        included.add(tuple(np.flatnonzero(seen).tolist()))
        found.append(words)
    if len(included) != 1:
        raise SecureRefused(party.name, "the parts of the sum are not of the same clients")
    (places,) = included
    if len(places) < party.floors.min_cohort:
        raise SecureRefused(
            party.name, f"the sum is of {len(places)} clients, the owner wants {party.floors.min_cohort}"
        )
    return np.concatenate(found).astype(np.int32).view(np.uint32), tuple(about.clients[place] for place in places)


def _tags(about: Sum, key: bytes) -> Iterator[I64]:
    """For each part, a number per client that nobody without the key knows."""
    root = hashlib.sha256(key).digest()
    for part in range(about.parts):
        tags = (derived(root, b"ckks tag", about.digest, part, place) for place in range(len(about.clients)))
        yield np.array([TAG_LOW + int.from_bytes(tag[:8], "little") % (TAG_HIGH - TAG_LOW) for tag in tags], np.int64)


def _signed(about: Sum, name: str, public: bytes) -> bytes:
    return joined(b"umbel ckks key 1", about.digest, name.encode(), public)


def _public(party: Party, about: Sum, name: str, advert: bytes) -> bytes:
    """Another client's key of the round, if it is who it says."""
    public, signed, identity, credential = parted(advert, 4)
    if name not in about.clients or len(identity) != 32 or not party.trusts(name, identity, credential):
        raise SecureRefused(party.name, f"{name} is nobody that this client's owner trusts")
    if not is_signed(identity, signed, _signed(about, name, public)):
        raise SecureRefused(party.name, f"the key of {name} is not signed by it, or is for another sum")
    return public
