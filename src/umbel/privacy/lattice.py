"""Integer noise: exact draws from symmetric distributions on the whole numbers, a million in a fraction of a second."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from umbel.message import require
from umbel.privacy.noise import keystream

Words: TypeAlias = Callable[[int], "NDArray[np.uint64]"]
"""So many random words of 64 bits, never the same twice."""

LEAST_VARIANCE, MOST_VARIANCE = 2**8, 2**26
"""With less, a tail of a fixed number of deviations is too short; with more, tables are large."""
_TAIL, _START = 14.0, 16.5
"""Deviations at which tables end (beyond lies less than 2^-127), and at which the recurrence that fills them begins."""
_BITS = 127
_BLOCK = 2**16


@final
@dataclass(frozen=True, eq=False)
class Table:
    """The inverse of a tail function: U ↦ #{k ≥ 1: U < P(|X| ≥ k)}, U uniform with 127 bits, and a sign of its own.

    Attributes:
        high, low: the upper 63 and the lower 64 bits of P(|X| ≥ k) · 2^127, from the largest k down to 1.
    """

    high: NDArray[np.uint64]
    low: NDArray[np.uint64]

    @property
    def reach(self) -> int:
        """No draw is larger."""
        return self.high.size

    def draw(self, count: int, words: Words | None = None) -> NDArray[np.int64]:
        """`count` numbers, each of them within 2^-126 of its exact probability.

        One word decides, but where its 63 bits are those of a boundary: then another one has the next 64.

        Args:
            words: where random words come from; None is the operating system's generator, and only tests give another.
        """
        words = keystream() if words is None else words
        drawn = np.empty(count, np.int64)
        for start in range(0, count, _BLOCK):
            part = words(min(_BLOCK, count - start))
            signs, part = (part & np.uint64(1)).astype(np.int64), part >> np.uint64(1)
            place = np.searchsorted(self.high, part, side="right")
            ties: list[int] = np.flatnonzero(self.high[place - 1] == part).tolist()
            for tied in ties:
                begin = int(np.searchsorted(self.high, part[tied : tied + 1], side="left")[0])
                if begin < place[tied]:
                    place[tied] = begin + np.searchsorted(self.low[begin : place[tied]], words(1)[0], side="right")
            drawn[start : start + part.size] = (self.reach - place) * (1 - 2 * signs)
        return drawn


@lru_cache(4)
def skellam(variance: int) -> Table:
    """The Skellam distribution, P(X = k) = exp(-μ)·I_|k|(μ): the difference of two Poisson numbers of mean μ/2.

    Sums of Skellam numbers are Skellam numbers, so what many draw together is known exactly, whoever of them drops out.

    Args:
        variance: μ, from 2^8 to 2^26.

    References:
        J. G. Skellam, "The Frequency Distribution of the Difference between Two Poisson Variates Belonging to Different
        Populations", Journal of the Royal Statistical Society 109, 1946.
    """
    require(
        LEAST_VARIANCE <= variance <= MOST_VARIANCE,
        f"variance must be from {LEAST_VARIANCE} to {MOST_VARIANCE}, got {variance!r}",
    )
    # I_{k-1} = I_{k+1} + (2k/μ)·I_k downward from far out, where whatever it begins with dies away (Miller's method),
    # in whole numbers of hundreds of bits.
    begin = math.ceil(_START * math.sqrt(variance))
    above, here = 0, 1 << 192
    masses = [here]
    for k in range(begin, 0, -1):
        above, here = here, above + 2 * k * here // variance
        masses.append(here)
    masses.reverse()
    return _table(masses, reach_of(variance))


def reach_of(variance: int) -> int:
    """How large a draw of this variance can be."""
    return math.ceil(_TAIL * math.sqrt(variance))


def _table(masses: list[int], reach: int) -> Table:
    """The table of the distribution with P(X = ±k) proportional to `masses[k]`."""
    total = masses[0] + 2 * sum(masses[1:])
    tail, tails = 2 * sum(masses[reach + 1 :]), list[int]()
    for mass in reversed(masses[1 : reach + 1]):
        tail += 2 * mass
        tails.append((tail << _BITS) // total)
    low: Any = np.array([value & 0xFFFFFFFFFFFFFFFF for value in tails], np.uint64)
    return Table(np.array([value >> 64 for value in tails], np.uint64), low)
