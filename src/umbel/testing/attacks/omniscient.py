"""Attacks of bad clients that see all honest updates and send one vector that hides among them."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import final

import numpy as np

from umbel.dtypes import Float64
from umbel.testing.attacks.attack import Attack


@final
@dataclass(frozen=True)
class ALIE(Attack):
    """A little is enough: μ - z·σ, coordinate by coordinate.

    Args:
        z: None takes the largest with which, for Gaussian updates, a majority still lies on the far side:
            Φ(z) = (n - f - s) / (n - f) with s = ⌊n/2 + 1⌋ - f.

    References:
        M. Baruch, G. Baruch, Y. Goldberg, "A Little Is Enough: Circumventing Defenses For Distributed Learning",
        NeurIPS 2019, https://arxiv.org/abs/1902.06156
    """

    z: float | None = None

    def crafted(self, honest: Float64, bad: int) -> Float64:
        return honest.mean(axis=0) - self._z(len(honest), bad) * honest.std(axis=0)

    def _z(self, honest: int, bad: int) -> float:
        if self.z is not None:
            return self.z
        supporters = (honest + bad) // 2 + 1 - bad
        share = (honest - supporters) / honest
        return NormalDist().inv_cdf(min(max(share, 1e-6), 1 - 1e-6))


@final
@dataclass(frozen=True)
class IPM(Attack):
    """Inner product manipulation: -epsilon·μ.

    References:
        C. Xie, O. Koyejo, I. Gupta, "Fall of Empires: Breaking Byzantine-Tolerant SGD by Inner Product Manipulation",
        UAI 2019, https://arxiv.org/abs/1903.03936
    """

    epsilon: float = 0.6

    def crafted(self, honest: Float64, bad: int) -> Float64:
        return -self.epsilon * honest.mean(axis=0)


@final
@dataclass(frozen=True)
class MinMax(Attack):
    """μ - γ·σ with the largest γ for which it is no farther from any honest update than two of them from each other.

    References:
        V. Shejwalkar, A. Houmansadr, "Manipulating the Byzantine: Optimizing Model Poisoning Attacks and Defenses for
        Federated Learning", NDSS 2021, https://www.ndss-symposium.org/ndss-paper/manipulating-the-byzantine/
    """

    def crafted(self, honest: Float64, bad: int) -> Float64:
        middle, spread = honest.mean(axis=0), honest.std(axis=0)
        steepness = float(spread @ spread)
        if steepness == 0:
            return middle
        widest = max(float(np.square(honest - row).sum(axis=1).max()) for row in honest)
        # ‖μ - γσ - xᵢ‖² = widest is a quadratic equation in γ for each i.
        away = middle - honest
        slope = away @ spread
        room = np.maximum(widest - np.square(away).sum(axis=1), 0.0)
        gamma = float(((slope + np.sqrt(slope**2 + steepness * room)) / steepness).min())
        return middle - gamma * spread
