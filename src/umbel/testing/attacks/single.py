"""Attacks of bad clients that see nothing but their own update."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

import numpy as np

from umbel.dtypes import Float64
from umbel.testing.attacks.attack import Attack


@final
@dataclass(frozen=True)
class SignFlip(Attack):
    """-factor·x.

    Example:
        >>> SignFlip().sent(np.array([1.0, -2.0]), np.random.default_rng(0))
        array([-1.,  2.])
    """

    factor: float = 1.0

    def sent(self, update: Float64, rng: np.random.Generator) -> Float64:
        return -self.factor * update


@final
@dataclass(frozen=True)
class Scaling(Attack):
    """factor·x: what a client does whose own update is to replace the model.

    References:
        E. Bagdasaryan, A. Veit, Y. Hua, D. Estrin, V. Shmatikov, "How To Backdoor Federated Learning", AISTATS 2020,
        https://arxiv.org/abs/1807.00459
    """

    factor: float = 50.0

    def sent(self, update: Float64, rng: np.random.Generator) -> Float64:
        return self.factor * update


@final
@dataclass(frozen=True)
class GaussianNoise(Attack):
    """A random direction, `factor` times as long as x."""

    factor: float = 10.0

    def sent(self, update: Float64, rng: np.random.Generator) -> Float64:
        noise = rng.standard_normal(update.size)
        return noise * (self.factor * float(np.linalg.norm(update)) / max(float(np.linalg.norm(noise)), 1e-300))


@final
@dataclass(frozen=True)
class FreeRider(Attack):
    """Nothing was learned: a little noise about zero, `factor` times as long as x, so that it looks like work."""

    factor: float = 0.01

    def sent(self, update: Float64, rng: np.random.Generator) -> Float64:
        return GaussianNoise(self.factor).sent(update, rng)


@final
@dataclass(frozen=True)
class NaNBomb(Attack):
    """x with one NaN in it: it is refused before any reducer sees it."""

    def sent(self, update: Float64, rng: np.random.Generator) -> Float64:
        result = update.copy()
        result[int(rng.integers(update.size))] = np.nan
        return result
