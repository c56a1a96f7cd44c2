"""`AdaptiveClip`: how a clipping bound follows what there is to clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from umbel.message import is_number, require
from umbel.privacy.amounts import check_positive, short


@final
@dataclass(frozen=True, kw_only=True)
class AdaptiveClip:
    """A clipping bound that follows a quantile of the updates' norms: C ← C · exp(-η · (b̃ - γ)).

    b̃ is the noisy share of clients whose update was *not* clipped. Telling it costs privacy, which is taken from the
    noise of the updates so that both together cost what the plan's noise multiplier says.

    Args:
        quantile: γ, the share of clients that shall not be clipped, above 0 and below 1.
        learning_rate: η, above 0.
        count_noise: the standard deviation of the noise on the count of these, above half the plan's noise
            multiplier; None is a twentieth of the cohort, at least as much as the noise multiplier.

    References:
        G. Andrew, O. Thakkar, H. B. McMahan, S. Ramaswamy, "Differentially Private Learning with Adaptive Clipping",
        NeurIPS 2021, https://arxiv.org/abs/1905.03871
    """

    quantile: float = 0.5
    learning_rate: float = 0.2
    count_noise: float | None = None

    def __post_init__(self) -> None:
        require(
            is_number(self.quantile) and 0 < self.quantile < 1,
            f"quantile must be above 0 and below 1, got {self.quantile!r}; try 0.5",
        )
        require(
            is_number(self.learning_rate) and 0 < self.learning_rate <= 10,
            f"learning_rate must be above 0 and at most 10, got {short(self.learning_rate)}; try 0.2",
        )
        if self.count_noise is not None:
            check_positive("count_noise", self.count_noise, 5.0)
