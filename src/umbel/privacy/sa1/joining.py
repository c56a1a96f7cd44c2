"""The client's first two steps: advertise keys, then share their secrets among the neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from umbel.errors import ProtocolError, SecureRefused
from umbel.privacy.sa1 import shamir
from umbel.privacy.sa1.fields import joined
from umbel.privacy.sa1.keys import derived, is_signed, pair_key, public_of, seal
from umbel.privacy.sa1.member import Member, Peer
from umbel.privacy.sa1.offer import Advert, Header, Offer
from umbel.privacy.sa1.party import Party
from umbel.privacy.sharing import default_threshold


def advertise(party: Party, offer: bytes, last: tuple[int, int] | None = None) -> tuple[Member, bytes]:
    """Step 1: two fresh X25519 pairs, signed for this offer.

    Args:
        offer: the bytes of an `Offer`.
        last: (leadership, number) of the offer of this run that the client took last; later ones only are taken.

    Returns:
        what to remember, and the message to the server. Remember first, then send: so it is in every step.

    Raises:
        SecureRefused: the offer is below the owner's floors, or no later one.
        ProtocolError: it is none.
    """
    found = Offer.read(offer)
    party.floors.check(party.name, found)
    if last is not None and found.leadership < last[0]:
        raise SecureRefused(
            party.name,
            "another server leads the run since, and this one's offers are taken no more; if it was set up again from "
            "a backup, restart the nodes",
        )
    if last is not None and found.order <= last:
        raise SecureRefused(
            party.name, f"offer {found.number} comes after offer {last[1]} of this server; keys are made once for each"
        )
    channel, mask = party.entropy(32), party.entropy(32)
    unsigned = Advert(party.name, party.identity, party.credential, public_of(channel), public_of(mask), b"")
    advert = replace(unsigned, signature=party.sign(unsigned.signed(found)))
    return Member("advertised", found, channel, mask, advert.data), advert.data


def share(party: Party, member: Member, header: bytes) -> tuple[Member, bytes]:
    """Step 2: look at everybody's keys; share the own mask key and the seed of the own mask among the neighbours.

    Args:
        header: the bytes of a `Header`.

    Returns:
        what to remember, and the message: a commitment to the seed, then for each neighbour its two shares, sealed.

    Raises:
        SecureRefused: the header is of another offer, changes the client's own keys, has too few clients, one of them
            twice, or a key that its owner did not sign or is not enrolled with.
    """
    at(party, member, "advertised")
    found = Header.read(header)
    index = _checked(party, member, found)
    digest = found.digest
    private = X25519PrivateKey.from_private_bytes(member.channel)
    peers: list[Peer] = []
    for j in found.near(index):
        other = found.adverts[j]
        if not is_signed(other.identity, other.signature, other.signed(found.offer)):
            raise SecureRefused(party.name, f"the keys of client {other.name} are not signed by it for this offer")
        if not party.trusts(other.name, other.identity, other.credential):
            raise SecureRefused(
                party.name, f"client {other.name} is not enrolled with the key that the header gives it"
            )
        key = pair_key(private, other.channel, b"channel", digest, min(index, j), max(index, j))
        peers.append(Peer(j, other.identity, other.mask, key))
    seed = party.entropy(32)
    shares = _split(party, member, index, peers, seed)
    sealed = [seal(peer.channel_key, index, digest, shares[peer.index]) for peer in peers]
    after = replace(
        member,
        stage="shared",
        digest=digest,
        index=index,
        names=tuple(advert.name for advert in found.adverts),
        seed=seed,
        peers=tuple(peers),
        shares={index: shares[index]},
    )
    return after, joined(commitment(seed, digest, index), *sealed)


def commitment(seed: bytes, digest: bytes, index: int) -> bytes:
    """What tells the server later whether it found the right seed."""
    return derived(seed, b"commitment", digest, index, index)


def at(party: Party, member: Member, stage: str) -> None:
    """Refuse a step that does not come next.

    Raises:
        SecureRefused: names both.
    """
    if member.stage != stage:
        raise SecureRefused(
            party.name,
            f"this step of the secure sum follows {stage!r}, but the last one was {member.stage!r}; each step is "
            "taken once",
        )


def _split(party: Party, member: Member, index: int, peers: Sequence[Peer], seed: bytes) -> dict[int, bytes]:
    """The two shares of each holder. A holder's x is its index + 1, everywhere, so that weights can be used again."""
    holders = sorted([index, *(peer.index for peer in peers)])
    secrets = np.concatenate([shamir.limbs_of(seed), shamir.limbs_of(member.mask)])
    places = np.array(holders, np.uint64) + 1
    rows = shamir.split(secrets, member.offer.threshold, places, party.entropy)
    return {holder: shamir.packed(row) for holder, row in zip(holders, rows, strict=True)}


def _checked(party: Party, member: Member, header: Header) -> int:
    """The client's own index in a header that is in order."""
    name, offer = party.name, member.offer
    if header.offer.data != offer.data:
        raise SecureRefused(name, "the header is of another offer than the one that its keys were signed for")
    count = len(header.adverts)
    if count > offer.clients:
        raise ProtocolError(f"the header has {count} clients, the offer was for {offer.clients}")
    if count < max(offer.threshold, party.floors.min_cohort):
        raise SecureRefused(
            name,
            f"{count} clients are in the header; at least {max(offer.threshold, party.floors.min_cohort)} have to be",
        )
    for what in ("name", "identity", "channel", "mask"):
        if len({getattr(advert, what) for advert in header.adverts}) < count:
            raise SecureRefused(
                name, f"two clients in the header have the same {what}; who plays two parts could open a sum"
            )
    own = [index for index, advert in enumerate(header.adverts) if advert.name == name]
    if not own or header.adverts[own[0]].data != member.advert:
        raise SecureRefused(name, "the header does not have the keys that this client sent; somebody replaced them")
    holders = 1 + len(header.near(own[0]))
    least = default_threshold(holders, max(0.5, party.floors.min_threshold_share))
    if offer.threshold < least:
        raise SecureRefused(
            name,
            f"{holders} clients would hold shares, of which {offer.threshold} open a secret; at least {least} have to",
        )
    return own[0]
