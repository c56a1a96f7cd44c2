"""Work that is divided among forks of this process, which have everything that it has loaded, closures included."""

from __future__ import annotations

import json
import os
import signal
import sys
import warnings
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from umbel.errors import EngineError
from umbel.runtimes.pool.safety import why_not_fork
from umbel.runtimes.turn import sentence

Item = TypeVar("Item")


def fanned(work: Callable[[Item], Any], items: Sequence[Item], workers: int) -> list[Any]:
    """`[work(item) for item in items]`, by so many processes. What `work` returns is plain data.

    Where this process cannot be forked it does the work itself.

    Raises:
        EngineError: one of the processes failed or died.
    """
    workers = min(workers, len(items))
    if workers <= 1 or why_not_fork() is not None:
        return [work(item) for item in items]
    started: list[tuple[int, int]] = []
    found: list[Any] = [None] * len(items)
    try:
        for number in range(workers):
            started.append(_begun(work, items[number::workers], [end for _, end in started]))
        for number, (_, end) in enumerate(started):
            found[number::workers] = _heard(end)
        return found
    finally:
        for process, end in started:
            os.close(end)
            _ended(process)


def _begun(work: Callable[[Item], Any], items: Sequence[Item], ours: Sequence[int]) -> tuple[int, int]:
    """A child at work: its process and the end of the pipe on which it tells what it found."""
    mine, its = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        # Newer Pythons warn of any second thread; the sleeping ones of BLAS were looked at.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process:
        os.close(its)
        return process, mine
    code = 1
    try:
        for end in (mine, *ours):
            os.close(end)
        with os.fdopen(its, "w", encoding="utf-8") as out:
            try:
                json.dump({"found": [work(item) for item in items]}, out)
            except Exception as error:
                json.dump({"error": sentence(error)}, out)
        code = 0
    finally:
        # Nothing of the parent's is flushed, closed or reported by a child.
        os._exit(code)


def _heard(end: int) -> list[Any]:
    with os.fdopen(os.dup(end), encoding="utf-8") as told:
        text = told.read()
    if not text:
        raise EngineError("a worker died before it had told anything; is there enough memory? Try fewer workers")
    said = json.loads(text)
    if "error" in said:
        raise EngineError(f"a coalition could not be measured: {said['error']}")
    return said["found"]


def _ended(process: int) -> None:
    """End a child, if it has not ended by itself, and forget it."""
    done, _ = os.waitpid(process, os.WNOHANG)
    if not done:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
