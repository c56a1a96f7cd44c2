"""DP-FTRL: noise that is correlated over rounds, for clients that have turns instead of being drawn."""

from __future__ import annotations

import itertools
import math
import pickle
from typing import Any

import numpy as np
import pytest

import umbel as fl
from umbel.coordinators import Everyone
from umbel.coordinators.population import Named
from umbel.coordinators.selection.turns import Turns
from umbel.errors import ConfigError, NotSupported
from umbel.privacy.accounting import epsilon
from umbel.privacy.correlation import Correlation, Toeplitz
from umbel.privacy.mechanism import Mechanism
from umbel.runtimes.budget import Budget
from umbel.runtimes.privately import Parts

pytest.importorskip("dp_accounting")
pytest.importorskip("cryptography")


def dense(of: Correlation) -> Any:
    """C as a matrix."""
    coefficients = of.coefficients(of.rounds)
    return sum(np.diag(np.full(of.rounds - j, coefficients[j]), -j) for j in range(of.rounds))


CASES = [(9, 2, 3, 1.0), (9, 3, 2, 0.9), (8, 1, 4, 0.5), (7, 9, 4, 1.0), (8, 4, 1, 0.0)]


@pytest.mark.parametrize(("rounds", "separation", "buffers", "decay"), CASES)
def test_the_sensitivity_is_the_largest_of_all_turns_that_are_allowed(
    rounds: int, separation: int, buffers: int, decay: float
) -> None:
    one = Correlation(rounds=rounds, separation=separation, buffers=buffers, decay=decay)
    matrix, worst = dense(one), 0.0
    for count in range(1, rounds + 1):
        for turns in itertools.combinations(range(rounds), count):
            if all(later - earlier >= separation for earlier, later in itertools.pairwise(turns)):
                worst = max(worst, float(np.linalg.norm(matrix[:, turns].sum(axis=1))))
    assert one.sensitivity(rounds) == pytest.approx(worst, rel=1e-12)


@pytest.mark.parametrize("decay", [1.0, 0.7, 0.0])
def test_updates_in_different_directions_move_it_no_further(decay: float) -> None:
    one = Correlation(rounds=12, separation=3, decay=decay)
    rng = np.random.default_rng(1)
    for _ in range(200):
        updates = np.zeros((12, 4))
        updates[rng.integers(0, 3) :: 3] = 1.0
        updates *= rng.normal(size=(12, 4))
        updates /= np.maximum(1.0, np.linalg.norm(updates, axis=1, keepdims=True))
        assert np.linalg.norm(dense(one) @ updates) <= one.sensitivity(12) * (1 + 1e-12)


@pytest.mark.parametrize(("rounds", "separation", "buffers", "decay"), CASES)
def test_the_noise_of_the_rounds_is_that_of_the_inverse_matrix(
    rounds: int, separation: int, buffers: int, decay: float
) -> None:
    one = Correlation(rounds=rounds, separation=separation, buffers=buffers, decay=decay)
    fresh = np.random.default_rng(2).normal(size=(rounds, 5))
    stream = Toeplitz(one)
    np.testing.assert_allclose(
        np.array([stream.next(row) for row in fresh]), np.linalg.inv(dense(one)) @ fresh, atol=1e-12
    )


def test_two_buffers_give_the_first_four_coefficients_of_the_square_root() -> None:
    found = Correlation(rounds=4, separation=4, buffers=2).coefficients(4)
    np.testing.assert_allclose(found, [1, 1 / 2, 3 / 8, 5 / 16])


@pytest.mark.parametrize(("rounds", "separation"), [(100, 100), (100, 10), (200, 50)])
def test_running_sums_have_a_fraction_of_the_noise_of_independent_rounds(rounds: int, separation: int) -> None:
    one = Correlation.fitting(rounds, separation)
    sums = np.tril(np.ones((rounds, rounds)))
    exact = one.sensitivity(rounds) * np.linalg.norm(sums @ np.linalg.inv(dense(one))) / math.sqrt(rounds)
    assert one.error == pytest.approx(exact, rel=1e-9)
    assert one.error < 0.5 * Correlation(rounds=rounds, separation=separation, decay=0.0).error
    # The root of the matrix of running sums, banded at its best, is what there is without fitting one by descent.
    root = np.cumprod([1.0, *((2 * j - 1) / (2 * j) for j in range(1, rounds))])
    banded = []
    for band in (1, 2, 4, 8, 16, 32, separation):
        matrix = sum(np.diag(np.full(rounds - j, root[j]), -j) for j in range(min(band, rounds)))
        moved = np.linalg.norm(matrix[:, ::separation].sum(axis=1))
        banded.append(moved * np.linalg.norm(sums @ np.linalg.inv(matrix)) / math.sqrt(rounds))
    assert one.error < 1.12 * min(banded)


def test_where_everybody_is_asked_each_time_noise_is_not_correlated() -> None:
    assert Correlation.fitting(50, 1).decay == 0.0


def mechanism(noise: float, rounds: int, separation: int, decay: float = 1.0) -> Mechanism:
    correlation = Correlation(rounds=rounds, separation=separation, decay=decay)
    return Mechanism(noise_multiplier=noise, sampling="turns", cohort=5, clients=50, correlation=correlation)


def test_a_whole_run_costs_what_one_release_of_its_multiplier_does() -> None:
    every = Mechanism(noise_multiplier=1.3, sampling="every", cohort=5, clients=5)
    assert epsilon(mechanism(1.3, 40, 10), 40, 1e-5) == pytest.approx(epsilon(every, 1, 1e-5))
    costs = [epsilon(mechanism(1.3, 40, 10), releases, 1e-5) for releases in range(41)]
    assert costs[0] == 0
    assert costs == sorted(costs)


def test_independent_noise_costs_as_many_releases_as_one_client_has_turns() -> None:
    every = Mechanism(noise_multiplier=2.0 * 2.0, sampling="every", cohort=5, clients=5)
    # Four turns in forty rounds: the multiplier of the run is that of a round over √4.
    assert epsilon(mechanism(2.0, 40, 10, decay=0.0), 40, 1e-5) == pytest.approx(epsilon(every, 4, 1e-5))


def test_parts_with_noise_of_their_own_add_up_as_squares() -> None:
    one = mechanism(1.0, 20, 5)
    moved = math.hypot(one.correlation.sensitivity(8), one.correlation.sensitivity(13))  # type: ignore[union-attr]
    noise = one.correlation.sensitivity(20) / moved  # type: ignore[union-attr]
    every = Mechanism(noise_multiplier=noise, sampling="every", cohort=5, clients=5)
    assert epsilon(one, 13, 1e-5, (8,)) == pytest.approx(epsilon(every, 1, 1e-5))
    assert epsilon(one, 0, 1e-5, (10,)) == pytest.approx(epsilon(one, 10, 1e-5))


def test_turns_of_one_client_are_as_far_apart_whoever_comes_and_goes() -> None:
    names = [f"hospital {number}" for number in range(40)]
    rounds: dict[str, list[int]] = {}
    for number in range(1, 31):
        there = Named(names[number % 3 :])
        for client in Turns(7).cohort(there, number):
            rounds.setdefault(client, []).append(number)
    assert set(rounds) == set(names)
    assert all(b - a >= 7 for turns in rounds.values() for a, b in itertools.pairwise(turns))
    assert sum(len(Turns(7).cohort(Everyone(40), number)) for number in range(1, 8)) == 40


class Still(fl.NumPyClient):
    def fit(self, parameters: Any, config: Any) -> Any:
        return parameters, 1, {}


def plan(**changed: Any) -> fl.PrivacyPlan:
    given = {"clip": 0.7, "noise_multiplier": 1.5, "delta": 1e-5, "sampling": "turns", "separation": 5}
    return fl.PrivacyPlan(**{**given, **changed})


def run(rounds: int = 20, size: int = 40_000, **changed: Any) -> fl.History:
    config = {"fraction_evaluate": 0.0, "seed": 1, **changed.pop("config", {})}
    arguments = {"privacy": plan(), "strategy": fl.FedAvg(weighting="uniform"), **changed}
    return fl.simulate(
        lambda context: Still(),
        30,
        config=fl.ServerConfig(rounds, **config),
        initial_parameters=[np.zeros(size)],
        engine="serial",
        progress=False,
        **arguments,
    )


def test_a_run_has_the_noise_of_its_last_running_sum() -> None:
    history = run()
    one = Correlation.fitting(20, 5)
    last = np.linalg.norm(np.ones(20) @ np.linalg.inv(dense(one)))
    # Turns of 30 clients, a fifth of them each time: the mean is over 6.
    wanted = 1.5 * one.sensitivity(20) * last * 0.7 / 6
    assert np.std(history.parameters["0"]) == pytest.approx(wanted, rel=0.02)
    every = Mechanism(noise_multiplier=1.5, sampling="every", cohort=5, clients=5)
    assert history.privacy[-1].epsilon == pytest.approx(epsilon(every, 1, 1e-5))
    assert sum(record.participants for record in history.rounds) == 4 * 30


def test_a_run_that_goes_on_begins_its_noise_anew_and_pays_for_both_parts() -> None:
    store = fl.MemoryStore()

    class Stop(Exception):
        pass

    def stops(server_round: int, parameters: Any, config: Any) -> None:
        if server_round == 8:
            raise Stop

    with pytest.raises(Stop):
        run(size=4, store=store, evaluate_fn=stops)
    [info] = store.runs()
    history = run(size=4, store=store, resume=info.id)
    entries = [event for event in store.log(info.id) if event["kind"] == "release"]
    parts = [event["part"] for event in entries]
    assert parts == sorted(parts)
    assert set(parts) == {0, 1}
    lengths = parts.count(0), parts.count(1)
    moved = math.hypot(*(Correlation.fitting(20, 5).sensitivity(length) for length in lengths))
    noise = 1.5 * Correlation.fitting(20, 5).sensitivity(20) / moved
    equal = Mechanism(noise_multiplier=noise, sampling="every", cohort=1, clients=1)
    assert history.privacy[-1].epsilon == pytest.approx(epsilon(equal, 1, 1e-5))


def test_a_run_that_goes_on_ends_at_its_target() -> None:
    config = fl.ServerConfig(20, fraction_evaluate=0.0)
    wanted = plan(noise_multiplier=None, target_epsilon=2.0)
    private = Parts(fl.FedAvg(weighting="uniform"), config).under(wanted, 30, has_model=True).strategy
    log = [{"kind": "release", "part": 0}] * 15
    budget = Budget.of(private, log, 20)  # type: ignore[arg-type]
    assert budget.most < 35
    while budget.sentence is None:
        last = budget.entry(budget.releases)
    assert 1.5 < last["epsilon"] <= 2.0
    assert Budget.of(private, [], 20).most == 20  # type: ignore[arg-type]


def test_a_run_that_breaks_off_again_and_again_costs_no_more_than_nodes_were_promised() -> None:
    config = fl.ServerConfig(20, fraction_evaluate=0.0)
    private: Any = Parts(fl.FedAvg(weighting="uniform"), config).under(plan(), 30, has_model=True).strategy
    promised, log = epsilon(private.mechanism, 20, 1e-5), list[dict[str, Any]]()
    for number in range(20):
        budget = Budget.of(private, log, 20, promised=True)
        if budget.sentence is not None:
            break
        log.append(budget.entry(number + 1))
    assert 3 < len(log) < 20
    assert [entry["part"] for entry in log] == list(range(len(log)))
    assert log[-1]["epsilon"] <= promised


def test_a_copy_of_the_noise_remembers_nothing() -> None:
    stream = Toeplitz(Correlation(rounds=5, separation=5))
    stream.next(np.ones(3))
    copied = pickle.loads(pickle.dumps(stream))
    assert copied.next(np.zeros(3)).tolist() == [0, 0, 0]
    assert stream.next(np.zeros(3)).tolist() != [0, 0, 0]


UNSOUND: dict[str, dict[str, Any]] = {
    "may draw nobody": {"coordinator": fl.Secure()},
    "asks all whose turn it is": {"config": {"fraction_fit": 0.5}},
    'noise="local" is against the server': {"privacy": plan(noise="local")},
    "counts on equal|selector": {"config": {"selector": fl.Weighted(lambda client: 1.0)}},
}


@pytest.mark.parametrize("reason", UNSOUND)
def test_what_would_break_the_promise_is_refused(reason: str) -> None:
    with pytest.raises(NotSupported, match=reason):
        run(size=4, **UNSOUND[reason])


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"separation": None}, "needs separation from 1"),
        ({"separation": 0}, "needs separation from 1"),
        ({"buffers": 65}, "needs buffers from 1 to 64"),
        ({"sampling": "every"}, 'separation=5 is for sampling="turns"'),
        ({"adaptive": fl.AdaptiveClip()}, "adaptive moves the clip"),
    ],
)
def test_turns_that_make_no_sense_are_refused(changed: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        plan(**changed)
