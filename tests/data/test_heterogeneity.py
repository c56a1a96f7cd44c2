import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.data import IID, Classes, Partition, Shards
from umbel.data.heterogeneity import jensen_shannon, mean_pairwise, measure

law = settings(derandomize=True, max_examples=60, deadline=None)
tables = st.integers(1, 6).flatmap(
    lambda k: st.lists(st.lists(st.integers(0, 9), min_size=k, max_size=k).filter(any), min_size=2, max_size=8)
)


def of(counts):
    array = np.array(counts)
    return measure(array.sum(axis=1), array)


def test_equal_clients_are_at_distance_zero():
    assert of([[3, 1], [6, 2], [9, 3]]).pairwise_label_distance == pytest.approx(0, abs=1e-7)
    assert of([[3, 1], [6, 2], [9, 3]]).global_label_distance == pytest.approx(0, abs=1e-7)


def test_clients_without_a_common_label_are_at_distance_one():
    assert of([[3, 0, 0], [0, 6, 0], [0, 0, 1]]).pairwise_label_distance == pytest.approx(1)


def test_the_distance_is_the_one_of_scipy():
    from scipy.spatial.distance import jensenshannon

    rng = np.random.default_rng(0)
    p, q = rng.dirichlet(np.ones(6), size=2)
    assert jensen_shannon(p, q) == pytest.approx(jensenshannon(p, q, base=2))


@law
@given(tables)
def test_numbers_stay_in_range_and_do_not_depend_on_the_order_of_clients(counts):
    one, other = of(counts), of(counts[::-1])
    assert 0 <= one.pairwise_label_distance <= 1
    assert 0 <= one.global_label_distance < 1
    assert 1 - 1e-9 <= one.effective_clients <= len(counts) + 1e-9
    # Kish: K / (1 + CV^2)
    assert one.effective_clients == pytest.approx(len(counts) / (1 + one.size_variation**2))
    assert one.pairwise_label_distance == pytest.approx(other.pairwise_label_distance)


def test_one_giant_leaves_one_effective_client():
    assert measure(np.array([10**9, 1, 1]), None).effective_clients == pytest.approx(1, abs=1e-6)


def test_without_labels_only_sizes_are_measured():
    measured = IID(4).split(8).heterogeneity()
    assert (measured.pairwise_label_distance, measured.global_label_distance) == (None, None)
    assert (measured.size_variation, measured.effective_clients) == (0.0, 4.0)


def test_empty_clients_are_left_out_of_the_distances():
    parts = (np.array([0, 1]), np.array([], dtype=np.int64), np.array([2, 3]))
    partition = Partition(parts, ("0", "1", "2"), Classes(np.array([0, 0, 1, 1]), ("a", "b")))
    assert partition.heterogeneity().pairwise_label_distance == pytest.approx(1)


def test_a_single_client_is_at_distance_zero_from_all_others():
    assert IID(1).split([0, 1, 1]).heterogeneity().pairwise_label_distance == 0.0


def test_drawn_pairs_are_never_a_client_with_itself():
    assert mean_pairwise(np.eye(20), pairs_at_most=150) == pytest.approx(1)


def test_the_sampled_mean_of_many_clients_agrees_with_the_exact_one():
    # 2 000 clients with one of ten labels each, 200 per label: two clients share a label in 199 of 1 999 pairs
    partition = Shards(2000, shards_per_client=1).split(np.arange(4000) % 10)
    assert partition.heterogeneity().pairwise_label_distance == pytest.approx(1 - 199 / 1999, abs=0.002)
