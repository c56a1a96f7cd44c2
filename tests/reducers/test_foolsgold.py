"""FoolsGold: what points the same way counts once, or not at all."""

import numpy as np
from tests.reducers.test_laws import reduced

import umbel as fl


def loop(rows: np.ndarray) -> np.ndarray:
    """The weights of the paper's algorithm, from one round's updates."""
    n = len(rows)
    lengths = [np.linalg.norm(row) for row in rows]
    similar = np.array([[rows[i] @ rows[j] / lengths[i] / lengths[j] for j in range(n)] for i in range(n)])
    nearest = np.array([max(similar[i, j] for j in range(n) if j != i) for i in range(n)])
    weights = np.empty(n)
    for i in range(n):
        pardoned = []
        for j in range(n):
            if j != i:
                share = max(nearest[i], 0.0) / nearest[j] if nearest[j] > nearest[i] and nearest[j] > 0 else 1.0
                pardoned.append(similar[i, j] * share)
        weights[i] = min(max(1.0 - max(pardoned), 0.0), 1.0)
    weights = np.minimum(weights / weights.max(), 0.99)
    return np.clip(np.log(weights / (1 - weights)) + 0.5, 0.0, 1.0)


def test_it_is_the_loop_of_the_paper():
    rng = np.random.default_rng(8)
    rows = rng.standard_normal((9, 12)) + 0.4
    rows[0], rows[1] = rows[2] + 0.3, rows[2] - 0.3
    weights = loop(rows)
    assert len(set(weights.round(6))) > 3
    assert np.allclose(reduced(fl.FoolsGold(), rows), weights @ rows / weights.sum(), atol=1e-9)


def test_sybils_in_any_number_are_silenced():
    honest = np.eye(5, 40, dtype=np.float32)
    sybils = np.tile(-np.ones(40, np.float32), (30, 1))
    found = reduced(fl.FoolsGold(), np.concatenate([honest, sybils]))
    assert np.allclose(found, honest.mean(axis=0), atol=1e-6)


def test_where_all_are_alike_nobody_is_preferred():
    rows = np.tile(np.arange(4, dtype=np.float32), (6, 1))
    assert np.allclose(reduced(fl.FoolsGold(), rows), rows[0])


def test_rounding_does_not_make_equal_directions_different():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        rows = (rng.uniform(0.5, 5.0, (4, 1)) * rng.standard_normal(1000)).astype(np.float32)
        assert np.allclose(reduced(fl.FoolsGold(), rows), rows.mean(axis=0), rtol=1e-5)
