"""What every store keeps: runs, their events, their checkpoints, their clients' states. Bytes and plain data only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, final

Event: TypeAlias = dict[str, Any]
REWOUND = "rewound"
"""The kind of the event which says that nothing holds from the first event of a round after its own on."""
Kind = TypeVar("Kind", bound=Mapping[str, Any])
Part: TypeAlias = "bytes | bytearray | memoryview"


@final
@dataclass(frozen=True)
class RunInfo:
    """One line of a list of runs. `created_s` is Unix time; `status` is running, finished, failed or interrupted."""

    id: str
    name: str
    created_s: float
    status: str
    plan: Mapping[str, Any]


def standing(log: Sequence[Kind]) -> list[Kind]:
    """What of a log still holds.

    Example:
        >>> standing([{"kind": "round", "round": 1}, {"kind": "rewound", "round": 0}, {"kind": "round", "round": 1}])
        [{'kind': 'round', 'round': 1}]
    """
    kept: list[Kind] = []
    for event in log:
        if event.get("kind") == REWOUND:
            first = next((place for place, old in enumerate(kept) if old.get("round", 0) > event["round"]), len(kept))
            del kept[first:]
        else:
            kept.append(event)
    return kept


class RunReader(ABC):
    """Runs that can be looked at.

    Every method raises `StoreError` if they cannot be read.
    """

    @abstractmethod
    def runs(self) -> list[RunInfo]:
        """All runs, oldest first."""

    @abstractmethod
    def log(self, run: str) -> list[Event]:
        """All that was ever noted of the run, oldest first: nothing is removed from it."""

    def events(self, run: str) -> list[Event]:
        """What of the log still holds: without the rounds that were left unfinished and done again."""
        return standing(self.log(run))

    @abstractmethod
    def checkpoints(self, run: str) -> list[int]:
        """The rounds of the checkpoints that there are, ascending."""

    @abstractmethod
    def checkpoint(self, run: str, round: int) -> bytes:
        """The bytes of a checkpoint, as they were written or (if the medium failed) not."""

    def is_claimed(self, run: str) -> bool:
        """Whether somebody leads it."""
        return False

    def find(self, prefix: str) -> RunInfo | None:
        """The only run whose id starts with `prefix`, if there is exactly one."""
        found = [run for run in self.runs() if run.id.startswith(prefix)]
        exact = [run for run in found if run.id == prefix]
        return (exact or found)[0] if len(exact or found) == 1 else None

    def __iter__(self) -> Iterator[RunInfo]:
        return iter(self.runs())


class Store(RunReader):
    """Keeps runs. `commit` is atomic: all of it is there afterwards, or nothing.

    Every method raises `StoreError` if the store cannot be read or written, `StoreFull` if there is no room.
    """

    folder: Path | None = None
    """A folder on the disk that it writes to, for large arrays that need not last; None has no disk."""

    @abstractmethod
    def create(self, run: RunInfo) -> None:
        """Begin a run.

        Raises:
            StoreError: there is one of this id.
        """

    @abstractmethod
    def set_status(self, run: str, status: str) -> None:
        """Note how a run stands."""

    @abstractmethod
    def set_plan(self, run: str, plan: Mapping[str, Any], event: Event | None = None) -> None:
        """Replace a run's plan, when it goes on with more rounds.

        Args:
            event: says so in the log, as `append` does, in one piece with it; None says nothing.
        """

    def claim(self, run: str) -> None:
        """Say that this process leads `run` until `release`, `close` or its end.

        Raises:
            StoreError: somebody else does.
        """

    def release(self, run: str) -> None:
        """Lead it no more."""

    def beside(self) -> Store:
        """Another one on the same runs, with a connection of its own: transactions of two runs must not mix."""
        return self

    def lead(self) -> bool:
        """Become the one server on this store, if there is none, until `close` or the end of this process.

        Returns:
            whether this store is its server's now. To ask again is cheap, and how a standby waits.
        """
        return True

    @abstractmethod
    def append(self, run: str, event: Event) -> None:
        """Add one event to the run's log, linked to the one before it (see `umbel.stores.link`)."""

    @abstractmethod
    def commit(
        self,
        run: str,
        event: Event,
        *,
        round: int,
        checkpoint: Sequence[Part] | None,
        states: Mapping[str, bytes],
        keep: Collection[int],
    ) -> None:
        """Add an event as `append` does, a round's checkpoint and the client states it includes, in one piece.

        Args:
            checkpoint: the checkpoint's bytes in parts; None writes none.
            states: client → state after this round.
            keep: rounds whose checkpoints stay; others (but this one) are removed, with states no kept one needs: of
                a client's states between two checkpoints, and of those after the newest one, only the last is kept.
        """

    @abstractmethod
    def state(self, run: str, client: str, round: int) -> bytes | None:
        """A client's state as of the end of `round`."""

    def states(self, run: str, clients: Sequence[str], round: int) -> dict[str, bytes]:
        """The states of those of `clients` that have one."""
        found = ((client, self.state(run, client, round)) for client in clients)
        return {client: state for client, state in found if state is not None}

    def rewind(self, run: str, round: int) -> None:
        """Go back to the end of `round`, before later ones are done again.

        The log says so where it has such rounds: what it says of them does not hold any more. It is noted first, so
        that no checkpoint is gone of which the log says that it holds.
        """
        if any(event.get("round", 0) > round for event in self.events(run)):
            self.append(run, {"kind": REWOUND, "round": round})
        self.forget(run, round)

    @abstractmethod
    def forget(self, run: str, round: int) -> None:
        """Remove checkpoints and states of rounds after `round`."""

    def scrub(self) -> None:
        """Leave nothing on the medium of what was removed, as far as the store can say."""

    def close(self) -> None:
        """Let go of files; the store is not used afterwards."""
