"""Noise that clients make together: how much of it each adds, so that the smallest sum anybody opens has enough."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import final

from umbel.errors import NotSupported
from umbel.message import require
from umbel.privacy.lattice import LEAST_VARIANCE, MOST_VARIANCE

LEAST_BITS = 4
"""On a coarser grid most of an update would be cut off."""


@final
@dataclass(frozen=True, kw_only=True)
class Sharing:
    """Skellam noise by all clients of a secure sum, of which at least `noises` count.

    The numbers of a sum are multiples of a grid `bits` bits below the clip, and so is the noise. Who sees the sum has
    never seen it without.

    Args:
        noises: m, how many clients' noise an opened sum has at least, besides that of clients who are not honest.
        bits: how fine the grid is.
        honest_share: the share of the clients of whom it is believed that they add their noise and tell nobody.

    Example:
        >>> Sharing.among(10, threshold=7, honest_share=0.9, noise_multiplier=1.0, most_bits=20).noises
        6
    """

    noises: int
    bits: int
    honest_share: float = 1.0

    def __post_init__(self) -> None:
        require(
            type(self.noises) is int and self.noises >= 1 and type(self.bits) is int and 1 <= self.bits <= 52,
            f"noises and bits must be whole numbers from 1, got {self.noises!r} and {self.bits!r}",
        )
        require(
            0 < self.honest_share <= 1, f"honest_share must be above 0 and at most 1, got {self.honest_share!r}; try 1"
        )

    @classmethod
    def among(
        cls, clients: int, *, threshold: int, honest_share: float, noise_multiplier: float, most_bits: int
    ) -> Sharing:
        """What suits so many clients, of whom `threshold` stay at least.

        Raises:
            NotSupported: all that stay may be dishonest, or no table of noise is that wide or that narrow.
        """
        noises = threshold - dishonest(clients, honest_share)
        if noises < 1:
            raise NotSupported(
                f"honest_share={honest_share:g} of {clients} clients leaves {dishonest(clients, honest_share)} whose "
                f"noise may be missing, and sums of {threshold} are opened; raise honest_share or threshold_share"
            )
        # The clip is below two to the power of bits + 1 steps of the grid.
        widest = math.sqrt(MOST_VARIANCE * noises) / noise_multiplier
        bits = min(most_bits, math.floor(math.log2(widest)) - 1)
        found = cls(noises=noises, bits=max(1, bits), honest_share=honest_share)
        if bits < LEAST_BITS or found.variance(noise_multiplier, 2.0**bits) < LEAST_VARIANCE:
            raise NotSupported(
                f"noise_multiplier={noise_multiplier:g} is too {'large' if bits < LEAST_BITS else 'small'} for noise "
                f'that {noises} clients make; allow {"less" if bits < LEAST_BITS else "more"}, or use noise="server"'
            )
        return found

    def variance(self, noise_multiplier: float, steps: float) -> int:
        """μ of one client's noise, in steps of the grid, where the clip has so many `steps`: ⌈(z·C)² / m⌉."""
        return math.ceil((noise_multiplier * steps) ** 2 / self.noises)

    def least_summed(self, clients: int) -> int:
        """How many of `clients` have to be in a sum so that m honest ones are."""
        return self.noises + dishonest(clients, self.honest_share)


def dishonest(clients: int, honest_share: float) -> int:
    """Of how many clients nothing is believed."""
    return clients - math.floor(honest_share * clients + 1e-9)


def default_threshold(neighbourhood: int, share: float = 2 / 3) -> int:
    """⌊share·m⌋ + 1 of a neighbourhood of m.

    Example:
        >>> default_threshold(10)
        7
    """
    return min(neighbourhood, math.floor(share * neighbourhood + 1e-9) + 1)


def skellam_renyi(order: int, noise_multiplier: float, steps: float) -> float:
    """ε(α) ≤ α/(2z²) + min((2α - 1 + 6)/(4z⁴Δ²), 3/(2z²)): the Rényi divergence of Skellam noise with variance (z·Δ)².

    The bound is stated for the sensitivities Δ₁ and Δ₂ = Δ; of vectors of whole numbers Δ₁ is at most Δ₂².

    Args:
        order: α, a whole number of at least 2.
        steps: Δ, the clip in steps of the grid.

    References:
        N. Agarwal, P. Kairouz, Z. Liu, "The Skellam Mechanism for Differentially Private Federated Learning", NeurIPS
        2021, https://arxiv.org/abs/2110.04995
    """
    z = noise_multiplier
    return order / (2 * z**2) + min((2 * order + 5) / (4 * z**4 * steps**2), 3 / (2 * z**2))
