import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.data import IID, DirichletSizes, ExponentialSizes
from umbel.data.apportion import apportion
from umbel.data.dirichlet import dirichlet
from umbel.errors import ConfigError

law = settings(derandomize=True, max_examples=60, deadline=None)


@law
@given(st.integers(1, 30), st.integers(30, 300), st.integers(0, 99))
def test_iid_sizes_differ_by_one_at_most(num_clients, size, seed):
    sizes = IID(num_clients, seed=seed).split(size).sizes
    assert sizes.max() - sizes.min() <= 1


@law
@given(st.integers(1, 30), st.integers(150, 300), st.floats(1e-9, 1.0), st.integers(0, 5))
def test_exponential_sizes_never_grow_and_hold_the_minimum(num_clients, size, ratio, min_size):
    sizes = ExponentialSizes(num_clients, ratio=ratio, min_size=min_size).split(size).sizes
    assert sizes.min() >= min_size
    assert sizes.sum() == size
    assert (np.diff(sizes) <= 1).all()  # the largest gave one more than the next at most


def test_exponential_ratio_one_is_equal_sizes():
    assert ExponentialSizes(4, ratio=1).split(40).sizes.tolist() == [10, 10, 10, 10]


@pytest.mark.parametrize("ratio", [0, -0.5, 1.5, float("nan"), "x"])
def test_exponential_ratio_outside_its_range_is_refused(ratio):
    with pytest.raises(ConfigError, match=r"ratio must be .*got.*try"):
        ExponentialSizes(3, ratio=ratio)


def test_dirichlet_sizes_become_even_as_alpha_grows():
    variation = [DirichletSizes(20, alpha=a).split(20_000).heterogeneity().size_variation for a in (0.1, 1, 10, 1000)]
    assert variation == sorted(variation, reverse=True)
    assert variation[-1] < 0.06  # standard deviation of a share is about 1 / (20 * sqrt(1000)): 0.03 of the mean


@pytest.mark.parametrize(
    "kind", [DirichletSizes(10, alpha=0.05, min_size=7), ExponentialSizes(10, ratio=0.2, min_size=7)]
)
def test_min_size_is_met_up_to_the_last_sample(kind):
    assert kind.split(70).sizes.tolist() == [7] * 10
    assert kind.split(100).sizes.min() == 7
    with pytest.raises(ConfigError, match=r"needs 70 samples, the data has 69; at most min_size=6 is possible"):
        kind.split(69)


def test_min_size_zero_permits_empty_clients():
    sizes = DirichletSizes(50, alpha=0.01, min_size=0).split(100).sizes
    assert sizes.min() == 0
    assert sizes.sum() == 100


@law
@given(st.integers(0, 10_000), st.lists(st.floats(0, 1), min_size=1, max_size=20).filter(lambda w: sum(w) > 0.01))
def test_apportioned_shares_are_whole_complete_and_within_one_of_exact(total, weights):
    w = np.array(weights)
    shares = apportion(total, w)
    assert shares.sum() == total
    assert (np.abs(shares - total * w / w.sum()) < 1 + 1e-9).all()


@pytest.mark.parametrize("alpha", [5e-324, 1e-308, 1e-6, 0.5, 1e6, 1e300])
def test_dirichlet_draws_are_distributions_for_any_alpha(alpha):
    draw = dirichlet(np.random.default_rng(3), alpha, 7)
    assert np.isfinite(draw).all()
    assert draw.min() >= 0
    assert draw.sum() == pytest.approx(1)


def test_dirichlet_draws_have_the_mean_and_variance_of_the_distribution():
    rng = np.random.default_rng(0)
    draws = np.stack([dirichlet(rng, 0.5, 4) for _ in range(4000)])
    # Dirichlet(a, …, a) over k: mean 1/k, variance (k - 1) / (k^2 (k a + 1)) = 3 / (16 * 3) = 0.0625
    assert draws.mean(axis=0) == pytest.approx(np.full(4, 0.25), abs=0.02)
    assert draws.var(axis=0) == pytest.approx(np.full(4, 0.0625), abs=0.005)
