"""`Nodes`: the nodes that are ready for a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import final

from umbel.coordinators import Named


@final
@dataclass
class Nodes:
    """The nodes that are ready for a run: who can be asked. Replaced as a whole when nodes come and go.

    A device that checks in can be asked once each time that it comes.
    """

    names: tuple[str, ...] = ()
    evaluators: frozenset[str] = frozenset()
    cards: Mapping[str, str] = field(default_factory=dict[str, str])
    """The digests of their owners' data cards, of those that have one; also of nodes that have left."""

    @property
    def size(self) -> int:
        return len(self.names)

    def sample(self, key: int, count: int) -> list[str]:
        return Named(self.names).sample(key, count)

    def __contains__(self, client: object) -> bool:
        return client in self.names

    def listed(self) -> list[str]:
        return list(self.names)

    def one_by_one(self, key: int) -> Iterator[str | None]:
        return Named(self.names).one_by_one(key)
