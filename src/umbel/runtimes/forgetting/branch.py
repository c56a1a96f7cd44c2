"""A new run that begins where another was, without one of its clients."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from umbel.runtimes.forgetting.gone import in_order
from umbel.runtimes.forgetting.influence import FROM_NOTHING
from umbel.runtimes.keeping import LONGEST_NAME
from umbel.stores import RunInfo, Store
from umbel.stores.abstract import Part


def branched(
    store: Store,
    info: RunInfo,
    client: str,
    base: int,
    players: Sequence[str],
    checkpoint: Sequence[Part] | None = None,
    *,
    gone: Collection[str] = (),
) -> str:
    """The id of a run that goes on from the checkpoint of round `base` of `info`, without `client`.

    One that was begun in the same way and not finished is taken up again.

    Args:
        base: `FROM_NOTHING` begins anew.
        players: whose states the new run takes along.
        checkpoint: another one to begin with.
        gone: who is left out beside the client.
    """
    without = in_order({*info.plan.get("without", ()), *gone, client})
    origin = {"run": info.id, "round": base, "as_it_was": checkpoint is None}
    plan = {**info.plan, "without": without, "origin": origin}
    before = found(store, plan)
    if before is not None:
        return before.id
    run = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    name = f"{info.name} without {client}"[:LONGEST_NAME]
    store.create(RunInfo(run, name, time.time(), "interrupted", plan))
    event: dict[str, Any] = {"format": 1, "kind": "origin", "round": max(base, 0), "without": without, "from": origin}
    if base == FROM_NOTHING:
        store.append(run, event)
        return run
    states = store.states(info.id, [one for one in players if one not in without], base)
    parts = [store.checkpoint(info.id, base)] if checkpoint is None else checkpoint
    store.commit(run, {**event, "checkpoint": True}, round=base, checkpoint=parts, states=states, keep=())
    return run


def found(store: Store, plan: Mapping[str, Any]) -> RunInfo | None:
    """The newest run in the store of this origin, without the same clients."""
    alike = [one for one in store.runs() if all(one.plan.get(key) == plan[key] for key in ("without", "origin"))]
    return alike[-1] if alike else None
