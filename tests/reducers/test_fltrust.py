"""FLTrust believes what points where the server's own clean data point."""

import numpy as np
import pytest

import umbel as fl
from umbel.arrays import Arrays
from umbel.message import Group
from umbel.runtimes.halves import client_half, restored
from umbel.testing import Quadratics, check_reducer


def trained_to(change: np.ndarray):
    return lambda model: {"w": model["w"] + change}


def reduced(reducer: fl.FLTrust, updates: np.ndarray, model: np.ndarray) -> np.ndarray:
    arrays = [Arrays.of({"w": row}) for row in updates]
    total = reducer.start({"delta": arrays[0].schema})
    for update in arrays:
        total.fold({"delta": Group(update, 1.0)})
    total.began_from(Arrays.of({"w": model}))
    return total.result()["delta"].mean()["w"]


def test_the_laws_of_reducers_hold():
    check_reducer(fl.FLTrust(lambda model: {name: value + 1 for name, value in model.items()}), idempotent=False)


def test_it_is_the_loop_of_its_definition():
    rng = np.random.default_rng(1)
    updates, guide, model = rng.standard_normal((9, 40)), rng.standard_normal(40), rng.standard_normal(40)
    top, bottom = np.zeros(40), 0.0
    for row in updates:
        trust = max(0.0, row @ guide / np.linalg.norm(row) / np.linalg.norm(guide))
        top += trust * row * np.linalg.norm(guide) / np.linalg.norm(row)
        bottom += trust
    found = reduced(fl.FLTrust(trained_to(guide)), updates, model)
    assert np.allclose(found, top / bottom, rtol=0, atol=1e-12)


def test_nine_bad_clients_of_ten_cannot_turn_it_round():
    guide = np.ones(30, np.float32)
    updates = np.concatenate([[guide * 0.5], np.full((9, 30), -1e6)]).astype(np.float32)
    assert np.allclose(reduced(fl.FLTrust(trained_to(guide)), updates, np.zeros(30, np.float32)), guide)


def test_if_nobody_is_trusted_the_model_stays():
    guide = np.ones(30)
    assert not reduced(fl.FLTrust(trained_to(guide)), -np.ones((4, 30)), np.zeros(30)).any()


def test_each_round_it_is_given_the_rounds_model():
    toy, seen = Quadratics(clients=5, heterogeneous=False), []

    def root(model):
        seen.append(model["w"].copy())
        return {"w": model["w"] * 0.5}

    start = [("w", np.full(4, 8.0))]
    history = fl.simulate(
        toy.client,
        5,
        strategy=fl.FedAvg(reducer=fl.FLTrust(root)),
        config=fl.ServerConfig(num_rounds=3, seed=1),
        initial_parameters=dict(start),
        engine="pool",
        workers=2,
        progress=False,
    )
    assert len(seen) == 3
    assert np.array_equal(seen[0], np.full(4, 8.0))
    assert np.allclose(history.parameters["w"], seen[2] * 0.5)


def test_a_strategy_that_sends_more_than_a_change_is_refused():
    toy = Quadratics(clients=5, dtype="float32")
    with pytest.raises(fl.ConfigError, match="FLTrust compares changes to the model"):
        fl.simulate(
            toy.client,
            5,
            strategy=fl.FedNova(reducer=fl.FLTrust(lambda model: model)),
            config=fl.ServerConfig(num_rounds=1, seed=1),
            engine="serial",
            progress=False,
        )


@pytest.mark.parametrize(
    ("root", "told"),
    [
        (lambda model: {}, "root returned no 'w'"),
        (lambda model: {"w": model["w"] * np.nan}, "not finite"),
    ],
)
def test_a_root_that_returns_no_model_is_told(root, told):
    with pytest.raises(fl.ConfigError, match=told):
        reduced(fl.FLTrust(root), np.ones((3, 4)), np.zeros(4))


def test_nodes_need_not_know_what_the_server_trusts():
    half = client_half(fl.FedAvg(reducer=fl.FLTrust(lambda model: model), shared="w*"))
    assert restored(half) == fl.FedAvg(shared="w*")
    kept = fl.FedProx(mu=0.5, reducer=fl.NearestNeighbourMixing(fl.Krum(f=2)))
    assert restored(client_half(kept)) == kept
