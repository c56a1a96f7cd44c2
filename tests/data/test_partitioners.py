"""Laws that hold for every partitioner."""

from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from umbel.data import (
    IID,
    DirichletLabels,
    DirichletSizes,
    ExponentialSizes,
    FeatureSkew,
    NaturalId,
    PathologicalClasses,
    Shards,
)
from umbel.errors import ConfigError

CLASSES = 4


def kinds(num_clients, seed, alpha=0.3):
    return [
        IID(num_clients, seed=seed),
        DirichletSizes(num_clients, alpha=alpha, seed=seed),
        ExponentialSizes(num_clients, ratio=0.7, seed=seed),
        DirichletLabels(num_clients, alpha=alpha, seed=seed),
        Shards(num_clients, shards_per_client=2, seed=seed),
        PathologicalClasses(num_clients, classes_per_client=CLASSES, seed=seed),
        FeatureSkew(DirichletLabels(num_clients, alpha=alpha, seed=seed), rotations=(0, 90)),
    ]


KIND_COUNT = len(kinds(1, 0))


@st.composite
def problems(draw):
    num_clients = draw(st.integers(1, 12))
    per_class = draw(st.lists(st.integers(num_clients, 40), min_size=CLASSES, max_size=CLASSES))
    labels = np.repeat(np.arange(CLASSES), per_class)
    seed = draw(st.integers(0, 2**40))
    np.random.default_rng(seed).shuffle(labels)
    return labels, num_clients, seed, draw(st.floats(1e-6, 1e6))


@pytest.mark.parametrize("kind", range(KIND_COUNT))
@settings(derandomize=True, max_examples=30, deadline=None)
@given(problem=problems())
def test_every_sample_is_in_exactly_one_part_and_no_client_is_empty(kind, problem):
    labels, num_clients, seed, alpha = problem
    partition = kinds(num_clients, seed, alpha)[kind].split(labels)
    assert len(partition) == num_clients
    assert np.sort(np.concatenate(list(partition))).tolist() == list(range(len(labels)))
    assert partition.sizes.min() >= 1


@pytest.mark.parametrize("kind", range(KIND_COUNT))
def test_equal_values_give_equal_parts_and_another_seed_gives_others(kind):
    labels = np.arange(200) % CLASSES
    one, same, other = (kinds(5, seed)[kind] for seed in (7, 7, 8))
    assert one == same
    assert hash(one) == hash(same)
    assert [part.tolist() for part in one.split(labels)] == [part.tolist() for part in same.split(labels)]
    assert [part.tolist() for part in one.split(labels)] != [part.tolist() for part in other.split(labels)]


@pytest.mark.parametrize("kind", range(KIND_COUNT))
def test_the_process_wide_generator_is_neither_read_nor_moved(kind):
    labels = np.arange(200) % CLASSES
    np.random.seed(1)
    first = kinds(5, 3)[kind].split(labels)
    after = np.random.random()
    np.random.seed(2)
    second = kinds(5, 3)[kind].split(labels)
    np.random.seed(1)
    assert np.random.random() == after
    assert [part.tolist() for part in first] == [part.tolist() for part in second]


@pytest.mark.parametrize("kind", range(KIND_COUNT))
def test_partitioners_and_partitions_cannot_be_changed(kind):
    partitioner = kinds(2, 0)[kind]
    with pytest.raises(FrozenInstanceError):
        partitioner.seed = 3
    partition = partitioner.split(np.arange(40) % CLASSES)
    with pytest.raises(ValueError, match="read-only"):
        partition.parts[0][0] = 1
    before = partition[0].tolist()
    partition[0][:] = 99
    assert partition[0].tolist() == before


@pytest.mark.parametrize("kind", range(KIND_COUNT))
@pytest.mark.parametrize("empty", [0, [], np.empty(0, dtype=int), np.empty((0, 3)), {}])
def test_empty_data_is_refused(kind, empty):
    with pytest.raises(ConfigError, match="data must hold at least 1 sample, got 0"):
        kinds(2, 0)[kind].split(empty)


@pytest.mark.parametrize("kind", range(KIND_COUNT))
def test_labels_of_another_length_are_refused(kind):
    with pytest.raises(ConfigError, match=r"labels must be one per sample, shape \(10,\), got shape \(9,\)"):
        kinds(2, 0)[kind].split(10, labels=np.zeros(9, dtype=int))


@pytest.mark.parametrize("kind", range(KIND_COUNT - 1))
@pytest.mark.parametrize("wrong", [0, -1, 2.0, "3", True, None])
def test_a_number_of_clients_that_is_none_is_refused(kind, wrong):
    with pytest.raises(ConfigError, match="num_clients must be a whole number of at least 1, got"):
        kinds(wrong, 0)[kind]


@pytest.mark.parametrize("kind", range(KIND_COUNT - 1))
@pytest.mark.parametrize("wrong", [-1, 0.5, "a", None])
def test_a_seed_that_is_no_whole_number_is_refused(kind, wrong):
    with pytest.raises(ConfigError, match="seed must be a whole number of at least 0, got"):
        kinds(2, wrong)[kind]


@pytest.mark.parametrize("partitioner", [IID(6), DirichletSizes(6, alpha=1), DirichletLabels(6, alpha=1)])
def test_more_clients_than_samples_are_refused(partitioner):
    with pytest.raises(ConfigError, match="num_clients=6 is more than the 5 samples"):
        partitioner.split([0, 1, 0, 1, 0])


@pytest.mark.parametrize("kind", [DirichletLabels, DirichletSizes])
@pytest.mark.parametrize("alpha", [0, -1.0, float("nan"), float("inf"), "1", None, True])
def test_alpha_must_be_finite_and_above_zero(kind, alpha):
    with pytest.raises(ConfigError, match=r"alpha must be .*, got .*; try 0"):
        kind(3, alpha=alpha)


@pytest.mark.parametrize("partitioner", [DirichletLabels(2, alpha=1), Shards(2), PathologicalClasses(2)])
@pytest.mark.parametrize("data", [10, np.zeros((10, 2)), np.zeros(10), {"x": np.zeros(10)}])
def test_label_partitioners_say_how_to_give_labels(partitioner, data):
    with pytest.raises(ConfigError, match=r"needs the label of every sample.* try split\(data, labels=y\)"):
        partitioner.split(data)


def test_arguments_after_the_first_are_by_keyword():
    with pytest.raises(TypeError):
        DirichletLabels(3, 0.1)
    with pytest.raises(TypeError):
        IID(3).split(3, [0, 1, 2])
    assert NaturalId("site") == NaturalId("site")
