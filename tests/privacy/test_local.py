"""Local differential privacy: what leaves a client is private already, whoever reads it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import umbel as fl
from umbel.errors import NotSupported
from umbel.message import Ask, Context, Group, Task, Update
from umbel.privacy.accounting import epsilon
from umbel.privacy.mechanism import Mechanism
from umbel.privacy.private import Private
from umbel.runtimes.privately import Parts

pytest.importorskip("dp_accounting")
pytest.importorskip("cryptography")

SIZE = 40_000


class Loud(fl.NumPyClient):
    def fit(self, parameters: Any, config: Any) -> Any:
        return [parameters[0] + 100.0], 5, {"secret": 1.0}


def plan(**changed: Any) -> fl.PrivacyPlan:
    given = {"clip": 2.0, "noise_multiplier": 1.5, "delta": 1e-5, "sampling": "every", "noise": "local"}
    return fl.PrivacyPlan(**{**given, **changed})


def run(clients: int = 9, rounds: int = 1, **changed: Any) -> fl.History:
    arguments = {
        "strategy": fl.FedAvg(weighting="uniform"),
        "privacy": plan(),
        "initial_parameters": [np.zeros(SIZE, np.float32)],
        **changed,
    }
    return fl.simulate(
        lambda context: Loud(),
        clients,
        config=fl.ServerConfig(rounds, fraction_evaluate=0.0, seed=1),
        engine="serial",
        progress=False,
        **arguments,
    )


def private(**changed: Any) -> Private:
    config = fl.ServerConfig(1, fraction_evaluate=0.0)
    strategy = Parts(fl.FedAvg(weighting="uniform"), config).under(plan(**changed), 9, has_model=True).strategy
    assert isinstance(strategy, Private)
    return strategy


def test_the_sum_has_the_noise_of_all_clients_and_no_more() -> None:
    model = run().parameters["0"]
    # z · 2C at each of nine: any update may be any other. The mean is that of updates of norm C in one direction.
    assert np.std(model) == pytest.approx(1.5 * 2 * 2.0 / math.sqrt(9), rel=0.02)
    assert np.mean(model) == pytest.approx(2.0 / math.sqrt(SIZE), abs=5 * 2.0 / math.sqrt(SIZE))


def test_an_update_has_its_noise_before_it_leaves_the_client() -> None:
    one = private()
    update = {"delta": Group(fl.Arrays.of({"w": np.full(SIZE, 100.0)}), 7.0)}
    sent = one._noised(one._protected(update, None, None))["delta"]  # type: ignore[arg-type]
    assert np.std(sent.arrays["w"]) == pytest.approx(1.5 * 2 * 2.0, rel=0.02)
    assert sent.weight == 1.0
    # The server takes it as it is: a second clip would cut the noise.
    opened = one.open(Update({"delta": sent}, 1.0, 1), None, {})["delta"]  # type: ignore[arg-type]
    assert opened.arrays.digest == sent.arrays.digest


def test_noise_is_on_the_grid_of_clipped_updates() -> None:
    one = private()
    quiet = {"delta": Group(fl.Arrays.of({"w": np.zeros(1000)}), 1.0)}
    noise = np.asarray(one._noised(quiet)["delta"].arrays["w"])
    assert (noise / (2.0 * 2.0**-20) % 1 == 0).all()


def test_a_task_of_coarse_numbers_is_refused_at_the_client() -> None:
    """A server may send what it likes: rounded to float16 once it is clipped, an update may be twice as long."""
    task = Task(1, fl.Arrays.of({"0": np.zeros(4, np.float16)}))
    ctx = Context(client="0", partition_id=0, num_partitions=9, round=1)
    with pytest.raises(NotSupported, match="float32 or float64"):
        private().local(Ask("0", "fit", task), Loud().to_client(), ctx)


def test_a_run_costs_each_client_what_its_own_releases_cost() -> None:
    history = run(rounds=3)
    alone = Mechanism(noise_multiplier=1.5, sampling="every", cohort=1, clients=1, alone=True)
    assert [release.epsilon for release in history.privacy] == [
        pytest.approx(epsilon(alone, releases, 1e-5)) for releases in (1, 2, 3)
    ]
    assert alone.adjacency == "replace-one"
    assert all("train_secret" not in record.metrics for record in history.rounds)


def test_examples_are_hidden_by_their_own_client() -> None:
    zeros = {"w": np.zeros(SIZE)}
    data = np.zeros((4, 1)), np.zeros(4)
    wanted = plan(unit="example", expected_examples=20)
    model = fl.simulate(
        lambda context: fl.GradientClient(lambda params, x, y: (0.0, zeros), zeros, data),
        4,
        strategy=fl.FedSGD(server=fl.sgd(1.0)),
        config=fl.ServerConfig(1, fraction_evaluate=0.0, seed=1),
        initial_parameters=zeros,
        privacy=wanted,
        engine="serial",
        progress=False,
    ).parameters["w"]
    # Whether one example is there moves a client's sum by C, not 2C.
    assert np.std(model) * 20 == pytest.approx(1.5 * 2.0 * math.sqrt(4), rel=0.02)


UNSOUND: dict[str, dict[str, Any]] = {
    "hides each update without a secure sum": {"coordinator": fl.Secure()},
    "draws the clients and knows them": {"privacy": plan(sampling="poisson")},
    "weight_cap=5.0 tells the server more": {"privacy": plan(weight_cap=5.0)},
    "adaptive=AdaptiveClip": {"privacy": plan(adaptive=fl.AdaptiveClip())},
}


@pytest.mark.parametrize("reason", UNSOUND)
def test_what_would_break_the_promise_is_refused(reason: str) -> None:
    with pytest.raises(NotSupported, match=reason):
        run(**UNSOUND[reason])
