"""Two ways to be born: a fork of this process where that is safe, else of a seed process that has the app loaded."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import final

from umbel.runtimes.pool.seed import Seed
from umbel.runtimes.pool.worker import Descriptors, main
from umbel.runtimes.program import Program

UNFORKABLE = ("grpc", "jax", "polars", "ray", "tensorflow")
"""Libraries whose own threads do not live through a fork."""


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


def why_not_fork() -> str | None:
    """Why this process must not be forked, or None."""
    for name in UNFORKABLE:
        if name in sys.modules:
            return f"{name} is imported"
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "cuda") and torch.cuda.is_initialized():
        return "CUDA is in use"
    if threading.active_count() > 1:
        return f"{threading.active_count()} Python threads are alive"
    if not sys.platform.startswith("linux"):
        return "only on Linux can it be seen that other threads are idle"
    return None if _others_sleep() else "other threads are at work"


def _others_sleep() -> bool:
    """Whether all other threads of this process (those of BLAS and OpenMP) are asleep."""
    own = threading.get_native_id()
    for name in os.listdir("/proc/self/task"):
        if int(name) == own:
            continue
        try:
            with open(f"/proc/self/task/{name}/stat") as file:
                state = file.read().rsplit(")", 1)[1].split()[0]
        except OSError:
            continue
        if state != "S":
            return False
    return True


@final
class ForkNursery(Nursery):
    """Forks this process: everything it has loaded is there at once, closures included."""

    def __init__(self, program: Program) -> None:
        self.program = program

    def bear(self, index: int, fds: Descriptors, ours: Sequence[int]) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        with warnings.catch_warnings():
            # Newer Pythons warn of any second thread; the sleeping ones of BLAS were looked at.
            warnings.simplefilter("ignore", DeprecationWarning)
            parent, pid = os.getpid(), os.fork()
        if pid == 0:
            for end in ours:
                os.close(end)
            main(index, self.program, fds, parent)
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
        self.seed = Seed(program)

    def bear(self, index: int, fds: Descriptors, ours: Sequence[int]) -> int:
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
