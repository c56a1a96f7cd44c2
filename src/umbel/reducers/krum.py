"""Krum and Multi-Krum: the updates that lie closest to most others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from umbel.arrays import Vector
from umbel.dtypes import Float64
from umbel.reducers.robust import Withstands
from umbel.reducers.rows import Rows


@final
@dataclass(frozen=True)
class Krum(Withstands):
    """The one update with the smallest sum of squared distances to its n - f - 1 nearest others.

    Args:
        f: how many bad updates to withstand, at least 0; a round needs 2·f + 1 updates or more.

    One update of many is noisy, and where clients differ much a poor guide: put `NearestNeighbourMixing` before it.
    The original counts n - f - 2 neighbours; with one more, as in the later analyses, f < n/2 is enough.

    Example:
        >>> Krum(f=4).least_updates
        9

    References:
        P. Blanchard, E. M. El Mhamdi, R. Guerraoui, J. Stainer, "Machine Learning with Adversaries: Byzantine Tolerant
        Gradient Descent", NeurIPS 2017, https://arxiv.org/abs/1703.02757
    """

    def reduced(self, rows: Rows) -> Vector:
        chosen = np.zeros(len(rows))
        chosen[int(np.argmin(scores(rows.apart, self.f)))] = 1.0
        return rows.combined(chosen)


@final
@dataclass(frozen=True)
class MultiKrum(Withstands):
    """The mean of the n - f updates with the best scores of `Krum`.

    Args:
        f: how many bad updates to withstand, at least 0; a round needs 2·f + 1 updates or more. 0 is the plain mean.

    Example:
        >>> MultiKrum(f=4).least_updates
        9

    References:
        P. Blanchard, E. M. El Mhamdi, R. Guerraoui, J. Stainer, "Machine Learning with Adversaries: Byzantine Tolerant
        Gradient Descent", NeurIPS 2017, https://arxiv.org/abs/1703.02757
    """

    def reduced(self, rows: Rows) -> Vector:
        kept = len(rows) - self.f
        best = np.argsort(scores(rows.apart, self.f), kind="stable")[:kept]
        share = np.zeros(len(rows))
        share[best] = 1.0 / kept
        return rows.combined(share)


def scores(apart: Float64, f: int) -> Float64:
    """The sum of each row's squared distances to its n - f - 1 nearest others, which lie `apart`."""
    nearest = np.sort(apart, axis=1)[:, 1 : len(apart) - f]
    return np.square(nearest).sum(axis=1)
