"""Pace steering: when devices that check in are told to come back. Times are arguments; there is no clock here."""

from __future__ import annotations

import math
from collections import deque
from random import Random
from typing import final

from umbel.coordinators.config import ServerConfig

# Not every device that comes takes part to the end: some are unwilling, some go offline.
MARGIN = 2.0
PARTS = 30


def wanted(config: ServerConfig) -> tuple[int, int]:
    """(updates that a round wants, devices that it takes in) with `arrivals`."""
    updates = max(config.min_fit_clients, 1)
    return updates, math.ceil(round(updates * (1 + config.over_selection), 9))


def arrivals_per_s(config: ServerConfig) -> float:
    """How many devices should check in per second, so that a round is full well before its deadline; 0 wants none."""
    if not config.arrivals or config.round_timeout is None:
        return 0.0
    return MARGIN * wanted(config)[1] / config.round_timeout


@final
class Pace:
    """Spreads check-ins over time, without a list of who there is.

    A device that comes back every t seconds checks in W/t times in a window of W seconds. So a check-in by a device
    that was here t seconds ago stands for t/W devices, and one by a device that was never here for itself:

        N = Σ min(t, W)/W        over the check-ins of the last W seconds
        T = N / λ                clipped to [least_s, most_s]
        told = T·u               u uniform from 0.5 to 1.5

    with λ the check-ins per second that the open runs can use. After it N devices bring N/T = λ check-ins a second, and
    u keeps those that came together from coming together again. A small population comes often enough for every round,
    a large one is not a herd. With no run (λ = 0) it is most_s.

    Args:
        least_s, most_s: the shortest and the longest T.
        window_s: W; None is twice most_s, more than which no device is told to stay away.

    References:
        K. Bonawitz et al., "Towards Federated Learning at Scale: System Design", MLSys 2019, section 2.3 (pace
        steering), https://arxiv.org/abs/1902.01046
    """

    def __init__(self, least_s: float, most_s: float, window_s: float | None = None) -> None:
        self.least_s, self.most_s = least_s, most_s
        self.window_s = window_s or 2 * most_s
        self._parts: deque[list[float]] = deque()
        self._began_s: float | None = None

    def checked_in(self, now_s: float, since_s: float | None = None) -> None:
        """Count a check-in.

        Args:
            since_s: seconds since the device was here before; None if it never was.
        """
        if self._began_s is None:
            self._began_s = now_s
        part_s = self.window_s / PARTS
        if not self._parts or now_s >= self._parts[-1][0] + part_s:
            self._parts.append([now_s, 0.0, 0.0])
        self._parts[-1][1] += 1 if since_s is None else 0
        self._parts[-1][2] += 0.0 if since_s is None else max(0.0, min(since_s, self.window_s))

    def population(self, now_s: float) -> float:
        """How many devices there are, about."""
        while self._parts and self._parts[0][0] < now_s - self.window_s:
            self._parts.popleft()
        if self._began_s is None or not self._parts:
            return 0.0
        # A server that began a minute ago has seen a minute, not a window.
        seen_s = min(self.window_s, max(now_s - self._began_s, 1.0))
        fresh = sum(part[1] for part in self._parts)
        return max(fresh, sum(part[2] for part in self._parts) / seen_s)

    def come_back_s(self, now_s: float, per_s: float, rng: Random) -> float:
        """Seconds until a device is to come back.

        Args:
            per_s: λ, the check-ins per second that can be used; 0 if none can.
        """
        pause = self.most_s if per_s <= 0 else self.population(now_s) / per_s
        return min(max(pause, self.least_s), self.most_s) * rng.uniform(0.5, 1.5)
