"""DP-SGD: every step of a client's own training has noise, and one example moves it by no more than the clip."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.privacy.regression import data, gradient

import umbel as fl
from umbel.errors import ConfigError, NotSupported
from umbel.message import Ask, Context
from umbel.privacy.accounting import epsilon, renyi_epsilon
from umbel.privacy.mechanism import DpSgd, Mechanism
from umbel.privacy.training import DpSgdTraining
from umbel.runtimes.privacy_report.stepping import stepped, stepping
from umbel.runtimes.privately import Parts

pytest.importorskip("dp_accounting")
pytest.importorskip("cryptography")

CONFIG = fl.ServerConfig(1, fraction_evaluate=0.0, seed=1)


def plan(**changed: Any) -> fl.PrivacyPlan:
    given = {"clip": 2.0, "noise_multiplier": 1.5, "delta": 1e-4, "sampling": "every", "noise": "dp-sgd"}
    steps = {"unit": "example", "expected_examples": 120, "sample_rate": 0.25, "local_steps": 3}
    return fl.PrivacyPlan(**{**given, **steps, **changed})


def training(inner: Any = None, **changed: Any) -> DpSgdTraining:
    strategy = Parts(inner or fl.FedAvg(), CONFIG).under(plan(**changed), 4, has_model=True).strategy
    assert isinstance(strategy, DpSgdTraining)
    return strategy


def client(context: Any) -> Any:
    return fl.GradientClient(gradient, {"w": np.zeros(5)}, data(context.partition_id), lr=0.1)


def run(made: Any = client, **changed: Any) -> fl.History:
    arguments: dict[str, Any] = {
        "strategy": fl.FedAvg(),
        "privacy": plan(),
        "initial_parameters": {"w": np.zeros(5)},
        "config": CONFIG,
        "engine": "serial",
        **changed,
    }
    return fl.simulate(made, 4, progress=False, **arguments)


def turn(strategy: DpSgdTraining, one: Any, size: int = 5) -> Any:
    """What one client sends."""
    task = strategy.task(strategy.init(fl.Arrays.of({"w": np.zeros(size)})), 1)
    ctx = Context(client="0", partition_id=0, num_partitions=4, round=1)
    return strategy.local(Ask("0", "fit", task), one, ctx)[0]


def test_without_noise_draws_and_clips_it_is_gradient_descent() -> None:
    found = run(privacy=plan(sample_rate=1.0, noise_multiplier=1e-12, clip=1e4)).parameters["w"]
    by_hand = list[Any]()
    for number in range(4):
        w, (x, y) = np.zeros(5), data(number)
        for _ in range(3):
            w = w - 0.1 * gradient({"w": w}, x, y)[1]["w"]
        by_hand.append(w)
    np.testing.assert_allclose(found, np.mean(by_hand, axis=0), atol=1e4 * 2.0**-12)


def test_a_step_is_made_of_what_the_accountant_counts_on() -> None:
    strategy = training()
    found = stepped(strategy, strategy)
    assert found.problems(strategy) == []
    assert found.noise == pytest.approx(1.5, rel=0.02)
    assert found.drawn / found.of == pytest.approx(0.25, abs=0.02)
    row = stepping(strategy)
    assert row.verdict == "passed", row.text
    assert row.control is not None
    assert row.control.works, row.control.text


@pytest.mark.parametrize(
    ("reason", "fault"),
    [
        ("noise of", {"draw": lambda count: np.random.default_rng(1).normal(size=count) / 2}),
        ("moved a step", {"plan": plan(clip=20.0)}),
        ("in a step", {"chance": np.zeros}),
    ],
)
def test_a_fault_in_a_step_is_seen(reason: str, fault: dict[str, Any]) -> None:
    right = training()
    assert any(reason in problem for problem in stepped(replace(right, **fault), right).problems(right))


def test_noise_of_steps_adds_up() -> None:
    quiet = fl.GradientClient(lambda params, x: (0.0, {"w": np.zeros(40_000)}), {"w": np.zeros(40_000)}, np.ones(30))
    sent = turn(training(local_steps=4), quiet, 40_000).groups["delta"].arrays["w"]
    # lr · z · C / (q · n̄) in each of four steps; the client's lr is 0.1.
    assert np.std(sent) == pytest.approx(0.1 * 2.0 * 1.5 * 2.0 / (0.25 * 30), rel=0.02)


def test_a_loss_and_the_number_drawn_stay_at_home() -> None:
    sent = turn(training(), client(Context(client="0", partition_id=0, num_partitions=4, round=1)))
    assert (sent.examples, sent.steps, sent.metrics) == (1.0, 1, {})
    assert sent.groups["delta"].weight == 1.0


@pytest.mark.parametrize("odd", [np.nan, np.inf, 1e300])
def test_a_broken_example_counts_as_none(odd: float) -> None:
    x, y = data(0)
    x[3] = odd
    with np.errstate(all="ignore"):
        broken, less = (
            turn(replace(training(sample_rate=1.0, local_steps=1), draw=np.zeros), one).groups["delta"].arrays["w"]
            for one in (
                fl.GradientClient(gradient, {"w": np.zeros(5)}, (x, y)),
                fl.GradientClient(gradient, {"w": np.zeros(5)}, (np.delete(x, 3, 0), np.delete(y, 3))),
            )
        )
    assert np.linalg.norm(broken - less) <= 0.1 * 2.0 / 30 * (1 + 1e-9)


@pytest.mark.parametrize("coordinator", [None, fl.Secure(clip=8.0)], ids=["plain", "secure"])
@pytest.mark.parametrize("strategy", [fl.FedAvg(), fl.FedProx(mu=0.1), fl.FedAvg(server=fl.adam(0.5))])
def test_what_is_done_with_it_afterwards_learns(strategy: Any, coordinator: Any) -> None:
    rounds = replace(CONFIG, num_rounds=8)
    found = run(
        strategy=strategy,
        coordinator=coordinator,
        config=rounds,
        privacy=plan(noise_multiplier=0.5, clip=4.0, local_steps=20),
    )
    assert np.linalg.norm(found.parameters["w"] - np.arange(5.0)) < 0.6 * np.linalg.norm(np.arange(5.0))
    assert len(found.privacy) == 8


def test_a_run_costs_each_example_all_steps_of_its_own_client() -> None:
    history = run(config=replace(CONFIG, num_rounds=2))
    one = Mechanism(noise_multiplier=1.5, sampling="poisson", cohort=25, clients=100)
    assert [release.epsilon for release in history.privacy] == [
        pytest.approx(epsilon(one, steps, 1e-4)) for steps in (3, 6)
    ]


def test_two_accountants_agree() -> None:
    """q = 0.01, z = 1.1, 1,000 steps: 1.71 by privacy loss distributions, 1.9 by Rényi divergences."""
    mechanism = Mechanism(
        noise_multiplier=1.1, sampling="every", cohort=1, clients=1, dp_sgd=DpSgd(sample_rate=0.01, local_steps=100)
    )
    tight, loose = epsilon(mechanism, 10, 1e-5), renyi_epsilon(mechanism, 10, 1e-5)
    assert tight < loose < 1.25 * tight


def test_a_target_takes_the_least_noise_that_keeps_it() -> None:
    strategy = training(noise_multiplier=None, target_epsilon=2.0)
    assert 1.99 < epsilon(strategy.mechanism, 1, 1e-4) <= 2.0


def test_a_run_ends_before_the_round_that_would_exceed_its_target() -> None:
    history = run(config=replace(CONFIG, num_rounds=30), privacy=plan(target_epsilon=4.0))
    assert history.ended == "budget"
    assert history.privacy[-1].epsilon <= 4.0


class Closed(fl.NumPyClient):
    def fit(self, parameters: Any, config: Any) -> Any:
        return parameters, 1, {}


UNSOUND: dict[str, dict[str, Any]] = {
    "FedSGD asks for more; use FedAvg": {"strategy": fl.FedSGD()},
    "QFedAvg asks for more": {"strategy": fl.QFedAvg()},
    "Scaffold, whose step uses how many": {"strategy": fl.Scaffold()},
    "needs a linear reducer": {"strategy": fl.FedAvg(reducer=fl.Median())},
    "shared= keeps arrays at home without noise; leave": {"strategy": fl.FedAvg(shared="w")},
    "rounds with a cohort each": {"coordinator": fl.Buffered(buffer_size=2, concurrency=4)},
}


@pytest.mark.parametrize("reason", UNSOUND)
def test_what_would_break_the_promise_is_refused(reason: str) -> None:
    with pytest.raises(NotSupported, match=reason):
        run(**UNSOUND[reason])


WRONG: dict[str, dict[str, Any]] = {
    'set unit="example"': {"unit": "client", "expected_examples": None},
    "needs sample_rate": {"sample_rate": None},
    "needs local_steps": {"local_steps": None},
    "sample_rate must be from 9.09495e-13 to 1, got 0": {"sample_rate": 0},
    "sample_rate must be from 9.09495e-13 to 1, got nan": {"sample_rate": float("nan")},
    "sample_rate must be from 9.09495e-13 to 1, got '1'": {"sample_rate": "1"},
    "local_steps must be a whole number": {"local_steps": 2.0},
    'sample_rate=0.25 is for noise="dp-sgd"': {"noise": "server"},
    "noise_multiplier must be at least 0.015625": {"noise_multiplier": 0.01},
    'needs sampling="every"': {"sampling": "fixed"},
}


@pytest.mark.parametrize("reason", WRONG)
def test_a_wrong_plan_is_told(reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        plan(**WRONG[reason])


@pytest.mark.parametrize("coordinator", [None, fl.Secure()], ids=["plain", "secure"])
@pytest.mark.parametrize("strategy", [fl.FedAvg(), fl.FedProx(mu=0.1)])
def test_a_client_whose_loop_is_closed_is_refused_before_the_run(strategy: Any, coordinator: Any) -> None:
    with pytest.raises(NotSupported, match=r'noise="dp-sgd" is in each step .* use TorchClient or GradientClient$'):
        run(lambda context: Closed(), strategy=strategy, coordinator=coordinator)


def test_blocks_leave_such_training_to_each_client() -> None:
    found = run(engine="vmap", privacy=plan(sample_rate=1.0, noise_multiplier=1e-12, clip=1e4))
    np.testing.assert_array_equal(
        found.parameters["w"],
        run(privacy=plan(sample_rate=1.0, noise_multiplier=1e-12, clip=1e4)).parameters["w"],
    )


def test_an_example_that_cannot_be_computed_tells_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """A server could make a model that fails for one kind of example: whether it did is in no budget."""
    x, y = data(0)

    def picky(params: Any, x: Any, y: Any) -> Any:
        if x[0, 0] == data(0)[0][3, 0]:
            raise ValueError("the patient of row 3")
        return gradient(params, x, y)

    silent = replace(training(sample_rate=1.0, local_steps=1), draw=np.zeros)
    broken = turn(silent, fl.GradientClient(picky, {"w": np.zeros(5)}, (x, y)))
    less = turn(silent, fl.GradientClient(gradient, {"w": np.zeros(5)}, (np.delete(x, 3, 0), np.delete(y, 3))))
    np.testing.assert_allclose(broken.groups["delta"].arrays["w"], less.groups["delta"].arrays["w"], atol=1e-12)
    assert "row 3" in caplog.text


@pytest.mark.parametrize("dtype", [np.float16, np.int64])
def test_a_task_of_coarse_numbers_is_refused(dtype: Any) -> None:
    """Rounded after it was clipped, an example would move the sum by more than the clip."""
    strategy = training()
    one = client(Context(client="0", partition_id=0, num_partitions=4, round=1))
    task = strategy.task(strategy.init(fl.Arrays.of({"w": np.zeros(5)})), 1)
    task = replace(task, arrays=fl.Arrays.of({"w": np.zeros(5, dtype)}))
    with pytest.raises(NotSupported, match="float32 or float64"):
        strategy.local(Ask("0", "fit", task), one, Context(client="0", partition_id=0, num_partitions=4, round=1))


def test_parts_that_are_not_what_they_are_called_are_refused() -> None:
    from types import SimpleNamespace

    strategy = training()
    with pytest.raises(ConfigError, match="plan must be a PrivacyPlan"):
        replace(strategy, plan=SimpleNamespace(noise="dp-sgd", clip=1.0))  # type: ignore[arg-type]
