"""Which runs of a store were made from one another."""

from __future__ import annotations

from umbel.stores import RunInfo, RunReader


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
