"""The laws of the design: limit cases of each method against references written out here."""

import numpy as np
import pytest

import umbel as fl
from umbel.arrays import Arrays
from umbel.testing import Quadratics, WithHead, check_strategy

ALL = [
    fl.FedAvg(),
    fl.FedAvg(weighting="uniform"),
    fl.FedAvg(server=fl.momentum(0.5, 0.8, nesterov=True)),
    fl.FedAvg(reducer=fl.Median()),
    fl.FedAvg(reducer=fl.GeometricMedian()),
    fl.Scaffold(reducer=fl.ClippedMean()),
    fl.FedAvg(reducer=fl.Mean(exact=True), server=fl.sgd(0.5)),
    fl.FedSGD(),
    fl.FedProx(mu=0.1),
    fl.FedProx(mu=0.1, server=fl.adam()),
    fl.Scaffold(),
    fl.Scaffold(weighting="uniform"),
    fl.FedNova(),
    fl.FedDyn(),
    fl.QFedAvg(q=1.0),
    fl.FedAvgM(),
    fl.FedAdam(),
    fl.FedYogi(),
    fl.FedAdagrad(),
]


@pytest.mark.parametrize("strategy", ALL, ids=lambda strategy: type(strategy).__name__)
def test_every_strategy_passes_its_kit(strategy):
    check_strategy(strategy)


def run(strategy, toy, rounds=5, **config):
    settings = fl.ServerConfig(**{"num_rounds": rounds, "seed": 3, "fraction_evaluate": 0.0, **config})
    return fl.simulate(toy.client, toy.clients, strategy=strategy, config=settings, engine="serial", progress=False)


@pytest.mark.parametrize("limit", [fl.FedProx(mu=0.0), fl.QFedAvg(q=0.0), fl.FedAvgM(beta=0.0)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_mu_zero_q_zero_and_beta_zero_are_fedavg_to_the_bit(limit, dtype):
    toy = Quadratics(clients=6, examples=(1, 5, 2, 9, 4, 3), dtype=dtype)
    reference = run(fl.FedAvg(), toy, fraction_fit=0.5)
    assert run(limit, toy, fraction_fit=0.5).parameters == reference.parameters


def test_fedavg_is_the_mean_weighted_by_examples():
    toy = Quadratics(clients=3, examples=(1, 2, 7), epochs=1, dtype="float64")
    got = run(fl.FedAvg(), toy, rounds=1).parameters["w"]
    changes = [0.1 * a * b for a, b in map(toy.problem, range(3))]  # one step from 0: w = lr · a · b
    expected = sum(n * c for n, c in zip((1, 2, 7), changes, strict=True)) / 10
    assert np.allclose(got, expected, rtol=1e-14)


def test_fedsgd_is_one_full_batch_step():
    toy = Quadratics(clients=3, examples=(1, 2, 7))
    got = run(fl.FedSGD(server=fl.sgd(0.05)), toy, rounds=1).parameters["w"]
    gradient = sum(n * -a * b for n, (a, b) in zip((1, 2, 7), map(toy.problem, range(3)), strict=True)) / 10
    assert np.allclose(got, -0.05 * gradient, rtol=1e-14)


def test_fedavg_with_one_full_batch_step_is_fedsgd():
    toy = Quadratics(clients=4, epochs=1, lr=0.05, dtype="float64")
    one = run(fl.FedAvg(), toy).parameters["w"]
    assert np.allclose(one, run(fl.FedSGD(server=fl.sgd(0.05)), toy).parameters["w"], rtol=1e-12)


def test_one_client_is_central_training():
    toy = Quadratics(clients=1, epochs=3, momentum=0.5, dtype="float64")
    got = run(fl.FedAvg(), toy, rounds=4).parameters["w"]
    a, b = toy.problem(0)
    w = np.zeros(toy.dim)
    for _ in range(4):
        velocity = np.zeros(toy.dim)
        for _ in range(3):
            velocity = 0.5 * velocity + a * (w - b)
            w = w - 0.1 * velocity
    assert np.allclose(got, w, rtol=1e-13)


def distance(history, optimum):
    return float(np.abs(history.parameters["w"] - optimum).max())


def test_scaffold_reaches_the_optimum_where_fedavg_is_biased():
    toy = Quadratics(clients=4, epochs=10, examples=(1, 2, 3, 4), dtype="float64")
    assert distance(run(fl.FedAvg(), toy, rounds=300), toy.optimum()) > 0.05
    assert distance(run(fl.Scaffold(), toy, rounds=300), toy.optimum()) < 1e-9


def test_scaffold_reaches_the_optimum_with_momentum_in_the_local_path():
    toy = Quadratics(clients=4, epochs=10, momentum=0.5, lr=0.05, dtype="float64")
    assert distance(run(fl.Scaffold(), toy, rounds=400), toy.optimum()) < 1e-9


def test_feddyn_reaches_the_optimum_where_fedavg_is_biased():
    toy = Quadratics(clients=4, epochs=20, dtype="float64")
    assert distance(run(fl.FedDyn(alpha=1.0), toy, rounds=400), toy.optimum(uniform=True)) < 1e-6


def test_fednova_removes_the_bias_of_unequal_local_steps():
    toy = Quadratics(clients=3, epochs=(1, 5, 30), lr=0.002, dtype="float64")
    # Local steps are so small that client drift hardly counts; what is left is the bias of unequal steps.
    biased, normalised = (distance(run(s, toy, rounds=1500), toy.optimum()) for s in (fl.FedAvg(), fl.FedNova()))
    assert normalised < biased / 10


def test_fednova_with_equal_steps_is_fedavg():
    toy = Quadratics(clients=4, epochs=5, dtype="float64")
    one, other = run(fl.FedAvg(), toy).parameters["w"], run(fl.FedNova(), toy).parameters["w"]
    assert np.allclose(one, other, rtol=1e-12)


def test_fedprox_stays_nearer_to_the_start():
    toy = Quadratics(clients=4, epochs=20)
    free, held = run(fl.FedAvg(), toy, rounds=1), run(fl.FedProx(mu=5.0), toy, rounds=1)
    assert np.linalg.norm(held.parameters["w"]) < np.linalg.norm(free.parameters["w"])


def test_qfedavg_raises_the_worst_client():
    toy = Quadratics(clients=5, epochs=5, dtype="float64", lr=0.02)

    def worst(history):
        w = history.parameters["w"]
        return max(float((0.5 * a * (w - b) ** 2).sum()) for a, b in map(toy.problem, range(5)))

    assert worst(run(fl.QFedAvg(q=2.0, lr=0.02), toy, rounds=200)) < worst(run(fl.FedAvg(), toy, rounds=200))


@pytest.mark.parametrize("make", [fl.FedAdam, fl.FedYogi, fl.FedAdagrad])
def test_adaptive_servers_follow_the_papers_formula(make):
    toy = Quadratics(clients=2, dtype="float64")
    lr, tau, b1, b2 = 0.3, 1e-2, 0.0 if make is fl.FedAdagrad else 0.9, 0.99
    got = run(make(lr=lr, tau=tau), toy, rounds=3).parameters["w"]
    w, m, v = np.zeros(4), np.zeros(4), np.full(4, tau**2)
    for _ in range(3):
        ends = []
        for a, b in map(toy.problem, range(2)):
            y = w.copy()
            for _ in range(5):
                y -= 0.1 * a * (y - b)
            ends.append(y - w)
        delta = np.mean(ends, axis=0)
        m = b1 * m + (1 - b1) * delta
        v = {
            fl.FedAdam: b2 * v + (1 - b2) * delta**2,
            fl.FedYogi: v - (1 - b2) * delta**2 * np.sign(v - delta**2),
            fl.FedAdagrad: v + delta**2,
        }[make]
        w = w + lr * m / (np.sqrt(v) + tau)
    assert np.allclose(got, w, rtol=1e-10)


def test_only_shared_arrays_travel_and_a_private_head_fits_each_client():
    toy = WithHead(clients=4)
    config = fl.ServerConfig(num_rounds=15, seed=1)
    whole = fl.simulate(toy.client, 4, strategy=fl.FedAvg(), config=config, engine="serial", progress=False)
    personal = fl.simulate(
        toy.client, 4, strategy=fl.FedAvg(shared="backbone.*"), config=config, engine="serial", progress=False
    )
    assert list(personal.parameters) == ["backbone.w"]
    assert personal.loss < 1e-3 < 1.0 < whole.loss
    assert personal.rounds[-1].bytes_sent < whole.rounds[-1].bytes_sent


def test_averaged_arrays_are_averaged_and_not_optimised():
    class Client(fl.Client):
        def get_parameters(self, context):
            return Arrays.of({"w": np.zeros(2), "mean": np.zeros(2)}, roles={"mean": "averaged"})

        def fit(self, parameters, context):
            return {"w": parameters["w"] + 1, "mean": parameters["mean"] + 1}, 1, {}

    config = fl.ServerConfig(num_rounds=1)
    history = fl.simulate(
        lambda context: Client(),
        2,
        strategy=fl.FedAvg(server=fl.sgd(0.5)),
        config=config,
        engine="serial",
        progress=False,
    )
    assert history.parameters["w"].tolist() == [0.5, 0.5]
    assert history.parameters["mean"].tolist() == [1.0, 1.0]
