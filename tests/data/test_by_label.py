import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.data import DirichletLabels, PathologicalClasses, Shards
from umbel.errors import ConfigError

law = settings(derandomize=True, max_examples=40, deadline=None)
TEN = np.arange(1000) % 10


def test_label_skew_falls_as_alpha_grows():
    skew = [
        DirichletLabels(10, alpha=a).split(TEN).heterogeneity().pairwise_label_distance for a in (0.01, 0.1, 1, 100)
    ]
    assert skew == sorted(skew, reverse=True)


def test_dirichlet_with_huge_alpha_gives_every_client_the_same_labels():
    counts = DirichletLabels(10, alpha=1e9).split(TEN).class_counts()
    assert (counts == 10).all()


def test_dirichlet_with_tiny_alpha_gives_each_class_to_one_client():
    counts = DirichletLabels(10, alpha=1e-9, min_size=0).split(TEN).class_counts()
    assert ((counts > 0).sum(axis=0) == 1).all()


@law
@given(st.integers(1, 20), st.integers(0, 50), st.floats(1e-3, 10), st.integers(0, 1000))
def test_any_possible_min_size_is_met(num_clients, min_size, alpha, seed):
    partition = DirichletLabels(num_clients, alpha=alpha, min_size=min_size, seed=seed).split(TEN)
    assert partition.sizes.min() >= min_size
    assert partition.size == len(TEN)


def test_impossible_min_size_is_refused_with_the_possible_one():
    with pytest.raises(ConfigError, match=r"min_size=101 for num_clients=10 needs 1010.*at most min_size=100"):
        DirichletLabels(10, alpha=1, min_size=101).split(TEN)


def test_min_size_leaves_clients_that_have_enough_and_need_not_give_alone():
    free = DirichletLabels(20, alpha=0.05, min_size=0, seed=2).split(TEN)
    held = DirichletLabels(20, alpha=0.05, min_size=2, seed=2).split(TEN)
    assert free.sizes.min() < 2
    medium = [i for i in range(20) if 2 <= free.sizes[i] < np.median(free.sizes[free.sizes >= 2])]
    assert medium
    assert all(free[i].tolist() == held[i].tolist() for i in medium)


def test_the_draw_of_one_class_does_not_depend_on_another():
    few, many = np.array([0] * 50 + [1] * 50), np.array([0] * 50 + [1] * 30 + [2] * 20)
    first, second = (DirichletLabels(4, alpha=0.5, min_size=0).split(y) for y in (few, many))
    assert first.class_counts()[:, 0].tolist() == second.class_counts()[:, 0].tolist()


@law
@given(st.integers(1, 20), st.integers(1, 5), st.integers(0, 1000))
def test_shards_bound_the_classes_of_a_client(num_clients, shards_per_client, seed):
    partition = Shards(num_clients, shards_per_client=shards_per_client, seed=seed).split(TEN)
    shard = len(TEN) / (num_clients * shards_per_client)
    classes_a_shard_can_touch = int(np.ceil(shard / 100)) + 1
    assert (partition.class_counts() > 0).sum(axis=1).max() <= shards_per_client * classes_a_shard_can_touch
    assert np.ptp(partition.sizes) <= shards_per_client


def test_one_shard_per_client_and_class_separates_the_labels():
    partition = Shards(10, shards_per_client=1).split(TEN)
    assert partition.heterogeneity().pairwise_label_distance == pytest.approx(1)


def test_more_shards_than_samples_are_refused():
    with pytest.raises(
        ConfigError, match="num_clients=4 times shards_per_client=3 is 12 shards, more than the 10 samples"
    ):
        Shards(4, shards_per_client=3).split(np.arange(10) % 2)


@law
@given(st.integers(1, 30), st.integers(1, 10), st.integers(0, 1000))
def test_pathological_clients_hold_exactly_the_classes_asked_for(num_clients, classes_per_client, seed):
    partitioner = PathologicalClasses(num_clients, classes_per_client=classes_per_client, seed=seed)
    if num_clients * classes_per_client < 10:
        with pytest.raises(ConfigError, match="without a client"):
            partitioner.split(TEN)
        return
    held = partitioner.split(TEN).class_counts() > 0
    assert (held.sum(axis=1) == classes_per_client).all()
    assert np.ptp(held.sum(axis=0)) <= 1


def test_more_classes_per_client_than_classes_are_refused():
    with pytest.raises(ConfigError, match="classes_per_client=11 is more than the 10 classes in the labels; try 10"):
        PathologicalClasses(5, classes_per_client=11).split(TEN)


def test_the_classes_per_client_that_is_suggested_works():
    with pytest.raises(ConfigError, match=r"try classes_per_client=4$"):
        PathologicalClasses(3, classes_per_client=3).split(TEN)
    assert len(PathologicalClasses(3, classes_per_client=4).split(TEN)) == 3


def test_a_class_with_fewer_samples_than_holders_is_refused_by_name():
    with pytest.raises(ConfigError, match="class 'rare' has 1 samples for the 4 clients"):
        PathologicalClasses(4, classes_per_client=2).split(["rare"] + ["common"] * 20)


@pytest.mark.parametrize("wrong", [0, -2, 1.5, "2"])
def test_shards_and_classes_per_client_are_whole_numbers(wrong):
    with pytest.raises(ConfigError, match="shards_per_client must be a whole number"):
        Shards(3, shards_per_client=wrong)
    with pytest.raises(ConfigError, match="classes_per_client must be a whole number"):
        PathologicalClasses(3, classes_per_client=wrong)
