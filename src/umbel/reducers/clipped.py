"""Means of clipped updates: about zero, and about a centre that is sought."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

import numpy as np

from umbel.arrays import Vector
from umbel.dtypes import Float64
from umbel.errors import ConfigError
from umbel.reducers.robust import Robust
from umbel.reducers.rows import Rows


@final
@dataclass(frozen=True)
class ClippedMean(Robust):
    """The mean of xᵢ·min(1, C / ‖xᵢ‖).

    Args:
        norm: C, above 0; None takes the median of the round's norms.

    With the median, f bad updates of n move the mean by at most 2·f/n of the longest honest one's length, for any
    f < n/2. It costs little more than the mean and bears up well, but bounds what the bad ones do and removes none.

    Example:
        >>> ClippedMean(norm=1.0)
        ClippedMean(norm=1.0)

    References:
        Z. Sun, P. Kairouz, A. T. Suresh, H. B. McMahan, "Can You Really Backdoor Federated Learning?", 2019,
        https://arxiv.org/abs/1911.07963
    """

    norm: float | None = None

    def __post_init__(self) -> None:
        _check_length("norm", self.norm, "the median of the round's norms")

    def reduced(self, rows: Rows) -> Vector:
        norms = rows.norms
        return rows.combined(_factors(norms, self.norm) / len(rows))


@final
@dataclass(frozen=True)
class CenteredClipping(Robust):
    """v ← v + mean of (xᵢ - v)·min(1, τ / ‖xᵢ - v‖), some steps from v = 0.

    Args:
        radius: τ, above 0; None takes the median of the distances from v, anew in every step.
        steps: how many, at least 1.

    Updates are changes to the model, so 0 is last round's model. For f < n/2; made for clients that send momenta
    (`momentum=0.9` in the local training), where what is bad in every round stands out.

    Example:
        >>> CenteredClipping(radius=0.5, steps=1)
        CenteredClipping(radius=0.5, steps=1)

    References:
        S. P. Karimireddy, L. He, M. Jaggi, "Learning from History for Byzantine Robust Optimization", ICML 2021,
        https://arxiv.org/abs/2012.10333
    """

    radius: float | None = None
    steps: int = 3

    def __post_init__(self) -> None:
        _check_length("radius", self.radius, "the median of the distances")
        if not isinstance(self.steps, int) or isinstance(self.steps, bool) or self.steps < 1:  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigError(f"steps must be a whole number of at least 1, got {self.steps!r}; 3 are enough")

    def reduced(self, rows: Rows) -> Vector:
        centre = np.zeros(len(rows))
        for _ in range(self.steps):
            factors = _factors(rows.distances_to(centre), self.radius)
            centre = centre * (1.0 - factors.mean()) + factors / len(rows)
        return rows.combined(centre)


def _factors(lengths: Float64, most: float | None) -> Float64:
    """By what each length is multiplied to be at most `most`, or at most their median."""
    limit = float(np.median(lengths)) if most is None else most
    return np.minimum(1.0, np.divide(limit, lengths, out=np.ones_like(lengths), where=lengths > 0))


def _check_length(name: str, value: object, otherwise: str) -> None:
    fine = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < math.inf
    if value is not None and not fine:
        raise ConfigError(f"{name} must be above 0 or None, got {value!r}; None takes {otherwise}")
