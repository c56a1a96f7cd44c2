"""How much processor time a client's processes have used, as far as the system tells."""

from __future__ import annotations

import os
import sys

CAN_MEASURE = sys.platform.startswith("linux")


def cpu_seconds(group: int) -> float:
    """Processor seconds of all processes in a process group, those of their ended children among them."""
    total = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            total += _ticks(name, group)
    return total / os.sysconf("SC_CLK_TCK")


def _ticks(process: str, group: int) -> int:
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            # The program's name is in brackets and may hold anything; numbers follow the last bracket.
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return 0  # it has just ended
    return sum(map(int, fields[11:15])) if int(fields[2]) == group else 0
