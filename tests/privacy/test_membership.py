from __future__ import annotations

import numpy as np
import pytest

from umbel.privacy.membership import Inference, by_loss


def drawn(shift: float, *, seed: int = 0, members: int = 500, others: int = 2000) -> Inference:
    rng = np.random.default_rng(seed)
    return Inference(shift + rng.standard_normal(members), rng.standard_normal(others))


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    found = Inference(np.array([1.0, 2.0]), np.array([0.0, 1.0, 3.0]))
    # Of six pairs 1 > 0, 2 > 0 and 2 > 1 are in order, and 1 against 1 is a tie.
    assert found.auc == pytest.approx(3.5 / 6)


def test_a_smaller_loss_makes_a_member() -> None:
    assert by_loss([0.1, 0.2], [1.0, 2.0]).auc == 1
    assert by_loss([1.0, 2.0], [0.1, 0.2]).auc == 0


def test_the_interval_has_the_true_area_nearly_always() -> None:
    # Two normal distributions one deviation apart: Φ(1/√2).
    inside = [low <= 0.7602 <= high for low, high in (drawn(1.0, seed=seed).auc_interval for seed in range(100))]
    assert sum(inside) >= 88


def test_few_examples_make_a_wide_interval_even_where_all_are_told() -> None:
    low, high = Inference(np.ones(3), np.zeros(100)).auc_interval
    assert low < 0.8
    assert high == 1


def test_what_is_caught_has_no_more_false_alarms_than_allowed() -> None:
    found = drawn(2.0)
    # Φ(2 - 2.326) of members are above where one of a hundred others is.
    assert found.caught(0.01) == pytest.approx(0.372, abs=0.08)
    assert found.caught_at_least(0.01) < found.caught(0.01)
    assert found.caught(0.0) <= found.caught(0.001) <= found.caught(0.01)


def test_guessing_catches_as_many_as_it_accuses() -> None:
    assert drawn(0.0).caught(0.1) == pytest.approx(0.1, abs=0.05)
    assert drawn(0.0).auc == pytest.approx(0.5, abs=0.05)
