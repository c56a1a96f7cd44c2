"""What was done to forget a client, and what could not be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from umbel.arrays import Arrays
from umbel.audit.unlearning import KIND, signed_report
from umbel.runtimes.annex import added
from umbel.runtimes.forgetting.influence import Influence
from umbel.runtimes.history import History
from umbel.runtimes.keeping import FORGOTTEN, NOTHING
from umbel.runtimes.replay import rounds_in
from umbel.stores import RunInfo, Store

GUARANTEES = {
    NOTHING: "the log lists no answer of the client in any round, so no model of the run holds anything of it",
    "exact": "the new model equals, to the bit, that of a run which went on from the same checkpoint and never had the "
    "client",
    "approximate": "none that is proven: the client's last step was taken back and the others trained on, which makes "
    "its influence smaller by an amount that is measured here and not bounded",
    "removed": "checkpoints in this store that hold anything of the client are gone, and nothing was trained in "
    "their place",
}


def out_of_reach(influence: Influence) -> list[str]:
    """Where something of the client may be that no command here gets at."""
    if influence.first is None:
        return []
    return [
        f"the models of rounds {influence.first} and later that were sent to other clients and nodes",
        "models that were exported, fetched from a server or handed out by fl.simulate, and runs that began from them",
        "copies and backups of the store, and what a disk keeps of blocks that were written anew",
        "receipts that nodes keep, and proofs: they name its updates by their digests",
        "the run's log, which only grows: it names the client, and holds metrics that its data went into",
        "the client's own node: what it keeps there is its owner's to remove",
    ]


def others_with(store: Store, info: RunInfo, client: str) -> list[str]:
    """Other runs in the store, of the same app or name, in which a client of this id took part."""
    found: list[str] = []
    for one in store.runs():
        alike = one.name == info.name if info.plan.get("app") is None else _app(one) == _app(info)
        if one.id != info.id and alike:
            rounds = rounds_in(store.log(one.id)).values()
            found += [one.id] if any(name == client for event in rounds for name, _ in event.get("clients", ())) else []
    return found


def _app(info: RunInfo) -> str | None:
    entry: Mapping[str, Any] = info.plan.get("app") or {}
    return entry.get("name")


def promised(info: RunInfo, log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a private run bounds anyhow: how much any one unit's data may show in all its releases together."""
    releases = History.of(log, Arrays.of({}), info.id, info.plan).privacy
    if not releases:
        return {}
    plan: Mapping[str, Any] = info.plan["strategy"].get("plan") or {}
    return {"privacy": {"epsilon": releases[-1].epsilon, "delta": releases[-1].delta, "unit": plan.get("unit")}}


def noted(store: Store, run: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """Write into the old run's log that the client was forgotten, and sign the report over the log as it is then.

    The report is not signed where the log is not.

    Raises:
        StoreError: somebody leads the run, or it cannot be written.
    """
    short = ("client", "method", "guarantee", "new_run", "model", "removed_checkpoints")
    event = {"kind": FORGOTTEN, **{name: report[name] for name in short}}
    told = added(store, run, event, lambda stand, key: signed_report(report, stand, key))
    return {"format": 1, "kind": KIND, "run": run, **report} if told is None else told
