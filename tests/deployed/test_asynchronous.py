"""Asynchronous runs over sockets: where nobody is stale they are rounds, and nobody waits for who is slow."""

import threading

import numpy as np
import pytest

import umbel as fl
from umbel.errors import ConfigError
from umbel.stores import MemoryStore
from umbel.testing import Quadratics, WithHead

NAMES = ["0", "1", "2", "3"]
ALL = fl.Buffered(concurrency=4, buffer_size=4)
STRATEGIES = [fl.FedAvg(), fl.FedProx(mu=0.1), fl.FedAvg(server=fl.adam()), fl.FedAvg(reducer=fl.Median())]


def config(**more):
    return fl.ServerConfig(**{"num_rounds": 4, "seed": 5, "min_available_clients": 4, **more})


def story(history):
    return [(r.round, r.loss, dict(r.metrics), r.participants, r.failures, r.staleness) for r in history.rounds]


@pytest.mark.parametrize("strategy", STRATEGIES, ids=repr)
def test_a_buffer_of_all_who_train_is_fedavg_in_rounds_to_the_bit(strategy, federation):
    toy = Quadratics(dtype="float32")
    rounds = fl.simulate(toy.client, 4, strategy=strategy, config=config(), engine="serial", progress=False)
    steps = federation.run(NAMES, toy.client, strategy=strategy, config=config(), coordinator=ALL)
    assert steps.parameters == rounds.parameters
    assert story(steps) == story(rounds)


def test_private_arrays_and_client_state_stay_at_the_node(federation):
    toy, strategy = WithHead(), fl.FedAvg(shared="backbone.*")
    rounds = fl.simulate(toy.client, 4, strategy=strategy, config=config(), engine="serial", progress=False)
    steps = federation.run(NAMES, toy.client, strategy=strategy, config=config(), coordinator=ALL)
    assert list(steps.parameters) == ["backbone.w"]
    assert steps.parameters == rounds.parameters
    assert story(steps) == story(rounds)


def test_tiered_rounds_that_wait_for_everybody_are_fedavg_to_the_bit(federation):
    toy = Quadratics(dtype="float32")
    rounds = fl.simulate(toy.client, 4, config=config(), engine="serial", progress=False)
    tiered = federation.run(NAMES, toy.client, config=config(), coordinator=fl.Tiered(waits_for=1.0))
    assert tiered.parameters == rounds.parameters
    assert story(tiered) == story(rounds)


def test_one_node_that_is_mixed_in_full_is_central_training(federation):
    toy = Quadratics(clients=1, epochs=1)
    once = config(min_available_clients=1, num_rounds=6)
    history = federation.run(
        ["0"], toy.client, config=once, coordinator=fl.FedAsync(concurrency=3, mixing=1.0, staleness_exponent=0.0)
    )
    w, (a, b) = np.zeros(toy.dim), toy.problem(0)
    for _ in range(6):
        w = w - toy.lr * a * (w - b)
    assert np.allclose(history.parameters["w"], w, rtol=1e-12)


class Adds(fl.NumPyClient):
    """Adds one; the node "slow" waits for a sign before."""

    def __init__(self, name, sign):
        self.name, self.sign = name, sign

    def fit(self, parameters, settings):
        if self.name == "slow":
            assert self.sign.wait(30)
        return [parameters[0] + 1.0], 1, {}


@pytest.mark.parametrize(
    "coordinator",
    [fl.Buffered(concurrency=3, buffer_size=2), fl.FedAsync(concurrency=3), fl.Tiered(waits_for=0.6)],
    ids=repr,
)
def test_nobody_waits_for_a_slow_node_and_its_update_counts_less(coordinator, federation):
    sign, store = threading.Event(), MemoryStore()

    def look(event):
        if event["kind"] == "round" and event["round"] == 10:
            sign.set()

    history = federation.run(
        ["a", "b", "slow"],
        lambda context: Adds(context.client, sign),
        config=config(num_rounds=400, min_available_clients=3),
        initial_parameters=[np.zeros(2)],
        coordinator=coordinator,
        observers=[look],
        store=store,
    )
    events = [event for event in store.events(history.run) if event["kind"] == "round" and event["round"]]
    firsts = [(e["round"], version) for e in events for client, version in e["versions"] if client == "slow"]
    (step, version) = firsts[0]
    assert version == 1
    assert step > 10
    assert max(record.staleness for record in history.rounds) > 3
    assert [event["round"] for event in events] == list(range(1, 401))


class Large(fl.NumPyClient):
    """Adds one to a model that travels in chunks, and evaluates."""

    def fit(self, parameters, settings):
        return [parameters[0] + 1.0], 1, {}

    def evaluate(self, parameters, settings):
        return float(parameters[0][0]), 1, {}


def test_more_large_updates_than_a_server_holds_at_a_time_stop_nothing(federation):
    history = federation.run(
        [str(index) for index in range(6)],
        lambda context: Large(),
        config=config(num_rounds=20, min_available_clients=6),
        initial_parameters=[np.zeros(100_000)],
        coordinator=fl.Buffered(concurrency=5, buffer_size=2, staleness_exponent=0.0),
    )
    assert history.parameters["0"].tolist() == [20.0] * 100_000
    assert history.loss == 20.0
    assert all(record.participants == 2 for record in history.rounds if record.round)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"strategy": fl.Scaffold()}, "which Scaffold has no room for"),
        ({"strategy": fl.FedNova()}, "which FedNova has no room for"),
        ({"config": config(fraction_fit=0.5)}, "concurrency says how many"),
        ({"config": config(round_timeout=3.0)}, "a step needs buffer_size updates"),
        ({"coordinator": fl.Tiered(), "config": config(quorum=0.5)}, "waits_for says"),
        ({"coordinator": "buffered"}, "coordinator must be one such as"),
        ({"spool": True}, "run without a spool"),
    ],
)
def test_what_cannot_be_asynchronous_is_refused_before_the_run(arguments, said):
    store = MemoryStore()
    with pytest.raises(ConfigError, match=said):
        fl.server.start_server("127.0.0.1:0", **{"coordinator": ALL, **arguments}, store=store, progress=False)
    assert store.runs() == []


def test_a_run_goes_on_under_the_same_coordinator_and_no_other(federation, tmp_path):
    toy, path = Quadratics(), tmp_path / "runs.db"
    federation.run(NAMES, toy.client, config=config(), coordinator=ALL, store=path)
    with pytest.raises(ConfigError, match="not the run that was begun"):
        fl.server.start_server("127.0.0.1:0", config=config(), store=path, resume="last", progress=False)
    whole = fl.simulate(toy.client, 4, config=config(num_rounds=8), engine="serial", progress=False)
    longer = federation.run(NAMES, toy.client, config=config(num_rounds=8), coordinator=ALL, store=path, resume="last")
    assert longer.parameters == whole.parameters
