"""Two ways to be born: a fork of this process where that is safe, else of a seed process that has the app loaded."""

from __future__ import annotations

import os
import signal
import socket
import sys
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

from umbel.errors import EngineError
from umbel.runtimes.pool.seed import Seed
from umbel.runtimes.pool.worker import Descriptors, main
from umbel.runtimes.program import Program


class Nursery(ABC):
    """Makes workers."""

    @abstractmethod
    def bear(self, index: int, fds: Descriptors, ours: Sequence[int]) -> int:
        """Start worker `index` with these descriptors; returns its process id.

        Args:
            ours: this process's ends of the workers' sockets, which no worker may keep: while one does, none of them
                sees that this process has died.
        """

    @abstractmethod
    def bury(self, pid: int) -> str:
        """Wait for a dead worker; returns how it died, in words."""

    @abstractmethod
    def close(self) -> None:
        """Let go of everything."""


@final
class ForkNursery(Nursery):
    """Forks this process: everything it has loaded is there at once, closures included."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def bear(self, index: int, fds: Descriptors, ours: Sequence[int]) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        # Ctrl-C reaches a terminal's whole group: a worker that is just born would answer it with a traceback.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with warnings.catch_warnings():
                # Newer Pythons warn of any second thread; the sleeping ones of BLAS were looked at.
                warnings.simplefilter("ignore", DeprecationWarning)
                parent, pid = os.getpid(), os.fork()
            if pid == 0:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
                for end in ours:
                    os.close(end)
                main(index, self.program, fds, parent)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return pid

    def bury(self, pid: int) -> str:
        try:
            _, status = os.waitpid(pid, 0)
        except ChildProcessError:
            return "it ended"
        return in_words(status)

    def close(self) -> None:
        return None


@final
class SeedNursery(Nursery):
    """Asks the seed to fork; descriptors travel over its socket."""

    def __init__(self, program: Program) -> None:
        self.program, self.seed = program, Seed(program)

    def bear(self, index: int, fds: Descriptors, ours: Sequence[int]) -> int:
        try:
            return self.seed.bear(index, fds)
        except EngineError:
            # It was killed, and its workers with it: another one takes over.
            self.seed.close()
            self.seed = Seed(self.program)
            return self.seed.bear(index, fds)

    def bury(self, pid: int) -> str:
        return in_words(self.seed.bury(pid))

    def close(self) -> None:
        self.seed.close()


def in_words(status: int) -> str:
    """How a process ended, from its wait status."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        name = signal.Signals(number).name
        return f"killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")
    return f"ended with exit code {os.waitstatus_to_exitcode(status)}"


def pair() -> tuple[int, int]:
    """Two connected sockets as descriptors: the parent's and the worker's."""
    ours, theirs = socket.socketpair()
    return ours.detach(), theirs.detach()
