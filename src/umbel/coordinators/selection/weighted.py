"""`Weighted`: clients by weight, without building the population."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from numbers import Real
from typing import Any, ClassVar, TypeAlias, cast, final

import numpy as np
from numpy.typing import NDArray

from umbel.coordinators.population import LISTED, Population
from umbel.coordinators.selection.chances import chances_by_name, chances_in_a_row
from umbel.coordinators.selection.experience import Experience
from umbel.coordinators.selection.selector import Selector
from umbel.errors import ConfigError
from umbel.message import is_number, require
from umbel.randomness import derive

Weights: TypeAlias = "Callable[[str], float] | Mapping[str, float] | Sequence[float]"
PATIENCE = 1000
"""How many clients are looked at for each one that is wanted before a draw gives up, and at least `LEAST_LOOKS`."""
LEAST_LOOKS = 100_000


@final
@dataclass(frozen=True, eq=False)
class Weighted(Selector):
    """Clients by weight, one after the other, none twice.

    The next one is client i with chance wᵢ / Σⱼ wⱼ, the sum over those that are there and not drawn yet. A client of
    weight 0 is never drawn. Up to 10,000 clients that are there are looked at one by one, and an absent client changes
    nobody else's rank. In a larger population clients are proposed with equal chances and taken with chance w / most,
    which gives the same distribution without a list of them: 1,000 of 100,000,000 in a few milliseconds, if the mean
    weight is not far below `most`.

    Args:
        by: a function of the client's id, a mapping from ids, or an array with the weight of client 0, 1, …; weights
            are finite and at least 0. A mapping gives 0 to those that it does not name.
        most: no weight is larger. Needed for a function in a population of more than 10,000; an array or mapping has
            its largest.

    Raises:
        ConfigError: an argument is not what it has to be; while the run goes on, a weight is none or above `most`.

    Example:
        >>> from umbel.coordinators import Everyone, Experience
        >>> odd = Weighted(lambda client: int(client) % 2, most=1)
        >>> {int(c) % 2 for c in odd.draw(Everyone(100_000_000), key=1, count=50, experience=Experience())}
        {1}

    References:
        P. S. Efraimidis, P. G. Spirakis, "Weighted random sampling with a reservoir", Information Processing Letters
        97(5), 2006, https://doi.org/10.1016/j.ipl.2005.11.003
    """

    by: Weights
    most: float | None = None
    _of: Callable[[str], Any] = field(init=False, repr=False, metadata={"plan": False})
    streams: ClassVar[bool] = True

    def __post_init__(self) -> None:
        most = self.most
        require(
            most is None or (is_number(most) and 0 < most < math.inf),
            f"most must be a finite number above 0 or None, got {most!r}",
        )
        of, largest = _read(self.by)
        object.__setattr__(self, "_of", of)
        require(most is None or (largest or 0.0) <= most, f"by holds the weight {largest!r}, above most={most!r}")
        object.__setattr__(self, "most", largest if most is None else most)

    def check(self, population: Population) -> None:
        if not callable(self.by) and not isinstance(self.by, Mapping):
            given: Any = self.by
            require(
                population.size <= len(given),
                f"by has {len(given)} weights for {population.size} clients; give one for each, or a function of ids",
            )
        require(
            self.most is not None or population.size <= LISTED,
            f"Weighted needs to know the largest weight to draw from {population.size} clients, which are too many to "
            "look at each; give most=",
        )

    def draw(
        self, population: Population, key: int, count: int, experience: Experience, excluded: Container[str] = ()
    ) -> list[str]:
        listed = population.listed()
        if listed is None:
            return self._proposed(population, key, count, excluded)
        chance_of = chances_by_name(key)
        ranked = list[tuple[float, str]]()
        for client in listed:
            weight = 0.0 if client in excluded else self.weight(client)
            if weight:
                # The logarithm of an exponential variable with rate w: the smallest ones are a draw by weight.
                ranked.append((math.log(-math.log(chance_of(client))) - math.log(weight), client))
        return [client for _, client in heapq.nsmallest(count, ranked)]

    def _proposed(self, population: Population, key: int, count: int, excluded: Container[str]) -> list[str]:
        self.check(population)
        assert self.most is not None
        found, chances = dict[str, None](), chances_in_a_row(derive(key, "taken"))
        proposals = islice(population.one_by_one(derive(key, "proposed")), max(PATIENCE * count, LEAST_LOOKS))
        for client in proposals:
            if client is None or client in excluded:
                continue
            # One that is taken again changes nothing, so the others keep their proportions.
            if next(chances) * self.most < self.weight(client):
                found[client] = None
                if len(found) == count:
                    break
        return list(found)

    def weight(self, client: str) -> float:
        """The weight of a client.

        Raises:
            ConfigError: it is none.
        """
        try:
            given = self._of(client)
            weight = float(given) if isinstance(given, Real) else math.nan
        except ConfigError:
            raise
        except Exception as error:
            raise ConfigError(f"by gives client {client} no weight: {type(error).__name__}: {error}") from error
        if not 0 <= weight < math.inf:
            raise ConfigError(f"the weight of client {client} must be a finite number of at least 0, got {given!r}")
        if self.most is not None and weight > self.most:
            raise ConfigError(f"the weight of client {client} is {weight!r}, above most={self.most!r}; raise most")
        return weight


def _read(by: Any) -> tuple[Callable[[str], Any], float | None]:
    """(the weight of a client, the largest one if it is known)."""
    if callable(by):
        return by, None
    if isinstance(by, Mapping):
        named = {str(client): weight for client, weight in cast("Mapping[Any, Any]", by).items()}
        wrong = next(
            (client for client, weight in named.items() if not (is_number(weight) and 0 <= weight < math.inf)), None
        )
        require(
            wrong is None,
            f"by must map ids to finite weights of at least 0, and client {wrong} has {named.get(wrong or '')!r}",
        )
        return lambda client: named.get(client, 0.0), max(named.values(), default=0.0)
    try:
        given: Any = by
        listed: NDArray[Any] = np.asarray(given, dtype=None if isinstance(given, np.ndarray) else np.float64)
    except (TypeError, ValueError):
        listed = np.empty((0, 0))
    require(
        listed.ndim == 1 and np.issubdtype(listed.dtype, np.number) and bool(np.isfinite(listed).all()),
        f"by must be a function of the client's id, a mapping or a list of finite weights, got {type(by).__name__}",
    )
    least = float(listed.min(initial=0.0))
    require(least >= 0, f"a weight is at least 0, and by holds {least!r}")

    def of(client: str) -> Any:
        if client.isdecimal() and int(client) < len(listed):
            return listed[int(client)]
        raise ConfigError(
            f"by has {len(listed)} weights and none for client {client}; give one for each, or a function of the id"
        )

    return of, float(listed.max(initial=0.0))
