"""`Poisson`: each client by itself, with the same chance."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from typing import final

from umbel.coordinators.population import Population, draw
from umbel.coordinators.selection.experience import Experience
from umbel.coordinators.selection.selector import Selector, secretly
from umbel.randomness import derive, generator


@final
@dataclass(frozen=True)
class Poisson(Selector):
    """Each client is in the cohort with probability `fraction_fit`, whoever else is: cohorts differ in size.

    What accountants of differential privacy call Poisson sampling. Nobody is asked in the place of a client that fails.
    It cannot be combined with `over_selection`, with `Buffered`, `FedAsync` and `Tiered`.

    Example:
        >>> from umbel.coordinators import Everyone
        >>> sizes = {len(Poisson().cohort(Everyone(1000), key=key, rate=0.01)) for key in range(50)}
        >>> len(sizes) > 5, max(sizes) < 40
        (True, True)
    """

    secret: bytes = field(default=b"", repr=False, compare=False, metadata={"plan": False})
    """Draws that nobody can work out from the run's seed depend on this as well; it is in no plan and no log."""

    def cohort(self, population: Population, key: int, rate: float) -> list[str]:
        """The clients that are drawn: a binomial number of them, any set of so many with the same chance."""
        key = secretly(self.secret, key)
        count = int(generator(derive(key, "size")).binomial(population.size, rate))
        return population.sample(key, count) if count else []

    def draw(
        self, population: Population, key: int, count: int, experience: Experience, excluded: Container[str] = ()
    ) -> list[str]:
        return draw(population, secretly(self.secret, key), count, excluded)
