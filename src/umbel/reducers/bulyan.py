"""Bulyan: select as Krum does, again and again, then trim each coordinate about its median."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from umbel.arrays import Vector
from umbel.dtypes import Array, Float64
from umbel.reducers.krum import scores
from umbel.reducers.robust import Withstands
from umbel.reducers.rows import Rows


@final
@dataclass(frozen=True)
class Bulyan(Withstands):
    """n - 2·f updates, chosen one after the other by `Krum` from those left; of each coordinate the mean of the
    n - 4·f values that are nearest to the median.

    Args:
        f: how many bad updates to withstand, at least 0; a round needs 4·f + 3 updates or more (1, if it is 0).

    Against bad updates that hide one wrong coordinate in an update that is close to all others. It wants many clients,
    and is the slowest of the rules.

    Example:
        >>> Bulyan(f=2).least_updates
        11

    References:
        E. M. El Mhamdi, R. Guerraoui, S. Rouault, "The Hidden Vulnerability of Distributed Learning in Byzantium",
        ICML 2018, https://arxiv.org/abs/1802.07927
    """

    @property
    def least_updates(self) -> int:
        return 4 * self.f + 3 if self.f else 1

    def reduced(self, rows: Rows) -> Vector:
        chosen = self._chosen(rows.apart)
        result = Vector.zeros(rows.schema)
        for start, block in rows.blocks():
            picked = block[chosen]
            picked.sort(axis=0)
            result.values[start : start + block.shape[1]] = _about_the_median(picked, len(chosen) - 2 * self.f)
        return result

    def _chosen(self, apart: Float64) -> list[int]:
        left, chosen = list(range(len(apart))), list[int]()
        while len(left) > 2 * self.f:
            best = int(np.argmin(scores(apart[np.ix_(left, left)], self.f)))
            chosen.append(left.pop(best))
        return sorted(chosen)


def _about_the_median(ordered: Array, kept: int) -> Float64:
    """Of each column, whose values are in order, the mean of the `kept` ones that are nearest to its median."""
    count = len(ordered)
    middle = (ordered[(count - 1) // 2] + ordered[count // 2]) / 2
    # They lie side by side: of all such windows the one whose ends are nearest.
    windows = range(count - kept + 1)
    reach = np.stack([np.maximum(middle - ordered[i], ordered[i + kept - 1] - middle) for i in windows])
    first = np.argmin(reach, axis=0)
    result = np.empty(ordered.shape[1])
    for i in windows:
        columns = first == i
        result[columns] = ordered[i : i + kept, columns].mean(axis=0)
    return result
