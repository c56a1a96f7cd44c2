"""`Present`: those of a population that are there, drawn without looking at all the others."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterator
from typing import final

from umbel.coordinators import Registered, draw
from umbel.coordinators.population import LISTED
from umbel.runtimes.system.model import SystemModel

STEP_S = 60.0
LONGEST_WAIT_S = 400 * 86_400.0


@final
class Present:
    """Clients that are there at the moment. `size` counts all that are registered.

    Args:
        everyone: the registered clients.
        now: the simulated time.
    """

    def __init__(self, everyone: Registered, system: SystemModel, seed: int, now: Callable[[], float]) -> None:
        self.everyone, self.system, self.seed, self.now = everyone, system, seed, now

    @property
    def size(self) -> int:
        return self.everyone.size

    def first(self, count: int) -> list[str]:
        return self.everyone.first(count)

    def sample(self, key: int, count: int) -> list[str]:
        """Up to `count` clients that are there: those who are not are drawn, looked at and passed over."""
        now_s = self.now()
        away = _Unless(lambda client: self.system.is_there(client, now_s, self.seed))
        return draw(self.everyone, key, count, away, most=max(LISTED, 20 * count))

    def __contains__(self, client: object) -> bool:
        return client in self.everyone and self._is_there(str(client))

    def listed(self) -> list[str] | None:
        everyone = self.everyone.listed()
        return None if everyone is None else [client for client in everyone if self._is_there(client)]

    def one_by_one(self, key: int) -> Iterator[str | None]:
        return (c if c is not None and self._is_there(c) else None for c in self.everyone.one_by_one(key))

    def _is_there(self, client: str) -> bool:
        return self.system.is_there(client, self.now(), self.seed)

    def soonest(self, least: int, excluded: Container[str] = ()) -> float:
        """The first moment from now on at which at least `least` that are not excluded are there; infinite if none.

        In populations of more than `LISTED` it is looked for in steps of a minute.
        """
        now_s = self.now()
        if self._there(now_s, least, excluded):
            return now_s
        if self.size > LISTED:
            return self._searched(now_s, least, excluded)
        clients = [client for client in self.everyone.first(self.size) if client not in excluded]
        times_s = _finite({now_s, *(self._begin(client, now_s) for client in clients)})
        while times_s and times_s[0] < now_s + LONGEST_WAIT_S:
            at_s = times_s.pop(0)
            if sum(self.system.is_there(client, at_s, self.seed) for client in clients) >= least:
                return at_s
            if not times_s:
                times_s = _finite({self._begin_after(client, at_s) for client in clients})
        return math.inf

    def _begin(self, client: str, time_s: float) -> float:
        return max(time_s, self.system.window(client, time_s, self.seed)[0])

    def _begin_after(self, client: str, time_s: float) -> float:
        """When the client's next window begins that is not the one at `time_s`."""
        begin, end = self.system.window(client, time_s, self.seed)
        if begin > time_s or math.isinf(end):
            return begin if begin > time_s else math.inf
        return self.system.window(client, end, self.seed)[0]

    def _searched(self, now_s: float, least: int, excluded: Container[str]) -> float:
        at_s = now_s
        while at_s < now_s + LONGEST_WAIT_S:
            if self._there(at_s, least, excluded):
                return at_s
            at_s += STEP_S
        return math.inf

    def _there(self, time_s: float, least: int, excluded: Container[str]) -> bool:
        """Whether so many are found to be there."""
        away = _Unless(lambda client: self.system.is_there(client, time_s, self.seed), excluded)
        return len(draw(self.everyone, 0, least, away, most=max(LISTED, 20 * least))) >= least


def _finite(times_s: set[float]) -> list[float]:
    return sorted(time_s for time_s in times_s if math.isfinite(time_s))


@final
class _Unless:
    """All clients but those for which something holds, and those excluded anyway."""

    def __init__(self, holds: Callable[[str], bool], excluded: Container[str] = ()) -> None:
        self.holds, self.excluded = holds, excluded

    def __contains__(self, client: object) -> bool:
        return str(client) in self.excluded or not self.holds(str(client))
