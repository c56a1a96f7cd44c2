"""Secure rounds over sockets give what simulated secure rounds give."""

import numpy as np
import pytest

import umbel as fl
from umbel.testing import Quadratics

NAMES = ["0", "1", "2", "3"]
SECURE = fl.Secure(clip=16.0, weight_cap=64.0)


def config(**more):
    return fl.ServerConfig(**{"num_rounds": 3, "seed": 5, "min_available_clients": 4, **more})


@pytest.mark.parametrize("strategy", [fl.FedAvg(), fl.Scaffold()], ids=["FedAvg", "Scaffold"])
def test_secure_rounds_over_sockets_give_the_bits_of_the_simulation(strategy, federation):
    toy = Quadratics(dtype="float32")
    simulated = fl.simulate(
        toy.client, 4, strategy=strategy, config=config(), coordinator=SECURE, engine="serial", progress=False
    )
    deployed = federation.run(NAMES, toy.client, strategy=strategy, config=config(), coordinator=SECURE)
    assert deployed.parameters == simulated.parameters
    assert [record.loss for record in deployed.rounds] == [record.loss for record in simulated.rounds]
    plain = fl.simulate(toy.client, 4, strategy=strategy, config=config(), engine="serial", progress=False)
    for name, value in plain.parameters.items():
        np.testing.assert_allclose(deployed.parameters[name], value, atol=1e-5)
