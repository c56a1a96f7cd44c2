"""What runs have used, by day: read from their logs, which say when each round ended."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, final

from umbel.identity.federation import DEFAULT, Federation
from umbel.stores import RunInfo, Store

Event: TypeAlias = Mapping[str, Any]
COLUMNS = ("federation", "run", "day", "rounds", "bytes_sent", "bytes_received", "node_seconds")


@final
@dataclass(frozen=True)
class Used:
    """A sum over rounds. Nodes say themselves how many seconds they worked."""

    rounds: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0
    node_seconds: float = 0.0

    def __add__(self, other: Used) -> Used:
        return Used(
            self.rounds + other.rounds,
            self.bytes_sent + other.bytes_sent,
            self.bytes_received + other.bytes_received,
            self.node_seconds + other.node_seconds,
        )


def federation_of(info: RunInfo) -> str:
    """The name of a run's federation."""
    return str(info.plan.get("federation", DEFAULT))


def day_of(at_s: float) -> str:
    """The day, in UTC, of a Unix time."""
    return time.strftime("%Y-%m-%d", time.gmtime(at_s))


def by_day(events: Iterable[Event]) -> dict[str, Used]:
    """What a run has used on each day. Rounds whose log does not say when they ended are not counted."""
    found: dict[str, Used] = {}
    for event in events:
        if (used := _of(event)) is not None:
            day = day_of(event["at_s"])
            found[day] = found.get(day, Used()) + used
    return found


def _of(event: Event) -> Used | None:
    if event.get("kind") != "round" or "at_s" not in event or not event.get("round"):
        return None
    sent, received = event.get("bytes_sent", 0), event.get("bytes_received", 0)
    return Used(1, int(sent), int(received), float(event.get("node_seconds", 0.0)))


def table(store: Store, federation: str | None = None) -> list[dict[str, Any]]:
    """A row for each run and day, oldest run first, with the keys of `COLUMNS`; None is all federations."""
    rows: list[dict[str, Any]] = []
    for info in store.runs():
        if federation is None or federation_of(info) == federation:
            for day, used in sorted(by_day(store.events(info.id)).items()):
                values = (used.rounds, used.bytes_sent, used.bytes_received, round(used.node_seconds, 3))
                rows.append(dict(zip(COLUMNS, (federation_of(info), info.id, day, *values), strict=True)))
    return rows


@final
class Today:
    """What federations have used since midnight, UTC. It may be asked and told from several threads."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self._store, self._clock = store, clock
        self._lock = threading.Lock()
        self._day = ""
        self._used: dict[str, Used] = {}

    def tell(self, federation: str, event: Event) -> None:
        """A round may have ended."""
        used = _of(event)
        if used is not None:
            with self._lock:
                if federation in self._used and day_of(event["at_s"]) == self._day:
                    self._used[federation] += used

    def used(self, federation: str) -> Used:
        """The sum of today; the logs are read when it is first asked for."""
        with self._lock:
            if self._day != (day := day_of(self._clock())):
                # Of a new day nothing is known yet, unless it began before this server did.
                self._day, self._used = day, {}
            if federation not in self._used:
                self._used[federation] = self._read(federation)
            return self._used[federation]

    def _read(self, federation: str) -> Used:
        # A connection of its own, as others use theirs at the same time.
        store, total = self._store.beside(), Used()
        try:
            for info in store.runs():
                if federation_of(info) == federation:
                    total += by_day(store.events(info.id)).get(self._day, Used())
        finally:
            if store is not self._store:
                store.close()
        return total


def why_over(federation: Federation, today: Today) -> str | None:
    """A sentence, if a federation has used up what it may in a day."""
    limits = (federation.rounds_per_day, federation.bytes_per_day, federation.node_seconds_per_day)
    if limits == (None, None, None):
        return None
    used = today.used(federation.name)
    spent = (used.rounds, used.bytes_sent + used.bytes_received, used.node_seconds)
    for what, limit, value in zip(("rounds", "bytes", "node-seconds"), limits, spent, strict=True):
        if limit is not None and value >= limit:
            return (
                f"the federation has used {value:.10g} of its {limit:.10g} {what} of today; it goes on at midnight "
                "UTC, or when the operator gives it more"
            )
    return None
