"""Who runs a run: a lock that ends with its process, however that ends."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import final

from umbel.errors import StoreError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no such locks and goes without
    fcntl = None


@final
class RunLock:
    """Locks runs of one store: each run is one byte of the file `….lock` beside it. Workers do not inherit it."""

    def __init__(self, path: Path) -> None:
        self._file: int | None = None
        try:
            self._file = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o644)
        except OSError:
            # A folder that may only be read: nobody can run anything there either.
            self._file = None

    def hold(self, run: str) -> None:
        """Claim `run` until this lock is closed.

        Raises:
            StoreError: another process runs it.
        """
        if not self._claim(run):
            raise StoreError(f"run {run} is being run by another process; wait for it, or stop that one first")

    def is_held(self, run: str) -> bool:
        """Whether another process runs `run` now."""
        if not self._claim(run):
            return True
        if fcntl is not None and self._file is not None:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _place(run))
        return False

    def _claim(self, run: str) -> bool:
        if fcntl is None or self._file is None:
            return True
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(run))
        except (BlockingIOError, PermissionError):
            return False
        except OSError:
            # A file system without locks.
            return True
        return True

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _place(run: str) -> int:
    return int.from_bytes(hashlib.sha256(run.encode()).digest()[:5], "little")


@contextmanager
def locking(path: Path) -> Generator[RunLock]:
    """A `RunLock` for the store in the file `path`."""
    lock = RunLock(path)
    try:
        yield lock
    finally:
        lock.close()
