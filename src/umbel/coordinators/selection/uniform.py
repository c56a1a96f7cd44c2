"""`Uniform`: every client with the same chance."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import ClassVar, final

from umbel.coordinators.population import Population, draw
from umbel.coordinators.selection.experience import Experience
from umbel.coordinators.selection.selector import Selector, secretly


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
    secret: bytes = field(default=b"", repr=False, compare=False, metadata={"plan": False})
    """Draws that nobody can work out from the run's seed depend on this as well; it is in no plan and no log."""

    def draw(
        self, population: Population, key: int, count: int, experience: Experience, excluded: Container[str] = ()
    ) -> list[str]:
        return draw(population, secretly(self.secret, key), count, excluded)
