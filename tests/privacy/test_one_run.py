from __future__ import annotations

import numpy as np
import pytest

from umbel.privacy.one_run import lower_bound

pytest.importorskip("scipy")


def guessed(noise: float, *, seed: int = 0, count: int = 2000) -> float:
    rng = np.random.default_rng(seed)
    answered = rng.random(count) < 0.5
    return lower_bound(answered + noise * rng.standard_normal(count), answered, 1e-5)


def test_a_gaussian_release_is_never_refuted_and_one_with_a_twentieth_of_its_noise_is() -> None:
    # One release at z = 1 and δ = 1e-5 is 4.377 by the closed form of Balle and Wang.
    assert all(0.5 < guessed(1.0, seed=seed) < 4.377 for seed in range(20))
    assert guessed(1 / 20) > 4.377


def test_scores_without_canaries_refute_nothing() -> None:
    assert guessed(1e9) == 0


def test_the_bound_grows_with_the_number_of_canaries() -> None:
    assert guessed(0.0, count=500) < guessed(0.0) < np.log(2000)


def test_a_large_delta_excuses_more() -> None:
    answered = np.arange(2000) % 2 == 0
    assert lower_bound(answered * 1.0, answered, 1e-3) < lower_bound(answered * 1.0, answered, 0.0)
