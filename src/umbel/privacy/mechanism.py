"""What one release of a run is, for an accountant: Gaussian noise on a sum over a cohort that was drawn in some way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, final

from umbel.message import is_number, require
from umbel.privacy.amounts import short
from umbel.privacy.correlation import Correlation
from umbel.privacy.sharing import Sharing

Sampling: TypeAlias = Literal["poisson", "fixed", "every", "turns"]
Adjacency: TypeAlias = Literal["add-or-remove", "replace-one", "zero-out"]


MOST_STEPS = 2**20
LEAST_RATE = 2.0**-40
"""Draws have 53 bits."""


@final
@dataclass(frozen=True, kw_only=True)
class DpSgd:
    """A client's training as releases of its own: each step has noise on a sum over examples drawn by themselves.

    Args:
        sample_rate: with what probability each example is in a step, from 2^-40 to 1.
        local_steps: how many steps a round has, from 1.

    References:
        M. Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, https://arxiv.org/abs/1607.00133
    """

    sample_rate: float
    local_steps: int

    def __post_init__(self) -> None:
        require(
            is_number(self.sample_rate) and LEAST_RATE <= self.sample_rate <= 1,
            f"sample_rate must be from {LEAST_RATE:g} to 1, got {short(self.sample_rate)}; try 0.05",
        )
        require(
            type(self.local_steps) is int and 1 <= self.local_steps <= MOST_STEPS,
            f"local_steps must be a whole number from 1 to {MOST_STEPS}, got {short(self.local_steps)}; try 20",
        )


@final
@dataclass(frozen=True, kw_only=True)
class Mechanism:
    """Gaussian noise of standard deviation `noise_multiplier` · sensitivity on a sum over a cohort.

    Args:
        noise_multiplier: the noise's standard deviation over the sum's sensitivity *under the sampling's adjacency*,
            above 0.
        sampling: "poisson" takes each client by itself with probability `cohort / clients`, "fixed" takes `cohort` of
            the `clients` without replacement, "every" takes all; with "turns" each has one now and then.
        cohort, clients: how many are asked (on average), of how many; 0 < cohort ≤ clients.
        alone: whether each client's update is a release of its own, which might be any other's.
        correlation: how the noise of different rounds belongs together; the noise multiplier is that of all rounds.
        sharing: how the clients of a secure sum make the noise together; None is noise that is added afterwards.
        dp_sgd: how each client's own steps are drawn, if the noise is in those; None is noise on sums over clients.

    Example:
        >>> Mechanism(noise_multiplier=1.0, sampling="poisson", cohort=10, clients=100).adjacency
        'add-or-remove'
    """

    noise_multiplier: float
    sampling: Sampling
    cohort: float
    clients: int
    sharing: Sharing | None = None
    alone: bool = False
    correlation: Correlation | None = None
    dp_sgd: DpSgd | None = None

    def __post_init__(self) -> None:
        require(self.noise_multiplier > 0, f"noise_multiplier must be above 0, got {self.noise_multiplier!r}; try 1.0")
        require(
            0 < self.cohort <= self.clients,
            f"cohort must be above 0 and at most the {self.clients} clients, got {self.cohort!r}",
        )
        require(
            self.sampling != "fixed" or float(self.cohort).is_integer(),
            f'with sampling="fixed" the cohort must be a whole number of clients, got {self.cohort!r}',
        )
        require(
            (self.sharing is None and not self.alone and self.dp_sgd is None) or self.sampling == "every",
            f'noise of clients goes with sampling="every", got {self.sampling!r}',
        )

        require(
            (self.sampling == "turns") == (self.correlation is not None),
            f'correlated noise goes with sampling="turns", got {self.sampling!r}',
        )

    @property
    def adjacency(self) -> Adjacency:
        """Between which data sets it hides the difference: fixed cohorts only hide who is replaced by whom.

        Who takes part in a secure sum shows, so noise of its clients hides whether one of them had anything to say.
        """
        if self.sharing is not None:
            return "zero-out"
        return "replace-one" if self.alone or self.sampling == "fixed" else "add-or-remove"

    @property
    def sensitivity(self) -> float:
        """The sum's sensitivity, in units of the largest contribution of one client: replacing one moves it twice."""
        return 2.0 if self.alone or self.sampling == "fixed" else 1.0

    @property
    def probability(self) -> float:
        """With what probability the one who is hidden is in a release."""
        return self.cohort / self.clients if self.dp_sgd is None else self.dp_sgd.sample_rate

    @property
    def steps(self) -> int:
        """How many sums with noise a release is made of."""
        return 1 if self.dp_sgd is None else self.dp_sgd.local_steps
