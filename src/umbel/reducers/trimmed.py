"""The trimmed mean: each coordinate without its largest and smallest values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from umbel.arrays import Vector
from umbel.reducers.robust import Withstands
from umbel.reducers.rows import Rows


@final
@dataclass(frozen=True)
class TrimmedMean(Withstands):
    """Of each coordinate the mean of the values that are neither among the f largest nor among the f smallest.

    Args:
        f: how many bad updates to withstand, at least 0; a round needs 2·f + 1 updates or more. 0 is the plain mean.

    It bears f bad updates of any kind if honest clients are alike; where they differ much, colluding ones hide among
    them: put `NearestNeighbourMixing` before it.

    Example:
        >>> TrimmedMean(f=2).least_updates
        5

    References:
        D. Yin, Y. Chen, K. Ramchandran, P. Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
        Statistical Rates", ICML 2018, https://arxiv.org/abs/1803.01498
    """

    elementwise: ClassVar[bool] = True

    def reduced(self, rows: Rows) -> Vector:
        result, kept = Vector.zeros(rows.schema), len(rows) - 2 * self.f
        for start, block in rows.blocks():
            block.sort(axis=0)
            # Row by row, so that an element's bits do not depend on where a block begins, as a matrix product's may.
            total = np.add.reduce(block[self.f : self.f + kept], axis=0, dtype=np.float64)
            result.values[start : start + block.shape[1]] = total / kept
        return result
