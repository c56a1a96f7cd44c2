"""How much memory a round may take at a server, and what is done where that is too little: spool, or refuse."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from umbel.errors import ConfigError, NotSupported
from umbel.reducers import Reducer
from umbel.runtimes.server.spool import Spooled
from umbel.schema import Schema
from umbel.strategy import Strategy

UPLOADS_AT_ONCE = 2
SHARE = 0.8
WORTH_SAYING_BYTES = 2**30


@final
@dataclass(frozen=True)
class Memory:
    """What the operator allows.

    Attributes:
        limit_bytes: for a round's sums and the uploads that are held; a round that needs more is spooled, or refused.
            None is most of what the machine has.
        spool: keep updates on disk, encrypted, whatever they need.
        folder: on which disk; None is the system's place for temporary files.
        uploads: how many uploads are held at a time.
    """

    limit_bytes: int | None = None
    spool: bool = False
    folder: Path | None = None
    uploads: int = UPLOADS_AT_ONCE

    @property
    def place(self) -> Path:
        return self.folder or Path(tempfile.gettempdir())

    def needed_bytes(self, reducer: Reducer, schema: Mapping[str, Schema], updates: int) -> int:
        """What a round takes without a spool."""
        held = min(self.uploads, updates) * sum(expected.nbytes for expected in schema.values())
        return held + reducer.memory_bytes(schema, updates)

    def accumulator(self, strategy: Strategy, schema: Mapping[str, Schema], updates: int) -> Spooled | None:
        """Where a round's updates are spooled; None if they are folded in memory.

        Raises:
            NotSupported: there is too little memory, or a spool is wanted, and they cannot be spooled; says why.
        """
        needed, limit = self.needed_bytes(strategy.reducer, schema, updates), self.limit_bytes or machine_bytes()
        if not self.spool and needed <= limit:
            return None
        try:
            return _spooled(strategy, schema)
        except NotSupported as error:
            if self.spool:
                raise
            raise NotSupported(
                f"a round of {updates} updates needs {_gb(needed)} of memory with {type(strategy.reducer).__name__}, "
                f"the limit is {_gb(limit)}, and it cannot be spooled: {error}; lower the cohort, or raise memory_gb"
            ) from None

    def sentence(self, reducer: Reducer, schema: Mapping[str, Schema], updates: int) -> str | None:
        """What is said before a round that needs much."""
        needed = self.needed_bytes(reducer, schema, updates)
        if needed < WORTH_SAYING_BYTES:
            return None
        return f"a round of {updates} updates needs up to {_gb(needed)} of memory with {type(reducer).__name__}"


def memory_for(memory_gb: float | None, *, spool: bool) -> Memory:
    """What two arguments or options mean.

    Raises:
        ConfigError: the limit is no amount of memory.
    """
    if memory_gb is not None and not 0 < memory_gb < 2**40:
        raise ConfigError(f"memory_gb must be above 0, got {memory_gb:g}; leave it out to take most of the machine's")
    return Memory(limit_bytes=None if memory_gb is None else int(memory_gb * 1e9), spool=spool)


def _spooled(strategy: Strategy, schema: Mapping[str, Schema]) -> Spooled:
    name = type(strategy).__name__
    if not strategy.reducer.elementwise:
        raise NotSupported(f"{type(strategy.reducer).__name__} looks at whole updates; run without a spool")
    if type(strategy).open is not Strategy.open:
        raise NotSupported(f"{name} opens each update as a whole; run without a spool")
    return Spooled(strategy.reducer, schema)


def machine_bytes() -> int:
    """Most of the memory of this machine; practically no limit where the system does not say."""
    try:
        return int(SHARE * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return 2**62


def _gb(nbytes: int) -> str:
    return f"{nbytes / 1e9:.3g} GB"
