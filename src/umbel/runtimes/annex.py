"""Events that are added to the log of a run which is over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from umbel.audit.key import LogKey, key_beside
from umbel.audit.notary import Notary
from umbel.errors import ConfigError
from umbel.stores import Store

SERVER_KEY = Path("identity", "log.pem")
Statement = Callable[[Mapping[str, Any], LogKey], dict[str, Any]]


def added(
    store: Store, run: str, event: Mapping[str, Any], state: Statement = lambda stand, key: {}
) -> dict[str, Any] | None:
    """Add an event, and a tree head that signs the log with it.

    Args:
        state: makes a statement over the log as it is with the event: `(stand, key) → statement`.

    Returns:
        The statement; None where the log is not signed.

    Raises:
        StoreError: somebody leads the run, or it cannot be written.
    """
    key = key_of(store)
    store.claim(run)
    try:
        last = max((int(one.get("round", 0)) for one in store.log(run)), default=0)
        store.append(run, {"format": 1, "round": last, **event})
        if key is None:
            return None
        notary = Notary(run, key, store.log(run))
        said, head = state(notary.stand(), key), notary.tree_head(last)
        if head is not None:
            store.append(run, {"format": 1, **head})
        return said
    finally:
        store.release(run)


def key_of(store: Store) -> LogKey | None:
    """What signs logs of this store: its server's key where it is a server's, else the one beside it.

    Raises:
        ConfigError: the file is no key.
    """
    if store.folder is None:
        return None
    path = store.folder / SERVER_KEY
    if not path.exists():
        return key_beside(store.folder)
    try:
        return LogKey.read(path.read_bytes(), str(path))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}; run this as who runs the server") from error
