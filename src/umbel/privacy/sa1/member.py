"""What a client remembers between the steps of a secure round, as data that its own node keeps and nobody else sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, final

from umbel.errors import ProtocolError
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.offer import Offer
from umbel.privacy.sa1.purpose import Purpose
from umbel.privacy.sa1.sets import Sets

Stage: TypeAlias = Literal["advertised", "shared", "masked", "agreed", "released"]
STAGES: tuple[Stage, ...] = ("advertised", "shared", "masked", "agreed", "released")


@final
@dataclass(frozen=True)
class Peer:
    """A neighbour: its public keys, and the key of the channel to it."""

    index: int
    identity: bytes
    mask: bytes
    channel_key: bytes

    @property
    def data(self) -> bytes:
        return joined(self.index.to_bytes(4, "little"), self.identity, self.mask, self.channel_key)

    @classmethod
    def read(cls, data: bytes) -> Peer:
        index, identity, mask, key = parted(data, 4)
        return cls(int.from_bytes(index, "little"), identity, mask, key)


@final
@dataclass(frozen=True)
class Member:
    """A client's part in one sum. It holds secrets: keep `data` where the client's data are kept.

    Attributes:
        stage: the last step that was done; each is done once.
        channel, mask: the secret halves of its keys.
        advert: what was advertised.
        digest, index, names: of the header, once it is known; the names are all clients', in its order.
        seed: of the client's own mask.
        peers: the neighbours.
        shares: index → that client's two shares (of its seed, of its mask key), the own ones included.
        purpose: what the sum is of, once it is known.
        is_early: whether it has signed, with its vector, that everybody is in the sum.
        sets: what was signed when somebody was missing.
    """

    stage: Stage
    offer: Offer
    channel: bytes
    mask: bytes
    advert: bytes
    digest: bytes = b""
    index: int = 0
    names: tuple[str, ...] = ()
    seed: bytes = b""
    peers: tuple[Peer, ...] = ()
    shares: dict[int, bytes] = field(default_factory=dict[int, bytes])
    purpose: Purpose | None = None
    is_early: bool = False
    sets: Sets | None = None

    @property
    def clients(self) -> int:
        """How many are in the header."""
        return len(self.names)

    @property
    def about(self) -> Purpose:
        """What the sum is of.

        Raises:
            ProtocolError: that is not known yet.
        """
        if self.purpose is None:
            raise ProtocolError("what a secure sum is of is known with its shares")
        return self.purpose

    @property
    def bound(self) -> bytes:
        """The digest of the sum."""
        return self.about.bound(self.digest)

    def __repr__(self) -> str:
        return f"Member({self.stage!r})"

    @property
    def data(self) -> bytes:
        """The bytes from which `read` makes it again. Writing them down *is* the record that a step was taken."""
        shares = [index.to_bytes(4, "little") + share for index, share in self.shares.items()]
        return joined(
            self.stage.encode(),
            self.offer.data,
            self.channel,
            self.mask,
            self.advert,
            self.digest,
            joined(self.index.to_bytes(4, "little"), bytes([self.is_early])),
            joined(*(name.encode() for name in self.names)),
            self.seed,
            joined(*(peer.data for peer in self.peers)),
            joined(*shares),
            b"" if self.purpose is None else self.purpose.data,
            b"" if self.sets is None else self.sets.data,
        )

    @classmethod
    def read(cls, data: bytes) -> Member:
        """The member whose `data` these are.

        Raises:
            ProtocolError: they are nobody's.
        """
        parts = parted(data, 13)
        stage, offer, channel, mask, advert, digest, numbers, names, seed, peers, shares, purpose, sets = parts
        index, is_early = parted(numbers, 2)
        called = tuple(name.decode() for name in parted(names))
        known: Stage | None = next((known for known in STAGES if known.encode() == stage), None)
        if known is None:
            raise ProtocolError("these bytes are no member of a secure sum")
        return cls(
            known,
            Offer.read(offer),
            channel,
            mask,
            advert,
            digest,
            int.from_bytes(index, "little"),
            called,
            seed,
            tuple(map(Peer.read, parted(peers))),
            {int.from_bytes(part[:4], "little"): part[4:] for part in parted(shares)},
            Purpose.read(purpose) if purpose else None,
            is_early != b"\0",
            Sets.read(sets, len(called)) if sets else None,
        )
