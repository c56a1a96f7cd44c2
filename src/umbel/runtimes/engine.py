"""The abstract engine: it plays the clients of a phase and hands back one tally."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from umbel.message import Ask
from umbel.runtimes.tally import Tally

Progress: TypeAlias = Callable[[int, int], None]
Meanwhile: TypeAlias = Callable[[], None]


class Engine(ABC):
    """Where virtual clients run."""

    several_tasks: bool = False
    """Whether the asks of one call may be of several tasks."""

    elsewhere: bool = False
    """Whether clients work in other processes, which have all they need, so that this one is free meanwhile."""

    @abstractmethod
    def play(
        self,
        asks: Sequence[Ask],
        states: Mapping[str, bytes],
        progress: Progress | None = None,
        *,
        more: bool = False,
        meanwhile: Meanwhile | None = None,
    ) -> Tally:
        """Let every asked client take its turn.

        Args:
            asks: asks of one kind, and of one task unless `several_tasks`; their order is the cohort's order.
            states: client → bytes of its state, for those that have one.
            progress: told (turns done, turns in all) now and then.
            more: this goes on with a phase, whose earlier tallies are still in use.
            meanwhile: done once in this thread, where clients work `elsewhere` while they do, else before.

        Returns:
            A tally with one receipt for every ask.
        """

    def prepare(self) -> None:  # noqa: B027 - most need nothing that may not be there
        """Reach what clients are to be played on, before the run is written down.

        Raises:
            EngineError: it is not there.
        """

    @abstractmethod
    def close(self) -> None:
        """End all workers. Safe to call twice."""
