"""Encrypted rounds of virtual clients end in the very bits of masked ones."""

import numpy as np
import pytest

import umbel as fl
from umbel.errors import ConfigError, NotSupported, TooFewClients
from umbel.privacy.ckks.parameters import ckks
from umbel.testing import Quadratics

pytest.importorskip("tenseal")
SETTINGS = {"clip": 8.0, "weight_cap": 10.0}
TOY = Quadratics(clients=4)
SMALL = ckks(4096, coeff_mod_bits=(54, 55), scale_bits=21)


def ran(secure_sum, client=TOY.client, count=4, **given):
    given = {"config": fl.ServerConfig(num_rounds=3, seed=2), "engine": "serial", **given}
    coordinator = fl.Secure(**SETTINGS, secure_sum=secure_sum)
    return fl.simulate(client, count, coordinator=coordinator, progress=False, **given)


@pytest.mark.parametrize(
    "strategy", [fl.FedAvg(), fl.Scaffold(), fl.FedAdam()], ids=lambda strategy: type(strategy).__name__
)
def test_a_run_ends_in_the_bits_of_the_masked_one(strategy):
    encrypted, masked = ran(SMALL, strategy=strategy), ran(None, strategy=strategy)
    assert encrypted.parameters.digest == masked.parameters.digest
    assert encrypted.loss == masked.loss
    assert [one.participants for one in encrypted.rounds] == [one.participants for one in masked.rounds]


def test_workers_change_nothing():
    assert ran(SMALL, engine="pool", workers=2).parameters.digest == ran(SMALL).parameters.digest


def test_a_client_that_fails_is_left_out_of_the_sum():
    class Pull(fl.NumPyClient):
        def __init__(self, client):
            self.client = client

        def fit(self, parameters, config):
            if self.client == "0":
                raise RuntimeError("no data today")
            return [w + float(self.client) for w in parameters], 10, {}

    history = ran(
        SMALL, lambda context: Pull(context.client), initial_parameters=[np.zeros(3)], config=fl.ServerConfig(1, seed=1)
    )
    # 1, 2 and 3 are left: their mean is 2.
    assert history.parameters["0"] == pytest.approx([2.0] * 3, rel=1e-4)
    assert [(one.client, "no data today" in one.reason) for one in history.rounds[-1].failures] == [("0", True)]


def test_a_sum_of_too_few_is_not_opened():
    class Broken(fl.NumPyClient):
        def __init__(self, client):
            self.client = client

        def fit(self, parameters, config):
            if self.client in "01":
                raise RuntimeError("no data today")
            return parameters, 10, {}

    with pytest.raises(TooFewClients):
        ran(SMALL, lambda context: Broken(context.client), initial_parameters=[np.zeros(3)])


def test_what_cannot_be_encrypted_is_refused():
    with pytest.raises(NotSupported, match="linear reducer"):
        ran(SMALL, strategy=fl.FedAvg(reducer=fl.Median()))
    with pytest.raises(ConfigError, match="secure_sum must be ckks"):
        fl.Secure(secure_sum="ckks")


def test_the_plan_says_how_it_was_summed():
    assert ran(SMALL).plan["coordinator"]["secure_sum"]["name"] == "Ckks"
