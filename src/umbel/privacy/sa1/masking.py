"""The client's last three steps: send a masked vector, sign who is in the sum, open what only the sum needs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from numpy.typing import NDArray

from umbel.errors import ProtocolError, SecureRefused
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.joining import at
from umbel.privacy.sa1.keys import derived, is_signed, pair_key, signature, unseal
from umbel.privacy.sa1.masks import add_masks
from umbel.privacy.sa1.member import Member, Peer
from umbel.privacy.sa1.party import Party
from umbel.privacy.sa1.sets import Sets
from umbel.privacy.sa1.shamir import SHARE_BYTES

U32 = NDArray[np.uint32]


def mask(party: Party, member: Member, inbox: bytes, model: bytes, vector: U32) -> tuple[Member, U32]:
    """Step 3: y = x + PRG(seed) + Σ ± PRG(pair key), over the neighbours that shared.

    Args:
        inbox: the sealed shares for this client: index and sealed bytes of each that shared.
        model: SHA-256 of the model and configuration that the client has really been sent.
        vector: the encoded update; it is changed in place.

    Returns:
        what to remember, and the masked vector.

    Raises:
        SecureRefused: the model is not the one of the header, or too few neighbours shared.
        ProtocolError: a sealed share was changed.
    """
    at(party, member, "shared")
    if model != member.offer.model:
        raise SecureRefused(
            party.name,
            "this client was sent another model than the round's header binds; the server must send one to all",
        )
    if vector.shape != (member.offer.encoding.length,):
        raise ProtocolError(f"the vector has {vector.size} words, the header {member.offer.encoding.length}")
    there, shares = _opened(party, member, inbox)
    add_masks(vector, _masks(member, there), member.offer.suite)
    held = {**member.shares, **shares}
    return replace(member, stage="masked", peers=there, shares=held, channel=b""), vector


def agree(party: Party, member: Member, sets: bytes) -> tuple[Member, bytes]:
    """Step 4: sign who is in the sum.

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
    least = max(party.floors.min_cohort, 2)
    if len(found.summed) < least:
        raise SecureRefused(party.name, f"the sum has {len(found.summed)} clients, the owner allows at least {least}")
    kept = 1 + len(around & found.summed)
    if kept < member.offer.threshold:
        raise SecureRefused(
            party.name, f"{kept} of the neighbourhood are in the sum, the threshold is {member.offer.threshold}"
        )
    after = replace(member, stage="agreed", sets=found)
    return after, signature(party.secret, found.signed(member.digest))


def release(party: Party, member: Member, signatures: bytes) -> tuple[Member, bytes]:
    """Step 5: for each neighbour in the sum the share of its seed, for each that dropped out the share of its mask key.

    Never both of one peer, and once per round: write down what is returned before the message is sent.

    Args:
        signatures: index and signature of clients that signed the sets.

    Raises:
        SecureRefused: fewer than the threshold of this client's neighbourhood signed the sets that it signed.
    """
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


def _opened(party: Party, member: Member, inbox: bytes) -> tuple[tuple[Peer, ...], dict[int, bytes]]:
    """The neighbours that shared, and their shares."""
    peers = {peer.index: peer for peer in member.peers}
    there: list[Peer] = []
    shares: dict[int, bytes] = {}
    for part in parted(inbox):
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


def _masks(member: Member, peers: tuple[Peer, ...]) -> list[tuple[bytes, bool]]:
    private = X25519PrivateKey.from_private_bytes(member.mask)
    own = derived(member.seed, b"self", member.digest, member.index, member.index)
    masks = [(own, False)]
    for peer in peers:
        low, high = min(member.index, peer.index), max(member.index, peer.index)
        key = pair_key(private, peer.mask, b"mask", member.digest, low, high)
        masks.append((key, member.index == high))
    return masks


def _check_signed(party: Party, member: Member, sets: Sets, signatures: bytes) -> None:
    message = sets.signed(member.digest)
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
