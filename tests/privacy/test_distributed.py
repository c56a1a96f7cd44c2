"""Noise that clients of a secure sum make together: nobody sees a sum without it, and it is as large as promised."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import umbel as fl
from umbel.errors import NotSupported, SecureRefused
from umbel.privacy.accounting import epsilon, noise_for
from umbel.privacy.mechanism import Mechanism
from umbel.privacy.private import Private
from umbel.privacy.sharing import Sharing, dishonest, skellam_renyi
from umbel.runtimes.privately import Parts

pytest.importorskip("dp_accounting")
pytest.importorskip("cryptography")
special = pytest.importorskip("scipy.special")

from umbel.privacy.sa1.encoding import Encoding  # noqa: E402
from umbel.privacy.sa1.secured import add_noise  # noqa: E402

SIZE = 60_000


class Fixed(fl.NumPyClient):
    """Moves two elements of its own by what it likes; some fail."""

    def __init__(self, number: int, fails: bool, moves: float) -> None:
        self.number, self.fails, self.moves = number, fails, moves

    def fit(self, parameters: Any, config: Any) -> Any:
        if self.fails:
            raise RuntimeError("gone")
        change = np.zeros(SIZE)
        change[[self.number, self.number + 100]] = self.moves
        return [parameters[0] + change], 5, {"secret": 1.0}


def plan(**changed: Any) -> fl.PrivacyPlan:
    given = {"clip": 0.7, "noise_multiplier": 1.5, "delta": 1e-5, "sampling": "every", "noise": "distributed"}
    return fl.PrivacyPlan(**{**given, **changed})


def run(clients: int = 9, gone: int = 0, moves: float = 0.0, **changed: Any) -> fl.History:
    arguments = {"privacy": plan(), "coordinator": fl.Secure(), "strategy": fl.FedAvg(weighting="uniform"), **changed}
    return fl.simulate(
        lambda context: Fixed(context.partition_id, context.partition_id >= clients - gone, moves),
        clients,
        config=arguments.pop("config", fl.ServerConfig(1, fraction_evaluate=0.0, seed=1)),
        initial_parameters=[np.zeros(SIZE)],
        engine="serial",
        progress=False,
        **arguments,
    )


@pytest.mark.parametrize("gone", [0, 1, 2])
def test_a_release_has_the_noise_of_those_that_answered_and_no_less_than_promised(gone: int) -> None:
    deviation = np.std(run(gone=gone).parameters["0"]) * 9
    # 9 clients, of whom 7 stay at least: each adds a seventh of the variance.
    assert deviation == pytest.approx(1.5 * 0.7 * math.sqrt((9 - gone) / 7), rel=0.02)
    assert deviation > 0.98 * 1.5 * 0.7


def test_one_client_moves_the_sum_by_no_more_than_the_clip() -> None:
    model = run(moves=1e6, privacy=plan(noise_multiplier=1e-3)).parameters["0"]
    np.testing.assert_allclose(model[:9] * 9, 0.7 / math.sqrt(2), atol=0.01)


def test_clients_that_may_be_dishonest_cost_the_others_more_noise() -> None:
    deviation = np.std(run(privacy=plan(honest_share=0.7)).parameters["0"]) * 9
    # Three of nine are believed nothing, so that of seven that stay four count.
    assert dishonest(9, 0.7) == 3
    assert deviation == pytest.approx(1.5 * 0.7 * math.sqrt(9 / 4), rel=0.02)


def private(clients: int = 9, **changed: Any) -> Private:
    config = fl.ServerConfig(1, fraction_evaluate=0.0)
    parts = Parts(fl.FedAvg(weighting="uniform"), config, fl.Secure()).under(plan(**changed), clients, has_model=True)
    assert isinstance(parts.strategy, Private)
    return parts.strategy


def encoding(of: Private, clients: int = 9, **changed: Any) -> Encoding:
    return replace(Encoding(clip=of.reach, weight_cap=1.0, clients=clients, size=SIZE), **changed)


def test_the_modular_sum_is_that_of_whole_numbers() -> None:
    """Noise is whole steps of the grid: without it the sum is the clipped updates' to the bit."""
    one = private()
    code = encoding(one)
    updates = np.random.default_rng(3).normal(size=(9, SIZE))
    total, exact = np.zeros(code.length, np.uint32), np.zeros(SIZE)
    for update in updates:
        arrays = one._protected({"delta": fl_group(update)}, None, None)["delta"].arrays  # type: ignore[arg-type]
        vector = code.encode([([arrays["w"]], 1.0)], examples=1.0)
        before = vector.copy()
        add_noise("a", one, code, vector)
        noise = (vector - before)[code.first :].view(np.int32)
        exact += arrays["w"] + noise / code.scale(code.clip)
        total += vector
    assert code.decode(total).values.tobytes() == exact.tobytes()
    assert np.abs(exact).max() < 9 * one.reach


def fl_group(update: Any) -> Any:
    from umbel.message import Group

    return Group(fl.Arrays.of({"w": update}), 1.0)


@pytest.mark.parametrize("changed", [{"clip": 0.7}, {"weight_cap": 9.0}, {"clients": 2**19}])
def test_a_client_refuses_an_encoding_that_its_noise_does_not_fit(changed: dict[str, Any]) -> None:
    one = private()
    code = encoding(one, **changed)
    with pytest.raises(SecureRefused, match="noise needs room"):
        add_noise("a", one, code, np.zeros(code.length, np.uint32))


def test_a_sum_that_could_overflow_is_refused_before_the_run() -> None:
    with pytest.raises(NotSupported, match="sums up to"):
        private(20_000)


def test_clients_refuse_to_open_sums_with_too_little_noise() -> None:
    """The server's threshold is its own affair; how many have to be in a sum for the promise is not."""
    promised = private()
    sharing = replace(promised.mechanism.sharing, noises=8)  # type: ignore[type-var]
    strategy = replace(promised, mechanism=replace(promised.mechanism, sharing=sharing))
    settings = fl.Secure(clip=promised.reach, weight_cap=1.0, metrics=())
    assert run(gone=1, strategy=strategy, privacy=None, coordinator=settings).rounds[0].participants == 8
    refusal = "the sum has the noise of 7 clients, the promise needs that of 8"
    with pytest.raises(fl.TooFewClients, match=refusal):
        run(gone=2, strategy=strategy, privacy=None, coordinator=settings)


@pytest.mark.parametrize(("variance", "moved"), [(4, 1), (16, 2), (100, 3), (100, 10), (1000, 30)])
@pytest.mark.parametrize("order", [2, 3, 8, 32])
def test_the_bound_on_renyi_divergences_holds(variance: int, moved: int, order: int) -> None:
    """In one dimension the divergence of Skellam noise can be summed up."""
    at = np.arange(-4000, 4001)
    here, there = (special.ive(np.abs(at - shift), variance) for shift in (0, moved))
    seen = (here > 1e-300) & (there > 1e-300)
    log = order * np.log(here[seen]) + (1 - order) * np.log(there[seen])
    exact = math.log(np.exp(log).sum()) / (order - 1)
    bound = skellam_renyi(order, math.sqrt(variance) / moved, moved)
    assert exact <= bound
    assert bound <= order * moved**2 / (2 * variance) + 3 * moved**2 / (2 * variance)


def shared(noise: float, bits: int = 14) -> Mechanism:
    sharing = Sharing(noises=7, bits=bits)
    return Mechanism(noise_multiplier=noise, sampling="every", cohort=9, clients=9, sharing=sharing)


@pytest.mark.parametrize(("noise", "releases"), [(0.7, 1), (1.0, 1), (10.0, 100), (4.0, 30)])
def test_skellam_noise_costs_what_the_closed_form_says(noise: float, releases: int) -> None:
    """ε = min over α of T·ε(α) + log((α - 1)/α) - (log δ + log α)/(α - 1): Canonne, Kamath, Steinke 2020, prop. 12."""
    orders = np.arange(2, 4000)
    spent = releases * np.array([skellam_renyi(int(order), noise, 2.0**14) for order in orders])
    closed = (spent + np.log1p(-1 / orders) - (math.log(1e-5) + np.log(orders)) / (orders - 1)).min()
    found = epsilon(shared(noise), releases, 1e-5)
    assert found == pytest.approx(closed, rel=1e-3)
    # What noise of as many deviations costs at least, and what Rényi divergences add to it.
    exact = epsilon(replace(shared(noise), sharing=None), releases, 1e-5)
    assert exact < found < 1.15 * exact


def test_a_coarse_grid_costs_more() -> None:
    assert epsilon(shared(1.0, bits=2), 1, 1e-5) > 1.01 * epsilon(shared(1.0), 1, 1e-5)


def test_a_target_gives_the_noise_that_all_rounds_can_pay() -> None:
    history = run(
        privacy=plan(noise_multiplier=None, target_epsilon=2.0),
        config=fl.ServerConfig(3, seed=1, fraction_evaluate=0.0),
    )
    assert history.ended == "finished"
    assert 1.99 < history.privacy[-1].epsilon <= 2.0
    noise = noise_for(
        2.0, 1e-5, 3, sampling="every", cohort=9, clients=9, shared=lambda noise: Sharing(noises=7, bits=14)
    )
    assert np.std(history.parameters["0"]) == pytest.approx(math.sqrt(3 * 9 / 7) * noise * 0.7 / 9, rel=0.03)


UNSOUND: dict[str, dict[str, Any]] = {
    "use coordinator=Secure": {"coordinator": None},
    "whose clients add none": {"coordinator": fl.Secure(secure_sum=fl.ckks())},
    "draws the clients and knows them": {"privacy": plan(sampling="fixed")},
    "honest_share=0.3 of 9 clients": {"privacy": plan(honest_share=0.3)},
    "too large for noise": {"privacy": plan(noise_multiplier=1e4)},
    "too small for noise": {"privacy": plan(noise_multiplier=1e-7)},
}


@pytest.mark.parametrize("reason", UNSOUND)
def test_what_would_break_the_promise_is_refused(reason: str) -> None:
    with pytest.raises(NotSupported, match=reason):
        run(**UNSOUND[reason])
