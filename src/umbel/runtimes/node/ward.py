"""`Ward`: the node's hold on a client's process, which works under a `guard`."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays
from umbel.runtimes.mail import Letter
from umbel.runtimes.node.child import CLOCK_BYTES
from umbel.runtimes.node.guard import TRIES_FOR_S
from umbel.runtimes.node.pipe import Pipe, Rooms, written
from umbel.runtimes.node.worker import Finished
from umbel.runtimes.shared import anonymous_file, view
from umbel.wire import pack_parts, unpack

Result = TypeVar("Result")
LEAVES_WITHIN_S = 5.0
# Not what `sys.stderr` is: a process writes to files. Where there is none (closed by who started it), nothing is said.
_ERRORS = 2 if sys.__stderr__ is not None else subprocess.DEVNULL


@final
class Ward:
    """A client's process, what it starts, and the thread that talks to it, which waits while the client works.

    Args:
        grace_s: how long a turn may go on after its time is up; then everything is ended.
    """

    def __init__(self, grace_s: float) -> None:
        self._executor = ThreadPoolExecutor(1, "umbel-ward")
        self._process: subprocess.Popen[bytes] | None = None
        self._mine, self._its = socket.socketpair()
        self._leash, self._leash_end = socket.socketpair()
        self._pipe = Pipe(self._mine)
        self._ended = self._busy = self._left = False
        self._clock_file = anonymous_file()
        os.ftruncate(self._clock_file, CLOCK_BYTES)
        self._page = view(self._clock_file, CLOCK_BYTES, write=True)
        self._grace_s = grace_s
        self._timer: asyncio.TimerHandle | None = None
        self._deadline_s: float | None = None
        self.was_overdue = False
        """Whether it was ended because a turn did not."""

    async def call(self, what: Callable[..., Result], *args: Any) -> Result:
        """Run one of the methods below in this process's thread.

        Raises:
            EOFError: the process has ended.
        """
        if self._ended:
            raise EOFError
        return await asyncio.get_running_loop().run_in_executor(self._executor, what, *args)

    def bear(self, born: Mapping[str, Any]) -> dict[str, Any]:
        with self._its, self._leash_end as leash:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "umbel.runtimes.node.guard", str(leash.fileno()), str(self._its.fileno())],
                stdin=subprocess.DEVNULL,
                # The node's own output may be read by a program.
                stdout=_ERRORS,
                pass_fds=[leash.fileno(), self._its.fileno()],
                process_group=0,
            )
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
            "mine": dict(letter.mine),
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
        kept = None if state is None else state.tobytes()
        return Finished([frame.data], told["digest"], told["verdict"], kept, told["reason"])

    def _exchange(self, parts: list[Any], files: list[int] | None = None) -> tuple[dict[str, Any], list[int]]:
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
    def number(self) -> int:
        """The guard's process id; the client's process and all that it starts descend from it."""
        assert self._process is not None
        return self._process.pid

    @contextmanager
    def due(self, deadline_s: float) -> Generator[None]:
        """A turn with a time at which it has to end, on the monotonic clock; what goes on for longer is ended."""
        self._deadline_s, self.was_overdue = deadline_s, False
        self._ends_at(deadline_s)
        try:
            yield
        finally:
            self._deadline_s = None
            if self._timer is not None:
                self._timer.cancel()

    def hurry(self, deadline_s: float) -> None:
        """The turn under way has to end by then."""
        if self._deadline_s is not None and deadline_s < self._deadline_s:
            self._deadline_s = deadline_s
            self._ends_at(deadline_s)

    def _ends_at(self, deadline_s: float) -> None:
        self._page[:] = np.frombuffer(struct.pack("<d", deadline_s), np.uint8)
        if self._timer is not None:
            self._timer.cancel()
        if math.isfinite(deadline_s):
            left_s = deadline_s + self._grace_s - time.monotonic()
            self._timer = asyncio.get_running_loop().call_later(left_s, self._is_overdue)

    def _is_overdue(self) -> None:
        self.was_overdue = True
        self.kill()

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
        """End it and what it started, at once; who waits for its answer waits no longer, whatever it does."""
        for end in (self._leash, self._mine):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def _bury(self) -> None:
        self._ended = True
        self.kill()
        if self._process is None:
            return
        try:
            self._process.wait(TRIES_FOR_S + LEAVES_WITHIN_S)
        except subprocess.TimeoutExpired:
            # Something stopped the guard. The kernel ends the client's process with it.
            self._process.kill()
            self._process.wait()

    def end(self, *, wait: bool = False) -> None:
        """Let go of it: at once if it is at work, else it may leave by itself. What it has started ends in any case."""
        if not self._ended:
            self._ended = True
            if self._busy or self._process is None:
                self.kill()
        if not self._left:
            self._left = True
            self._executor.submit(self._leave)
        self._executor.shutdown(wait=wait)

    def _leave(self) -> None:
        self._pipe.close()
        if self._process is not None:
            try:
                self._process.wait(LEAVES_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._bury()
        for end in (self._leash, self._leash_end, self._its):
            end.close()
        os.close(self._clock_file)
