"""Whom the desk deals with: a connected node, and a run."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, final

from umbel.coordinators.where import Plain
from umbel.errors import StoreError
from umbel.runtimes.server.about import About
from umbel.runtimes.server.facts import facts_of
from umbel.runtimes.stream import Stream
from umbel.wire.target import Target


class Lead(Protocol):
    """A run as the desk sees it. All calls come from the event loop's thread."""

    run: str

    def plan_for(self, node: Node) -> Mapping[str, Any] | None:
        """The plan to send to a node; None if it may not take part."""
        ...

    def invites(self, name: str, *, willing: bool) -> bool:
        """Whether a device that checks in is to stay for this run."""
        ...

    @property
    def arrivals_per_s(self) -> float:
        """How many check-ins per second the run can use."""
        ...

    def is_ready(self, node: Node, answer: Any) -> None:
        """A node said what its client can, or why it does not take part."""
        ...

    def room(self, nbytes: int) -> Target:
        """Where an answer of so many bytes is put.

        Raises:
            StoreError: there is no room for anything.
            UmbelError: nowhere for this one; says why.
        """
        ...

    def came(self, node: Node, data: Any, token: int) -> None:
        """An answer is whole: `data` is what `room` gave, or bytes if it is small."""
        ...

    def spoiled(self, node: Node, round: int, attempt: int, reason: str) -> None:
        """An answer cannot be taken."""
        ...

    def broken(self, error: StoreError) -> None:
        """No answer can be kept any more: the run fails."""
        ...

    def left(self, node: Node) -> None:
        """The link to a node is gone."""
        ...

    def expects(self, node: Node, round: int, attempt: int) -> bool:
        """Whether an answer is still wanted."""
        ...

    def stalled(self, node: Node, round: int, attempt: int) -> None:
        """An answer came no further; it has to be asked for again."""
        ...

    @property
    def upload_bytes(self) -> int:
        """The most that the arrays of an answer may have."""
        ...


@final
@dataclass(eq=False)
class Node:
    """A node that is connected."""

    name: str
    boot: bytes
    about: About
    address: str
    stream: Stream
    since_s: float
    federation: str | None = None
    unpacks: bool = False
    checks_in: bool = False
    works: set[str] = field(default_factory=set[str])
    """Of a device that checks in: the runs that it stays for."""
    offered: set[str] = field(default_factory=set[str])
    """The runs whose plan it was sent."""
    ready: set[str] = field(default_factory=set[str])
    refused: dict[str, str] = field(default_factory=dict[str, str])
    held: deque[str] = field(default_factory=lambda: deque(maxlen=4))
    sending: dict[int, tuple[str, str]] = field(default_factory=dict[int, tuple[str, str]])

    @property
    def facts(self) -> dict[str, Plain]:
        """What conditions on nodes can speak of."""
        return facts_of(self.name, self.about, address=self.address, federation=self.federation)
