"""The client's first steps in an encrypted sum: advertise a key, deal the secret key or take the one that was dealt."""

from __future__ import annotations

from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from umbel.errors import ProtocolError, SecureRefused
from umbel.privacy.ckks.member import Member, at
from umbel.privacy.ckks.offer import Advert, Header, Offer
from umbel.privacy.ckks.tenseal import Key
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.keys import pair_key, public_of, seal, unseal
from umbel.privacy.sa1.party import Party
from umbel.privacy.tries import order_of


def advertise(party: Party, offer: bytes, last: tuple[int, int] | None = None) -> tuple[Member, bytes]:
    """A fresh X25519 key, signed for this offer.

    Args:
        offer: the bytes of an `Offer`.
        last: (round, attempt) of this run in which the client took part before; later ones only are taken.

    Returns:
        what to remember, and the message to the server. Remember first, then send: so it is in every step.

    Raises:
        SecureRefused: the offer is below the owner's floors or has not this client in it, or its round is over.
        ProtocolError: it is none.
    """
    found = Offer.read(offer)
    party.floors.check(party.name, found)
    party.floors.check_encoding(party.name, found.encoding)
    if party.name not in found.names:
        raise SecureRefused(party.name, "the cohort that the server names does not have this client in it")
    if last is not None and order_of(found.round, found.attempt) <= order_of(*last):
        raise SecureRefused(
            party.name,
            f"round {found.round}, attempt {found.attempt} is offered after round {last[0]}, attempt {last[1]}; keys "
            "of a round are made once",
        )
    secret = party.entropy(32)
    unsigned = Advert(party.name, party.identity, party.credential, public_of(secret), b"")
    advert = replace(unsigned, signature=party.sign(unsigned.signed(found)))
    return Member("advertised", found, secret, advert.data), advert.data


def deal(party: Party, member: Member, header: bytes) -> tuple[Member, bytes]:
    """A fresh secret key, for all clients in the header and nobody else.

    Args:
        header: the bytes of a `Header`.

    Returns:
        what to remember, and the message: the key, sealed with 32 bytes, then these for each client, sealed.

    Raises:
        SecureRefused: the header is of another offer, changes the client's own key, has too few clients, one of them
            twice, or one that is not who it says; or this client has a key of this sum already.
    """
    # A second key under the same seals (one nonce each) would show the server the XOR of both.
    at(party.name, member, "advertised")
    found, mine = checked(party, member, header)
    own, key, dealt = (
        X25519PrivateKey.from_private_bytes(member.secret),
        Key.fresh(found.offer.settings),
        party.entropy(32),
    )
    boxes = [
        b"" if index == mine else seal(_pair(own, found, mine, index, index), mine, found.digest, dealt)
        for index in range(len(found.adverts))
    ]
    after = replace(member, stage="dealt", header=found, index=mine, dealt=dealt, key=key.data)
    return after, joined(seal(dealt, mine, found.digest, after.key), *boxes)


def receive(party: Party, member: Member, message: bytes) -> Member:
    """The client with the key that the dealer sealed for it.

    Args:
        message: header, the dealer's index, the sealed key and the box for this client.

    Raises:
        SecureRefused: the header is not in order, as in `deal`.
        ProtocolError: the key is not the dealer's, or not for this sum.
    """
    at(party.name, member, "dealt", "advertised")
    header, place, bulk, box = parted(message, 4)
    found, mine = checked(party, member, header)
    dealer = int.from_bytes(place, "little")
    if dealer >= len(found.adverts):
        raise ProtocolError("the dealer of the key is not in the header")
    if dealer == mine:
        if member.stage != "dealt" or member.known.digest != found.digest:
            raise SecureRefused(party.name, "the server says that this client dealt a key that it did not deal")
        return member
    own = X25519PrivateKey.from_private_bytes(member.secret)
    dealt = unseal(_pair(own, found, dealer, mine, dealer), dealer, found.digest, box)
    if len(dealt) != 32:
        raise ProtocolError(f"the dealer's secret has {len(dealt)} bytes, 32 are right")
    key = unseal(dealt, dealer, found.digest, bulk)
    Key.read(found.offer.settings, key)
    return replace(member, stage="dealt", header=found, index=mine, dealt=dealt, key=key)


def checked(party: Party, member: Member, header: bytes) -> tuple[Header, int]:
    """A header that is in order, and the client's own index in it."""
    name, offer, found = party.name, member.offer, Header.read(header)
    if found.offer.data != offer.data:
        raise SecureRefused(name, "the header is of another offer than the one that its key was signed for")
    count, least = len(found.adverts), max(offer.threshold, party.floors.min_cohort)
    if count < least:
        raise SecureRefused(name, f"{count} clients are in the header; at least {least} have to be")
    for what in ("name", "identity", "key"):
        if len({getattr(advert, what) for advert in found.adverts}) < count:
            raise SecureRefused(
                name, f"two clients in the header have the same {what}; who plays two parts could make up a sum"
            )
    for advert in found.adverts:
        if advert.name not in offer.names:
            raise SecureRefused(name, f"client {advert.name} is in the header and was not asked")
        if advert.name == name:
            continue
        if not party.trusts(advert.name, advert.identity, advert.credential):
            raise SecureRefused(name, f"client {advert.name} is not enrolled with the key that the header gives it")
        if not advert.is_signed(offer):
            raise SecureRefused(name, f"the key of client {advert.name} is not signed by it for this sum")
    own = [index for index, advert in enumerate(found.adverts) if advert.name == name]
    if not own or found.adverts[own[0]].data != member.advert:
        raise SecureRefused(name, "the header does not have the key that this client sent; somebody replaced it")
    return found, own[0]


def _pair(own: X25519PrivateKey, header: Header, dealer: int, receiver: int, other: int) -> bytes:
    """What the dealer seals with for a receiver; `other` is the one of them whose public key is needed."""
    return pair_key(own, header.adverts[other].key, b"ckks key", header.digest, dealer, receiver)
