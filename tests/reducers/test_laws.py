"""What every robust reducer keeps: order, engines and the honest majority."""

import numpy as np
import pytest

import umbel as fl
from umbel.arrays import Arrays
from umbel.message import Group
from umbel.reducers import Reducer
from umbel.testing import Quadratics, check_reducer

ROBUST: list[Reducer] = [
    fl.Median(),
    fl.TrimmedMean(f=2),
    fl.Krum(f=2),
    fl.MultiKrum(f=2),
    fl.Bulyan(f=1),
    fl.GeometricMedian(),
    fl.ClippedMean(),
    fl.CenteredClipping(),
    fl.NearestNeighbourMixing(fl.Krum(f=2)),
    fl.NearestNeighbourMixing(fl.TrimmedMean(f=2)),
    fl.NearestNeighbourMixing(fl.GeometricMedian(), f=2),
    fl.Bucketing(fl.Krum(f=2), size=2),
    fl.FoolsGold(),
]
BOUNDED = [r for r in ROBUST if not isinstance(r, (fl.FoolsGold, fl.Bulyan))] + [fl.Bulyan(f=2)]


def reduced(reducer: Reducer, updates: np.ndarray) -> np.ndarray:
    """The rows of a matrix, reduced."""
    arrays = [Arrays.of({"w": row}) for row in updates]
    total = reducer.start({"delta": arrays[0].schema})
    for update in arrays:
        total.fold({"delta": Group(update, 1.0)})
    return total.result()["delta"].mean()["w"]


@pytest.mark.parametrize("reducer", ROBUST, ids=repr)
def test_the_laws_of_reducers_hold(reducer):
    check_reducer(reducer)


@pytest.mark.parametrize("reducer", ROBUST, ids=repr)
def test_order_makes_no_difference_to_the_bit(reducer):
    rng = np.random.default_rng(3)
    updates = rng.standard_normal((13, 400)).astype(np.float32)
    updates[3] = updates[5]
    first = reduced(reducer, updates)
    for _ in range(5):
        assert np.array_equal(first, reduced(reducer, rng.permutation(updates)))


@pytest.mark.parametrize("reducer", ROBUST, ids=repr)
def test_two_workers_give_the_bits_of_one(reducer):
    toy = Quadratics(clients=9, dtype="float32")
    config = fl.ServerConfig(num_rounds=2, seed=1)
    strategy = fl.FedAvg(reducer=reducer)
    one = fl.simulate(toy.client, 9, strategy=strategy, config=config, engine="serial", progress=False)
    two = fl.simulate(toy.client, 9, strategy=strategy, config=config, engine="pool", workers=2, progress=False)
    assert np.array_equal(one.parameters["w"], two.parameters["w"])


@pytest.mark.parametrize("reducer", BOUNDED, ids=repr)
@pytest.mark.parametrize("size", [1e3, 1e9, 1e37])
def test_two_updates_of_eleven_cannot_move_it_beyond_the_honest_ones_reach(reducer, size):
    rng = np.random.default_rng(5)
    honest = rng.standard_normal((9, 50)).astype(np.float32)
    reach = np.linalg.norm(honest, axis=1).max()
    for bad in (np.full((2, 50), size), size * rng.standard_normal((2, 50)), [np.full(50, size), np.full(50, -size)]):
        updates = np.concatenate([honest, np.asarray(bad, np.float32)])
        found = reduced(reducer, updates)
        assert np.linalg.norm(found - honest.mean(axis=0)) <= 2 * reach


@pytest.mark.parametrize("reducer", ROBUST, ids=repr)
def test_the_size_that_a_client_claims_is_no_weight(reducer):
    updates = [Arrays.of({"w": row}) for row in np.random.default_rng(7).standard_normal((9, 6)).astype(np.float32)]
    found = []
    for weights in ([1.0] * 9, [1e12] + [1.0] * 8):
        total = reducer.start({"delta": updates[0].schema})
        for update, weight in zip(updates, weights, strict=True):
            total.fold({"delta": Group(update, weight)})
        found.append(total.result()["delta"].mean()["w"])
    assert np.array_equal(*found)
