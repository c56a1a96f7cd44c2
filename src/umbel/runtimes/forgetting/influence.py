"""`Influence`: which models of a run a client had a part in, by the run's log."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, final

from umbel.errors import ConfigError, StoreError
from umbel.runtimes.halves import is_promised
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
        return newest_free([self], checkpoints)


def free_until(parts: Iterable[Influence]) -> float:
    """The last round whose model holds nothing of any of these clients; infinite if none had a part."""
    return min((part.before for part in parts if part.first is not None), default=math.inf)


def newest_free(parts: Iterable[Influence], checkpoints: Iterable[int]) -> int:
    """The newest of these checkpoints that holds nothing of any of them; `FROM_NOTHING` if there is none."""
    until = free_until(parts)
    return max((number for number in checkpoints if number <= until), default=FROM_NOTHING)


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


def gave_first(events: Sequence[Mapping[str, Any]], plan: Mapping[str, Any], client: str) -> bool | None:
    """Whether the first model was the client's own; None where log and plan do not say."""
    if is_promised(plan.get("strategy", {})):
        # A private run is refused without a first model.
        return False
    begun = began(events)
    return None if begun is None else begun["giver"] == client


def began(events: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The event that says what the first model was and whose; None in the log of an older version."""
    return next((event for event in events if "giver" in event), None)


def check_known(info: RunInfo, events: Sequence[Mapping[str, Any]], client: str) -> None:
    """Refuse names that are nobody's.

    Args:
        events: the run's log, as `whole_log` gives it.

    Raises:
        ConfigError: there is no such client; says who there is.
    """
    if "engine" in info.plan:
        count = info.plan["num_clients"]
        if client not in map(str, range(count)):
            raise ConfigError(f"there is no client {client!r}; the ids are '0' to '{count - 1}'")
        return
    took, named = _named(events)
    # A round that was too large to be listed may have had anybody.
    if client in named or any("clients" not in event for event in rounds_in(events).values()):
        return
    names = sorted(took)
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    raise ConfigError(
        f"there is no client {client!r} in run {info.id}; those that took part are "
        f"{', '.join(names[:SHOWN]) or 'none'}{rest}"
    )


SHOWN = 5
"""So many names are enough to see what they look like."""


def _named(events: Sequence[Mapping[str, Any]]) -> tuple[set[str], set[str]]:
    """Who took part, and all whom the log names."""
    took, named = set[str](), set[str]()
    for event in events:
        if event.get("giver") is not None:
            named.add(event["giver"])
        if event.get("kind") != "round":
            continue
        took |= {client for client, _ in event.get("clients", ())}
        named |= {client for client, _ in event.get("failures", ())}
        for listed in ("contributions", "per_client"):
            named |= {one["client"] for one in event.get(listed, ())}
    return took, named | took


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
