"""The client's last steps in an encrypted sum: encrypt, sign who is in it, open that one and no other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from umbel.errors import ProtocolError, SecureRefused
from umbel.privacy.ckks.check import MODULUS, check, check_key, sealed, unsealed
from umbel.privacy.ckks.member import Member, at
from umbel.privacy.ckks.tenseal import Key
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.keys import is_signed
from umbel.privacy.sa1.party import Party
from umbel.privacy.sa1.sets import Sets

U32 = NDArray[np.uint32]


def encrypt(party: Party, member: Member, model: bytes, vector: U32) -> tuple[Member, bytes]:
    """A client's vector in ciphertexts, and a check of it that other clients can read.

    Args:
        model: SHA-256 of the model and configuration that the client has really been sent.

    Raises:
        SecureRefused: the model is not the one of the offer.
    """
    at(party.name, member, "dealt")
    offer, digest = member.offer, member.known.digest
    if model != offer.model:
        raise SecureRefused(
            party.name, "this client was sent another model than the offer binds; the server must send one to all"
        )
    if vector.shape != (offer.length,):
        raise ProtocolError(f"the vector has {vector.size} words, the offer {offer.length}")
    words, key, start = vector.view(np.int32), Key.read(offer.settings, member.key), 0
    value = check(check_key(member.dealt, digest), words)
    sent = [sealed(member.dealt, digest, member.index, value)]
    for size in offer.sizes:
        sent.append(key.encrypt(words[start : start + size].astype(np.int64)))
        start += size
    return replace(member, stage="encrypted"), joined(*sent)


def agree(party: Party, member: Member, sets: bytes) -> tuple[Member, bytes]:
    """Sign who is in the sum: of one sum, one set.

    Args:
        sets: the bytes of `Sets`; the secret key was dealt to all of a header.

    Raises:
        SecureRefused: the client itself is not among them, or too few are.
    """
    at(party.name, member, "encrypted")
    found = Sets.read(sets, member.clients)
    if member.index not in found.summed:
        raise SecureRefused(party.name, "the server says that this client's vector is not in the sum, but it sent it")
    if found.shared != frozenset(range(member.clients)):
        raise SecureRefused(party.name, "the server says that a client of the header was dealt no key")
    least = max(member.offer.threshold, party.floors.min_cohort, 2)
    if len(found.summed) < least:
        raise SecureRefused(party.name, f"the sum has {len(found.summed)} clients; at least {least} have to be in it")
    after = replace(member, stage="agreed", sets=found)
    return after, party.sign(found.signed(member.known.digest))


def opened(party: Party, member: Member, message: bytes, total: bytes) -> tuple[Member, U32]:
    """The words of the sum whose clients this one has signed, if as many others have.

    What is given away is integers, each the exact sum of what clients put in, and so nothing of the ciphertexts' noise.
    Whatever comes out, write down that it was tried before: who may ask again and again learns of the key from what is
    refused.

    Args:
        message: [index and signature of clients that signed], [the sealed check of each client in the sum].
        total: the sum's ciphertexts.

    Raises:
        SecureRefused: too few clients signed who is in it, or it is something else than the sum of these.
    """
    at(party.name, member, "agreed")
    sets, digest = member.sets, member.known.digest
    if sets is None:
        raise ProtocolError("a member that agreed has sets")
    signatures, checks = parted(message, 2)
    _check_signed(party, member, sets, signatures)
    there = sorted(sets.summed)
    told = [
        unsealed(member.dealt, digest, index, one) for index, one in zip(there, parted(checks, len(there)), strict=True)
    ]
    words = _decrypted(member, total)
    if check(check_key(member.dealt, digest), words) != sum(told) % MODULUS:
        raise SecureRefused(party.name, "what is to be opened is not the sum of the vectors of those who signed it")
    return replace(member, stage="opened", secret=b"", dealt=b"", key=b""), words.view(np.uint32)


def _decrypted(member: Member, total: bytes) -> NDArray[np.int32]:
    offer = member.offer
    key, parts = Key.read(offer.settings, member.key), parted(total, offer.parts)
    found = [key.decrypt(part, size) for part, size in zip(parts, offer.sizes, strict=True)]
    return np.concatenate(found).astype(np.int32)


def _check_signed(party: Party, member: Member, sets: Sets, signatures: bytes) -> None:
    message, adverts, good = sets.signed(member.known.digest), member.known.adverts, {member.index}
    for part in parted(signatures):
        index = int.from_bytes(part[:4], "little")
        if index not in sets.summed:
            continue
        if not is_signed(adverts[index].identity, part[4:], message):
            raise SecureRefused(
                party.name, "a client signed other sets than this one; the server tells them different things"
            )
        good.add(index)
    if len(good) < member.offer.threshold:
        raise SecureRefused(
            party.name, f"{len(good)} clients signed who is in the sum, {member.offer.threshold} have to"
        )
