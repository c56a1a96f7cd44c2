"""The geometric median: the point with the smallest sum of distances."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from umbel.arrays import Vector
from umbel.dtypes import Float64
from umbel.reducers.robust import Robust
from umbel.reducers.rows import Rows

STEPS = 1_000
SETTLED = 1e-10
SMALLEST = 1e-7


@final
@dataclass(frozen=True)
class GeometricMedian(Robust):
    """The z with the smallest Σ ‖z - xᵢ‖.

    Found by Weiszfeld's steps z ← Σ xᵢ/‖z - xᵢ‖ / Σ 1/‖z - xᵢ‖ to convergence, which move weights only: the updates
    are looked at once for their distances, and once for the result. Fewer than half of the updates, however bad, move
    it a bounded way. It needs no guess of how many are bad.

    Example:
        >>> GeometricMedian().least_updates
        1

    References:
        K. Pillutla, S. M. Kakade, Z. Harchaoui, "Robust Aggregation for Federated Learning", IEEE Transactions on
        Signal Processing 70, 2022, https://arxiv.org/abs/1912.13445
    """

    def reduced(self, rows: Rows) -> Vector:
        shares = self._start(rows)
        away = rows.distances_to(shares)
        # Where z meets an update its distance is 0: it counts as if a little beside it.
        least = SMALLEST * float(np.median(away))
        for _ in range(STEPS if least > 0 else 0):
            nearness = 1.0 / np.maximum(away, least)
            before, shares = shares, nearness / nearness.sum()
            if float(np.abs(shares - before).max()) < SETTLED:
                break
            away = rows.distances_to(shares)
        return rows.combined(shares)

    def _start(self, rows: Rows) -> Float64:
        """The mean of the more than half that are closest to the update with the smallest sum of distances to so many.

        From the mean of all, what is very far away would take many steps.
        """
        most = len(rows) // 2 + 1
        nearest = np.sort(rows.apart, axis=1)[:, :most].sum(axis=1)
        close = np.argsort(rows.apart[int(np.argmin(nearest))], kind="stable")[:most]
        shares = np.zeros(len(rows))
        shares[close] = 1.0 / most
        return shares
