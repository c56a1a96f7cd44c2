"""How much processor time a client's processes have used, as far as the system tells."""

from __future__ import annotations

import os

from umbel.runtimes.lineage import KNOWS_FAMILIES, family

CAN_MEASURE = KNOWS_FAMILIES
_TIMES = slice(11, 15)


def cpu_seconds(process: int) -> float:
    """Processor seconds of a process and its descendants, those of their ended children among them."""
    ticks = sum(sum(map(int, stat[_TIMES])) for stat in family(process).values())
    return ticks / os.sysconf("SC_CLK_TCK")
