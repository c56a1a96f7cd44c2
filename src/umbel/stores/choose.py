"""The store that an address names: a SQLite file, or "postgresql://…"."""

from __future__ import annotations

from pathlib import Path

from umbel.errors import ConfigError
from umbel.stores.abstract import Store
from umbel.stores.sqlite import SQLiteStore

SCHEMES = ("postgresql://", "postgres://")


def store_for(address: str | Path, *, patience_s: float | None = None) -> Store:
    """The store at `address`.

    Args:
        patience_s: how long to try when a database does not answer; None leaves it to the store.

    Raises:
        ConfigError: its library is not installed, or the address holds a password.
        StoreError: it cannot be used.
    """
    if not str(address).startswith(SCHEMES):
        return SQLiteStore(address)
    try:
        from umbel.stores.postgres import PATIENCE_S, PostgresStore
    except ImportError as error:
        raise ConfigError(f"postgresql:// needs {error.name}; install it with: pip install 'umbel[postgres]'") from None
    return PostgresStore(str(address), patience_s=PATIENCE_S if patience_s is None else patience_s)
