"""The process between a node and a client's process: `python -m umbel.runtimes.node.guard LEASH FILE`.

It starts the client's process, which gets FILE, and runs no code of the client's: whatever that does, a loop in C among
it, this process does its one task. When the client's process ends, or nobody holds the other end of LEASH any more (the
node wants it so, or was killed), everything that the client has started is ended. Then this one ends as the client's
process did.
"""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import sys
import time
from typing import Any

from umbel.runtimes.lineage import KNOWS_FAMILIES, adopt_orphans, living_descendants

TRIES_FOR_S = 10.0
"""For how long processes are ended that come back; what a client may not signal (of another user) stays."""
LOOK_AGAIN_S = 0.005
_ENDS = {signal.SIGTERM, signal.SIGHUP, signal.SIGINT}


def main(leash: int, file: int) -> None:
    adopt_orphans()
    woken = _wakes()
    os.set_inheritable(leash, False)
    child = _started(file)
    os.close(file)
    status = None
    while status is None and leash not in select.select([leash, woken], [], [])[0]:
        if not _ENDS.isdisjoint(os.read(woken, 4096)):
            break
        status = _reaped(child)
    _leave_as(_ended(child, status))


def _wakes() -> int:
    """A file that has the numbers of signals that came: of ended children, and of those who want this process ended."""
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    for number in (signal.SIGCHLD, *_ENDS):
        signal.signal(number, _noted)
    return woken


def _noted(number: int, frame: Any) -> None:
    return None


def _started(file: int) -> int:
    me = str(os.getpid())
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        os.execv(sys.executable, [sys.executable, "-P", "-m", "umbel.runtimes.node.child", str(file), me])
    return child


def _reaped(child: int) -> int | None:
    """Take leave of all processes that have ended; the status of `child` if it is among them."""
    found = None
    with contextlib.suppress(ChildProcessError):
        while True:
            number, status = os.waitpid(-1, os.WNOHANG)
            if not number:
                break
            found = status if number == child else found
    return found


def _ended(child: int, status: int | None) -> int:
    """End the client's process and all that it started, in whatever group or session; the status of the first."""
    until = time.monotonic() + TRIES_FOR_S
    while time.monotonic() < until:
        found = _reaped(child)
        status = found if status is None else status
        others = living_descendants(os.getpid()) if KNOWS_FAMILIES else [-child]
        for number in others:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(number, signal.SIGKILL)
        if status is not None and (not others or not KNOWS_FAMILIES):
            break
        time.sleep(LOOK_AGAIN_S)
    return signal.SIGKILL if status is None else status


def _leave_as(status: int) -> None:
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one core file, of the process that crashed, is enough
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
    os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
