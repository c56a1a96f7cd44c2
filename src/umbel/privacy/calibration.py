"""Calibration: what real releases of a strategy show of canaries, and how much noise there is in them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np

from umbel.arrays import Arrays
from umbel.dtypes import Float64
from umbel.message import Group, Update
from umbel.reducers import Reduction
from umbel.strategy import Strategy

_QUIET = 20_000
"""Elements that no canary touches: the deviation of so many numbers is known to half a percent."""


@final
@dataclass(frozen=True)
class Calibration:
    """What was measured, in units of the released model.

    Attributes:
        influence: how far one canary moves the model, on average.
        thinned: the same where only half of the canaries answered.
        deviation: the standard deviation of the noise on each element.
        correlation: between the noise of two releases.
    """

    influence: float
    thinned: float
    deviation: float
    correlation: float

    @property
    def noise_multiplier(self) -> float:
        """The noise's deviation over one client's influence, as the releases have it."""
        return self.deviation / self.influence

    def problems(self, promised: float, sensitivity: float = 1.0) -> Iterator[str]:
        """Sentences on what the releases do not keep; none where all is well.

        Args:
            promised: the noise multiplier that the accountant was told.
            sensitivity: the sum's, in units of one client's largest contribution.
        """
        wanted = promised * sensitivity
        if self.noise_multiplier < 0.9 * wanted:
            yield f"the noise is {self.noise_multiplier:.3g} times one client's influence, {wanted:.3g} is promised"
        if abs(self.thinned / self.influence - 1) > 0.2:
            yield (
                f"one client's influence is {self.influence:.3g}, and {self.thinned:.3g} where half of the others are "
                "gone: what the sum is divided by depends on who answers"
            )
        if abs(self.correlation) > 0.1:
            yield f"the noise of two releases is correlated ({self.correlation:.2f}); it must be drawn anew each time"


def calibrate(strategy: Strategy, *, canaries: int = 2000, claims: float = 1e6) -> Calibration:
    """Fold canaries into the real aggregation and look at what it releases.

    Each canary moves an element of its own by `claims`, and gives its update the weight `claims`: what does not clip or
    does not cap shows.

    Args:
        strategy: a private strategy whose one group is `delta`, and whose step takes the mean as it is.
        canaries: how many; the influence is known to about z / √canaries of itself.

    References:
        G. Andrew, P. Kairouz, S. Oh, A. Oprea, H. B. McMahan, V. Suriyakumar, "One-shot Empirical Privacy Estimation
        for Federated Learning", ICLR 2024, https://arxiv.org/abs/2302.03098
    """
    full, again = (_release(strategy, canaries, canaries, claims) for _ in range(2))
    half = _release(strategy, canaries, canaries // 2, claims)
    return Calibration(
        influence=float(full[:canaries].mean()),
        thinned=float(half[: canaries // 2].mean()),
        deviation=float(full[canaries:].std()),
        correlation=float(np.corrcoef(full[canaries:], again[canaries:])[0, 1]),
    )


def _release(strategy: Strategy, canaries: int, answering: int, claims: float) -> Float64:
    """The model after one round from zeros."""
    state = strategy.init(Arrays.of({"w": np.zeros(canaries + _QUIET)}))
    task = strategy.task(state, 1)
    total = strategy.reducer.start(strategy.schema(task, {}))
    for number in range(answering):
        change = np.zeros(canaries + _QUIET)
        change[number] = claims
        update = Update({"delta": Group(Arrays.of({"w": change}), claims)}, claims, 1)
        total.fold(strategy.open(update, task, {}))
    return strategy.step(state, Reduction(total.result(), canaries)).params["w"]
