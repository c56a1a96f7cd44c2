"""`ProcessWorker`: the client of each run in a process of its own, kept warm, within what its owner's policy allows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays
from umbel.errors import AppError, NotSupported
from umbel.runtimes.mail import Letter
from umbel.runtimes.node.child import CLOCK_BYTES
from umbel.runtimes.node.pipe import Pipe, Rooms, written
from umbel.runtimes.node.rules import Limits
from umbel.runtimes.node.usage import CAN_MEASURE, cpu_seconds
from umbel.runtimes.node.worker import Finished, NotBegun, without
from umbel.runtimes.shared import anonymous_file, view
from umbel.wire import pack_parts, unpack

Result = TypeVar("Result")
LOOK_EVERY_S = 0.25
KEPT_BUDGETS = 4
LEAVES_WITHIN_S = 5.0
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
        say: told of processes that ended unasked.
    """

    def __init__(
        self,
        app: Path,
        name: str,
        *,
        partition: int | None = None,
        threads: int | None = None,
        limits: Limits | None = None,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._limits, self._say = limits or Limits(), say
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
        self._runs: dict[str, _Run] = {}
        self._spare: _Child | None = None
        self._starts = asyncio.Lock()

    async def warm(self) -> None:
        """Load the app in the process that the first run will have.

        Raises:
            AppError: it cannot be loaded.
        """
        self._spare = await self._child()

    async def _child(self) -> _Child:
        child = _Child()
        try:
            told = await child.call(child.bear, self._born)
        except EOFError:
            child.end()
            raise AppError(f"the process that loads the app {self._born['app']} {child.epitaph()}") from None
        if "failed" in told:
            child.end()
            raise AppError(str(told["failed"]))
        return child

    def room(self, nbytes: int) -> memoryview:
        return self._rooms.make(nbytes)

    async def start(self, run: str, plan: Mapping[str, Any]) -> dict[str, Any]:
        # After a reconnection a plan comes again, perhaps before the first one's client is built.
        async with self._starts:
            known = self._runs.get(run)
            if known is not None and known.child.alive:
                return known.facts
            spare, self._spare = self._spare, None
            child = spare if spare is not None and spare.alive else await self._child()
            facts = await _begun(child, plan)
            self._runs[run] = _Run(plan, child, facts)
            return facts

    async def play(self, run: str, letter: Letter, blobs: Mapping[str, Arrays], memory: bytes | None) -> Finished:
        entry = self._runs.get(run)
        if entry is None:
            raise NotSupported(f"run {run} was not begun here")
        if not entry.child.alive:
            # It ended in an earlier turn. What must last is on the node's disk.
            entry.child.end()
            entry.child = await self._child()
            await _begun(entry.child, entry.plan)
        child = entry.child
        child.ends_at(time.monotonic() + letter.left_s)
        turn = asyncio.ensure_future(child.call(child.play, letter, blobs, memory, self._rooms))
        why_killed = await self._watched(turn, child, entry, letter.round)
        try:
            return await turn
        except EOFError:
            reason = why_killed or f"the client's process {child.epitaph()}; the node's output may say more"
            self._say(f"round {letter.round} of run {run}: {reason}")
            return without(letter, "failed", reason)

    async def _watched(self, turn: asyncio.Future[Any], child: _Child, entry: _Run, round: int) -> str | None:
        """Wait for a turn; ends the process, and says why, if it uses more processor time than a round may."""
        most = self._limits.cpu_seconds_per_round
        if most is None:
            await asyncio.wait([turn])
            return None
        before_s = cpu_seconds(child.group) - entry.spent(round)
        why: str | None = None
        while not (await asyncio.wait([turn], timeout=LOOK_EVERY_S))[0]:
            used_s = cpu_seconds(child.group) - before_s
            if used_s > most:
                why = f"the policy's limits.cpu_seconds_per_round is {most:g}, and the client had used {used_s:.1f}"
                child.kill()
                break
        await asyncio.wait([turn])
        entry.spend(round, most if why else cpu_seconds(child.group) - before_s)
        return why

    def hurry(self, run: str, left_s: float) -> None:
        entry = self._runs.get(run)
        if entry is not None:
            entry.child.ends_at(min(entry.child.deadline_s, time.monotonic() + left_s))

    def stop(self, run: str) -> None:
        entry = self._runs.pop(run, None)
        if entry is not None:
            entry.child.end()

    def close(self) -> None:
        """End all processes, and wait until they have."""
        children = [entry.child for entry in self._runs.values()]
        self._runs.clear()
        for child in (*children, *([self._spare] if self._spare is not None else [])):
            child.end(wait=True)


@final
@dataclass
class _Run:
    plan: Mapping[str, Any]
    child: _Child
    facts: dict[str, Any]
    _spent_s: dict[int, float] = field(default_factory=dict[int, float])

    def spent(self, round: int) -> float:
        """Processor seconds that a round took so far: its training, then its evaluation."""
        return self._spent_s.get(round, 0.0)

    def spend(self, round: int, total_s: float) -> None:
        self._spent_s[round] = total_s
        for old in sorted(self._spent_s)[:-KEPT_BUDGETS]:
            del self._spent_s[old]


async def _begun(child: _Child, plan: Mapping[str, Any]) -> dict[str, Any]:
    try:
        told = await child.call(child.begin, plan)
    except EOFError:
        child.end()
        raise NotBegun(f"the client's process {child.epitaph()} while the client was built") from None
    if "facts" in told:
        return told["facts"]
    child.end()
    if "unwilling" in told:
        raise NotSupported(told["unwilling"])
    raise NotBegun(told["failed"])


@final
class _Child:
    """One process and the thread that talks to it, which waits while the client works."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(1, "umbel-child")
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Pipe | None = None
        self._ended = self._busy = False
        self._clock_file = anonymous_file()
        os.ftruncate(self._clock_file, CLOCK_BYTES)
        self._page = view(self._clock_file, CLOCK_BYTES, write=True)
        self.deadline_s = float("inf")

    async def call(self, what: Callable[..., Result], *args: Any) -> Result:
        """Run one of the methods below in this process's thread."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, what, *args)

    def bear(self, born: Mapping[str, Any]) -> dict[str, Any]:
        mine, its = socket.socketpair()
        with its:
            # From this thread, which ends when the process is no longer wanted: the kernel then ends it for sure.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "umbel.runtimes.node.child", str(its.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                pass_fds=[its.fileno()],
                process_group=0,
            )
        self._pipe = Pipe(mine)
        return self._exchange(pack_parts("job", born, seal=False), [self._clock_file])[0]

    def begin(self, plan: Mapping[str, Any]) -> dict[str, Any]:
        return self._exchange(pack_parts("job", {"do": "begin", "plan": plan}, seal=False))[0]

    def play(self, letter: Letter, blobs: Mapping[str, Arrays], memory: bytes | None, rooms: Rooms) -> Finished:
        files, copies = list[int](), list[int]()
        for arrays in blobs.values():
            file = rooms.file_of(arrays.buffer)
            if file is None:
                # What is small comes with its announcement, in bytes of this process's own.
                file, _ = written([arrays.buffer.data])
                copies.append(file)
            files.append(file)
        tree = {
            "do": "play",
            "letter": np.frombuffer(letter.frame, np.uint8),
            "memory": None if memory is None else np.frombuffer(memory, np.uint8),
            "digests": list(blobs),
            "sizes": [arrays.nbytes for arrays in blobs.values()],
        }
        try:
            told, given = self._exchange(pack_parts("job", tree, seal=False), files)
        finally:
            for file in copies:
                os.close(file)
        frame = view(given[0], told["size"])
        os.close(given[0])
        state: NDArray[np.uint8] | None = told["state"]
        return Finished([frame.data], told["digest"], told["verdict"], None if state is None else state.tobytes())

    def _exchange(self, parts: list[Any], files: list[int] | None = None) -> tuple[dict[str, Any], list[int]]:
        assert self._pipe is not None
        self._busy = True
        try:
            self._pipe.send(parts, files or ())
            frame, given = self._pipe.receive()
        except (EOFError, OSError):
            self._bury()
            raise EOFError from None
        finally:
            self._busy = False
        return unpack("done", frame, verify=False), given

    @property
    def alive(self) -> bool:
        return not self._ended

    @property
    def group(self) -> int:
        assert self._process is not None
        return self._process.pid

    def ends_at(self, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self._page[:] = np.frombuffer(struct.pack("<d", deadline_s), np.uint8)

    def epitaph(self) -> str:
        """How it ended, for a sentence that begins with who it was."""
        code = None if self._process is None else self._process.returncode
        if code is None or code >= 0:
            return f"ended with exit code {code}"
        try:
            return f"was ended by {signal.Signals(-code).name}"
        except ValueError:
            return f"was ended by signal {-code}"

    def kill(self) -> None:
        """End it and what it started, at once."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def _bury(self) -> None:
        self._ended = True
        self.kill()
        if self._process is not None:
            self._process.wait()

    def end(self, *, wait: bool = False) -> None:
        """Let go of it: at once if it is at work, else it may leave by itself."""
        self._ended = True
        if self._busy:
            self.kill()
        self._executor.submit(self._leave)
        self._executor.shutdown(wait=wait)

    def _leave(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            try:
                self._process.wait(LEAVES_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._bury()
        os.close(self._clock_file)
