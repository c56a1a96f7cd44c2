"""Integer noise has exactly the probabilities that it should have."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from umbel.errors import ConfigError
from umbel.privacy.lattice import Table, skellam

scipy_special = pytest.importorskip("scipy.special")
scipy_stats = pytest.importorskip("scipy.stats")
pytest.importorskip("cryptography")


def probabilities(variance: int, most: int) -> NDArray[np.float64]:
    """P(X = k) for k from -most to most, by the Bessel function."""
    return scipy_special.ive(np.abs(np.arange(-most, most + 1)), variance)


@pytest.mark.parametrize("variance", [256, 4096])
def test_draws_pass_a_chi_square_test_against_exact_probabilities(variance: int) -> None:
    count, most = 1_000_000, int(3 * variance**0.5)
    drawn = skellam(variance).draw(count)
    inside = drawn[np.abs(drawn) <= most] + most
    expected = probabilities(variance, most) * count
    found = np.bincount(inside, minlength=expected.size)
    # The rest of both tails is one cell more.
    found, expected = np.append(found, count - inside.size), np.append(expected, count - expected.sum())
    statistic = ((found - expected) ** 2 / expected).sum()
    assert 1e-6 < scipy_stats.chi2.sf(statistic, found.size - 1) < 1 - 1e-6


@pytest.mark.parametrize("variance", [256, 5000])
def test_the_table_holds_the_tail_function_into_its_last_bits(variance: int) -> None:
    table = skellam(variance)
    tails = (table.high.astype(float) * 2.0**64 + table.low.astype(float)) * 2.0**-127
    masses = probabilities(variance, 2 * table.reach)[2 * table.reach :]
    exact = 2 * np.cumsum(masses[::-1])[::-1][1 : table.reach + 1][::-1]
    likely = exact > 2.0**-90
    np.testing.assert_allclose(tails[likely], exact[likely], rtol=1e-9)
    assert tails[0] < 2.0**-100


def test_a_word_that_falls_on_a_boundary_is_decided_by_the_next() -> None:
    # P(|X| ≥ 1) = 1/2 + 2^-65, P(|X| ≥ 2) = 1/2 - 2^-63 - 2^-65.
    high = np.array([2**62 - 2, 2**62], np.uint64)
    table = Table(high, np.array([2**63 + 2**62, 2**62], np.uint64))

    def drawn(*words: int) -> int:
        left = list(words)

        def next_words(count: int) -> NDArray[np.uint64]:
            return np.array([left.pop(0) for _ in range(count)], np.uint64)

        return int(table.draw(1, next_words)[0])

    plus, minus = 0, 1
    assert drawn((2**62 - 3) << 1 | plus) == 2
    assert drawn((2**62 - 3) << 1 | minus) == -2
    assert drawn((2**62 - 1) << 1 | plus) == 1
    assert drawn((2**62 + 1) << 1 | plus) == 0
    assert drawn(2**62 << 1 | plus, 2**62 - 1) == 1
    assert drawn(2**62 << 1 | plus, 2**62) == 0
    assert drawn((2**62 - 2) << 1 | plus, 2**63 + 2**62 - 1) == 2
    assert drawn((2**62 - 2) << 1 | plus, 2**63 + 2**62) == 1


def test_no_two_draws_are_the_same() -> None:
    assert not np.array_equal(skellam(4096).draw(100), skellam(4096).draw(100))


def test_the_widest_table_draws_with_its_variance() -> None:
    drawn = skellam(2**26).draw(1_000_000)
    assert drawn.std() == pytest.approx(2**13, rel=0.005)
    assert abs(drawn.mean()) < 5 * 2**13 / 1000


def test_a_variance_that_no_table_is_made_for_is_refused() -> None:
    with pytest.raises(ConfigError, match="variance must be from 256"):
        skellam(255)
