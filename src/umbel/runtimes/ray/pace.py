"""How fast a node is: a call with work n takes a + b·n seconds, fitted to the calls that it has answered."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True)
class Pace:
    """`a_s` seconds for a call and `b_s` seconds for each unit of work in it; a unit is the work of a usual client."""

    a_s: float
    b_s: float


def fitted(calls: Collection[tuple[float, float]]) -> Pace:
    """The least-squares line through (work, seconds) of at least one call; neither number of it is negative.

    Example:
        >>> fitted([(10, 1.5), (20, 2.5), (40, 4.5)])
        Pace(a_s=0.5, b_s=0.1)
    """
    count = len(calls)
    n_mean, s_mean = sum(n for n, _ in calls) / count, sum(s for _, s in calls) / count
    spread = sum((n - n_mean) ** 2 for n, _ in calls)
    slope = sum((n - n_mean) * (s - s_mean) for n, s in calls) / spread if spread else 0.0
    if slope > 0 and s_mean > slope * n_mean:
        return Pace(s_mean - slope * n_mean, slope)
    # Noise, or calls of one size only: the line through the origin.
    return Pace(0.0, s_mean / n_mean)


def shares(paces: Mapping[str, Pace], work: float) -> dict[str, float]:
    """How much of `work` each node takes so that all end together; a node that would only be late takes nothing.

    With the common end T: T = a + b·n for all who take a part n > 0, and the parts add up to `work`.
    """
    taking = dict(paces)
    while True:
        end = (work + sum(p.a_s / p.b_s for p in taking.values())) / sum(1 / p.b_s for p in taking.values())
        late = [node for node, pace in taking.items() if pace.a_s >= end]
        if not late:
            return {node: (end - p.a_s) / p.b_s if node in taking else 0.0 for node, p in paces.items()}
        for node in late:
            del taking[node]
