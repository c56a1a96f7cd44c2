"""A whole round of SA1 in one process, in which clients may drop out after any step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from umbel.privacy.sa1 import (
    Encoding,
    Floors,
    Member,
    Offer,
    Party,
    SecureServer,
    advertise,
    agree,
    default_threshold,
    mask,
    release,
    share,
)
from umbel.privacy.sa1.keys import identity_of

MODEL = bytes(range(32))


def entropy_of(seed: str):
    """A stream of bytes that a seed decides; only tests have one."""
    count = 0

    def draw(size: int) -> bytes:
        nonlocal count
        count += 1
        blocks = -(-size // 32)
        return b"".join(sha256(f"{seed}/{count}/{block}".encode()).digest() for block in range(blocks))[:size]

    return draw


def parties_of(count: int, *, floors: Floors | None = None, seed: str = "test") -> dict[str, Party]:
    """Clients "000", "001", … that know each other's identities; all that is drawn comes from `seed`."""
    names = [f"{index:03}" for index in range(count)]
    secrets = {name: sha256(f"{seed} identity {name}".encode()).digest() for name in names}
    known = {name: identity_of(secret) for name, secret in secrets.items()}

    def trusts(name: str, identity: bytes, credential: bytes) -> bool:
        return known.get(name) == identity

    floors = floors or Floors(min_cohort=2, min_threshold_share=0.5)
    return {
        name: Party(name=name, secret=secrets[name], trusts=trusts, floors=floors, entropy=entropy_of(f"{seed}{name}"))
        for name in names
    }


def offer_of(count: int, size: int, *, threshold: int | None = None, neighbours: int = 0, **changes: object) -> Offer:
    """An offer for so many clients and values."""
    around = neighbours + 1 if neighbours else count
    fields: dict[str, object] = {
        "run": "run",
        "round": 1,
        "attempt": 0,
        "model": MODEL,
        "encoding": Encoding(clip=1.0, weight_cap=8.0, clients=count, size=size),
        "clients": count,
        "threshold": threshold or default_threshold(around),
        "neighbours": neighbours,
    }
    return Offer(**{**fields, **changes})  # type: ignore[arg-type]


@dataclass
class Transcript:
    """What the server saw of a round, and what the clients remember."""

    server: SecureServer
    members: dict[str, Member] = field(default_factory=dict)
    uploads: dict[str, np.ndarray] = field(default_factory=dict)
    total: np.ndarray | None = None


def play(
    parties: Mapping[str, Party],
    offer: Offer,
    vectors: Mapping[str, np.ndarray],
    gone: Sequence[set[str]] = (),
) -> Transcript:
    """All five steps. `gone[k]` are those whose answer to step k + 1 never arrives; they answer no later one.

    Between any two steps a member is written to bytes and read again.
    """
    left = [set[str]().union(*gone[: step + 1]) for step in range(5)]
    server = SecureServer(offer)
    story = Transcript(server)

    def remembered(name: str, member: Member) -> Member:
        story.members[name] = Member.read(member.data)
        return story.members[name]

    for name, party in parties.items():
        member, message = advertise(party, offer.data)
        remembered(name, member)
        if name not in left[0]:
            server.advert(name, message)
    header = server.close_adverts()
    for name in server.names:
        member, message = share(parties[name], story.members[name], header)
        remembered(name, member)
        if name not in left[1]:
            server.shares(name, message)
    for name, inbox in server.close_shares().items():
        member, upload = mask(parties[name], story.members[name], inbox, offer.model, vectors[name].copy())
        remembered(name, member)
        story.uploads[name] = upload
        if name not in left[2]:
            server.masked(name, upload)
    sets = server.close_masked()
    for name in set(story.uploads) - left[2]:
        member, message = agree(parties[name], story.members[name], sets)
        remembered(name, member)
        if name not in left[3]:
            server.signature(name, message)
    for name, signatures in server.close_signatures().items():
        member, message = release(parties[name], story.members[name], signatures)
        remembered(name, member)
        if name not in left[4]:
            server.opened(name, message)
    story.total = server.result().copy()
    return story


def vectors_of(offer: Offer, names: Sequence[str], seed: int = 0) -> dict[str, np.ndarray]:
    """Random words for each client."""
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, 2**32, offer.encoding.length, np.uint64).astype(np.uint32) for name in names}
