"""`Game`: what each coalition of clients is worth, asked for once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TypeAlias, final

Coalition: TypeAlias = "frozenset[str]"


class Game(ABC):
    """A cooperative game: a number for every coalition of its players, the empty one included."""

    players: tuple[str, ...]

    @abstractmethod
    def values(self, coalitions: Iterable[Coalition]) -> list[float]:
        """What these coalitions are worth, in their order. All are named at once, so that they can be played beside
        each other."""

    def value(self, coalition: Iterable[str]) -> float:
        """What one coalition is worth."""
        return self.values([frozenset(coalition)])[0]


@final
class Remembered(Game):
    """A game that is asked for each coalition once.

    Args:
        worth: coalitions → what each is worth, in their order.
        known: what is known already; it grows.
        least: as many players have to be in a coalition for it to be played; smaller ones are worth what nobody is.
    """

    def __init__(
        self,
        players: Sequence[str],
        worth: Callable[[Sequence[Coalition]], Sequence[float]],
        known: Mapping[Coalition, float] | None = None,
        *,
        least: int = 0,
    ) -> None:
        self.players, self._worth, self._least = tuple(players), worth, least
        self.known = dict(known or {})

    def values(self, coalitions: Iterable[Coalition]) -> list[float]:
        wanted = [one if len(one) >= self._least else frozenset[str]() for one in coalitions]
        new = [one for one in dict.fromkeys(wanted) if one not in self.known]
        if new:
            self.known.update(zip(new, self._worth(new), strict=True))
        return [self.known[one] for one in wanted]
