"""Append events, keep checkpoints and client states."""

from umbel.stores.abstract import RunInfo, RunReader, Store
from umbel.stores.choose import store_for
from umbel.stores.memory import MemoryStore
from umbel.stores.sqlite import SQLiteStore

__all__ = ["MemoryStore", "RunInfo", "RunReader", "SQLiteStore", "Store", "store_for"]
