from __future__ import annotations

import math

import pytest

from umbel.errors import ConfigError
from umbel.privacy.accounting import affordable, epsilon, noise_for, renyi_epsilon
from umbel.privacy.mechanism import Mechanism, Sampling

pytest.importorskip("dp_accounting")

# (noise multiplier, sampling rate, releases, delta, epsilon, epsilon from Rényi divergences). The first two are also
# what the closed form of Balle and Wang (2018) gives; all were computed with dp-accounting 0.6.0.
REFERENCE = [
    (1.0, 1.0, 1, 1e-5, 4.3772, 4.7285),
    (10.0, 1.0, 100, 1e-5, 4.3772, 4.7285),
    (4.0, 0.01, 10_000, 1e-5, 0.947, 1.036),
    (1.1, 256 / 60_000, 14_063, 1e-5, 2.382, 2.597),
    (1.0, 0.001, 100_000, 3.16e-6, 1.753, 1.899),
    (1.0, 0.001, 1_000_000, 2.51e-7, 7.069, 7.504),
    (1.0, 0.1, 200, 1e-5, 9.971, 11.063),
    (0.8, 0.001, 2_000, 1e-8, 1.112, 2.119),
]


def poisson(noise: float, rate: float) -> Mechanism:
    return Mechanism(noise_multiplier=noise, sampling="poisson", cohort=rate * 60_000, clients=60_000)


@pytest.mark.parametrize(("noise", "rate", "releases", "delta", "wanted", "renyi"), REFERENCE)
def test_reference_rows_are_met(
    noise: float, rate: float, releases: int, delta: float, wanted: float, renyi: float
) -> None:
    mechanism = poisson(noise, rate)
    assert epsilon(mechanism, releases, delta) == pytest.approx(wanted, rel=0.005)
    assert renyi_epsilon(mechanism, releases, delta) == pytest.approx(renyi, rel=0.005)


def gaussian_delta(mu: float, eps: float) -> float:
    def phi(x: float) -> float:
        return math.erfc(-x / math.sqrt(2)) / 2

    return phi(mu / 2 - eps / mu) - math.exp(eps) * phi(-mu / 2 - eps / mu)


@pytest.mark.parametrize("noise", [0.7, 1.0, 3.0])
def test_one_release_to_everyone_is_the_closed_form(noise: float) -> None:
    every = Mechanism(noise_multiplier=noise, sampling="every", cohort=5, clients=5)
    assert gaussian_delta(1 / noise, epsilon(every, 1, 1e-5)) == pytest.approx(1e-5, rel=0.01)


def test_fixed_cohorts_are_not_accounted_as_poisson_ones() -> None:
    fixed = Mechanism(noise_multiplier=1.0, sampling="fixed", cohort=10, clients=100)
    assert fixed.adjacency == "replace-one"
    assert epsilon(fixed, 200, 1e-5) == pytest.approx(20.7, rel=0.005)


@pytest.mark.parametrize("sampling", ["poisson", "every", "fixed"])
def test_noise_for_a_target_meets_it_and_hardly_more(sampling: Sampling) -> None:
    cohort = 100.0 if sampling == "every" else 10.0
    noise = noise_for(4.0, 1e-5, 20, sampling=sampling, cohort=cohort, clients=100)
    found = Mechanism(noise_multiplier=noise, sampling=sampling, cohort=cohort, clients=100)
    assert 3.9 < epsilon(found, 20, 1e-5) <= 4.0


def test_affordable_is_the_last_release_within_the_budget() -> None:
    mechanism = poisson(1.0, 0.01)
    most = affordable(mechanism, 1.0, 1e-5, 1000)
    assert 0 < most < 1000
    assert epsilon(mechanism, most, 1e-5) <= 1.0 < epsilon(mechanism, most + 1, 1e-5)


def test_a_delta_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="delta"):
        epsilon(poisson(1.0, 0.5), 1, 0.0)
