"""What a client remembers between the steps of an encrypted sum: data that its own node keeps and nobody else sees."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from umbel.errors import ProtocolError, SecureRefused
from umbel.privacy.ckks.offer import Header, Offer
from umbel.privacy.sa1.fields import joined, parted
from umbel.privacy.sa1.sets import Sets

Stage: TypeAlias = Literal["advertised", "dealt", "encrypted", "agreed", "opened"]
STAGES: tuple[Stage, ...] = ("advertised", "dealt", "encrypted", "agreed", "opened")


@final
@dataclass(frozen=True)
class Member:
    """A client in the middle of a sum. It holds secrets: keep `data` where the client's data are kept.

    Attributes:
        stage: the last step that was done; each is done once.
        secret: of its X25519 key.
        advert: what was advertised.
        header: once it is known.
        index: the client's place in the header.
        dealt: 32 bytes that the dealer drew and all clients have: the secret key is sealed with them, and so is what
            they tell each other through the server.
        key: the secret key of CKKS.
        sets: what was signed.
    """

    stage: Stage
    offer: Offer
    secret: bytes
    advert: bytes
    header: Header | None = None
    index: int = 0
    dealt: bytes = b""
    key: bytes = b""
    sets: Sets | None = None

    def __repr__(self) -> str:
        return f"Member({self.stage!r})"

    @property
    def known(self) -> Header:
        """The header.

        Raises:
            ProtocolError: it is not known yet.
        """
        if self.header is None:
            raise ProtocolError("the header of an encrypted sum is known once a key was dealt")
        return self.header

    @property
    def clients(self) -> int:
        return len(self.known.adverts)

    @property
    def data(self) -> bytes:
        """The bytes from which `read` makes it again. Writing them down *is* the record that a step was taken."""
        return joined(
            self.stage.encode(),
            self.offer.data,
            self.secret,
            self.advert,
            b"" if self.header is None else self.header.data,
            self.index.to_bytes(4, "little"),
            self.dealt,
            self.key,
            b"" if self.sets is None else self.sets.data,
        )

    @classmethod
    def read(cls, data: bytes) -> Member:
        """The member whose `data` these are.

        Raises:
            ProtocolError: they are nobody's.
        """
        stage, offer, secret, advert, header, index, dealt, key, sets = parted(data, 9)
        known: Stage | None = next((known for known in STAGES if known.encode() == stage), None)
        if known is None:
            raise ProtocolError("these bytes are no member of an encrypted sum")
        found = Header.read(header) if header else None
        return cls(
            known,
            Offer.read(offer),
            secret,
            advert,
            found,
            int.from_bytes(index, "little"),
            dealt,
            key,
            Sets.read(sets, len(found.adverts)) if sets and found else None,
        )


def at(name: str, member: Member, *stages: Stage) -> None:
    """Refuse a step that does not come next.

    Raises:
        SecureRefused: names both.
    """
    if member.stage not in stages:
        raise SecureRefused(
            name,
            f"this step of the encrypted sum follows {stages[0]!r}, but the last one was {member.stage!r}; each step "
            "is taken once",
        )
