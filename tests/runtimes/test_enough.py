"""A reducer that needs more updates than a round can have is refused before anybody trains."""

import numpy as np
import pytest

import umbel as fl
from umbel.testing import Quadratics


def simulated(clients: int, reducer: fl.Krum, client=None, **settings):
    toy = Quadratics(clients=clients)
    config = fl.ServerConfig(num_rounds=1, seed=1, **settings)
    strategy = fl.FedAvg(reducer=reducer)
    return fl.simulate(client or toy.client, clients, strategy=strategy, config=config, engine="serial", progress=False)


def test_too_few_clients_for_f_are_refused_before_the_run():
    told = r"Krum\(f=4\) needs at least 9 updates a round, and a round asks 8 of 8 clients"
    with pytest.raises(fl.NotSupported, match=told):
        simulated(8, fl.Krum(f=4))


def test_a_cohort_that_is_too_small_for_f_is_refused_before_the_run():
    with pytest.raises(fl.NotSupported, match="asks 5 of 10 clients; raise fraction_fit"):
        simulated(10, fl.Krum(f=4), fraction_fit=0.5)
    assert simulated(10, fl.Krum(f=4), fraction_fit=0.9).rounds[-1].participants == 9


def test_clients_that_fail_can_leave_too_few_which_ends_the_run_with_both_numbers():
    toy = Quadratics(clients=9)

    def client(context):
        if context.partition_id == 3:
            raise OSError("disk gone")
        return toy.client(context)

    with pytest.raises(fl.TooFewClients, match="8 of 9 clients answered, 9 are needed"):
        simulated(9, fl.Krum(f=4), client, fraction_evaluate=0.0)
    assert simulated(9, fl.Krum(f=3), client, fraction_evaluate=0.0).rounds[-1].participants == 8


def test_updates_without_weight_can_leave_too_few_which_ends_the_run_with_both_numbers():
    toy = Quadratics(clients=9, examples=(0,) * 2 + (1,) * 7)
    with pytest.raises(fl.ConfigError, match=r"Krum\(f=4\) needs at least 9 updates of a weight above 0, got 7"):
        simulated(9, fl.Krum(f=4), toy.client)


def test_a_buffer_that_is_too_small_for_f_is_refused_before_the_run():
    toy = Quadratics(clients=12)
    with pytest.raises(fl.NotSupported, match="at least 9 updates a step, and buffer_size is 6"):
        fl.simulate(
            toy.client,
            12,
            strategy=fl.FedAvg(reducer=fl.Krum(f=4)),
            coordinator=fl.Buffered(concurrency=10, buffer_size=6),
            system=fl.SystemModel(),
            progress=False,
        )


class Ones(fl.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 1.0], 1, {}

    def evaluate(self, parameters, config):
        return 1.0, 1, {}


class Mute(fl.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 1.0], 1, {}


def told(clients, client=Ones, **settings):
    """What a run says, in the order in which it says it."""
    events = []
    fl.simulate(
        lambda context: client(),
        clients,
        config=fl.ServerConfig(**{"num_rounds": 1, "seed": 1, **settings}),
        initial_parameters=[np.zeros(1)],
        engine="serial",
        observers=[events.append],
        progress=False,
    )
    return [event.get("text", event["kind"]) for event in events if event["kind"] in ("warning", "round", "begun")]


def test_that_everybody_evaluates_where_few_train_is_said_before_the_first_round():
    first, *_ = told(10_001, fraction_fit=0.01)
    assert first == (
        "10,001 clients evaluate the model each round, and 100 train: fraction_evaluate is 1. Set it to 0.01 for as "
        "many as train, or to 0 for none"
    )
    assert told(10_001, fraction_fit=0.01, evaluate_every=3)[0].startswith("10,001 clients evaluate the model every 3")


@pytest.mark.parametrize(
    ("clients", "settings"),
    [
        (10_001, {"fraction_fit": 0.06}),
        (10_000, {"fraction_fit": 0.01}),
        (10_001, {"fraction_fit": 0.01, "fraction_evaluate": 0.0}),
        (10_001, {"fraction_fit": 0.01, "fraction_evaluate": 0.1}),
    ],
)
def test_an_evaluation_by_few_or_by_not_many_more_than_train_is_no_news(clients, settings):
    assert told(clients, **settings) == ["begun", "round"]


def test_clients_that_cannot_evaluate_are_not_counted():
    assert not any("fraction_evaluate" in text for text in told(10_001, Mute, fraction_fit=0.01))
