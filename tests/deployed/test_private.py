"""Differential privacy on real nodes: the server clips, pays and adds noise, over plain and over secure sums."""

import numpy as np
import pytest

import umbel as fl
from umbel.runtimes import halves
from umbel.runtimes.halves import client_half, restored
from umbel.runtimes.privately import Parts
from umbel.stores import MemoryStore

pytest.importorskip("dp_accounting")
pytest.importorskip("cryptography")
NAMES = ["0", "1", "2", "3"]
SIZE = 40_000


class Loud(fl.NumPyClient):
    """Moves further than it may."""

    def fit(self, parameters, settings):
        return [parameters[0] + 100.0], 7, {"secret": 3.0}


def loud(context):
    return Loud()


def plan(**more):
    return fl.PrivacyPlan(**{"clip": 2.0, "noise_multiplier": 1.5, "delta": 1e-5, "sampling": "every", **more})


def arguments(**more):
    config = fl.ServerConfig(2, seed=5, min_available_clients=4, fraction_evaluate=0.0)
    given = {"strategy": fl.FedAvg(weighting="uniform"), "config": config, "privacy": plan()}
    return {**given, "initial_parameters": [np.zeros(SIZE)], **more}


@pytest.mark.parametrize("coordinator", [None, fl.Secure()], ids=["plain", "secure"])
def test_a_release_on_nodes_has_the_noise_of_the_plan_and_a_price(coordinator, federation):
    store = MemoryStore()
    history = federation.run(NAMES, loud, store=store, coordinator=coordinator, **arguments())
    model = history.parameters["0"]
    # Two rounds of noise, z · C over 4 clients each, and what 4 clients clipped to C in the same direction move.
    assert np.std(model) == pytest.approx(np.sqrt(2) * 1.5 * 2.0 / 4, rel=0.02)
    assert np.mean(model) == pytest.approx(2 * 2.0 / np.sqrt(SIZE), abs=0.02)
    assert [release.round for release in history.privacy] == [1, 2]
    assert not any("secret" in name for record in history.rounds for name in record.metrics)


def test_nodes_make_the_noise_of_a_secure_sum_together(federation):
    together = {"privacy": plan(noise="distributed"), "coordinator": fl.Secure()}
    history = federation.run(NAMES, loud, store=MemoryStore(), **arguments(**together))
    # Sums of three are opened, so each of the four adds a third of the variance.
    assert np.std(history.parameters["0"]) == pytest.approx(np.sqrt(2 * 4 / 3) * 1.5 * 2.0 / 4, rel=0.02)
    assert [release.round for release in history.privacy] == [1, 2]


@pytest.mark.parametrize("coordinator", [None, fl.Secure()], ids=["plain", "secure"])
def test_nodes_train_with_noise_in_their_steps(coordinator, federation):
    zeros = {"0": np.zeros(SIZE)}

    def quiet(context):
        return fl.GradientClient(lambda params, x: (0.0, zeros), zeros, np.ones(30), lr=0.01)

    steps = {"unit": "example", "expected_examples": 120, "sample_rate": 0.5, "local_steps": 4, "noise": "dp-sgd"}
    given = arguments(privacy=plan(**steps), coordinator=coordinator)
    history = federation.run(NAMES, quiet, store=MemoryStore(), **given)
    # Two rounds of four steps, lr · z · C / (q · n̄) each, over the mean of four clients.
    assert np.std(history.parameters["0"]) == pytest.approx(np.sqrt(8 / 4) * 0.01 * 1.5 * 2.0 / 15, rel=0.02)
    assert [release.round for release in history.privacy] == [1, 2]
    assert not any("loss" in name for record in history.rounds for name in record.metrics)


def test_nodes_have_turns_where_nobody_can_promise_a_draw(federation):
    config = fl.ServerConfig(6, seed=5, min_available_clients=4, fraction_evaluate=0.0)
    turns = {"privacy": plan(sampling="turns", separation=3), "config": config}
    store = MemoryStore()
    history = federation.run(NAMES, loud, store=store, **arguments(**turns))
    seen = {}
    for event in store.log(history.run):
        for client, *_ in event.get("clients", []) if event["kind"] == "round" else []:
            seen.setdefault(client, []).append(event["round"])
    assert set(seen) == set(NAMES)
    assert all(second - first == 3 for first, second in seen.values())
    assert len(history.privacy) == 6


@pytest.mark.parametrize(
    ("reason", "more"),
    [
        ("some are not there", {"privacy": plan(sampling="poisson")}),
        ("needs initial_parameters", {"initial_parameters": None}),
        ("weighting", {"strategy": fl.FedAvg()}),
        ("tiers", {"coordinator": fl.Buffered(buffer_size=2, concurrency=4)}),
    ],
)
def test_what_a_server_cannot_promise_is_refused(reason, more):
    with pytest.raises(fl.NotSupported, match=reason):
        fl.server.start_server("127.0.0.1:0", progress=False, **arguments(**more))


def test_the_client_half_of_a_private_run_travels():
    config = fl.ServerConfig(2, fraction_evaluate=0.0, min_available_clients=4)
    for adaptive in (None, fl.AdaptiveClip(quantile=0.4)):
        private = (
            Parts(fl.FedProx(mu=0.1, weighting="uniform"), config)
            .under(plan(adaptive=adaptive), 4, has_model=True)
            .strategy
        )
        assert restored(client_half(private)) == private


def test_no_two_parts_of_client_halves_have_one_name():
    assert len(halves._KNOWN) == len(halves._KINDS)
