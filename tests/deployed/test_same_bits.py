"""A run over sockets is the simulated run: same plan, same clients, same bits."""

import numpy as np
import pytest

import umbel as fl
from umbel.testing import Quadratics, WithHead

NAMES = ["0", "1", "2", "3"]
STRATEGIES = [
    fl.FedAvg(),
    fl.FedProx(mu=0.1),
    fl.Scaffold(),
    fl.FedNova(),
    fl.FedDyn(),
    fl.QFedAvg(q=1.0),
    fl.FedSGD(),
    fl.FedAdam(),
    fl.FedAvg(reducer=fl.Median()),
    fl.FedAvg(reducer=fl.Bucketing(fl.GeometricMedian())),
    fl.FedAvg(reducer=fl.NearestNeighbourMixing(fl.Krum(f=1))),
    fl.Scaffold(reducer=fl.MultiKrum(f=1)),
    fl.FedAvg(reducer=fl.FLTrust(lambda model: {name: value * 0.5 for name, value in model.items()})),
]


def config(**more):
    return fl.ServerConfig(num_rounds=4, seed=5, min_available_clients=4, **more)


def story(history):
    return [(r.round, r.loss, dict(r.metrics), r.participants, r.failures) for r in history.rounds]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: type(strategy).__name__)
def test_every_strategy_over_sockets_gives_the_bits_of_the_simulation(strategy, federation):
    toy = Quadratics(dtype="float32")
    simulated = fl.simulate(toy.client, 4, strategy=strategy, config=config(), engine="serial", progress=False)
    deployed = federation.run(NAMES, toy.client, strategy=strategy, config=config())
    assert deployed.parameters == simulated.parameters
    assert story(deployed) == story(simulated)
    assert deployed.ended == "finished"


def test_private_arrays_and_client_state_stay_at_the_node(federation):
    toy, strategy = WithHead(), fl.Scaffold(shared="backbone.*")
    simulated = fl.simulate(toy.client, 4, strategy=strategy, config=config(), engine="serial", progress=False)
    deployed = federation.run(NAMES, toy.client, strategy=strategy, config=config())
    assert list(deployed.parameters) == ["backbone.w"]
    assert deployed.parameters == simulated.parameters
    assert story(deployed) == story(simulated)


def test_a_model_larger_than_a_packet_travels_in_chunks(federation):
    class Adds(fl.NumPyClient):
        def get_parameters(self):
            return [np.zeros(300_000), np.zeros(3, np.int64)]

        def fit(self, parameters, settings):
            return [parameters[0] + 1.5, parameters[1] + 2], 3, {}

    def client_fn(context):
        return Adds()

    settings = fl.ServerConfig(num_rounds=3, seed=1)
    deployed = federation.run(["a", "b"], client_fn, config=settings)
    assert deployed.parameters["0"].tolist() == [4.5] * 300_000
    assert deployed.parameters["1"].tolist() == [6] * 3
