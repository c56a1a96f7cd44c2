"""Calibration: what real releases of a strategy show of canaries, and how much noise there is in them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays
from umbel.dtypes import Float64
from umbel.message import Group, Update
from umbel.reducers import Reduction
from umbel.strategy import Strategy

Answering: TypeAlias = NDArray[np.bool_]
"""Of each canary, whether it answers."""
Release: TypeAlias = Callable[[Answering], Float64]
"""The model after a round from zeros in which these canaries answered."""


@final
@dataclass(frozen=True)
class Canaries:
    """A cohort of clients (or examples) that each move elements of their own, and far more than they may.

    Args:
        count: how many; without a silent release influence is known to z / √count of itself.
        spread: how many elements each moves, all alike. What bounds each element but not the norm shows from 2 on.
        claims: how far each moves, and the weight that it claims to have.
        quiet: elements that no canary touches; the deviation of 40,000 numbers is known to a third of a percent.
    """

    count: int = 2000
    spread: int = 1
    claims: float = 1e6
    quiet: int = 40_000

    @property
    def size(self) -> int:
        """Elements of the model."""
        return self.count * self.spread + self.quiet

    def change(self, number: int) -> Float64:
        """What canary `number` wants to change."""
        change = np.zeros(self.size)
        change[number * self.spread : (number + 1) * self.spread] = self.claims / self.spread**0.5
        return change

    def scores(self, model: Float64) -> Float64:
        """How far the model was moved along each canary's direction."""
        own = model[: self.count * self.spread].reshape(self.count, self.spread)
        return own.sum(axis=1) / self.spread**0.5


@final
@dataclass(frozen=True)
class Calibration:
    """What was measured, in units of the released model.

    Attributes:
        influence: how far one canary moves the model, on average.
        thinned: the same where only half of the canaries answered.
        deviation: the standard deviation of the noise on each element.
        correlation: between the noise of two releases.
        tolerance: by what share the noise multiplier may be off for chance alone.
        answered: of each canary, whether it was among that half.
        scores: how far the noisy model of that half was moved along each canary's direction.
    """

    influence: float
    thinned: float
    deviation: float
    correlation: float
    tolerance: float
    answered: Answering = field(repr=False)
    scores: Float64 = field(repr=False)

    @property
    def noise_multiplier(self) -> float:
        """The noise's deviation over one client's influence, as the releases have it."""
        return self.deviation / self.influence if self.influence else float("inf")

    def problems(self, promised: float, sensitivity: float = 1.0) -> Iterator[str]:
        """Sentences on what the releases do not keep; none where all is well.

        Args:
            promised: the noise multiplier that the accountant was told.
            sensitivity: the sum's, in units of one client's largest contribution.
        """
        wanted, found = promised * sensitivity, self.noise_multiplier
        if found < (1 - self.tolerance) * wanted:
            yield f"the noise is {found:.3g} times one client's influence, {wanted:.3g} is promised"
        if self.influence <= 0:
            yield "a client has no influence at all: nothing can be said of its noise"
        elif abs(self.thinned / self.influence - 1) > 2 * self.tolerance:
            yield (
                f"one client's influence is {self.influence:.3g}, and {self.thinned:.3g} where half of the others are "
                "gone: what the sum is divided by depends on who answers"
            )
        if abs(self.correlation) > 0.1:
            yield f"the noise of two releases is correlated ({self.correlation:.2f}); it must be drawn anew each time"


def calibrate(release: Release, canaries: Canaries, *, silent: Release | None = None) -> Calibration:
    """Look at what releases show of canaries.

    Args:
        release: the real aggregation and its noise.
        silent: the same aggregation with noise of zero, which tells influences exactly; None takes `release`, whose
            noise then hides them to about z / √canaries.

    References:
        G. Andrew, P. Kairouz, S. Oh, A. Oprea, H. B. McMahan, V. Suriyakumar, "One-shot Empirical Privacy Estimation
        for Federated Learning", ICLR 2024, https://arxiv.org/abs/2302.03098
    """
    everybody = np.ones(canaries.count, np.bool_)
    # A coin each, as `one_run` counts on.
    half = np.random.default_rng().random(canaries.count) < 0.5
    full, thin, quiet = release(everybody), release(half), slice(canaries.count * canaries.spread, None)
    told = (full, thin) if silent is None else (silent(everybody), silent(half))
    return Calibration(
        influence=float(canaries.scores(told[0]).mean()),
        thinned=float(canaries.scores(told[1])[half].mean()),
        deviation=float(full[quiet].std()),
        correlation=_correlation(full[quiet], thin[quiet]),
        tolerance=0.1 if silent is None else 0.02,
        answered=half,
        scores=canaries.scores(thin),
    )


def server_half(strategy: Strategy, canaries: Canaries) -> Release:
    """Releases of a private strategy's server, to which clients send whatever they like.

    Args:
        strategy: its one group is `delta`, and its step takes a multiple of the mean.
    """

    def release(answering: Answering) -> Float64:
        state = strategy.init(Arrays.of({"w": np.zeros(canaries.size)}))
        task = strategy.task(state, 1)
        total = strategy.reducer.start(strategy.schema(task, {}))
        for number in np.flatnonzero(answering):
            group = Group(Arrays.of({"w": canaries.change(int(number))}), canaries.claims)
            total.fold(strategy.open(Update({"delta": group}, canaries.claims, 1), task, {}))
        return strategy.step(state, Reduction(total.result(), canaries.count)).params["w"]

    return release


def _correlation(one: Float64, other: Float64) -> float:
    """0 where there is no noise at all: that has a sentence of its own."""
    return float(np.corrcoef(one, other)[0, 1]) if one.std() and other.std() else 0.0
