"""Encrypted rounds over sockets give what simulated ones give, with a server that has no key."""

import pytest

import umbel as fl
from umbel.privacy.ckks.parameters import ckks
from umbel.testing import Quadratics

pytest.importorskip("tenseal")
NAMES = ["0", "1", "2", "3"]
SMALL = ckks(4096, coeff_mod_bits=(54, 55), scale_bits=21)
SECURE = fl.Secure(clip=16.0, weight_cap=64.0, secure_sum=SMALL)


def config(**more):
    return fl.ServerConfig(**{"num_rounds": 3, "seed": 5, "min_available_clients": 4, **more})


@pytest.mark.parametrize("strategy", [fl.FedAvg(), fl.Scaffold()], ids=["FedAvg", "Scaffold"])
def test_encrypted_rounds_over_sockets_give_the_bits_of_the_simulation(strategy, federation):
    toy = Quadratics(dtype="float32")
    simulated = fl.simulate(
        toy.client, 4, strategy=strategy, config=config(), coordinator=SECURE, engine="serial", progress=False
    )
    deployed = federation.run(NAMES, toy.client, strategy=strategy, config=config(), coordinator=SECURE)
    assert deployed.parameters == simulated.parameters
    assert [record.loss for record in deployed.rounds] == [record.loss for record in simulated.rounds]
