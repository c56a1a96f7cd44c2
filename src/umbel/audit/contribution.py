"""`Contribution`: which answer of a node went into a round."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, final


@final
@dataclass(frozen=True, order=True)
class Contribution:
    """One answer that is in a round's model.

    Attributes:
        client: whose it is.
        round, attempt: to which ask it is the answer; in an asynchronous run, `round` is the version it began from.
        update: the SHA-256 that seals the answer's frame, 64 hexadecimal digits: of all its bytes before the seal. In a
            secure round these are the masked words, which say nothing without the others.
        examples: on how many it trained, where the answer says so in clear.
        card: the digest of its owner's data card; None if there is none.
    """

    client: str
    round: int
    attempt: int
    update: str
    examples: float | None = None
    card: str | None = None

    @property
    def place(self) -> tuple[str, int, int]:
        """Of whom and to which ask."""
        return self.client, self.round, self.attempt

    def plain(self) -> dict[str, Any]:
        """What stands in a round's event and in a receipt."""
        told = ((name, getattr(self, name)) for name in _FIELDS)
        return {name: value for name, value in told if value is not None}


_FIELDS = tuple(field.name for field in fields(Contribution))
