"""The coordinate-wise median: robust to a minority of arbitrary updates, and not linear."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, final

import numpy as np

from umbel.arrays import Vector
from umbel.reducers.robust import Robust
from umbel.reducers.rows import Rows


@final
@dataclass(frozen=True)
class Median(Robust):
    """The median of each coordinate over the updates of a round; weights are ignored, those of 0 left out.

    Fewer than half of the updates, however bad, cannot move a coordinate beyond the honest ones' values. Alone it is
    weak where honest clients differ much: put `NearestNeighbourMixing` before it.

    Keeps every update of the round in memory. Cannot be combined with secure sums or privacy: they need a linear
    reducer.

    References:
        D. Yin, Y. Chen, K. Ramchandran, P. Bartlett, "Byzantine-Robust Distributed Learning: Towards Optimal
        Statistical Rates", ICML 2018, https://arxiv.org/abs/1803.01498
    """

    elementwise: ClassVar[bool] = True

    def reduced(self, rows: Rows) -> Vector:
        result, half = Vector.zeros(rows.schema), len(rows) // 2
        for start, block in rows.blocks():
            block.sort(axis=0)
            low = block[half - 1 + len(rows) % 2].astype(np.float64)
            result.values[start : start + block.shape[1]] = (low + block[half]) / 2.0
        return result
