"""The robust reducers against slow loops that follow the papers, and against ByzFL where it is installed."""

from pathlib import Path

import numpy as np
import pytest
from tests.reducers.test_laws import reduced

import umbel as fl

F = 3
FIXTURE = Path(__file__).parents[1] / "fixtures" / "byzfl-0.0.11.npz"


def updates(seed: int = 0, n: int = 17, d: int = 300, dtype: str = "float64") -> np.ndarray:
    """Honest ones around a common mean and F colluding ones at its side."""
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal(d) + rng.uniform(0.5, 2.0, (n, 1)) * rng.standard_normal((n, d))
    rows[:F] = rows.mean(axis=0) - 3.0
    rows[:F] += 0.01 * rng.standard_normal((F, d))
    return rng.permutation(rows).astype(dtype)


def near(found: np.ndarray, wanted: np.ndarray) -> bool:
    return float(np.abs(found - wanted).max()) <= 1e-6 * max(1.0, float(np.abs(wanted).max()))


def krum_order(rows: list[np.ndarray], f: int) -> list[int]:
    def score(i: int) -> float:
        squares = sorted(float(((rows[i] - rows[j]) ** 2).sum()) for j in range(len(rows)) if j != i)
        return sum(squares[: len(rows) - f - 1])

    return sorted(range(len(rows)), key=score)


def slow_krum(rows, f):
    return rows[krum_order(list(rows), f)[0]]


def slow_multi_krum(rows, f):
    return np.mean([rows[i] for i in krum_order(list(rows), f)[: len(rows) - f]], axis=0)


def slow_trimmed(rows, f):
    return np.array([np.mean(sorted(column)[f : len(rows) - f]) for column in rows.T])


def slow_bulyan(rows, f):
    left, chosen = list(rows), []
    while len(left) > 2 * f:
        chosen.append(left.pop(krum_order(left, f)[0]))
    result = []
    for column in np.array(chosen).T:
        middle = np.median(column)
        result.append(np.mean(sorted(column, key=lambda value: abs(value - middle))[: len(chosen) - 2 * f]))
    return np.array(result)


def slow_geometric_median(rows):
    z = np.median(rows, axis=0)
    for _ in range(5000):
        weights = 1.0 / np.maximum(np.linalg.norm(rows - z, axis=1), 1e-9)
        z = (weights[:, None] * rows).sum(axis=0) / weights.sum()
    return z


def slow_clipped(rows, limit=None):
    limit = limit or np.median([np.linalg.norm(row) for row in rows])
    return np.mean([row * min(1.0, limit / np.linalg.norm(row)) for row in rows], axis=0)


def slow_centered(rows, radius, steps):
    v = np.zeros(rows.shape[1])
    for _ in range(steps):
        lengths = [np.linalg.norm(row - v) for row in rows]
        tau = radius or np.median(lengths)
        v = v + np.mean([(row - v) * min(1.0, tau / one) for row, one in zip(rows, lengths, strict=True)], axis=0)
    return v


def slow_mixing(rows, f):
    mixed = []
    for row in rows:
        order = np.argsort([np.linalg.norm(row - other) for other in rows])
        mixed.append(rows[order[: len(rows) - f]].mean(axis=0))
    return np.array(mixed)


LOOPS = [
    (fl.Median(), lambda rows: np.median(rows, axis=0)),
    (fl.TrimmedMean(f=F), lambda rows: slow_trimmed(rows, F)),
    (fl.Krum(f=F), lambda rows: slow_krum(rows, F)),
    (fl.MultiKrum(f=F), lambda rows: slow_multi_krum(rows, F)),
    (fl.Bulyan(f=F), lambda rows: slow_bulyan(rows, F)),
    (fl.GeometricMedian(), slow_geometric_median),
    (fl.ClippedMean(), slow_clipped),
    (fl.ClippedMean(norm=2.0), lambda rows: slow_clipped(rows, 2.0)),
    (fl.CenteredClipping(), lambda rows: slow_centered(rows, None, 3)),
    (fl.CenteredClipping(radius=4.0, steps=5), lambda rows: slow_centered(rows, 4.0, 5)),
    (fl.NearestNeighbourMixing(fl.Krum(f=F)), lambda rows: slow_krum(slow_mixing(rows, F), F)),
    (fl.NearestNeighbourMixing(fl.MultiKrum(f=F)), lambda rows: slow_multi_krum(slow_mixing(rows, F), F)),
    (fl.NearestNeighbourMixing(fl.Median(), f=F), lambda rows: np.median(slow_mixing(rows, F), axis=0)),
    (fl.NearestNeighbourMixing(fl.TrimmedMean(f=F)), lambda rows: slow_trimmed(slow_mixing(rows, F), F)),
    (fl.NearestNeighbourMixing(fl.ClippedMean(), f=F), lambda rows: slow_clipped(slow_mixing(rows, F))),
    (fl.NearestNeighbourMixing(fl.CenteredClipping(), f=F), lambda rows: slow_centered(slow_mixing(rows, F), None, 3)),
    (fl.NearestNeighbourMixing(fl.GeometricMedian(), f=F), lambda rows: slow_geometric_median(slow_mixing(rows, F))),
]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("reducer", "loop"), LOOPS, ids=[repr(reducer) for reducer, _ in LOOPS])
def test_a_reducer_is_the_loop_of_its_definition(reducer, loop, dtype):
    for seed, n in enumerate((17, 18, 23)):
        rows = updates(seed, n, dtype=dtype)
        assert near(reduced(reducer, rows), loop(rows.astype(float)))


def byzfl_rules(byzfl):
    return [
        (fl.Median(), byzfl.Median()),
        (fl.TrimmedMean(f=F), byzfl.TrMean(f=F)),
        (fl.Krum(f=F), byzfl.Krum(f=F)),
        (fl.MultiKrum(f=F), byzfl.MultiKrum(f=F)),
        (fl.GeometricMedian(), byzfl.GeometricMedian(nu=1e-9, T=2000)),
        (fl.CenteredClipping(radius=4.0, steps=5), byzfl.CenteredClipping(L=5, tau=4.0)),
        (fl.ClippedMean(norm=2.0), lambda rows: byzfl.Clipping(c=2.0)(rows.copy()).mean(axis=0)),
        (fl.NearestNeighbourMixing(fl.Krum(f=F)), lambda rows: byzfl.Krum(f=F)(byzfl.NNM(f=F)(rows))),
        (fl.NearestNeighbourMixing(fl.TrimmedMean(f=F)), lambda rows: byzfl.TrMean(f=F)(byzfl.NNM(f=F)(rows))),
    ]


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_byzfl_finds_the_same(dtype):
    for reducer, peer in byzfl_rules(pytest.importorskip("byzfl")):
        rows = updates(dtype=dtype)
        assert near(reduced(reducer, rows), np.asarray(peer(rows.astype(float)))), reducer


def write_fixture() -> None:
    """What ByzFL finds, for those who do not have it: python -c "from tests.reducers.test_references import *;
    write_fixture()"."""
    import byzfl

    rows = updates(d=40)
    found = {repr(reducer): np.asarray(peer(rows.copy())) for reducer, peer in byzfl_rules(byzfl)}
    np.savez(FIXTURE, rows=rows, **found)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_byzfl_found_the_same(dtype):
    with np.load(FIXTURE) as found:
        rules = [(reducer, found[repr(reducer)]) for reducer, _ in LOOPS if repr(reducer) in found]
        rows = found["rows"].astype(dtype)
    assert len(rules) == 9
    for reducer, wanted in rules:
        assert near(reduced(reducer, rows), wanted), reducer


def test_byzfl_buckets_in_another_order_have_the_same_mean():
    byzfl = pytest.importorskip("byzfl")
    rows = updates(n=16)
    wanted = byzfl.Bucketing(s=2)(rows).mean(axis=0)
    assert near(reduced(fl.Bucketing(fl.TrimmedMean(f=0), size=2), rows), wanted)
