"""`Influence`: which models of a run a client had a part in, by the run's log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from umbel.errors import StoreError
from umbel.runtimes.replay import rounds_in
from umbel.stores import RunInfo, RunReader
from umbel.stores.abstract import Event

FROM_NOTHING = -1
"""The round before the first model."""


@final
@dataclass(frozen=True)
class Influence:
    """What a log says of one client's part.

    Attributes:
        first: the first round whose model may hold something of it, 0 if the first model may; None if none does.
        rounds: those of which the log says that it took part.
        unlisted: those that were too large to be listed, in which it may have.
    """

    first: int | None
    rounds: tuple[int, ...]
    unlisted: tuple[int, ...]

    @property
    def before(self) -> int:
        """The last round whose model holds nothing of it; `FROM_NOTHING` if there is none."""
        assert self.first is not None
        return self.first - 1 if self.first > 0 else FROM_NOTHING

    def newest_free(self, checkpoints: Iterable[int]) -> int:
        """The newest of these checkpoints that holds nothing of it; `FROM_NOTHING` if there is none."""
        return max((number for number in checkpoints if number <= self.before), default=FROM_NOTHING)


def whole_log(store: RunReader, info: RunInfo) -> list[Event]:
    """A run's log, after that of the run which it went on from, as far as it went on from it.

    Raises:
        StoreError: that run is not in the store any more.
    """
    own, origin = store.events(info.id), info.plan.get("origin")
    if origin is None or origin["round"] == FROM_NOTHING:
        return own
    before = store.find(origin["run"])
    if before is None:
        raise StoreError(
            f"run {info.id} went on from run {origin['run']}, which is not in the store, so that nobody can say who "
            "took part in its first rounds; bring it back from a backup"
        )
    return [*(event for event in whole_log(store, before) if event.get("round", 0) <= origin["round"]), *own]


def influence(
    events: Sequence[Mapping[str, Any]], client: str, *, gave_first: bool = False, steered: bool = False
) -> Influence:
    """The part of a client in a run.

    Args:
        events: the run's log, as `whole_log` gives it.
        gave_first: whether the first model may be the client's own.
        steered: whether the run ended by what was measured at its clients, this one among them.
    """
    rounds = rounds_in(events)
    took = [number for number, event in rounds.items() if any(one == client for one, _ in event.get("clients", ()))]
    unlisted = [number for number, event in rounds.items() if "clients" not in event]
    parts = sorted([*took, *unlisted])
    first = parts[0] if parts else None
    if gave_first or (steered and rounds):
        first = 0
    return Influence(first, tuple(sorted(took)), tuple(sorted(unlisted)))
