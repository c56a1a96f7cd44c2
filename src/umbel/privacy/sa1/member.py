"""What a client remembers between the steps of a secure round, as data that its own node keeps and nobody else sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias, final

from umbel.errors import ProtocolError
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.offer import Offer
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
    """A client in the middle of a round. It holds secrets: keep `data` where the client's data are kept.

    Attributes:
        stage: the last step that was done; each is done once.
        channel, mask: the secret halves of the round's keys.
        advert: what was advertised.
        digest, index, clients: of the round's header, once it is known.
        seed: of the client's own mask.
        peers: the neighbours.
        shares: index → that client's two shares (of its seed, of its mask key), the own ones included.
        sets: what was signed.
    """

    stage: Stage
    offer: Offer
    channel: bytes
    mask: bytes
    advert: bytes
    digest: bytes = b""
    index: int = 0
    clients: int = 0
    seed: bytes = b""
    peers: tuple[Peer, ...] = ()
    shares: dict[int, bytes] = field(default_factory=dict[int, bytes])
    sets: Sets | None = None

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
            joined(self.index.to_bytes(4, "little"), self.clients.to_bytes(4, "little")),
            self.seed,
            joined(*(peer.data for peer in self.peers)),
            joined(*shares),
            b"" if self.sets is None else self.sets.data,
        )

    @classmethod
    def read(cls, data: bytes) -> Member:
        """The member whose `data` these are.

        Raises:
            ProtocolError: they are nobody's.
        """
        stage, offer, channel, mask, advert, digest, numbers, seed, peers, shares, sets = parted(data, 11)
        index, clients = (int.from_bytes(part, "little") for part in parted(numbers, 2))
        known: Stage | None = next((known for known in STAGES if known.encode() == stage), None)
        if known is None:
            raise ProtocolError("these bytes are no member of a secure round")
        return cls(
            known,
            Offer.read(offer),
            channel,
            mask,
            advert,
            digest,
            index,
            clients,
            seed,
            tuple(map(Peer.read, parted(peers))),
            {int.from_bytes(part[:4], "little"): part[4:] for part in parted(shares)},
            Sets.read(sets, clients) if sets else None,
        )
