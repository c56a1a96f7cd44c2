"""Who took part: all that can be said of a run whose single updates nobody may see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from umbel.errors import NotSupported
from umbel.runtimes.replay import rounds_in
from umbel.runtimes.worth.result import ClientValue, Contributions


def participation(log: Sequence[Mapping[str, Any]]) -> Contributions:
    """In how many rounds each client took part, by a run's log. It says nothing of how good its updates were.

    Raises:
        NotSupported: a round was too large to be listed.
    """
    counts, rounds = dict[str, int](), rounds_in(log)
    for number, event in rounds.items():
        if "clients" not in event:
            raise NotSupported(f"the log does not list who took part in round {number}, which was too large for that")
        for client, _ in event["clients"]:
            counts[client] = counts.get(client, 0) + 1
    found = [
        ClientValue(client=name, value=count, low=count, high=count)
        for name, count in sorted(counts.items(), key=_order)
    ]
    return Contributions(
        method="participation",
        of="",
        metric="rounds",
        less_is_better=False,
        empty=0.0,
        whole=float(len(rounds)),
        clients=tuple(found),
    )


def _order(item: tuple[str, int]) -> tuple[int, str]:
    """Numbers by size, before names."""
    return (int(item[0]) if item[0].isdecimal() else 2**63, item[0])
