"""How much privacy releases cost together: privacy loss distributions, and Rényi divergences as a second opinion."""

from __future__ import annotations

import importlib
import logging
import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from umbel.errors import ConfigError
from umbel.message import require
from umbel.privacy.correlation import Correlation
from umbel.privacy.mechanism import DpSgd, Mechanism, Sampling
from umbel.privacy.sharing import Sharing, skellam_renyi

_LEAST_NOISE, _MOST_NOISE, _PRECISION = 2.0**-6, 2.0**14, 1e-3
_POWERS = [2.0**k for k in range(-6, 15)]
MOST_RELEASES = 2**24
_ORDERS = [*range(2, 256), *(2**k + 2 ** (k - 3) * j for k in range(8, 20) for j in range(8))]


@lru_cache(4096)
def epsilon(mechanism: Mechanism, releases: int, delta: float, before: tuple[int, ...] = ()) -> float:
    """ε such that `releases` of this mechanism together are (ε, `delta`)-differentially private.

    Poisson cohorts, the steps of DP-SGD and runs that ask everyone are accounted with privacy loss distributions under
    add-or-remove; cohorts of a fixed size with Rényi divergences under replace-one, for which alone the amplification
    is proved; noise that clients make together with Rényi divergences under zero-out.

    Args:
        releases: at least 0.
        delta: above 0 and below 1.
        before: where noise is correlated, how many releases had noise that these know nothing of: it is remembered in
            memory, and begins anew where a run goes on in another process.

    Raises:
        ConfigError: dp-accounting is not installed, or `delta` is none.

    References:
        V. Doroshenko, B. Ghazi, P. Kamath, R. Kumar, P. Manurangsi, "Connect the Dots: Tighter Discrete Approximations
        of Privacy Loss Distributions", PETS 2022, https://arxiv.org/abs/2207.04380
        Y.-X. Wang, B. Balle, S. P. Kasiviswanathan, "Subsampled Rényi Differential Privacy and Analytical Moments
        Accountant", AISTATS 2019, https://arxiv.org/abs/1808.00087
    """
    _check(releases * mechanism.steps, delta)
    if mechanism.correlation is not None:
        return _correlated_epsilon(mechanism, (*before, releases), delta)
    if releases == 0:
        return 0.0
    if mechanism.sampling == "fixed" or mechanism.sharing is not None:
        return renyi_epsilon(mechanism, releases, delta)
    count = releases * mechanism.steps
    if mechanism.probability == 1:
        return _gaussian_epsilon(math.sqrt(count) / mechanism.noise_multiplier, delta)
    loss = _loss(mechanism.noise_multiplier, mechanism.probability)
    return float(loss.self_compose(count).get_epsilon_for_delta(delta))


def _correlated_epsilon(mechanism: Mechanism, parts: tuple[int, ...], delta: float) -> float:
    """ε of parts with noise that is independent of each other's, whose squared sensitivities add up."""
    correlation = mechanism.correlation
    assert correlation is not None
    moved = math.hypot(*(correlation.sensitivity(rounds) for rounds in parts if rounds))
    whole = mechanism.noise_multiplier * correlation.sensitivity(correlation.rounds)
    return _gaussian_epsilon(moved / whole, delta) if moved else 0.0


@lru_cache(16)
def _loss(noise_multiplier: float, probability: float) -> Any:
    """The privacy loss distribution of one sum; those of many are its convolutions."""
    return _library("pld.privacy_loss_distribution").from_gaussian_mechanism(
        noise_multiplier,
        value_discretization_interval=1e-4,
        sampling_prob=probability,
    )


def _gaussian_epsilon(mu: float, delta: float) -> float:
    """The least ε ≥ 0 with Φ(μ/2 - ε/μ) - exp(ε)·Φ(-μ/2 - ε/μ) ≤ δ, rounded up: Gaussian noise without sampling.

    References:
        B. Balle, Y.-X. Wang, "Improving the Gaussian Mechanism for Differential Privacy: Analytical Calibration and
        Optimal Denoising", ICML 2018, https://arxiv.org/abs/1805.06530
    """
    _library()
    log_ndtr: Any = importlib.import_module("scipy.special").log_ndtr

    def holds(eps: float) -> bool:
        first, second = float(log_ndtr(mu / 2 - eps / mu)), eps + float(log_ndtr(-mu / 2 - eps / mu))
        return math.exp(first) * -math.expm1(min(0.0, second - first)) <= delta

    low, high = 0.0, 1.0
    while not holds(high):
        low, high = high, high * 2
    while high - low > 1e-9 * high + 1e-12:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def renyi_epsilon(mechanism: Mechanism, releases: int, delta: float) -> float:
    """An ε from Rényi divergences: looser than `epsilon`, and computed in another way. Arguments as there."""
    _check(releases * mechanism.steps, delta)
    if releases == 0:
        return 0.0
    if mechanism.correlation is not None:
        return epsilon(mechanism, releases, delta)
    if mechanism.sharing is not None:
        z, steps = mechanism.noise_multiplier, 2.0**mechanism.sharing.bits
        spent = [releases * skellam_renyi(order, z, steps) for order in _ORDERS]
        return float(_library("rdp").compute_epsilon(_ORDERS, spent, delta)[0])
    relation = _library().NeighboringRelation
    named = {"add-or-remove": relation.ADD_OR_REMOVE_ONE, "replace-one": relation.REPLACE_ONE}
    accountant = _library("rdp").RdpAccountant(neighboring_relation=named[mechanism.adjacency])
    accountant.compose(_event(mechanism), releases * mechanism.steps)
    return float(accountant.get_epsilon(delta))


def _check(releases: int, delta: float) -> None:
    require(0 < delta < 1, f"delta must be above 0 and below 1, got {delta!r}; try less than 1 / number of clients")
    require(0 <= releases <= MOST_RELEASES, f"releases must be from 0 to {MOST_RELEASES}, got {releases!r}")


def _event(mechanism: Mechanism) -> Any:
    dp = _library()
    noise = dp.GaussianDpEvent(mechanism.noise_multiplier)
    if mechanism.sampling == "fixed":
        return dp.SampledWithoutReplacementDpEvent(mechanism.clients, int(mechanism.cohort), noise)
    return noise if mechanism.probability == 1 else dp.PoissonSampledDpEvent(mechanism.probability, noise)


def noise_for(
    target_epsilon: float,
    delta: float,
    releases: int,
    *,
    sampling: Sampling,
    cohort: float,
    clients: int,
    shared: Callable[[float], Sharing] | None = None,
    correlation: Correlation | None = None,
    dp_sgd: DpSgd | None = None,
) -> float:
    """The least noise multiplier, to a thousandth of itself, whose releases together cost at most `target_epsilon`.

    Args:
        shared: how clients make noise of a multiplier together; None if they do not.
        correlation: how the noise of different rounds belongs together; None is not at all.
        dp_sgd: how clients' own steps are drawn; None is noise on sums over clients.

    Raises:
        ConfigError: no noise of a size that leaves anything of a model is enough.
    """

    def cost(noise: float, of: Callable[[Mechanism, int, float], float] = epsilon) -> float:
        sharing = None if shared is None else shared(noise)
        mechanism = Mechanism(
            noise_multiplier=noise,
            sampling=sampling,
            cohort=cohort,
            clients=clients,
            sharing=sharing,
            correlation=correlation,
            dp_sgd=dp_sgd,
        )
        return of(mechanism, releases, delta)

    # Rényi divergences are quick and tell no less; distributions of much less noise than is wanted are very long.
    rough = (noise for noise in _POWERS if cost(noise, renyi_epsilon) <= target_epsilon)
    high = next(rough, 1.0)
    while cost(high) > target_epsilon:
        high *= 2
        if high > _MOST_NOISE:
            raise ConfigError(
                f"target_epsilon={target_epsilon} needs a noise_multiplier above {_MOST_NOISE:g}; allow a larger "
                "epsilon, fewer rounds or more clients"
            )
    low = high / 2
    while low > _LEAST_NOISE and cost(low) <= target_epsilon:
        low, high = low / 2, low
    if cost(low) <= target_epsilon:
        return low
    brent: Any = importlib.import_module("scipy.optimize").brentq

    def too_much(log: float) -> float:
        return math.log(max(cost(math.exp(log)), 1e-300) / target_epsilon)

    found = math.exp(brent(too_much, math.log(low), math.log(high), xtol=_PRECISION / 4))
    while cost(found) > target_epsilon:
        found *= 1 + _PRECISION / 2
    return min(found, high)


def affordable(
    mechanism: Mechanism, target_epsilon: float, delta: float, most: int, before: tuple[int, ...] = ()
) -> int:
    """How many releases, of at most `most`, cost no more than `target_epsilon` together. `before` as in `epsilon`."""
    if epsilon(mechanism, most, delta, before) <= target_epsilon:
        return most
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if epsilon(mechanism, middle, delta, before) <= target_epsilon else (low, middle)
    return low


def _library(part: str = "") -> Any:
    try:
        found = importlib.import_module(f"dp_accounting.{part}" if part else "dp_accounting")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != "dp_accounting":
            raise
        raise ConfigError(
            "differential privacy needs dp-accounting; install it with: pip install 'umbel[privacy]'"
        ) from None
    # It tells of Rényi orders that it leaves out, which makes a bound looser and never wrong.
    logging.getLogger("absl").setLevel(logging.ERROR)
    return found
