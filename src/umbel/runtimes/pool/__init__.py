"""The engine for one machine: resident workers, shared memory, sums folded where updates arise."""

from umbel.runtimes.pool.engine import PoolEngine

__all__ = ["PoolEngine"]
