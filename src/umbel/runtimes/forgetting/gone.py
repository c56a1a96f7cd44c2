"""Who was forgotten, in a run or in one that shares its beginning: nobody of them is trained again."""

from __future__ import annotations

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


def family(store: RunReader, info: RunInfo) -> list[RunInfo]:
    """The runs that go back to the same one as this, itself included, oldest first."""
    first, runs = root(store, info), store.runs()
    return [one for one in runs if root(store, one) == first]


def root(store: RunReader, info: RunInfo) -> str:
    """The run that this one goes back to, over all runs that it was made from."""
    origin = info.plan.get("origin")
    if origin is None:
        return info.id
    before = store.find(origin["run"])
    return str(origin["run"]) if before is None else root(store, before)


def in_order(clients: frozenset[str] | set[str]) -> list[str]:
    """Numbers by size, before names."""
    return sorted(clients, key=lambda one: (int(one) if one.isdecimal() else 2**63, one))
