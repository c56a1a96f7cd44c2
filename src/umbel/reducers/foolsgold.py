"""FoolsGold: clients whose updates point the same way count as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from umbel.arrays import Vector
from umbel.dtypes import Float64
from umbel.reducers.robust import Robust
from umbel.reducers.rows import Rows

ALMOST = 0.99


@final
@dataclass(frozen=True)
class FoolsGold(Robust):
    """The mean of the updates, weighted by how little each resembles the one that it resembles most.

    For many made-up clients of one attacker (sybils) among honest clients that differ from each other. The original
    adds up each client's updates over all rounds; this one looks at one round and keeps nothing of anybody. It bears
    any number of sybils that push the same way, but no single bad client, and has no breakdown point: where honest
    clients are alike, they are taken for sybils.

    Example:
        >>> FoolsGold().linear
        False

    References:
        C. Fung, C. J. M. Yoon, I. Beschastnikh, "The Limitations of Federated Learning in Sybil Settings", RAID 2020,
        https://arxiv.org/abs/1808.04866
    """

    def reduced(self, rows: Rows) -> Vector:
        weights = _weights(_cosines(rows))
        total = float(weights.sum())
        # Where nobody stands out from the others there is nobody to prefer.
        return rows.combined(weights / total) if total > 0 else rows.mean()


def _cosines(rows: Rows) -> Float64:
    """Between -1 and 1; 0 with an update that is zero, -1 with itself."""
    norms = rows.norms
    inverse = np.divide(1.0, norms, out=np.zeros_like(norms), where=norms > 0)
    found = np.clip(rows.products * inverse[:, None] * inverse, -1.0, 1.0)
    np.fill_diagonal(found, -1.0)
    return found


def _weights(cosines: Float64) -> Float64:
    nearest = cosines.max(axis=1)
    # An honest client that resembles a sybil by chance is pardoned: it resembles the others less than they each other.
    ratio = np.divide(nearest[:, None], nearest, out=np.ones_like(cosines), where=nearest > 0)
    pardoned = np.where(nearest[:, None] < nearest, cosines * np.maximum(ratio, 0.0), cosines)
    weights = np.clip(1.0 - pardoned.max(axis=1), 0.0, 1.0)
    # A resemblance up to rounding is one.
    weights[weights < 1e-6] = 0.0
    most = float(weights.max())
    if most == 0:
        return weights
    weights = np.minimum(weights / most, ALMOST)
    logits = np.log(np.divide(weights, 1.0 - weights), out=np.full_like(weights, -np.inf), where=weights > 0) + 0.5
    return np.clip(logits, 0.0, 1.0)
