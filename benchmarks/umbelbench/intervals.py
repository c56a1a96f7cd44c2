"""Medians with an interval that assumes nothing about how times are distributed."""

from dataclasses import dataclass
from math import comb
from statistics import median


@dataclass(frozen=True)
class Estimate:
    """A median, and the interval that covers the true one with at least 95 % (sign test)."""

    median: float
    low: float
    high: float
    pairs: int


def estimate(values: list[float]) -> Estimate:
    """The median of `values` and its interval between two order statistics.

    With n values, P(true median below the k-th smallest) <= P(Binomial(n, 1/2) < k); k is the largest rank at which
    that stays within 2.5 % on each side. Fewer than 6 values reach no 95 %: their whole range is given.
    """
    ordered = sorted(values)
    n, k, tail = len(ordered), 0, 0.0
    while (tail := tail + comb(n, k) / 2**n) <= 0.025:
        k += 1
    rank = max(k - 1, 0)
    return Estimate(median(ordered), ordered[rank], ordered[n - 1 - rank], n)
