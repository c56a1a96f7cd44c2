"""What a run's players say to the desk, and what the desk tells them: plain messages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, final

from umbel.arrays import Arrays
from umbel.errors import StoreError
from umbel.message import Ask
from umbel.runtimes.server.spool import Sheet


@final
@dataclass(frozen=True)
class Deliver:
    """Send an ask to a node, with the arrays that it speaks of."""

    client: str
    ask: Ask
    parts: list[Any]
    blobs: dict[str, Arrays]
    packed: Mapping[str, bytes] = field(default_factory=dict[str, bytes])


@final
@dataclass(frozen=True)
class CallOff:
    """The answer is no longer wanted."""

    client: str
    round: int
    attempt: int
    kind: str


@final
@dataclass(frozen=True)
class HurryUp:
    """Time is running out for an ask."""

    client: str
    round: int
    attempt: int
    left_s: float


@final
@dataclass(frozen=True)
class Settle:
    """An update is in a stored model, or never will be."""

    client: str
    round: int
    attempt: int
    included: bool
    receipt: bytes = b""


@final
@dataclass(frozen=True)
class Release:
    """The bytes of an answer are no longer needed."""

    token: int


@final
@dataclass(frozen=True)
class Dismiss:
    """There is no seat for a device that came: nothing is asked of it."""

    client: str


@final
@dataclass(frozen=True)
class Keep:
    """Of the run's arrays only those with these digests may still be asked for."""

    digests: frozenset[str]


Command: TypeAlias = Deliver | CallOff | HurryUp | Settle | Release | Dismiss | Keep


@final
@dataclass(frozen=True)
class Came:
    """An answer is here; `token` stands for its bytes."""

    client: str
    data: memoryview | Sheet
    token: int = 0


@final
@dataclass(frozen=True)
class Spoiled:
    """An answer was there and could not be taken: no room for it."""

    client: str
    round: int
    attempt: int
    reason: str


@final
@dataclass(frozen=True)
class Stalled:
    """An answer was on its way and came no further; it is to be asked for again."""

    client: str
    round: int
    attempt: int


@final
@dataclass(frozen=True)
class Joined:
    """A node is there and ready for the run (again)."""

    client: str


@final
@dataclass(frozen=True)
class Left:
    """The link to a node is gone."""

    client: str


@final
@dataclass(frozen=True)
class Moved:
    """More of a node's answer has come, or it waits for its turn to come."""

    client: str


@final
@dataclass(frozen=True)
class Broken:
    """The run cannot go on: the server cannot keep what comes."""

    error: StoreError


@final
@dataclass(frozen=True)
class Stopped:
    """Somebody wants the run to end."""

    reason: str
