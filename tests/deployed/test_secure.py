"""Secure rounds over sockets give what simulated secure rounds give."""

import numpy as np
import pytest

import umbel as fl
from umbel.runtimes.server.conduct import Conduct, Order
from umbel.runtimes.server.desk import Desk
from umbel.stores import MemoryStore
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


class Fails(fl.NumPyClient):
    """Trains, unless it is the one that fails."""

    def __init__(self, bad: bool) -> None:
        self.bad = bad

    def fit(self, parameters, settings):
        if self.bad:
            raise ValueError("no data today")
        return [parameters[0] + 1.0], 2, {}


def fails(context):
    return Fails(context.client == "3")


def test_a_node_that_fails_in_the_middle_is_left_out_of_the_sum(federation):
    settings = config(fraction_evaluate=0.0)
    history = federation.run(
        NAMES, fails, config=settings, coordinator=fl.Secure(clip=4.0, weight_cap=4.0), initial_parameters=[np.zeros(3)]
    )
    assert history.parameters["0"].tolist() == [3.0] * 3
    assert [record.participants for record in history.rounds] == [3, 3, 3]
    assert "no data today" in history.rounds[0].failures[0].reason


def test_too_few_nodes_for_a_secure_sum_end_the_run_with_the_reason(federation):
    with pytest.raises(fl.TooFewClients, match="3 of 4 clients sent masked vectors, 4 are needed"):
        federation.run(
            NAMES,
            fails,
            config=config(fraction_evaluate=0.0),
            coordinator=fl.Secure(clip=4.0, threshold_share=0.9),
            initial_parameters=[np.zeros(3)],
        )


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        (fl.Secure(), {"min_available_clients": 2}),
        (fl.Secure(min_cohort=7), {"min_available_clients": 6}),
        (fl.Secure(), {"fraction_fit": 0.5}),
    ],
)
def test_a_server_that_would_ask_too_few_nodes_for_a_sum_refuses_the_run(settings, more):
    with pytest.raises(fl.NotSupported, match="opens no sum of fewer clients"):
        fl.server.start_server("127.0.0.1:0", coordinator=settings, config=config(**more), progress=False)


@pytest.mark.parametrize("least", [2, 3, 5])
def test_a_server_waits_for_as_many_nodes_as_a_sum_needs(least):
    order = Order(strategy=fl.FedAvg(), config=fl.ServerConfig(), coordinator=fl.Secure(min_cohort=least))
    conduct = Conduct(order, MemoryStore(), Desk("server", say=len), offload=len, say=len)
    assert conduct.waits_for == f"waiting for nodes: 0 of {least} are ready"


def test_what_would_tell_more_than_sums_is_refused_at_a_server_too(federation):
    for more in ({"strategy": fl.FedAvg(reducer=fl.Median())}, {"config": config(per_client_metrics=True)}):
        with pytest.raises(fl.NotSupported):
            fl.server.start_server("127.0.0.1:0", coordinator=SECURE, progress=False, **more)
