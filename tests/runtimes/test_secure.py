"""Secure rounds give what plain rounds give, to the grid of their fixed point, on every engine."""

from __future__ import annotations

import numpy as np
import pytest

import umbel as fl
from umbel.coordinators import Secure
from umbel.stores import MemoryStore


class Broken(Exception):
    """What some clients do."""


class Shift(fl.NumPyClient):
    """Moves every weight by its own amount."""

    def __init__(self, index: int) -> None:
        self.index = index

    def fit(self, parameters, config):
        return [p + 0.01 * (self.index + 1) for p in parameters], 10 * (self.index + 1), {"loss": float(self.index)}

    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), 7 * (self.index + 1), {"accuracy": 0.5}


class Sometimes(Shift):
    """Clients 1 and 3 fail while they train."""

    def fit(self, parameters, config):
        if self.index in (1, 3):
            raise Broken("no data")
        return super().fit(parameters, config)


def run(coordinator=None, client=lambda context: Shift(context.partition_id), **changes):
    return fl.simulate(
        client,
        changes.pop("num_clients", 5),
        config=fl.ServerConfig(num_rounds=2, seed=3),
        initial_parameters=[np.zeros((3, 4), np.float32), np.ones(2, np.float32)],
        coordinator=coordinator,
        progress=False,
        **{"engine": "serial", **changes},
    )


def test_a_secure_round_is_the_plain_round_to_the_grid():
    plain, secure = run(), run(Secure(weight_cap=50))
    for name, value in plain.parameters.items():
        np.testing.assert_allclose(secure.parameters[name], value, atol=1e-6)
    assert secure.rounds[0].metrics["train_loss"] == pytest.approx(plain.rounds[0].metrics["train_loss"], abs=1e-5)
    assert secure.rounds[-1].loss == pytest.approx(plain.rounds[-1].loss, abs=1e-5)
    assert secure.rounds[0].participants == 5


def test_pool_and_serial_give_the_same_bits():
    one, other = run(Secure()), run(Secure(), engine="pool", workers=2)
    for name, value in one.parameters.items():
        np.testing.assert_array_equal(value, other.parameters[name])


def test_clients_that_fail_are_left_out_and_the_sum_of_the_others_is_exact():
    settings = Secure(weight_cap=50, threshold_share=0.5)
    plain = run(client=lambda context: Sometimes(context.partition_id))
    secure = run(settings, client=lambda context: Sometimes(context.partition_id))
    np.testing.assert_allclose(secure.parameters["0"], plain.parameters["0"], atol=1e-6)
    assert secure.rounds[0].participants == 3
    assert [failure.client for failure in secure.rounds[0].failures] == ["1", "3"]


def test_too_few_clients_end_in_a_clean_abort_that_names_the_reason():
    with pytest.raises(fl.TooFewClients, match=r"3 of 5 clients sent masked vectors, 4 are needed"):
        run(Secure(), client=lambda context: Sometimes(context.partition_id))


def test_a_cut_update_is_told_once_and_no_client_is_named():
    history = run(Secure(clip=0.001))
    assert any("5 of 5 clients had values beyond clip=0.001" in text for text in history.warnings)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"strategy": fl.FedAvg(reducer=fl.Median())}, "linear reducer"),
        ({"config": fl.ServerConfig(per_client_metrics=True)}, "per_client_metrics"),
        ({"config": fl.ServerConfig(over_selection=0.3)}, "over_selection"),
        ({"fit_metrics_aggregation_fn": lambda pairs: {}}, "fit_metrics_aggregation_fn"),
        ({"engine": "vmap"}, "engine='vmap'"),
        ({"system": fl.SystemModel()}, "system"),
        ({"config": fl.ServerConfig(selector=fl.Oort())}, "learns"),
        ({"config": fl.ServerConfig(round_retries=1024)}, "use at most 1023"),
    ],
)
def test_what_would_tell_more_than_sums_is_refused_before_the_run(changes, said):
    with pytest.raises(fl.NotSupported, match=said):
        fl.simulate(lambda context: Shift(0), 5, coordinator=Secure(), progress=False, **changes)


@pytest.mark.parametrize(
    ("clients", "more", "said"),
    [
        (1, {}, r"Secure\(min_cohort=3\) opens no sum of fewer clients, and a round asks 1 of 1; take more"),
        (2, {}, "a round asks 2 of 2"),
        (10, {"config": fl.ServerConfig(fraction_fit=0.2)}, "a round asks 2 of 10; .* raise fraction_fit"),
        (6, {"coordinator": Secure(min_cohort=7)}, "a round asks 6 of 6; .* lower min_cohort"),
        (2, {"privacy": fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=1e-5, sampling="every")}, "2 of 2"),
    ],
)
def test_a_run_without_enough_clients_for_a_sum_is_refused_before_it_begins(clients, more, said):
    given = {"coordinator": Secure(), "strategy": fl.FedAvg(weighting="uniform"), "progress": False, **more}
    if "privacy" in more:
        pytest.importorskip("dp_accounting")
        given["config"] = fl.ServerConfig(fraction_evaluate=0.0)
    store = MemoryStore()
    with pytest.raises(fl.NotSupported, match=said):
        fl.simulate(lambda context: Shift(0), clients, initial_parameters=[np.zeros(3)], store=store, **given)
    assert store.runs() == []


def test_sums_of_two_are_opened_where_that_was_asked_for():
    assert run(Secure(min_cohort=2), num_clients=2).rounds[-1].participants == 2


def test_a_strategy_with_two_groups_is_secured_unchanged():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 3))
    client = fl.LinearClients((x, x @ [1.0, -2.0, 0.5]), [np.arange(k, 80, 4)[: 20 - k] for k in range(4)], lr=0.05)
    histories = [
        fl.simulate(
            client,
            4,
            strategy=fl.Scaffold(),
            config=fl.ServerConfig(num_rounds=3, seed=1),
            coordinator=coordinator,
            engine="serial",
            progress=False,
        )
        for coordinator in (None, Secure(clip=16.0, weight_cap=32.0))
    ]
    for name, value in histories[0].parameters.items():
        np.testing.assert_allclose(histories[1].parameters[name], value, atol=1e-5)
