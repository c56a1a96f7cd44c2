"""What runs promise of differential privacy adds up at the node, over restarts and whatever the server asks."""

import asyncio
import math
import re
from dataclasses import replace

import numpy as np
import pytest
from tests.server.site import Site

import umbel as fl
from umbel.errors import ConfigError
from umbel.privacy import accounting
from umbel.privacy.accounting import epsilon, renyi_epsilon
from umbel.privacy.mechanism import DpSgd, Mechanism
from umbel.runtimes.halves import client_half, restored
from umbel.runtimes.mail import Letter
from umbel.runtimes.node.conditions import Conditions
from umbel.runtimes.node.disk import DiskKeeper
from umbel.runtimes.node.gate import Gate
from umbel.runtimes.node.promises import _why_not_trained, gaussian_delta
from umbel.runtimes.node.rules import Policy, Privacy
from umbel.runtimes.node.spending import Spending
from umbel.runtimes.privately import Parts, promise

pytest.importorskip("dp_accounting")
POLICY = Policy(privacy=Privacy(epsilon_total=3.0, delta=1e-5))
NOW = Conditions("2027-01-15", 4, 23 * 60)


def plan(epsilon=2.0, delta=1e-5, rounds=3, clip=1.0, **changed):
    """What a server says of a run that costs this ε, and does."""
    config = fl.ServerConfig(rounds, fraction_evaluate=0.0, min_available_clients=4)
    wanted = fl.PrivacyPlan(clip=clip, target_epsilon=epsilon, delta=delta, sampling="every")
    private = Parts(fl.FedAvg(weighting="uniform"), config).under_on_nodes(wanted, per_client=False, has_model=True)
    noisy = replace(private.strategy, plan=replace(wanted, target_epsilon=None, noise_multiplier=1.0))
    promised = {"differential_privacy": promise(noisy, rounds)}
    whole = {"client_half": client_half(noisy), "cohort": 8, "per_client_metrics": False, "rounds": rounds}
    return {**whole, "privacy": promised, **changed}


def letter(run, round=1, kind="fit"):
    return Letter(run, round, 0, 0, kind, "a", 1, {}, {}, (), "", {}, None, 60.0)


def gate(keeper):
    return Gate(POLICY, purse=keeper, conditions=lambda: NOW)


def works(gate, run, round=1, kind="fit"):
    return asyncio.run(gate.why_not_ask(letter(run, round, kind)))


@pytest.fixture
def keeper(tmp_path):
    kept = DiskKeeper(tmp_path / "node.db")
    yield kept
    kept.close()


def test_a_second_run_is_refused_when_both_together_promise_too_much(keeper):
    first = gate(keeper)
    assert first.why_not_plan("one", plan()) is None
    assert works(first, "one") is None
    assert works(first, "one", 2) is None
    reason = first.why_not_plan("two", plan())
    assert re.sub(r"1\.99\d*", "2", reason) == (
        "the policy's privacy.epsilon_total is 3, other runs have promised 2 of it, and this one would take 2"
    )
    assert first.why_not_plan("three", plan(epsilon=1.0)) is None


def test_what_was_promised_outlives_the_node_and_the_run(tmp_path, keeper):
    first = gate(keeper)
    first.why_not_plan("one", plan())
    works(first, "one")
    keeper.forget("one")
    again = DiskKeeper(tmp_path / "node.db")
    assert gate(again).why_not_plan("two", plan()) is not None
    assert gate(again).why_not_plan("one", plan()) is None
    again.close()


def test_two_runs_that_were_let_in_before_either_began_cannot_both_be_worked_on(keeper):
    both = gate(keeper)
    assert both.why_not_plan("one", plan()) is None
    assert both.why_not_plan("two", plan()) is None
    assert works(both, "one") is None
    assert "epsilon_total" in works(both, "two")


def test_an_ask_of_a_run_whose_plan_was_not_seen_is_refused(keeper):
    assert "promises differential privacy for 0 rounds" in works(gate(keeper), "unseen")


def test_more_rounds_promise_more(keeper):
    first = gate(keeper)
    few = plan(epsilon=2.0, rounds=4)
    private = restored(few["client_half"])
    for rounds in (2, 4):
        promised = {"differential_privacy": promise(private, rounds)}
        assert first.why_not_plan("one", {**few, "rounds": rounds, "privacy": promised}) is None
        assert works(first, "one", rounds) is None
    assert list(keeper.promised().values()) == [pytest.approx(2.0, rel=0.01)]


def test_another_plan_of_the_same_run_is_another_promise(keeper):
    first = gate(keeper)
    first.why_not_plan("one", plan())
    works(first, "one")
    assert "epsilon_total" in first.why_not_plan("one", plan(clip=2.0))


@pytest.mark.parametrize(
    ("round", "kind", "reason"),
    [(4, "fit", "for 3 rounds"), (1, "evaluate", "in no promise"), (1, "query", "in no promise")],
)
def test_what_was_not_promised_is_not_worked_on(round, kind, reason, keeper):
    first = gate(keeper)
    first.why_not_plan("one", plan())
    assert reason in works(first, "one", round, kind)


def lies(**promised):
    found = plan()
    return {**found, "privacy": {"differential_privacy": {**found["privacy"]["differential_privacy"], **promised}}}


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (plan(client_half={"name": "FedAvg"}), "its client half clips nothing"),
        (lies(clip=0.1), "promises clip=0.1"),
        (lies(noise_multiplier=9.0), "promises noise_multiplier=9.0"),
        (lies(epsilon=0.5), "which its noise does not give over 3 rounds"),
        (plan(rounds=30) | {"rounds": 300}, "does not give over 300 rounds"),
    ],
)
def test_a_promise_that_nothing_backs_is_refused(wanted, reason, keeper):
    assert reason in gate(keeper).why_not_plan("one", wanted)


def together(**mechanism):
    """What a server says of a run whose noise the nodes make themselves."""
    config = fl.ServerConfig(3, fraction_evaluate=0.0, min_available_clients=4)
    wanted = fl.PrivacyPlan(clip=1.0, noise_multiplier=8.0, delta=1e-5, sampling="every", noise="distributed")
    parts = Parts(fl.FedAvg(weighting="uniform"), config, fl.Secure())
    private = parts.under_on_nodes(wanted, per_client=False, has_model=True).strategy
    promised = {"secure_aggregation": True, "differential_privacy": promise(private, 3)}
    half = {"name": "Secured", "inner": client_half(private)}
    whole = {"client_half": half, "cohort": 4, "per_client_metrics": False, "rounds": 3}
    return {**whole, "privacy": promised}


def test_a_promise_says_that_the_node_adds_its_own_noise(keeper):
    wanted = together()
    assert wanted["privacy"]["differential_privacy"]["noise"] == "distributed"
    assert gate(keeper).why_not_plan("one", wanted) is None
    inner = restored(wanted["client_half"]["inner"])
    assert inner.own_noise(100).any()
    assert restored(client_half(inner)) == inner


def test_noise_that_others_would_add_than_is_promised_is_refused(keeper):
    wanted = together()
    inner = wanted["client_half"]["inner"]
    plain = {**wanted, "client_half": inner}
    assert "masks nothing" in gate(keeper).why_not_plan("one", plain)
    none = {**inner, "mechanism": {**inner["mechanism"], "sharing": None}}
    assert "or adds none" in gate(keeper).why_not_plan(
        "one", {**wanted, "client_half": {"name": "Secured", "inner": none}}
    )
    servers = {**inner, "plan": {**inner["plan"], "noise": "server"}}
    lies = {**wanted, "client_half": {"name": "Secured", "inner": servers}}
    assert "promises noise='distributed'" in gate(keeper).why_not_plan("one", lies)
    believed = {**inner, "plan": {**inner["plan"], "honest_share": 0.5}}
    lies = {**wanted, "client_half": {"name": "Secured", "inner": believed}}
    assert "another honest_share" in gate(keeper).why_not_plan("one", lies)


@pytest.mark.parametrize("layers", [{"clip": {"body.*": 3.0, "head": 4.0}}, {"clip": 2.0, "clip_each": True}])
def test_a_clip_by_layer_is_promised_and_travels(layers, keeper):
    config = fl.ServerConfig(3, fraction_evaluate=0.0, min_available_clients=4)
    wanted = fl.PrivacyPlan(noise_multiplier=8.0, delta=1e-5, sampling="every", **layers)
    private = Parts(fl.FedAvg(weighting="uniform"), config).under_on_nodes(wanted, per_client=False, has_model=True)
    half = client_half(private.strategy)
    assert restored(half) == private.strategy
    promised = {"differential_privacy": promise(private.strategy, 3)}
    whole = {"client_half": half, "cohort": 4, "per_client_metrics": False, "rounds": 3, "privacy": promised}
    assert gate(keeper).why_not_plan("one", whole) is None
    lies = {**half, "plan": {**half["plan"], "clip": {"*": 9.0}, "clip_each": False}}
    assert "promises clip=" in gate(keeper).why_not_plan("one", {**whole, "client_half": lies})
    lies = {**half, "plan": {**half["plan"], "clip_each": not wanted.clip_each}}
    assert "agree on clip_each" in gate(keeper).why_not_plan("one", {**whole, "client_half": lies})


def alone(rounds=3, **plan):
    """What a server says of a run in which each node is private alone."""
    config = fl.ServerConfig(rounds, fraction_evaluate=0.0, min_available_clients=4)
    given = {"noise_multiplier": 8.0, **plan}
    wanted = fl.PrivacyPlan(clip=1.0, delta=1e-5, sampling="every", noise="local", **given)
    private = Parts(fl.FedAvg(weighting="uniform"), config).under_on_nodes(wanted, per_client=False, has_model=True)
    promised = {"differential_privacy": promise(private.strategy, rounds)}
    half = client_half(private.strategy)
    return {"client_half": half, "cohort": 4, "per_client_metrics": False, "rounds": rounds, "privacy": promised}


def test_a_node_counts_its_own_releases_not_the_rounds_over_restarts(tmp_path, keeper):
    """A server that asks again and again for one round could average the noise away."""
    first = gate(keeper)
    assert first.why_not_plan("one", alone()) is None
    assert [works(first, "one", 1) for _ in range(2)] == [None, None]
    again = DiskKeeper(tmp_path / "node.db")
    second = gate(again)
    assert second.why_not_plan("one", alone()) is None
    assert works(second, "one", 2) is None
    assert "for 3 releases, and this node has given so many" in works(second, "one", 2)
    assert "for 3 releases" in works(second, "one", 3)
    again.close()


def test_where_the_server_adds_the_noise_a_round_may_be_begun_again(keeper):
    first = gate(keeper)
    assert first.why_not_plan("one", plan()) is None
    assert [works(first, "one", 1) for _ in range(5)] == [None] * 5


def test_the_steps_of_a_secure_round_are_one_release(keeper):
    first = gate(keeper)
    assert first.why_not_plan("one", together()) is None
    for number in (1, 2, 3):
        for step in ("advertise", "share", "mask"):
            asked = replace(letter("one", number), own={"step": step})
            assert asyncio.run(first.why_not_ask(asked)) is None
    assert "for 3 releases" in works(first, "one", 3)


def test_local_noise_for_less_than_a_whole_release_is_refused(keeper):
    wanted = alone()
    half = wanted["client_half"]
    less = {**half, "mechanism": {**half["mechanism"], "alone": False}}
    assert "that of a whole release" in gate(keeper).why_not_plan("one", {**wanted, "client_half": less})


def with_half(wanted, plan=None, mechanism=None, **changed):
    """What a server says of a run, with another client half than that is backed by."""
    half = wanted["client_half"]
    inner = half.get("inner") if half["name"] == "Secured" else half
    lying = {**inner, "plan": {**inner["plan"], **(plan or {})}}
    lying["mechanism"] = {**inner["mechanism"], **(mechanism or {})}
    told = {"name": "Secured", "inner": lying} if half["name"] == "Secured" else lying
    return {**wanted, "client_half": told, **changed}


ADAPTIVE = {"name": "AdaptiveClip", "quantile": 0.5, "learning_rate": 0.2, "count_noise": None}


@pytest.mark.parametrize("who", ["local", "distributed"])
@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"plan": {"weight_cap": 1e-6}}, "which weight_cap of its client half would lessen"),
        ({"plan": {"adaptive": ADAPTIVE}}, "which adaptive of its client half would lessen"),
        ({"plan": {"target_epsilon": 50.0}, "rounds": 100_000}, "does not give over 100000 rounds"),
        ({"mechanism": {"sampling": "turns"}}, "only with sampling='every'"),
    ],
)
def test_a_server_cannot_have_nodes_add_less_noise_than_they_are_promised(who, changed, reason, keeper):
    wanted = alone() if who == "local" else together()
    assert gate(keeper).why_not_plan("one", wanted) is None
    assert reason in gate(keeper).why_not_plan("one", with_half(wanted, **changed))


STEPS = {"unit": "example", "expected_examples": 400, "sample_rate": 0.1, "local_steps": 20, "noise": "dp-sgd"}


def stepping_plan(rounds=3, noise=2.0):
    """What a server says of a run whose clients train with noise."""
    config = fl.ServerConfig(rounds, fraction_evaluate=0.0, min_available_clients=4)
    wanted = fl.PrivacyPlan(clip=1.0, noise_multiplier=noise, delta=1e-5, sampling="every", **STEPS)
    strategy = Parts(fl.FedProx(mu=0.1), config).under_on_nodes(wanted, per_client=False, has_model=True).strategy
    whole = {"client_half": client_half(strategy), "cohort": 8, "per_client_metrics": False, "rounds": rounds}
    return {**whole, "privacy": {"differential_privacy": promise(strategy, rounds)}}


def test_steps_with_noise_are_backed_by_what_they_cost(keeper):
    plan = stepping_plan()
    assert gate(keeper).why_not_plan("one", plan) is None
    half = restored(plan["client_half"])
    assert half.plan.sample_rate == 0.1
    assert half.inner.mu == 0.1
    cheap = stepping_plan()
    cheap["privacy"]["differential_privacy"]["epsilon"] *= 0.9
    assert "does not give over 3 rounds" in gate(keeper).why_not_plan("one", cheap)


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (("plan", "sample_rate"), 0.5, "do not agree on sample_rate"),
        (("mechanism", "dp_sgd", "local_steps"), 30, "do not agree on local_steps"),
        (("plan", "clip"), 5.0, "promises clip=1.0"),
        (("mechanism", "noise_multiplier"), 0.5, "promises noise_multiplier=2.0"),
        (("plan", "noise"), "server", "promises noise='dp-sgd'"),
        (("plan", "name"), "app:hospital.task.SimpleNamespace", "has other parts than what keeps it"),
        (("draw",), {"name": "app:hospital.task.Silent"}, "has other parts than what keeps it"),
        (("mechanism", "sampling"), "poisson", "counts on other noise, too"),
        (("name",), "Private", "adds no noise to its steps"),
    ],
)
def test_a_server_cannot_have_nodes_take_other_steps_than_they_are_promised(path, value, reason, keeper):
    plan = stepping_plan()
    table = plan["client_half"]
    for name in path[:-1]:
        table = table[name]
    table[path[-1]] = value
    assert reason in gate(keeper).why_not_plan("one", plan)


@pytest.mark.parametrize("value", [None, 0, -1.0, 2.0, math.nan, "1", [1]])
def test_rates_that_no_steps_have_are_refused_not_stumbled_over(value, keeper):
    plan = stepping_plan()
    places = (plan["client_half"]["plan"], plan["client_half"]["mechanism"]["dp_sgd"])
    for table in (*places, plan["privacy"]["differential_privacy"]):
        table["sample_rate"] = value
    assert isinstance(gate(keeper).why_not_plan("one", plan), str)


def test_steps_that_are_worth_nothing_are_not_reckoned_for_long(keeper):
    plan = stepping_plan()
    for table in (plan["client_half"]["mechanism"], plan["privacy"]["differential_privacy"]):
        table["noise_multiplier"] = 2.0**-6
    assert "nothing above 200 is reckoned" in gate(keeper).why_not_plan("one", plan)


@pytest.mark.parametrize(
    ("more", "noise"), [({"sample_rate": 0.5, "local_steps": 2**20}, 500.0), ({"sample_rate": 0.5}, 0.1)]
)
def test_steps_that_take_minutes_to_reckon_are_told_by_a_rough_account(more, noise):
    """With distributions the first take 100 seconds, the others 30."""
    private = {"sample_rate": 0.1, "local_steps": 1, **more}
    mechanism = Mechanism(noise_multiplier=noise, sampling="every", cohort=1, clients=1, dp_sgd=DpSgd(**private))
    rough = renyi_epsilon(mechanism, 2, 1e-5)
    assert "by a rough account" in _why_not_trained(2, 0.99 * rough, 1e-5, noise, private)
    assert _why_not_trained(2, rough, 1e-5, noise, private) is None


def test_what_a_plan_costs_is_told_off_the_event_loop(keeper):
    """It takes a while; the node's link and its other runs go on meanwhile."""

    plan = stepping_plan()
    epsilon.cache_clear()
    accounting._loss.cache_clear()

    async def story():
        judged = asyncio.ensure_future(gate(keeper).why_not_begin("one", plan))
        turns = 0
        while not judged.done():
            await asyncio.sleep(0.001)
            turns += 1
        return turns, judged.result()

    turns, reason = asyncio.run(story())
    assert reason is None
    assert turns > 5


def test_a_target_that_all_rounds_keep_is_backed_by_noise_of_the_nodes(keeper):
    assert gate(keeper).why_not_plan("one", alone(noise_multiplier=None, target_epsilon=2.0)) is None


def test_an_honest_share_that_is_promised_is_the_one_that_is_counted_on(keeper):
    wanted = together()
    promised = {**wanted["privacy"]["differential_privacy"], "honest_share": 0.3}
    lies = {**wanted, "privacy": {**wanted["privacy"], "differential_privacy": promised}}
    assert "another honest_share" in gate(keeper).why_not_plan("one", lies)


@pytest.mark.parametrize("rounds", [-1, 10**400, True])
def test_rounds_that_no_run_has_are_refused_not_stumbled_over(rounds, keeper):
    assert "rounds" in gate(keeper).why_not_plan("one", plan() | {"rounds": rounds})


def in_turns(rounds=9):
    """What a server says of a run in which nodes have turns."""
    config = fl.ServerConfig(rounds, fraction_evaluate=0.0, min_available_clients=4)
    wanted = fl.PrivacyPlan(clip=1.0, noise_multiplier=3.0, delta=1e-5, sampling="turns", separation=3)
    private = Parts(fl.FedAvg(weighting="uniform"), config).under_on_nodes(wanted, per_client=False, has_model=True)
    promised = {"differential_privacy": promise(private.strategy, rounds)}
    half = client_half(private.strategy)
    assert restored(half) == private.strategy
    return {"client_half": half, "cohort": 4, "per_client_metrics": False, "rounds": rounds, "privacy": promised}


def test_a_node_works_in_its_turns_alone(keeper):
    first = gate(keeper)
    assert first.why_not_plan("one", in_turns()) is None
    refused = [works(first, "one", number) for number in range(1, 10)]
    mine = [number for number, reason in enumerate(refused, 1) if reason is None]
    assert len(mine) == 3
    assert mine[2] - mine[1] == mine[1] - mine[0] == 3
    assert "a turn every 3 rounds, and round" in next(reason for reason in refused if reason)


def test_turns_that_are_not_what_the_noise_is_made_for_are_refused(keeper):
    wanted = in_turns()
    promised = wanted["privacy"]["differential_privacy"]
    for lies, reason in (
        ({**wanted, "rounds": 12}, "its noise is made for 9"),
        ({**wanted, "privacy": {"differential_privacy": {**promised, "separation": 4}}}, "another separation"),
        ({**wanted, "privacy": {"differential_privacy": {**promised, "epsilon": 0.5}}}, "its noise does not give"),
    ):
        assert reason in gate(keeper).why_not_plan("one", lies)


def test_gaussian_noise_costs_what_the_accountant_says():
    for noise, releases in ((1.0, 1), (10.0, 100), (3.0, 30), (0.7, 5)):
        mechanism = Mechanism(noise_multiplier=noise, sampling="every", cohort=4, clients=4)
        found = gaussian_delta(math.sqrt(releases) / noise, epsilon(mechanism, releases, 1e-5))
        assert found == pytest.approx(1e-5, rel=1e-4)


@pytest.mark.parametrize("promised", [{}, {"differential_privacy": True}, {"differential_privacy": {"epsilon": "1"}}])
def test_a_plan_that_does_not_say_its_epsilon_is_refused(promised, keeper):
    wanted = {**plan(), "privacy": promised}
    assert "does not say its epsilon" in gate(keeper).why_not_plan("one", wanted)


def test_a_larger_delta_is_refused(keeper):
    assert "privacy.delta is 1e-05" in gate(keeper).why_not_plan("one", plan(delta=1e-3))


def test_a_node_that_keeps_nothing_refuses_such_a_policy():
    with pytest.raises(ConfigError, match="epsilon_total"):
        Gate(POLICY)
    Gate(replace(POLICY, privacy=Privacy(delta=1e-5)))


def open_gate(keeper, **privacy):
    """One of an owner who has no budget yet."""
    return Gate(Policy(privacy=Privacy(**privacy)), purse=keeper, conditions=lambda: NOW)


@pytest.mark.parametrize("privacy", [{}, {"require_differential_privacy": True}])
def test_what_was_promised_before_the_policy_had_a_budget_counts(privacy, keeper):
    before = open_gate(keeper, **privacy)
    assert before.why_not_plan("one", plan()) is None
    assert keeper.promised() == {}
    assert works(before, "one") is None
    assert list(keeper.promised().values()) == [pytest.approx(2.0, rel=0.01)]
    now = gate(keeper)
    assert "other runs have promised 2 of it" in now.why_not_plan("two", plan())
    assert now.why_not_plan("one", plan()) is None


def test_a_run_without_a_promise_counts_nothing_and_is_not_in_the_way(keeper):
    before = open_gate(keeper)
    bare = {**plan(), "privacy": {}, "client_half": {"name": "FedAvg"}}
    assert before.why_not_plan("one", bare) is None
    assert [works(before, "one", 1, kind) for kind in ("fit", "evaluate", "query")] == [None] * 3
    assert keeper.promised() == {}


def test_answers_with_the_nodes_own_noise_count_before_the_policy_asks(keeper):
    before = open_gate(keeper)
    assert before.why_not_plan("one", alone()) is None
    assert [works(before, "one", 1) for _ in range(3)] == [None] * 3
    now = gate(keeper)
    assert now.why_not_plan("one", alone()) is None
    assert "for 3 releases, and this node has given so many" in works(now, "one", 2)


def test_a_node_without_a_policy_counts_too(keeper):
    counting = Spending(keeper)
    for odd in (None, [], {"privacy": 7}):
        counting.note("odd", odd)
        counting.count(letter("odd"))
    counting.note("one", plan())
    assert keeper.promised() == {}
    counting.count(letter("one"))
    counting.count(letter("unseen"))
    assert "other runs have promised 2 of it" in gate(keeper).why_not_plan("two", plan())


class Still(fl.NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}


@pytest.mark.parametrize("policy", [None, Policy(), POLICY])
def test_a_node_at_work_keeps_what_a_run_promises(policy, keeper):
    site = Site(lambda context: Still(), num_rounds=2, min_available_clients=2, fraction_evaluate=0.0)
    wanted = fl.PrivacyPlan(clip=1.0, noise_multiplier=8.0, delta=1e-5, sampling="every")
    more = {"privacy": wanted, "initial": [np.zeros(1, np.float32)], "strategy": fl.FedAvg(weighting="uniform")}
    site.order = replace(site.order, **more)

    async def story():
        site.node("1", policy=policy, purse=keeper)
        site.node("2")
        await site.until(lambda: site.running.done())

    site.play(story)
    assert site.outcome.ended == "finished", site.outcome
    [promised] = keeper.promised().values()
    assert promised == pytest.approx(site.outcome.privacy[-1].epsilon, rel=0.01)
