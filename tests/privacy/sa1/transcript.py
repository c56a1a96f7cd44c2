"""Whole sums of SA1 in one process, in which clients may drop out after any step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from umbel.privacy.sa1 import Encoding, Floors, Offer, Party, Purpose, default_threshold
from umbel.privacy.sa1.conversation import STEPS, Conversation
from umbel.privacy.sa1.keys import identity_of
from umbel.privacy.sa1.replies import Kept, received, replied

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


def offer_of(count: int, *, threshold: int | None = None, neighbours: int = 0, **changes: object) -> Offer:
    """An offer for so many clients."""
    around = neighbours + 1 if neighbours else count
    fields: dict[str, object] = {
        "run": "run",
        "leadership": 1,
        "number": 0,
        "clients": count,
        "threshold": threshold or default_threshold(around),
        "neighbours": neighbours,
    }
    return Offer(**{**fields, **changes})  # type: ignore[arg-type]


def purpose_of(count: int, size: int, **changes: object) -> Purpose:
    """What a sum of so many clients and values is of."""
    encoding = Encoding(clip=1.0, weight_cap=8.0, clients=count, size=size)
    fields: dict[str, object] = {"kind": "fit", "round": 1, "attempt": 0, "model": MODEL, "encoding": encoding}
    return Purpose(**{**fields, **changes})  # type: ignore[arg-type]


@dataclass
class Transcript:
    """What the server saw of a sum, and what the clients remember."""

    talk: Conversation
    kept: dict[str, Kept]
    uploads: dict[str, np.ndarray] = field(default_factory=dict)
    steps: list[str] = field(default_factory=list)
    total: np.ndarray | None = None


def play(
    parties: Mapping[str, Party],
    talk: Conversation,
    vectors: Mapping[str, np.ndarray],
    gone: Sequence[set[str]] = (),
    kept: Mapping[str, Kept] | None = None,
) -> Transcript:
    """A whole sum. `gone[k]` are those whose answer to step k + 1 never arrives; they answer no later one.

    Between any two steps what a client remembers is written to bytes and read again.

    Args:
        kept: what the clients remember of the sum before.
    """
    left = {step: set[str]().union(*gone[: number + 1]) for number, step in enumerate(STEPS)}
    story = Transcript(talk, dict(kept or {}))
    while (turn := talk.go_on()) is not None:
        step, told = turn
        story.steps.append(step)
        for name, said in told.items():
            answer = answered(story, parties[name], {**said, "step": step}, vectors)
            if name in left[step]:
                continue
            if step == "mask":
                talk.masked(name, story.uploads[name], answer)
            else:
                talk.took(name, answer)
    talk.decoded()
    story.total = talk.server.total.copy()
    return story


def answered(story: Transcript, party: Party, own: Mapping[str, object], vectors: Mapping[str, np.ndarray]):
    """What a client answers, and remembers."""
    kept = Kept.read(story.kept.get(party.name, Kept()).data)
    if own["step"] == "mask":
        kept, masks, answer = received(party, kept, own, MODEL)
        story.uploads[party.name] = vectors[party.name].copy()
        masks.add_to(story.uploads[party.name])
    else:
        kept, answer = replied(party, kept, own)
    story.kept[party.name] = kept
    return answer


def vectors_of(purpose: Purpose, names: Sequence[str], seed: int = 0) -> dict[str, np.ndarray]:
    """Random words for each client."""
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, 2**32, purpose.encoding.length, np.uint64).astype(np.uint32) for name in names}
