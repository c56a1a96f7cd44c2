from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import umbel as fl
from umbel.errors import ConfigError, NotSupported
from umbel.message import Group
from umbel.privacy.mechanism import Mechanism
from umbel.privacy.private import CLIP, Private
from umbel.reducers import Reduction

pytest.importorskip("dp_accounting")
pytest.importorskip("cryptography")


class Same(fl.NumPyClient):
    def __init__(self, value: float) -> None:
        self.value = value

    def fit(self, parameters: Any, config: Any) -> Any:
        return [parameters[0] + np.float32(self.value)], 3, {"secret": self.value}


def run(clients: int = 20, rounds: int = 3, **changed: Any) -> fl.History:
    plan = changed.pop("plan", fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=1e-5))
    config = {"fraction_fit": 0.5, "fraction_evaluate": 0.0, "seed": 1, **changed.pop("config", {})}
    arguments = {
        "strategy": fl.FedAvg(weighting="uniform"),
        "initial_parameters": [np.zeros(50, np.float32)],
        "engine": "serial",
        "progress": False,
        **changed,
    }
    return fl.simulate(
        lambda context: Same(0.01 * context.partition_id),
        clients,
        config=fl.ServerConfig(rounds, **config),
        privacy=plan,
        **arguments,
    )


def test_a_private_run_tells_what_it_cost() -> None:
    history = run()
    assert [release.round for release in history.privacy] == [1, 2, 3]
    costs = [release.epsilon for release in history.privacy]
    assert costs == sorted(costs)
    assert costs[0] > 0
    assert all("train_secret" not in record.metrics for record in history.rounds)


def test_noise_is_new_in_every_run_of_the_same_seed() -> None:
    assert run(rounds=1).parameters != run(rounds=1).parameters


def test_next_to_no_noise_and_a_wide_clip_is_the_strategy_inside() -> None:
    plan = fl.PrivacyPlan(clip=100.0, noise_multiplier=1e-4, delta=1e-5, sampling="every")
    noisy = run(plan=plan, config={"fraction_fit": 1.0}, rounds=1).parameters["0"]
    np.testing.assert_allclose(noisy, 0.01 * 9.5, atol=0.01)


def test_what_may_end_a_run_is_told_nothing_of_who_answered() -> None:
    """When a run ends is seen by everybody: it must not hang on one client's failure."""

    class Fails(fl.NumPyClient):
        def fit(self, parameters: Any, config: Any) -> Any:
            raise ValueError("of this patient")

    told = list[Any]()
    fl.simulate(
        lambda context: Fails() if context.partition_id == 3 else Same(0.1),
        5,
        config=fl.ServerConfig(2, fraction_evaluate=0.0, seed=1),
        strategy=fl.FedAvg(weighting="uniform"),
        privacy=fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=1e-5, sampling="every"),
        initial_parameters=[np.zeros(3)],
        stop_when=lambda record: bool(told.append(record)),
        engine="serial",
        progress=False,
    )
    assert [(record.round, record.participants, record.failures) for record in told] == [(1, 0, ()), (2, 0, ())]
    assert not any(record.bytes_received or record.seconds or record.clients for record in told)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({1: 1.0}, "by names of arrays or patterns"),
        ({}, "got none; try"),
        ({"name": 1.0}, "write it as the pattern"),
        ({"w": 0}, "clip\\['w'\\] must be"),
    ],
)
def test_a_clip_by_layer_that_is_none_is_told(wrong: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        fl.PrivacyPlan(clip=wrong, noise_multiplier=1.0, delta=1e-5)


def test_an_infinite_update_is_refused_by_name_and_without_a_warning() -> None:
    class Endless(fl.NumPyClient):
        def fit(self, parameters: Any, config: Any) -> Any:
            return [np.full(50, np.inf, np.float32)], 1, {}

    history = fl.simulate(
        lambda context: Endless() if context.partition_id == 1 else Same(0.1),
        4,
        config=fl.ServerConfig(1, fraction_evaluate=0.0, seed=1),
        strategy=fl.FedAvg(weighting="uniform"),
        privacy=fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=1e-5, sampling="every"),
        initial_parameters=[np.zeros(50, np.float32)],
        engine="serial",
        progress=False,
    )
    assert [failure.client for failure in history.rounds[-1].failures] == ["1"]


def test_the_run_stops_at_its_budget_with_a_sentence() -> None:
    plan = fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, target_epsilon=6.0, delta=1e-5)
    history = run(plan=plan, rounds=40)
    assert history.ended == "budget"
    assert 0 < len(history.privacy) < 40
    assert history.privacy[-1].epsilon <= 6.0
    assert any("budget is spent" in warning for warning in history.warnings)


@pytest.mark.parametrize("sampling", ["poisson", "fixed"])
def test_a_budget_below_one_round_is_refused_with_what_one_costs(sampling: str) -> None:
    given: Any = {"clip": 1.0, "noise_multiplier": 1.0, "delta": 1e-5, "sampling": sampling}
    with pytest.raises(NotSupported, match="does not pay for one round") as refused:
        run(plan=fl.PrivacyPlan(target_epsilon=0.01, **given))
    least = float(re.search(r"costs epsilon=(\S+) ", str(refused.value))[1])
    with pytest.raises(NotSupported, match="does not pay for one round"):
        run(plan=fl.PrivacyPlan(target_epsilon=0.998 * least, **given))
    history = run(plan=fl.PrivacyPlan(target_epsilon=least, **given), rounds=5)
    assert (history.ended, len(history.rounds)) == ("budget", 1)
    assert history.privacy[-1].epsilon <= least
    assert run(plan=fl.PrivacyPlan(target_epsilon=0.01, **given), rounds=0).privacy == history.privacy[:0]


def test_a_target_alone_gives_the_noise_that_all_rounds_can_pay() -> None:
    history = run(plan=fl.PrivacyPlan(clip=1.0, target_epsilon=2.0, delta=1e-5), rounds=4)
    assert history.ended == "finished"
    assert 1.9 < history.privacy[-1].epsilon <= 2.0


@pytest.mark.parametrize("sampling", ["poisson", "fixed"])
def test_who_knows_the_seed_does_not_know_the_cohorts(sampling: str) -> None:
    cohorts = list[Any]()
    for _ in range(2):
        store = fl.MemoryStore()
        plan = fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=1e-5, sampling=sampling)  # type: ignore[arg-type]
        history = run(store=store, plan=plan, rounds=2)
        cohorts.append([event["clients"] for event in store.events(history.run) if event["kind"] == "round"])
    assert cohorts[0] != cohorts[1]


def test_a_secure_sum_of_clipped_updates_is_exact_and_gets_the_noise_of_the_plan() -> None:
    plan = fl.PrivacyPlan(clip=0.7, noise_multiplier=1e-9, delta=1e-5, sampling="every")
    config = {"fraction_fit": 1.0}
    plain, secure = (
        run(clients=5, plan=plan, config=config, rounds=1, coordinator=coordinator).parameters["0"]
        for coordinator in (None, fl.Secure(clip=9.0, weight_cap=3.0))
    )
    np.testing.assert_allclose(secure, plain, rtol=0, atol=1e-8)
    noisy = replace(plan, noise_multiplier=1.5)
    initial = [np.zeros(60_000)]
    found = run(clients=5, plan=noisy, config=config, rounds=1, coordinator=fl.Secure(), initial_parameters=initial)
    assert np.std(found.parameters["0"]) == pytest.approx(1.5 * 0.7 / 5, rel=0.02)


def test_poisson_cohorts_differ_in_size_and_may_be_empty() -> None:
    sizes = [r.participants for r in run(clients=4, rounds=30, config={"fraction_fit": 0.25}).rounds]
    assert 0 in sizes
    assert len(set(sizes)) > 2


def test_a_run_that_goes_on_pays_for_the_releases_before() -> None:
    store = fl.MemoryStore()
    first = run(store=store)
    again = run(store=store, resume=first.run, rounds=5)
    assert [release.round for release in again.privacy] == [1, 2, 3, 4, 5]
    assert again.privacy[-1].epsilon == pytest.approx(run(rounds=5).privacy[-1].epsilon)


@pytest.mark.parametrize("start", [0.1, 10.0])
def test_a_clip_that_adapts_comes_to_its_quantile(start: float) -> None:
    norms = np.linspace(0.01, 2.0, 100)
    plan = fl.PrivacyPlan(clip=start, noise_multiplier=1.0, delta=1e-5, sampling="every", adaptive=fl.AdaptiveClip())
    mechanism = Mechanism(noise_multiplier=1.0, sampling="every", cohort=100, clients=100)
    private = Private(inner=fl.FedAvg(weighting="uniform"), plan=plan, mechanism=mechanism)
    state = private.init(fl.Arrays.of({"w": np.zeros(1)}))
    for number in range(60):
        task = private.task(state, number + 1)
        total = private.reducer.start(private.schema(task, {}))
        for norm in norms:
            update = {"delta": Group(fl.Arrays.of({"w": np.array([norm])}), 1.0)}
            total.fold(private._protected(update, task, None))
        state = private.step(state, Reduction(total.result(), 100))
    assert abs(np.mean(norms <= state.scalars[CLIP]) - 0.5) <= 0.1


class Still(fl.NumPyClient):
    def __init__(self, number: int, examples: int, fails: bool) -> None:
        self.number, self.examples, self.fails = number, examples, fails

    def fit(self, parameters: Any, config: Any) -> Any:
        if self.fails:
            raise RuntimeError("gone")
        return parameters, self.examples, {}


@pytest.mark.parametrize("case", ["uniform", "weighted", "some fail"])
def test_the_noise_of_a_release_has_the_planned_size(case: str) -> None:
    cap = 8.0 if case == "weighted" else None
    plan = fl.PrivacyPlan(clip=2.0, noise_multiplier=1.5, delta=1e-5, sampling="every", weight_cap=cap)
    history = fl.simulate(
        lambda context: Still(context.partition_id, 5, case == "some fail" and context.partition_id % 3 == 0),
        20,
        strategy=fl.FedAvg(weighting="examples" if cap else "uniform"),
        config=fl.ServerConfig(1, fraction_evaluate=0.0, seed=1),
        initial_parameters=[np.zeros(60_000)],
        privacy=plan,
        engine="serial",
        progress=False,
    )
    # Nobody moves, so the model is noise: z · C · W over 20 · W. Its deviation is known to 0.3 % from 60,000 numbers.
    assert np.std(history.parameters["0"]) == pytest.approx(1.5 * 2.0 / 20, rel=0.02)


UNSOUND: dict[str, dict[str, Any]] = {
    "linear reducer": {"strategy": fl.FedAvg(reducer=fl.Median(), weighting="uniform")},
    "weight_cap": {"strategy": fl.FedAvg()},
    "how many clients": {"strategy": fl.Scaffold(weighting="uniform")},
    "selector": {"config": {"selector": fl.Weighted(lambda client: 1.0)}},
    "over_selection": {"config": {"over_selection": 0.5}},
    "round_retries": {"config": {"round_retries": 1}},
    "quorum": {"config": {"quorum": 0.5}},
    "accept_failures": {"config": {"accept_failures": False}},
    "fraction_evaluate": {"config": {"fraction_evaluate": 1.0}},
    "per_client_metrics": {"config": {"per_client_metrics": True}},
    "fit_metrics_aggregation_fn": {"fit_metrics_aggregation_fn": lambda results: {}},
    "system": {"system": fl.SystemModel()},
    "coordinator": {"coordinator": fl.FedAsync(concurrency=2)},
    "products would be rounded": {
        "coordinator": fl.Secure(),
        "strategy": fl.FedAvg(),
        "plan": fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=1e-5, sampling="fixed", weight_cap=5.0),
    },
    "moves the clip": {
        "coordinator": fl.Secure(),
        "plan": fl.PrivacyPlan(
            clip=1.0, noise_multiplier=1.0, delta=1e-5, sampling="fixed", adaptive=fl.AdaptiveClip()
        ),
    },
    "draw nobody": {"coordinator": fl.Secure()},
    "sums up to": {
        "coordinator": fl.Secure(),
        "clients": 1025,
        "plan": fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=1e-5, sampling="fixed"),
    },
    "min_fit_clients": {"config": {"min_fit_clients": 5}},
    "asks all clients": {"plan": fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=1e-5, sampling="every")},
    "min_cohort": {"plan": fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=1e-5, min_cohort=11)},
    "delta": {"plan": fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=0.2)},
    "float32 or float64": {"initial_parameters": [np.zeros(3, np.float16)]},
}


@pytest.mark.parametrize("reason", UNSOUND)
def test_what_would_break_the_promise_is_refused(reason: str) -> None:
    with pytest.raises(NotSupported, match=reason):
        run(**UNSOUND[reason])
