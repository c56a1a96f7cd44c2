"""Events that are added to the log of a run which is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from umbel.audit.key import LogKey, key_beside
from umbel.audit.notary import Notary
from umbel.stores import Store


def added(store: Store, run: str, event: Mapping[str, Any], key: LogKey | None = None) -> None:
    """Add an event, and a tree head that signs the log with it.

    Args:
        key: what signs; None is the key kept beside the store, if it is on a disk.

    Raises:
        StoreError: somebody leads the run, or it cannot be written.
    """
    store.claim(run)
    try:
        log = store.log(run)
        last = max((int(one.get("round", 0)) for one in log), default=0)
        written = {"format": 1, "round": last, **event}
        store.append(run, written)
        if key is None and store.folder is not None:
            key = key_beside(store.folder)
        head = None if key is None else Notary(run, key, store.log(run)).tree_head(last)
        if head is not None:
            store.append(run, {"format": 1, **head})
    finally:
        store.release(run)
