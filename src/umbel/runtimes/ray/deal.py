"""Who plays what: the asks of a phase that are not handed out yet, and how many of them a node gets next."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import final

from umbel.message import Ask
from umbel.runtimes.ray.pace import Pace, shares

PLANNED = (0.55, 0.3)
"""Which parts of its share a node gets in its first two calls. The rest is the tail, handed out on demand."""
PIECE = 0.075
"""Which part of its share a node gets of the tail at a time."""
OVERHEAD = 0.25
"""A call's fixed cost is at most this part of the work in it."""


@final
class Deal:
    """Hands out asks in calls of falling size, longest first.

    The first two calls of a node are planned by its pace. What is left then goes to whoever is free, piece by piece,
    so that a node that is slower than it was holds nobody up for long.
    """

    def __init__(self, asks: Iterable[tuple[Ask, float]]) -> None:
        self._left: list[tuple[Ask, float]] = []
        self._calls: dict[str, int] = {}
        self._most: dict[str, int] = {}
        self._work = 0.0
        self.put_back(asks)
        self._whole = self._work

    def __bool__(self) -> bool:
        return bool(self._left)

    def put_back(self, asks: Iterable[tuple[Ask, float]], *, most: int | None = None) -> None:
        """Hand these out (again).

        Args:
            most: in calls of at most so many.
        """
        added = list(asks)
        self._work += sum(work for _, work in added)
        # Sorting keeps the order of equals: clients of unknown work go in the cohort's order.
        self._left = sorted([*self._left, *added], key=lambda entry: -entry[1])
        if most is not None:
            self._most.update((ask.client, most) for ask, _ in added)

    def next(self, node: str, paces: Mapping[str, Pace], workers: int) -> list[tuple[Ask, float]]:
        """What `node` plays next; nothing if the others are done sooner without it.

        Args:
            paces: of all nodes that take part, `node` among them.
            workers: how many clients it plays at a time.
        """
        size = self._size(node, paces, workers)
        if size <= 0:
            return []
        count, work, most = 0, 0.0, len(self._left)
        while count < most and work < size * (1 - 1e-9):
            ask, amount = self._left[count]
            most = min(most, max(count, self._most.get(ask.client, most)))
            if count < most:
                count, work = count + 1, work + amount
        call, self._left = self._left[:count], self._left[count:]
        self._work -= work
        self._calls[node] = self._calls.get(node, 0) + 1
        return call

    def _size(self, node: str, paces: Mapping[str, Pace], workers: int) -> float:
        pace, number = paces[node], self._calls.get(node, 0)
        share = shares(paces, self._whole)[node]
        size = (PLANNED[number] if number < len(PLANNED) else PIECE) * share
        least = max(pace.a_s / pace.b_s / OVERHEAD, min(workers, self._work))
        return 0.0 if share <= 0 else max(size, least)
