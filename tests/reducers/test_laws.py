"""What every robust reducer keeps: order, engines and the honest majority."""

import tracemalloc
from itertools import combinations

import numpy as np
import pytest

import umbel as fl
from umbel.arrays import Arrays
from umbel.message import Group
from umbel.reducers import Reducer
from umbel.reducers.rows import Rows
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


@pytest.mark.parametrize("reducer", ROBUST, ids=repr)
def test_memory_is_what_was_said_beforehand(reducer):
    n, d = 20, 300_000
    updates = [Arrays.of({"w": row}) for row in np.random.default_rng(1).standard_normal((n, d), np.float32)]
    schema = {"delta": updates[0].schema}
    tracemalloc.start()
    total = reducer.start(schema)
    for update in updates:
        total.fold({"delta": Group(update, 1.0)})
    total.result()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak <= reducer.memory_bytes(schema, n) + (16 * d if reducer.elementwise else 0) + 2**23
    assert peak < 2 * n * 4 * d


@pytest.mark.parametrize(
    "reducer",
    [
        fl.TrimmedMean(f=0),
        fl.MultiKrum(f=0),
        fl.Bulyan(f=0),
        fl.ClippedMean(norm=1e9),
        fl.CenteredClipping(radius=1e9, steps=1),
        fl.NearestNeighbourMixing(fl.TrimmedMean(f=0)),
        fl.NearestNeighbourMixing(fl.GeometricMedian(), f=0),
        fl.Bucketing(fl.TrimmedMean(f=0), size=4),
    ],
    ids=repr,
)
def test_with_nobody_to_withstand_it_is_the_mean(reducer):
    updates = np.random.default_rng(2).standard_normal((12, 30)).astype(np.float32)
    assert np.allclose(reduced(reducer, updates), updates.mean(axis=0, dtype=float), rtol=0, atol=1e-6)


def test_distances_hold_where_updates_are_a_thousandth_of_what_they_have_in_common():
    rng = np.random.default_rng(4)
    rows = (rng.standard_normal(5_000) + 1e-3 * rng.standard_normal((10, 5_000))).astype(np.float32)
    found = Rows(Arrays.of({"w": rows[0]}).schema, [Arrays.of({"w": row}) for row in rows])
    there = np.stack([update["w"] for update in found.updates]).astype(float)
    wanted = np.linalg.norm(there[:, None] - there, axis=2)
    off = np.abs(found.apart - wanted)[~np.eye(10, dtype=bool)] / wanted[~np.eye(10, dtype=bool)]
    assert off.max() < 1e-4


@pytest.mark.parametrize("reducer", [r for r in ROBUST if not isinstance(r, fl.Bucketing)], ids=repr)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_a_power_of_two_on_all_updates_is_one_on_the_result(reducer, scale):
    factor = np.float32(2.0 ** round(np.log2(scale)))
    updates = np.random.default_rng(6).standard_normal((11, 40)).astype(np.float32)
    assert np.allclose(reduced(reducer, updates * factor), reduced(reducer, updates) * factor, rtol=1e-5, atol=0)


def test_every_number_format_is_reduced():
    updates = [
        {"a": np.float32([n]), "b": np.float64([n]), "c": np.int64([n]), "d": np.float16([n])} for n in range(1, 10)
    ]
    for reducer in (fl.Median(), fl.TrimmedMean(f=2), fl.GeometricMedian()):
        total = reducer.start({"delta": Arrays.of(updates[0]).schema})
        for update in updates:
            total.fold({"delta": Group(Arrays.of(update), 1.0)})
        found = total.result()["delta"].mean()
        assert all(np.allclose(found[name], 5.0, rtol=1e-6) for name in "abcd")


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: fl.Krum(f=-1), "f must be a whole number of at least 0, got -1"),
        (lambda: fl.TrimmedMean(f=1.5), "got 1.5"),
        (lambda: fl.Bulyan(f=True), "got True"),
        (lambda: fl.ClippedMean(norm=0), "norm must be above 0 or None, got 0"),
        (lambda: fl.CenteredClipping(radius=float("nan")), "radius must be above 0 or None, got nan"),
        (lambda: fl.CenteredClipping(steps=0), "steps must be a whole number of at least 1, got 0"),
        (lambda: fl.Bucketing(fl.Median(), size=1), "size must be a whole number of at least 2, got 1"),
        (lambda: fl.Bucketing(fl.Mean()), r"must be a robust reducer such as Krum\(f=4\)"),
        (lambda: fl.NearestNeighbourMixing(fl.Median()), r"f must be given, as Median\(\) has none"),
        (lambda: fl.NearestNeighbourMixing(fl.Median(), f=-2), "got -2"),
        (lambda: fl.FLTrust(3), "root must be a function"),
    ],
)
def test_a_wrong_argument_is_told(make, told):
    with pytest.raises(fl.ConfigError, match=told):
        make()


def test_what_is_needed_follows_from_f_and_from_the_reducer_that_follows():
    assert fl.NearestNeighbourMixing(fl.Krum(f=2), f=4).least_updates == 9
    assert fl.NearestNeighbourMixing(fl.Bulyan(f=2)).least_updates == 11
    assert fl.Bucketing(fl.NearestNeighbourMixing(fl.Krum(f=2)), size=3).least_updates == 13
    assert fl.Bulyan(f=0).least_updates == 1


def test_buckets_are_shuffled_anew_for_other_updates():
    schema = Arrays.of({"w": np.zeros(4, np.float32)}).schema
    orders = set()
    for seed in range(5):
        rows = np.random.default_rng(seed).standard_normal((8, 4)).astype(np.float32)
        found = reduced(fl.Bucketing(fl.Krum(f=0), size=4), rows)
        order = Rows(schema, [Arrays.of({"w": row}) for row in rows]).updates
        together = np.stack([update["w"] for update in order])
        halves = [c for c in combinations(range(8), 4) if np.allclose(together[list(c)].mean(axis=0), found, atol=1e-6)]
        assert len(halves) == 1
        orders.add(halves[0])
    assert len(orders) > 1
