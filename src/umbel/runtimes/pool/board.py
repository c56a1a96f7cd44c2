"""The board: one word of shared memory per unit, written by the worker that has it, read by the parent.

Workers take units from a pipe of tokens: a read of a pipe needs no lock that a dead worker could hold. What a worker
took but did not finish stands on the board, and what nobody marked was lost with a token; the parent asks both again.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator
from typing import final

import numpy as np
from numpy.typing import NDArray

from umbel.runtimes.shared import PAGE, view

TOKEN = struct.Struct("<QII")
STOP = 0xFFFFFFFF
MOST_TOKENS = 3000
STARTED, DONE = 1, 2


@final
class Board:
    """State and start time of each unit of a job."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._capacity = 0
        self._words: NDArray[np.int64] = np.zeros(0, np.int64)

    def open(self, units: int, *, clear: bool = False) -> None:
        """Make room for `units` units; the parent clears, workers only look."""
        if units > self._capacity:
            self._capacity = -(-16 * units // PAGE) * PAGE // 16
            if clear:
                os.ftruncate(self.fd, 16 * self._capacity)
            self._words = view(self.fd, 16 * self._capacity, write=True).view(np.int64)
        if clear:
            self._words[: 2 * units] = 0

    def start(self, units: range, worker: int) -> None:
        """These units, which follow each other, are being played from now on."""
        self._words[2 * units.start + 1 : 2 * units.stop : 2] = time.monotonic_ns()
        self._words[2 * units.start : 2 * units.stop : 2] = 4 * worker + STARTED

    def finish(self, units: range, worker: int) -> None:
        self._words[2 * units.start : 2 * units.stop : 2] = 4 * worker + DONE

    def done(self, units: int) -> int:
        """How many units are finished."""
        return int((self._words[: 2 * units : 2] % 4 == DONE).sum())

    def of(self, worker: int, units: int, state: int) -> list[int]:
        """The units that `worker` has in this state."""
        return np.flatnonzero(self._words[: 2 * units : 2] == 4 * worker + state).tolist()

    def running(self, units: int) -> Iterator[tuple[int, int, float]]:
        """(unit, worker, seconds since it began) of the units being played."""
        now = time.monotonic_ns()
        for unit in np.flatnonzero(self._words[: 2 * units : 2] % 4 == STARTED):
            yield int(unit), int(self._words[2 * unit]) // 4, (now - int(self._words[2 * unit + 1])) / 1e9


def put_tokens(fd: int, job: int, units: int, workers: int) -> None:
    """Lay out all units of a job, then one stop for each worker. All fits a pipe, so this cannot block."""
    size = -(-units // MOST_TOKENS)
    tokens = [TOKEN.pack(job, start, min(start + size, units)) for start in range(0, units, size)]
    os.write(fd, b"".join([*tokens, *[TOKEN.pack(job, STOP, STOP)] * workers]))


def take(fd: int, job: int) -> Iterator[int]:
    """The units of `job` that this worker gets; tokens of older jobs are thrown away."""
    while True:
        number, start, stop = TOKEN.unpack(os.read(fd, TOKEN.size))
        if number != job:
            continue
        if start == STOP:
            return
        yield from range(start, stop)
