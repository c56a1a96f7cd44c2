"""Who leads a run: a claim that ends with its process, however that ends."""

from __future__ import annotations

import hashlib
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import final

from umbel.errors import StoreError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows has no such locks and goes without
    fcntl = None


@final
@dataclass
class _File:
    """The file of locks beside a store: each run is one byte of it."""

    descriptor: int
    runs: set[str] = field(default_factory=set[str])


# To close any descriptor of a file ends all locks that a process has on it, so a process keeps one for each file.
_files: dict[Path, _File] = {}
_gate = threading.Lock()


def claim(store: Path, run: str) -> None:
    """Claim `run` of the store in the file `store`, for this process. Workers that it forks do not inherit the claim.

    Raises:
        StoreError: somebody leads it.
    """
    with _gate:
        file = _file(store)
        if file is None:
            return
        free = run not in file.runs and _locked(file.descriptor, run)
        if free:
            file.runs.add(run)
        _close_if_unused(store)
    if not free:
        raise StoreError(f"run {run} is being run by another process; wait for it, or stop that one first")


def release(store: Path, run: str) -> None:
    """Give a claim back, if it is held here."""
    with _gate:
        file = _files.get(store)
        if file is not None and run in file.runs:
            file.runs.remove(run)
            _unlock(file.descriptor, run)
            _close_if_unused(store)


def is_claimed(store: Path, run: str) -> bool:
    """Whether somebody leads `run` now."""
    with _gate:
        file = _file(store)
        if file is None:
            return False
        if run in file.runs:
            return True
        free = _locked(file.descriptor, run)
        if free:
            _unlock(file.descriptor, run)
        _close_if_unused(store)
        return not free


def _file(store: Path) -> _File | None:
    if fcntl is None:
        return None
    if store not in _files:
        try:
            descriptor = os.open(store.with_name(store.name + ".lock"), os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            # A folder that may only be read: nobody can run anything there either.
            return None
        _files[store] = _File(descriptor)
    return _files[store]


def _close_if_unused(store: Path) -> None:
    if not _files[store].runs:
        os.close(_files.pop(store).descriptor)


def _locked(descriptor: int, run: str) -> bool:
    assert fcntl is not None
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _place(run))
    except (BlockingIOError, PermissionError):
        return False
    except OSError:
        # A file system without locks.
        return True
    return True


def _unlock(descriptor: int, run: str) -> None:
    assert fcntl is not None
    fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, _place(run))


def _place(run: str) -> int:
    return int.from_bytes(hashlib.sha256(run.encode()).digest()[:5], "little")
