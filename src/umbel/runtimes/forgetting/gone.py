"""Who was forgotten, in a run or in one that shares its beginning: nobody of them is trained again."""

from __future__ import annotations

from umbel.runtimes.family import family
from umbel.runtimes.keeping import FORGETTING, FORGOTTEN
from umbel.stores import RunInfo, RunReader


def left_out(store: RunReader, info: RunInfo) -> frozenset[str]:
    """Who was forgotten in a run or in one of its family, also where that broke off, or was left out of one.

    Who asks to be forgotten asks that of the model, under whichever id its run goes on.
    """
    found = set[str]()
    for one in family(store, info):
        found |= set(one.plan.get("without", ()))
        found |= {event["client"] for event in store.log(one.id) if event.get("kind") in (FORGETTING, FORGOTTEN)}
    return frozenset(found)


def in_order(clients: frozenset[str] | set[str]) -> list[str]:
    """Numbers by size, before names."""
    return sorted(clients, key=lambda one: (int(one) if one.isdecimal() else 2**63, one))
