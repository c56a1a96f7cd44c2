"""What tells bytes from noise: how often each comes, whether words follow from earlier ones, what could make them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

Words: TypeAlias = NDArray[np.uint32]
_LAGS = (1, 2, 3, 16, 4096)
_DEVIATIONS = 6.0
"""How far from what noise gives is a sign; noise itself gets there once in 500 million."""
COMPLEXITY_WORDS = 44_000
"""More than twice what a Mersenne Twister remembers, in bits."""
_COMPLEXITY_OFF = 60.0


@final
@dataclass(frozen=True)
class Sign:
    """How far a statistic is from what noise gives, and from where on that is no chance."""

    found: float
    limit: float

    @property
    def is_there(self) -> bool:
        return abs(self.found) > self.limit


def signs(words: Words) -> Mapping[str, Sign]:
    """The statistics of one vector, in standard deviations; the linear complexity, of long enough ones, in bits."""
    found = {
        "bytes": Sign(byte_excess(words), _DEVIATIONS),
        "earlier words": Sign(lag_excess(words), _DEVIATIONS),
    }
    if len(words) >= COMPLEXITY_WORDS:
        bits = words[:COMPLEXITY_WORDS] & 1
        found["linear complexity"] = Sign(linear_complexity(bits) - COMPLEXITY_WORDS / 2, _COMPLEXITY_OFF)
    return found


def byte_excess(words: Words) -> float:
    """χ² of the counts of byte values against equal ones."""
    counts = _bytes(words)
    expected = counts.sum() / 256
    return float((((counts - expected) ** 2 / expected).sum() - 255) / 510**0.5)


def pair_excess(one: Words, other: Words) -> float:
    """χ² of the counts of byte values of two vectors against each other."""
    first, second = _bytes(one), _bytes(other)
    return float((((first - second) ** 2 / np.maximum(first + second, 1)).sum() - 255) / 510**0.5)


def lag_excess(words: Words) -> float:
    """The largest correlation of words with those some places before them."""
    values = words.astype(np.float64) / 2**32 - 0.5
    found = [
        float((values[lag:] * values[:-lag]).mean()) * 12 * (values.size - lag) ** 0.5
        for lag in _LAGS
        if lag < values.size
    ]
    return max(found, key=abs, default=0.0)


def linear_complexity(bits: NDArray[np.integer]) -> int:
    """The length of the shortest shift register that makes these bits; of n bits of noise it is about n / 2.

    References:
        J. L. Massey, "Shift-Register Synthesis and BCH Decoding", IEEE Transactions on Information Theory 15, 1969,
        https://doi.org/10.1109/TIT.1969.1054260
    """
    now, before, length, shift, past = 1, 1, 0, 1, 0
    for place, bit in enumerate(bits.tolist()):
        past = past << 1 | bit
        # Bit i of `past` is the bit i places ago, bit i of `now` whether the register reads it.
        if (now & past).bit_count() & 1:
            if 2 * length <= place:
                now, before, length, shift = now ^ before << shift, now, place + 1 - length, 1
                continue
            now ^= before << shift
        shift += 1
    return length


def _bytes(words: Words) -> NDArray[np.float64]:
    return np.bincount(words.view(np.uint8), minlength=256).astype(np.float64)
