"""`ProcessWorker`: the client of each run in a process of its own, kept warm, within what its owner's policy allows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final
from weakref import WeakValueDictionary

from umbel.arrays import Arrays
from umbel.errors import AppError, NotSupported
from umbel.runtimes.mail import Letter
from umbel.runtimes.node.pipe import Rooms
from umbel.runtimes.node.rules import Limits
from umbel.runtimes.node.usage import CAN_MEASURE, cpu_seconds
from umbel.runtimes.node.ward import Ward
from umbel.runtimes.node.worker import Finished, NotBegun, without

LOOK_EVERY_S = 0.25
KEPT_BUDGETS = 4
GRACE_S = 10.0
ENFORCES = ("limits.cpu_seconds_per_round", "limits.memory_gb", "limits.threads") if CAN_MEASURE else ()
"""The keys of a policy that this worker keeps on this system."""


@final
class ProcessWorker:
    """Works in processes of its own: a client that crashes, leaks or hangs takes neither the node nor its link along.

    Each run has one process, which stays. Arrays are handed over as shared memory.

    Args:
        app: the folder of the app whose clients work.
        name: the client's id.
        partition: which part of the data; None lets the name say.
        threads: how many threads NumPy and torch may use; None leaves them as they are.
        limits: what the owner allows; `ENFORCES` names what is kept on this system.
        grace_s: how long a client may go on after it was told to end, or after its round's deadline; then its
            process and all that this has started are ended, and the turn fails.
    """

    def __init__(
        self,
        app: Path,
        name: str,
        *,
        partition: int | None = None,
        threads: int | None = None,
        limits: Limits | None = None,
        grace_s: float = GRACE_S,
    ) -> None:
        self._limits = limits or Limits()
        most = self._limits.threads
        self._born = {
            "app": str(app.resolve()),
            "name": name,
            "partition": partition,
            "threads": threads if most is None else min(threads or most, most),
            "processors": most,
            "memory_gb": self._limits.memory_gb,
        }
        self._rooms = Rooms()
        self._grace_s = grace_s
        self._runs: dict[str, _Run] = {}
        self._beginning: dict[str, Ward] = {}
        self._spare: Ward | None = None
        self._wards: set[Ward] = set()
        self._starts: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def warm(self) -> None:
        """Load the app in the process that the first run will have.

        Raises:
            AppError: it cannot be loaded.
        """
        self._spare = self._ward()
        await self._bear(self._spare)

    def _ward(self) -> Ward:
        ward = Ward(self._grace_s)
        self._wards = {ward, *(other for other in self._wards if other.alive)}
        return ward

    async def _bear(self, ward: Ward) -> None:
        try:
            told = await ward.call(ward.bear, self._born)
        except EOFError:
            ward.end()
            raise AppError(f"the process that loads the app {self._born['app']} {ward.epitaph()}") from None
        if "failed" in told:
            ward.end()
            raise AppError(str(told["failed"]))

    def room(self, nbytes: int) -> memoryview:
        return self._rooms.make(nbytes)

    async def start(self, run: str, plan: Mapping[str, Any]) -> dict[str, Any]:
        # After a reconnection a plan comes again, perhaps before the first one's client is built. Other runs do not
        # wait for it: a client may be built for ever.
        lock = self._starts.setdefault(run, asyncio.Lock())
        async with lock:
            known = self._runs.get(run)
            if known is not None and known.ward.alive:
                if known.plan == plan:
                    return known.facts
                self.stop(run)
            spare, self._spare = self._spare, None
            is_warm = spare is not None and spare.alive
            ward = self._beginning[run] = spare if spare is not None and is_warm else self._ward()
            try:
                if not is_warm:
                    await self._bear(ward)
                facts = await _begun(ward, plan)
            finally:
                self._beginning.pop(run, None)
            self._runs[run] = _Run(plan, ward, facts)
            return facts

    async def play(self, run: str, letter: Letter, blobs: Mapping[str, Arrays], memory: bytes | None) -> Finished:
        entry = self._runs.get(run)
        if entry is None:
            raise NotSupported(f"run {run} was not begun here")
        is_dead = not entry.ward.alive
        if is_dead:
            # It ended in an earlier turn. What must last is on the node's disk.
            entry.ward.end()
            entry.ward = self._ward()
        ward = entry.ward
        with ward.due(time.monotonic() + letter.left_s):
            try:
                if is_dead:
                    await self._bear(ward)
                    await _begun(ward, entry.plan)
                return await self._watched(
                    ward.call(ward.play, letter, blobs, memory, self._rooms), entry, letter.round
                )
            except (EOFError, NotBegun, AppError) as error:
                reason = str(error) or f"the client's process {ward.epitaph()}; the node's output may say more"
                if self._runs.get(run) is not entry:
                    reason = (
                        f"{letter.kind} was called off, or its run was over, before it had ended; its process was ended"
                    )
                elif ward.was_overdue:
                    reason = f"{letter.kind} did not end when it was told to; its process was ended"
                return without(letter, "failed", reason)

    async def _watched(self, work: Coroutine[Any, Any, Finished], entry: _Run, round: int) -> Finished:
        """Wait for a turn; ends the process if it uses more processor time than a round may.

        Raises:
            EOFError: the process has ended; with why, if it was ended here.
        """
        most, ward = self._limits.cpu_seconds_per_round, entry.ward
        if most is None:
            return await work
        turn = asyncio.ensure_future(work)
        used_s, before_s = 0.0, cpu_seconds(ward.number) - entry.spent(round)
        while not (await asyncio.wait([turn], timeout=LOOK_EVERY_S))[0]:
            used_s = cpu_seconds(ward.number) - before_s
            if used_s > most:
                ward.kill()
                await asyncio.wait([turn])
        # Of a process that has ended nothing can be read any more.
        entry.spend(round, max(used_s, cpu_seconds(ward.number) - before_s))
        if used_s > most and turn.exception() is not None:
            raise EOFError(
                f"the policy's limits.cpu_seconds_per_round is {most:g}, and the client had used {used_s:.1f}"
            )
        return turn.result()

    def hurry(self, run: str, left_s: float) -> None:
        entry = self._runs.get(run)
        if entry is not None:
            entry.ward.hurry(time.monotonic() + left_s)

    def stop(self, run: str) -> None:
        entry, beginning = self._runs.pop(run, None), self._beginning.get(run)
        for ward in (entry and entry.ward, beginning):
            if ward is not None:
                ward.end()

    def close(self) -> None:
        """End all processes, and wait until they have."""
        self._runs.clear()
        for ward in self._wards:
            ward.end()
        for ward in self._wards:
            ward.end(wait=True)


@final
@dataclass
class _Run:
    plan: Mapping[str, Any]
    ward: Ward
    facts: dict[str, Any]
    _spent_s: dict[int, float] = field(default_factory=dict[int, float])

    def spent(self, round: int) -> float:
        """Processor seconds that a round took so far: its training, then its evaluation."""
        return self._spent_s.get(round, 0.0)

    def spend(self, round: int, total_s: float) -> None:
        self._spent_s[round] = total_s
        for old in sorted(self._spent_s)[:-KEPT_BUDGETS]:
            del self._spent_s[old]


async def _begun(ward: Ward, plan: Mapping[str, Any]) -> dict[str, Any]:
    try:
        told = await ward.call(ward.begin, plan)
    except EOFError:
        ward.end()
        raise NotBegun(f"the client's process {ward.epitaph()} while the client was built") from None
    if "facts" in told:
        return told["facts"]
    ward.end()
    if "unwilling" in told:
        raise NotSupported(told["unwilling"])
    raise NotBegun(told["failed"])
