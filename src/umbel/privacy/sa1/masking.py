"""The client's last steps: send a masked vector, sign who is in the sum, open what only the sum needs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from umbel.errors import ProtocolError, SecureRefused
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.joining import at
from umbel.privacy.sa1.keys import derived, is_signed, pair_key, unseal
from umbel.privacy.sa1.masks import Masks
from umbel.privacy.sa1.member import Member, Peer
from umbel.privacy.sa1.party import Party
from umbel.privacy.sa1.purpose import Purpose
from umbel.privacy.sa1.sets import Sets
from umbel.privacy.sa1.shamir import SHARE_BYTES

U32 = NDArray[np.uint32]


def purpose_in(message: bytes) -> Purpose:
    """What the sum is of, from the message that brings the shares.

    Raises:
        ProtocolError: it is none.
    """
    return Purpose.read(parted(message, least=1)[0])


def receive(party: Party, member: Member, message: bytes, model: bytes) -> tuple[Member, Masks]:
    """Step 3 without the vector: take the shares, and make the masks PRG(seed) + Σ ± PRG(pair key) of this sum.

    Args:
        message: the purpose, then the sealed shares for this client: index and sealed bytes of each that shared.
        model: SHA-256 of the model and configuration that the client has really been sent.

    Returns:
        what to remember, and the masks, which are for one vector.

    Raises:
        SecureRefused: the model is not the one that the sum is of, others could weigh too much, or too few neighbours
            shared.
        ProtocolError: a sealed share was changed.
    """
    at(party, member, "shared")
    purpose, *sealed = parted(message, least=1)
    about = Purpose.read(purpose)
    party.floors.check_encoding(party.name, about.encoding)
    if model != about.model:
        raise SecureRefused(
            party.name, "this client was sent another model than the sum is of; the server must send one to all"
        )
    if about.encoding.clients < member.clients:
        raise ProtocolError(f"the encoding has room for {about.encoding.clients} clients, {member.clients} are there")
    there, shares = _opened(party, member, sealed)
    held = {**member.shares, **shares}
    after = replace(member, stage="masked", peers=there, shares=held, channel=b"", purpose=about)
    return replace(after, mask=b"", seed=b""), Masks(member.offer.suite, tuple(_masks(member, about, there)))


def sign_early(party: Party, member: Member) -> tuple[Member, bytes]:
    """Sign that everybody is in the sum, if it may turn out so: then the next step is the last.

    Where everybody is everybody's neighbour, a client that signs other sets later opens one of the two sums, and t
    clients are more than half; in a sparse graph a server could put a third one together out of two.

    Returns:
        what to remember, and the signature; nothing if somebody did not share, or the graph is a sparse one.
    """
    everybody = Sets.full(member.clients)
    if 1 + len(member.peers) < member.clients or _short(party, member, everybody):
        return member, b""
    return replace(member, is_early=True), party.sign(everybody.signed(member.bound))


def mask(party: Party, member: Member, message: bytes, model: bytes, vector: U32) -> tuple[Member, U32, bytes]:
    """Step 3: y = x + PRG(seed) + Σ ± PRG(pair key), over the neighbours that shared.

    Args:
        message, model: as for `receive`.
        vector: the encoded update; it is changed in place.

    Returns:
        what to remember, the masked vector, and the signature of `sign_early`.

    Raises:
        SecureRefused, ProtocolError: as `receive`; or the vector has another length.
    """
    member, masks = receive(party, member, message, model)
    if vector.shape != (member.about.encoding.length,):
        raise ProtocolError(f"the vector has {vector.size} words, the sum {member.about.encoding.length}")
    masks.add_to(vector)
    member, signed = sign_early(party, member)
    return member, vector, signed


def agree(party: Party, member: Member, sets: bytes) -> tuple[Member, bytes]:
    """Step 4, where somebody is missing: sign who is in the sum.

    Args:
        sets: the bytes of `Sets`.

    Raises:
        SecureRefused: the client itself is not among them, too few are, or the sets contradict what it saw.
    """
    at(party, member, "masked")
    found = Sets.read(sets, member.clients)
    around = {peer.index for peer in member.peers}
    if member.index not in found.summed:
        raise SecureRefused(party.name, "the server says that this client's vector is not in the sum, but it sent it")
    if not found.summed <= found.shared:
        raise SecureRefused(
            party.name, "clients are in the sum that never shared their keys; their masks could not cancel"
        )
    if not around <= found.shared:
        raise SecureRefused(party.name, "the server says that a client shared no keys whose shares this client holds")
    reason = _short(party, member, found)
    if reason:
        raise SecureRefused(party.name, reason)
    after = replace(member, stage="agreed", sets=found)
    return after, party.sign(found.signed(member.bound))


def release(party: Party, member: Member, signatures: bytes) -> tuple[Member, bytes]:
    """Step 5: for each neighbour in the sum the share of its seed, for each that dropped out the share of its mask key.

    Never both of one peer, and once per sum: write down what is returned before the message is sent.

    Args:
        signatures: index and signature of clients that signed the sets.

    Raises:
        SecureRefused: fewer than the threshold of this client's neighbourhood signed the sets that it signed.
    """
    sets = Sets.full(member.clients) if member.is_early else None
    if sets is None or member.stage != "masked":
        at(party, member, "agreed")
        sets = member.sets
    if sets is None:
        raise ProtocolError("a member that agreed has sets")
    _check_signed(party, member, sets, signatures)
    opened: list[bytes] = []
    for holder in sorted([member.index, *(peer.index for peer in member.peers)]):
        pair = member.shares[holder]
        opened.append(pair[:SHARE_BYTES] if holder in sets.summed else pair[SHARE_BYTES:])
    after = replace(member, stage="released", mask=b"", seed=b"", shares={}, peers=())
    return after, joined(*opened)


def _short(party: Party, member: Member, sets: Sets) -> str:
    """Why a sum of these would be one of too few; nothing if it is not."""
    found, least = len(sets.summed), max(party.floors.min_cohort, 2)
    if found < least:
        return f"the sum has {found} clients, the owner allows at least {least}"
    kept = 1 + len({peer.index for peer in member.peers} & sets.summed)
    if kept < member.offer.threshold:
        return f"{kept} of the neighbourhood are in the sum, the threshold is {member.offer.threshold}"
    needed = 0 if party.sharing is None else party.sharing.least_summed(member.offer.clients)
    if found < needed:
        return f"the sum has the noise of {found} clients, the promise needs that of {needed}; keep more of them"
    return ""


def _opened(party: Party, member: Member, inbox: list[bytes]) -> tuple[tuple[Peer, ...], dict[int, bytes]]:
    """The neighbours that shared, and their shares."""
    peers = {peer.index: peer for peer in member.peers}
    there: list[Peer] = []
    shares: dict[int, bytes] = {}
    for part in inbox:
        peer = peers.get(int.from_bytes(part[:4], "little"))
        if peer is None or peer.index in shares:
            raise ProtocolError("shares come from a client that is no neighbour, or twice from one")
        shares[peer.index] = unseal(peer.channel_key, peer.index, member.digest, part[4:])
        if len(shares[peer.index]) != 2 * SHARE_BYTES:
            raise ProtocolError(f"a client's shares have {2 * SHARE_BYTES} bytes, got {len(shares[peer.index])}")
        there.append(peer)
    least = max(member.offer.threshold, 2)
    if 1 + len(there) < least:
        raise SecureRefused(party.name, f"{1 + len(there)} of the neighbourhood shared their keys, {least} have to")
    return tuple(sorted(there, key=lambda peer: peer.index)), shares


def _masks(member: Member, about: Purpose, peers: tuple[Peer, ...]) -> list[tuple[bytes, bool]]:
    bound = about.bound(member.digest)
    private = X25519PrivateKey.from_private_bytes(member.mask)
    own = derived(member.seed, b"self", bound, member.index, member.index)
    masks = [(own, False)]
    for peer in peers:
        low, high = min(member.index, peer.index), max(member.index, peer.index)
        key = pair_key(private, peer.mask, b"mask", bound, low, high)
        masks.append((key, member.index == high))
    return masks


def _check_signed(party: Party, member: Member, sets: Sets, signatures: bytes) -> None:
    message = sets.signed(member.bound)
    identities = {peer.index: peer.identity for peer in member.peers if peer.index in sets.summed}
    good = {member.index}
    for part in parted(signatures):
        index = int.from_bytes(part[:4], "little")
        identity = identities.get(index)
        if identity is None or index in good:
            continue
        if not is_signed(identity, part[4:], message):
            raise SecureRefused(
                party.name, "a client signed other sets than this one; the server tells them different things"
            )
        good.add(index)
    if len(good) < member.offer.threshold:
        raise SecureRefused(
            party.name, f"{len(good)} of the neighbourhood signed the same sets, {member.offer.threshold} have to"
        )
