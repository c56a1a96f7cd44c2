"""Exact sums of scalars: partial sums that never round."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import final


@final
class ExactSum:
    """A sum of floats that is rounded once, when it is read, so that order cannot matter.

    The value is held as floats that do not overlap; adding one float is a chain of error-free additions.

    References:
        J. R. Shewchuk, "Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric Predicates", 1997.
    """

    __slots__ = ("partials",)

    def __init__(self, partials: Iterable[float] = ()) -> None:
        self.partials = list(partials)

    def add(self, value: float) -> None:
        kept: list[float] = []
        for partial in self.partials:
            if abs(value) < abs(partial):
                value, partial = partial, value
            total = value + partial
            rest = partial - (total - value)
            if rest:
                kept.append(rest)
            value = total
        kept.append(value)
        self.partials = kept

    def add_many(self, values: Iterable[float]) -> None:
        """Add them all: what the rounded sum misses is summed up and rounded in turn, until nothing is missing."""
        left, partials = [*self.partials, *values], list[float]()
        try:
            while total := math.fsum(left):
                partials.append(total)
                left.append(-total)
        except OverflowError:
            for value in left[len(self.partials) :]:
                self.add(value)
        else:
            self.partials = partials[::-1]

    def merge(self, other: ExactSum) -> None:
        self.add_many(other.partials)

    @property
    def value(self) -> float:
        return math.fsum(self.partials)
