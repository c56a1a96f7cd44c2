"""A series of numbers as one line of bars."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

BARS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], *, width: int = 40) -> str:
    """Bars from the smallest value (▁) to the largest (█); longer series are averaged down to `width` bars.

    Args:
        values: what is not finite leaves a gap.
        width: most bars to draw, at least 1.

    Example:
        >>> sparkline([1, 2, 3, 4, 5, 6, 7, 8])
        '▁▂▃▄▅▆▇█'
        >>> sparkline([5, 5])
        '▄▄'
    """
    points = _averaged(values, max(width, 1))
    known = [value for value in points if math.isfinite(value)]
    if not known:
        return " " * len(points)
    low, high = min(known), max(known)
    return "".join(_bar(value, low, high) for value in points)


def _bar(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return " "
    if high == low:
        return BARS[len(BARS) // 2 - 1]
    # Halves first: the difference of two huge numbers may be infinite.
    share = (value / 2 - low / 2) / (high / 2 - low / 2)
    return BARS[min(int(share * len(BARS)), len(BARS) - 1)]


def _averaged(values: Sequence[float], width: int) -> list[float]:
    if len(values) <= width:
        return list(values)
    edges = [len(values) * place // width for place in range(width + 1)]
    return [_mean(values[start:end]) for start, end in pairwise(edges)]


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if math.isfinite(value)]
    return math.nan if not known else math.fsum(value / len(known) for value in known)
