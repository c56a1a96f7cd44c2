"""`Uniform`: every client with the same chance."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from typing import ClassVar, final

from umbel.coordinators.population import Population, draw
from umbel.coordinators.selection.experience import Experience
from umbel.coordinators.selection.selector import Selector


@final
@dataclass(frozen=True)
class Uniform(Selector):
    """Every client that is there with the same chance: the default.

    Example:
        >>> from umbel.coordinators import Everyone, Experience
        >>> len(Uniform().draw(Everyone(100_000_000), key=1, count=3, experience=Experience()))
        3
    """

    streams: ClassVar[bool] = True

    def draw(
        self, population: Population, key: int, count: int, experience: Experience, excluded: Container[str] = ()
    ) -> list[str]:
        return draw(population, key, count, excluded)
