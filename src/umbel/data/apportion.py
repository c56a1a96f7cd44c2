"""Share whole samples out by proportion."""

from __future__ import annotations

import heapq

import numpy as np
from numpy.typing import NDArray

from umbel.data.samples import IntArray


def apportion(total: int, weights: NDArray[np.float64]) -> IntArray:
    """Whole shares of `total` by weight, largest remainder first; ties go to the lower index.

    Example:
        >>> apportion(10, np.array([1.0, 1.0, 1.0])).tolist()
        [4, 3, 3]
    """
    exact = total * (weights / weights.sum())
    shares = np.floor(exact).astype(np.int64)
    short = total - int(shares.sum())
    shares[np.argsort(shares - exact, kind="stable")[:short]] += 1
    return shares


def apportion_at_least(total: int, weights: NDArray[np.float64], minimum: int) -> IntArray:
    """Like `apportion`, but the largest shares give to those below `minimum`; total >= minimum * len(weights)."""
    shares = apportion(total, weights)
    for taker, giver in transfers(shares, minimum):
        shares[taker] += 1
        shares[giver] -= 1
    return shares


def transfers(sizes: IntArray, minimum: int) -> list[tuple[int, int]]:
    """Single-sample moves (taker, giver) that bring every size to `minimum`, each from the largest at that moment."""
    moves: list[tuple[int, int]] = []
    largest = [(-int(size), index) for index, size in enumerate(sizes) if size > minimum]
    heapq.heapify(largest)
    for taker in np.flatnonzero(sizes < minimum).tolist():
        for _ in range(minimum - int(sizes[taker])):
            size, giver = largest[0]
            heapq.heapreplace(largest, (size + 1, giver))
            moves.append((taker, giver))
    return moves
