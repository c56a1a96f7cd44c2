"""Noise that is correlated over rounds: what one round adds, later ones take away, so that sums of rounds have less."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import numpy as np

from umbel.dtypes import Float64
from umbel.message import require
from umbel.privacy.noise import Draw


@final
@dataclass(frozen=True, kw_only=True)
class Correlation:
    """The matrix mechanism with a buffered linear Toeplitz matrix: C[t, s] = c(t - s), c(j) = λʲ · mean(xᵢʲ).

    The noise of the rounds is C⁻¹z for independent z, so the sums Σ x + C⁻¹z tell as much as Cx + z. What one client
    moves of Cx is ‖Σ C[·, s]‖ over the rounds s of its turns, the clip being 1. The xᵢ are the nodes of the quadrature
    that gives the first 2·`buffers` coefficients of the root of the matrix of running sums at λ = 1.

    Args:
        rounds: for how many the noise is made, at least 1.
        separation: b, a client's turns are as many rounds apart at least.
        buffers: how many vectors of the model's size are kept in memory.
        decay: λ, from 0 (independent noise) to 1.

    References:
        B. Dvijotham, H. B. McMahan, K. Pillutla, T. Steinke, A. Thakurta, "Efficient and Near-Optimal Noise Generation
        for Streaming Differential Privacy", FOCS 2024, https://arxiv.org/abs/2404.16706
        N. P. Kalinin, C. H. Lampert, "Banded Square Root Matrix Factorization for Differentially Private Model
        Training", NeurIPS 2024, https://arxiv.org/abs/2405.13763
    """

    rounds: int
    separation: int
    buffers: int = 4
    decay: float = 1.0

    def __post_init__(self) -> None:
        for name, most in (("rounds", 2**20), ("separation", 2**20), ("buffers", 64)):
            value = getattr(self, name)
            require(type(value) is int and 1 <= value <= most, f"{name} must be from 1 to {most}, got {value!r}")
        require(0 <= self.decay <= 1, f"decay must be from 0 to 1, got {self.decay!r}")

    @classmethod
    def fitting(cls, rounds: int, separation: int, buffers: int = 4) -> Correlation:
        """The one of the least error of the running sums, of thirty decays."""
        found = [0.0, 1.0, *(1 - 2.0 ** (-i / 2) for i in range(1, 29))]
        made = [cls(rounds=rounds, separation=separation, buffers=buffers, decay=decay) for decay in found]
        return min(made, key=lambda one: one.error)

    @property
    def nodes(self) -> Float64:
        """λ·xᵢ, xᵢ = cos²((2i - 1)π / 4m)."""
        odd = 2 * np.arange(self.buffers) + 1
        return self.decay * np.cos(odd * math.pi / (4 * self.buffers)) ** 2

    def coefficients(self, count: int) -> Float64:
        """c(0) = 1, …, c(count - 1): not negative, and never more than the one before."""
        return (self.nodes[:, None] ** np.arange(count)).mean(axis=0)

    def sensitivity(self, rounds: int) -> float:
        """How far one client moves Cx in so many rounds, whichever are its turns, its updates being of norm 1 at most.

        As no coefficient is negative, updates in one direction move it furthest; as they fall, earliest turns do.
        """
        return _sensitivity(self, rounds)

    @property
    def error(self) -> float:
        """The root mean square of the running sums' noise, over that of one round of one client without correlation."""
        noise = Toeplitz(self)
        impulse = np.array([noise.next(np.array([1.0 if at == 0 else 0.0]))[0] for at in range(self.rounds)])
        sums = np.cumsum(impulse)
        squares = float(((self.rounds - np.arange(self.rounds)) * sums**2).sum())
        return self.sensitivity(self.rounds) * math.sqrt(squares / self.rounds)


@lru_cache(1024)
def _sensitivity(of: Correlation, rounds: int) -> float:
    coefficients, total = of.coefficients(rounds), np.zeros(rounds)
    for turn in range(0, rounds, of.separation):
        total[turn:] += coefficients[: rounds - turn]
    return float(np.linalg.norm(total))


@final
class Toeplitz:
    """C⁻¹z, one round after the other: y(t) = z(t) - mean(Sᵢ), Sᵢ ← λxᵢ·(Sᵢ + y(t)).

    What it remembers would tell the noise of all rounds so far: it is in memory alone.
    """

    def __init__(self, of: Correlation) -> None:
        self._of, self._nodes = of, of.nodes
        self._sums: list[Float64] = []

    def __reduce__(self) -> tuple[type[Toeplitz], tuple[Correlation]]:
        """A copy, in a worker process for one, knows nothing of the noise so far."""
        return Toeplitz, (self._of,)

    def next(self, fresh: Float64) -> Float64:
        """The noise of the next round, given numbers that are independent of all others."""
        if not self._sums:
            self._sums = [np.zeros(fresh.size) for _ in self._nodes]
        made = fresh - sum(self._sums) / len(self._sums)
        for node, held in zip(self._nodes, self._sums, strict=True):
            held += made
            held *= node
        return made


@final
class Correlated:
    """A source of normal numbers whose draws, one for each round, are correlated."""

    def __init__(self, of: Correlation, source: Draw) -> None:
        self.source, self._noise = source, Toeplitz(of)

    def __call__(self, count: int) -> Float64:
        return self._noise.next(self.source(count))
