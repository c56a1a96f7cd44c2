"""When a client is there: windows of simulated time that follow from (seed, client) alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any, Protocol, cast, final, runtime_checkable

from umbel.errors import ConfigError, UmbelError
from umbel.message import is_number, require
from umbel.runtimes.system.distributions import Quantity, check, drawn
from umbel.runtimes.system.draws import uniform

DAY_S = 86_400.0
HOUR_S = 3_600.0
NEVER = (math.inf, math.inf)


@runtime_checkable
class Availability(Protocol):
    """When clients are there. One of your own needs this method alone."""

    def window(self, client: str, time_s: float, seed: int) -> tuple[float, float]:
        """(begin, end) of the first window of `client` that ends after `time_s`; `NEVER` if there is none."""
        ...


def checked_window(availability: Availability, client: str, time_s: float, seed: int) -> tuple[float, float]:
    """The window that somebody's own availability gives.

    Raises:
        ConfigError: it raises, or gives none.
    """
    said = f"availability={type(availability).__name__}: window() of client {client} at {time_s:.6g} s"
    try:
        given: Any = availability.window(client, time_s, seed)
    except UmbelError:
        raise
    except Exception as error:
        raise ConfigError(f"{said} raised {type(error).__name__}: {error}; return (begin, end) in seconds") from error
    pair: Any = tuple(cast("list[Any]", given)) if isinstance(given, (tuple, list)) else ()
    # A client that is never there begins at no time.
    fine = len(pair) == 2 and all(isinstance(value, Real) for value in pair)
    fine = fine and (pair == NEVER or (pair[0] <= pair[1] and pair[1] > time_s and pair[0] < math.inf))
    require(
        fine,
        f"{said} gave {given!r}; it must be (begin, end) of the first window that ends after that time, in seconds, or "
        "(inf, inf) if there is none",
    )
    return float(pair[0]), float(pair[1])


@final
@dataclass(frozen=True)
class Always:
    """Every client is there all the time."""

    def window(self, client: str, time_s: float, seed: int) -> tuple[float, float]:
        return -math.inf, math.inf


@final
@dataclass(frozen=True)
class OnOff:
    """There for `on_s` seconds, away for `off_s`, and so on, each client beginning somewhere in its own cycle.

    Args:
        on_s, off_s: seconds; a number, a distribution or a function of the client's id.

    Example:
        >>> begin, end = OnOff(600.0, 1200.0).window("7", 0.0, seed=1)
        >>> end - begin
        600.0
    """

    on_s: Quantity = 3600.0
    off_s: Quantity = 3600.0

    def __post_init__(self) -> None:
        check("on_s", self.on_s)
        check("off_s", self.off_s)

    def window(self, client: str, time_s: float, seed: int) -> tuple[float, float]:
        on_s, off_s = drawn("on_s", self.on_s, client, seed), drawn("off_s", self.off_s, client, seed)
        if on_s == 0:
            return NEVER
        if off_s == 0:
            return -math.inf, math.inf
        period = on_s + off_s
        first = -period * uniform(seed, "system", "phase", client)
        begin = first + period * math.floor((time_s - first) / period)
        # A sum of many periods is rounded: the window is looked for where it has to be, and one further.
        return (begin, begin + on_s) if time_s < begin + on_s else (begin + period, begin + period + on_s)


@final
@dataclass(frozen=True)
class Diurnal:
    """There once a day, as a phone that charges at night is: from about `from_hour` local time, for about `hours`.

    Each client lies in one of `zones` time zones and shows up on a share `chance` of its days.

    Args:
        from_hour: local hour at which windows begin, 0 to 24. Simulated time 0 is midnight in the first zone.
        hours: how long they last; a number of at most 24, a distribution or a function of the client's id; what exceeds
            24 - spread_hours is cut off.
        spread_hours: a window begins up to so much later, anew every day; 0 to 24.
        zones: how many time zones, spread evenly over the day, at least 1.
        chance: share of the days on which a client shows up, 0.001 to 1.

    References:
        K. Bonawitz et al., "Towards Federated Learning at Scale: System Design", MLSys 2019, whose fleet swings four
        times between night and day, https://arxiv.org/abs/1902.01046
    """

    from_hour: float = 22.0
    hours: Quantity = 8.0
    spread_hours: float = 2.0
    zones: int = 24
    chance: float = 1.0

    def __post_init__(self) -> None:
        require(
            is_number(self.from_hour) and 0 <= self.from_hour <= 24,
            f"from_hour must be from 0 to 24, got {self.from_hour!r}",
        )
        require(
            is_number(self.spread_hours) and 0 <= self.spread_hours <= 24,
            f"spread_hours must be from 0 to 24, got {self.spread_hours!r}",
        )
        require(
            isinstance(self.zones, int) and is_number(self.zones) and self.zones >= 1,  # pyright: ignore[reportUnnecessaryIsInstance]
            f"zones must be a whole number of at least 1, got {self.zones!r}",
        )
        require(
            is_number(self.chance) and 0.001 <= self.chance <= 1, f"chance must be from 0.001 to 1, got {self.chance!r}"
        )
        check("hours", self.hours)

    def window(self, client: str, time_s: float, seed: int) -> tuple[float, float]:
        zone = int(uniform(seed, "system", "zone", client) * self.zones)
        # A window that began late and lasted all day would overlap the next one.
        hours = min(drawn("hours", self.hours, client, seed), 24.0 - self.spread_hours)
        if hours == 0:
            return NEVER
        start = HOUR_S * (self.from_hour - 24.0 * zone / self.zones)
        day = math.floor((time_s - start) / DAY_S)
        while True:
            begin = start + DAY_S * day
            if uniform(seed, "system", "shows up", client, day) < self.chance:
                begin += HOUR_S * self.spread_hours * uniform(seed, "system", "spread", client, day)
                if begin + HOUR_S * hours > time_s:
                    return begin, begin + HOUR_S * hours
            day += 1
