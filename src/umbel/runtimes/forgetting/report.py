"""What was done to forget a client, and what could not be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from umbel.arrays import Arrays
from umbel.audit.unlearning import KIND, signed_report
from umbel.errors import StoreError
from umbel.runtimes.annex import added
from umbel.runtimes.family import root
from umbel.runtimes.forgetting.influence import Influence, influence, whole_log
from umbel.runtimes.history import History
from umbel.runtimes.keeping import FORGETTING, FORGOTTEN, NOTHING
from umbel.stores import RunInfo, Store

GUARANTEES = {
    NOTHING: "the log lists no answer of the client in any round, so no model of the run holds anything of it",
    "exact": "the new model equals, to the bit, that of a run which went on from the same checkpoint and never had the "
    "client, nor any of also_without",
    "approximate": "none that is proven: the client's last step was taken back and the others, but for also_without, "
    "trained on, which makes its influence smaller by an amount that is measured here and not bounded",
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
        "runs that begin anew or go back to another one (other_runs are those here): they train with the client unless "
        "they leave it out",
        "copies and backups of the store, and what a disk keeps of blocks that were written anew",
        "files of coalitions beside the store: what models with its data were worth, where contributions were asked "
        "for",
        "receipts that nodes keep, and proofs: they name its updates by their digests",
        "the run's log, which only grows: it names the client, and holds metrics that its data went into",
        "the client's own node: what it keeps there is its owner's to remove",
    ]


def others_with(store: Store, info: RunInfo, client: str, *, new: str | None = None) -> list[str]:
    """Other runs in the store, of the same app, name or origin, whose models hold something of a client of this id.

    Args:
        new: the run without the client, which is reported by itself.
    """

    def alike(one: RunInfo) -> bool:
        same = one.name == info.name if info.plan.get("app") is None else _app(one) == _app(info)
        return same or root(store, one) == root(store, info)

    return [
        one.id
        for one in store.runs()
        if one.id not in (info.id, new) and alike(one) and influence(_log(store, one), client).first is not None
    ]


def _log(store: Store, info: RunInfo) -> Sequence[Mapping[str, Any]]:
    """With that of the run that it went on from, where that is still there."""
    try:
        return whole_log(store, info)
    except StoreError:
        return store.events(info.id)


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


def announced(store: Store, run: str, client: str) -> set[int]:
    """The checkpoints that the log says were or were to be removed for this client, perhaps by a try that broke off."""
    kinds = (FORGETTING, FORGOTTEN)
    events = (event for event in store.log(run) if event.get("kind") in kinds and event["client"] == client)
    return {number for event in events for number in event.get("removed_checkpoints", ())}


def announce(store: Store, run: str, client: str, checkpoints: Sequence[int]) -> None:
    """Write down what is about to be removed: a process that dies afterwards leaves word of it.

    Raises:
        StoreError: somebody leads the run, or it cannot be written.
    """
    added(store, run, {"kind": FORGETTING, "client": client, "removed_checkpoints": list(checkpoints)})


def noted(store: Store, run: str, report: Mapping[str, Any]) -> dict[str, Any]:
    """Write into the old run's log that the client was forgotten, and sign the report over the log as it is then.

    The report is not signed where the log is not.

    Raises:
        StoreError: somebody leads the run, or it cannot be written.
    """
    short = ("client", "method", "guarantee", "also_without", "new_run", "model", "removed_checkpoints")
    event = {"kind": FORGOTTEN, **{name: report[name] for name in short}}
    told = added(store, run, event, lambda stand, key: signed_report(report, stand, key))
    return {"format": 1, "kind": KIND, "run": run, **report} if told is None else told
