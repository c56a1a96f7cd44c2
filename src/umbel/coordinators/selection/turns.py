"""`Turns`: everybody has a turn every so many rounds, which nobody draws."""

from __future__ import annotations

import hashlib
from collections.abc import Container
from dataclasses import dataclass
from typing import final

from umbel.coordinators.population import Population, draw
from umbel.coordinators.selection.experience import Experience
from umbel.coordinators.selection.selector import Selector
from umbel.message import require


@final
@dataclass(frozen=True)
class Turns(Selector):
    """In round r all clients are asked whose name's hash is r modulo `every`, so no two turns of one are closer.

    It knows nothing of earlier rounds, so it holds whoever comes and goes, and over restarts.

    Example:
        >>> from umbel.coordinators import Everyone
        >>> turns = [set(Turns(3).cohort(Everyone(9), round)) for round in range(1, 7)]
        >>> turns[:3] == turns[3:], len(set.union(*turns[:3])), turns[0] & turns[1]
        (True, 9, set())
    """

    every: int

    def __post_init__(self) -> None:
        require(type(self.every) is int and self.every >= 1, f"every must be at least 1, got {self.every!r}")

    def check(self, population: Population) -> None:
        require(population.listed() is not None, f"turns need a list of all {population.size} clients; have fewer")

    def cohort(self, population: Population, round: int) -> list[str]:
        """Whose turn it is, in the order of their hashes."""
        there = (client for client in population.listed() or [] if self.has(client, round))
        return sorted(there, key=lambda client: (_hash(client), client))

    def has(self, client: str, round: int) -> bool:
        """Whether it is this client's turn."""
        return (_hash(client) - round) % self.every == 0

    def draw(
        self, population: Population, key: int, count: int, experience: Experience, excluded: Container[str] = ()
    ) -> list[str]:
        return draw(population, key, count, excluded)


def _hash(client: str) -> int:
    return int.from_bytes(hashlib.sha256(client.encode()).digest()[:8], "little")
