"""What runs promise of differential privacy adds up at the node, over restarts and whatever the server asks."""

import asyncio
from dataclasses import replace

import pytest

from umbel.errors import ConfigError
from umbel.runtimes.mail import Letter
from umbel.runtimes.node.conditions import Conditions
from umbel.runtimes.node.disk import DiskKeeper
from umbel.runtimes.node.gate import Gate
from umbel.runtimes.node.rules import Policy, Privacy

POLICY = Policy(privacy=Privacy(epsilon_total=3.0, delta=1e-5))
NOW = Conditions("2027-01-15", 4, 23 * 60)


def plan(epsilon=2.0, delta=1e-5):
    promised = {"differential_privacy": {"epsilon": epsilon, "delta": delta}}
    return {"client_half": {"name": "FedAvg"}, "cohort": 8, "per_client_metrics": False, "privacy": promised}


def letter(run, round=1):
    return Letter(run, round, 0, 0, "fit", "a", 1, {}, {}, (), "", {}, None, 60.0)


def gate(keeper):
    return Gate(POLICY, purse=keeper, conditions=lambda: NOW)


def works(gate, run, round=1):
    return asyncio.run(gate.why_not_ask(letter(run, round)))


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
    assert reason == (
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
    assert "epsilon_total" in works(gate(keeper), "unseen")


def test_more_rounds_promise_more(keeper):
    first = gate(keeper)
    first.why_not_plan("one", plan(epsilon=1.0))
    works(first, "one")
    first.why_not_plan("one", plan(epsilon=2.5))
    works(first, "one", 2)
    assert keeper.promised() == {"one": 2.5}


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
