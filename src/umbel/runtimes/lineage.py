"""Who descends from whom: a child that does not outlive its parent, and all that a process has started."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_STATE, _PARENT = 0, 1
KNOWS_FAMILIES = sys.platform.startswith("linux")
"""Whether this system tells who descends from whom."""


def die_with(parent: int) -> None:
    """Let the kernel end this process with its parent, even while user code runs that would never look.

    On Linux "its parent" is the thread that started it: that thread has to live as long as the child shall.
    """
    if not KNOWS_FAMILIES:
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)  # it died before it was asked for


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent ends, those in sessions of their own among them."""
    if KNOWS_FAMILIES:
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def family(process: int) -> dict[int, list[str]]:
    """A process and its descendants: for each its numbers in `/proc/PROCESS/stat`, from its state on."""
    everyone = {int(name): stat for name in os.listdir("/proc") if name.isdigit() and (stat := _stat(name))}
    children: dict[int, list[int]] = {}
    for number, stat in everyone.items():
        children.setdefault(int(stat[_PARENT]), []).append(number)
    found, open_ends = dict[int, list[str]](), [process]
    while open_ends:
        number = open_ends.pop()
        if number in everyone and number not in found:
            found[number] = everyone[number]
            open_ends += children.get(number, [])
    return found


def living_descendants(process: int) -> list[int]:
    """The descendants of a process that have not ended yet."""
    return [number for number, stat in family(process).items() if number != process and stat[_STATE] not in "ZX"]


def _stat(process: str) -> list[str]:
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            # The program's name is in brackets and may hold anything; numbers follow the last bracket.
            return file.read().rpartition(")")[2].split()
    except OSError:
        return []  # it has just ended
