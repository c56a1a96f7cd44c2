"""Tiered rounds as replayable lists of events: who is asked, when a round closes, what is learned of whom."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import umbel as fl
from umbel.coordinators import Everyone, Named, ServerConfig, Tiers
from umbel.errors import ConfigError, NotSupported, TooFewClients
from umbel.message import Receipt


def tiers(population=30, *, cohort=6, seed=1, config=None, **settings):
    plan = ServerConfig(40, seed=seed, fraction_fit=0.0, min_fit_clients=cohort, **(config or {}))
    return Tiers(fl.Tiered(**settings), plan, Everyone(population))


def answer(client, version, verdict="done", seconds=1.0):
    return Receipt(client, version, 0, verdict, reason="it broke", seconds=seconds)


def round_of(leader, seconds):
    """One round in which everybody who was asked answers; client c takes seconds(c)."""
    phase = leader.begin()
    for client in phase.clients:
        if leader.receipt(answer(client, phase.round, seconds=seconds(client))).close:
            break
    leader.close()
    leader.finish({})
    return phase.clients


@given(
    seed=st.integers(0, 10**6),
    population=st.integers(1, 40),
    cohort=st.integers(1, 9),
    num_tiers=st.integers(1, 4),
    waits_for=st.sampled_from([0.3, 0.8, 1.0]),
    most=st.sampled_from([None, 0, 2]),
)
def test_any_order_of_arrivals_keeps_the_laws(seed, population, cohort, num_tiers, waits_for, most):
    rng = Random(seed)
    leader = tiers(population, cohort=cohort, num_tiers=num_tiers, waits_for=waits_for, max_staleness=most)
    training = {}
    for number in range(1, 8):
        phase = leader.begin()
        asked, arrived, closed = list(phase.clients), [], False
        assert phase.round == number
        while not closed:
            assert not set(asked) & set(training), "a client trains on one model at a time"
            assert not set(asked) & set(arrived), "nobody is asked twice in a round"
            assert len(set(asked)) == len(asked) <= cohort
            training |= dict.fromkeys(asked, number)
            if not training:
                break
            client = rng.choice(list(training))
            version = training.pop(client)
            verdict = rng.choice(["done", "done", "failed"])
            decision = leader.receipt(answer(client, version, verdict, rng.random()))
            assert decision.accept == (verdict == "done" and (most is None or number - version <= most))
            arrived.append(client)
            closed = decision.close
            asked = [] if closed else list(leader.fill())
        if not leader.buffer.accepted:
            return
        leader.close()
        leader.finish({})


def test_a_tier_holds_clients_of_about_equal_speed():
    leader = tiers(30, cohort=30, num_tiers=3, waits_for=1.0)
    round_of(leader, lambda client: 1.0 + int(client))
    assert leader.tiers() == [[str(index) for index in range(start, start + 10)] for start in (0, 10, 20)]


def test_cohorts_come_from_one_tier_and_each_has_its_turn():
    leader = tiers(30, cohort=30, num_tiers=3, waits_for=1.0)
    round_of(leader, lambda client: 1.0 + int(client))
    leader.config = ServerConfig(40, seed=1, fraction_fit=0.0, min_fit_clients=5)
    met = [{int(client) // 10 for client in round_of(leader, lambda client: 1.0 + int(client))} for _ in range(30)]
    assert all(len(tier) == 1 for tier in met)
    assert {min(tier) for tier in met} == {0, 1, 2}


def test_what_a_tier_lacks_comes_from_the_next_slower_ones():
    leader = tiers(6, cohort=6, num_tiers=3, waits_for=1.0)
    round_of(leader, lambda client: 1.0 + int(client))
    leader.config = ServerConfig(40, seed=1, fraction_fit=0.0, min_fit_clients=3)
    for _ in range(20):
        first, second, third = (int(client) // 2 for client in leader.begin().clients)
        assert first == second
        assert third == (first + 1) % 3
        leader.abandon()
        leader.finish({})


def test_a_round_closes_when_its_share_has_answered_and_the_others_come_later():
    leader = tiers(5, cohort=5, waits_for=0.6)
    first = leader.begin().clients
    assert [leader.receipt(answer(client, 1)).close for client in first[:3]] == [False, False, True]
    leader.close()
    leader.finish({})
    assert set(leader.begin().clients) == set(first[:3])  # the late ones are at work
    decision = leader.receipt(answer(first[3], 1))
    assert decision.accept
    assert leader.scale(1) == 2**-0.5
    assert not decision.close  # they are not of this round's share


def test_a_round_of_which_some_fail_or_are_lost_closes_with_the_others():
    for ends in (lambda leader, client: leader.receipt(answer(client, 1, "failed")).close, is_lost):
        leader = tiers(9, cohort=3, waits_for=1.0)
        first, second, third = leader.begin().clients
        assert not leader.receipt(answer(first, 1)).close
        assert not ends(leader, second)
        assert ends(leader, third)
        assert leader.close() == "step"


def is_lost(leader, client):
    leader.lost(client, 0.0)
    return leader.complete


def test_a_round_without_any_answer_asks_another_cohort():
    leader = tiers(6, cohort=2)
    first = leader.begin().clients
    assert not any(leader.receipt(answer(client, 1, "failed")).close for client in first)
    second = leader.fill()
    assert len(second) == 2
    assert not set(first) & set(second)


def test_if_everybody_fails_the_run_ends_with_a_sentence():
    leader = tiers(2, cohort=2)
    for client in leader.begin().clients:
        leader.receipt(answer(client, 1, "failed"))
    assert leader.fill() == ()
    with pytest.raises(TooFewClients, match="0 updates arrived and 2 clients failed"):
        leader.close()


def test_who_missed_rounds_counts_as_slower_until_it_is_in_time():
    leader = tiers(4, cohort=4, num_tiers=4, waits_for=0.75)

    def order():
        return [client for tier in leader.tiers() for client in tier]

    leader.begin()
    for client, seconds in (("0", 1.0), ("1", 2.0), ("2", 3.0)):
        leader.receipt(answer(client, 1, seconds=seconds))
    leader.close()  # without "3"
    leader.finish({})
    leader.begin()
    leader.receipt(answer("3", 1, seconds=1.6))  # late, so it counts as 1.6 · (1 + 1)
    for client, seconds in (("0", 1.0), ("1", 2.0), ("2", 3.0)):
        leader.receipt(answer(client, 2, seconds=seconds))
    leader.close()
    leader.finish({})
    assert order() == ["0", "1", "2", "3"]
    leader.begin()
    for client, seconds in (("3", 1.6), ("0", 1.0), ("1", 2.0)):
        leader.receipt(answer(client, 3, seconds=seconds))
    leader.close()  # without "2"
    leader.finish({})
    leader.buffer = None
    leader.abandon()
    assert order() == ["0", "3", "1", "2"]


def test_who_is_refused_after_all_has_missed_the_round():
    leader = tiers(population=4, cohort=4, num_tiers=1, waits_for=1.0)
    phase = leader.begin()
    for client in phase.clients:
        leader.receipt(answer(client, 1))
    leader.refuse([answer("2", 1, "failed")])
    leader.close()
    assert {client: missed for client, (_, missed) in leader._known.items()} == {"0": 0, "1": 0, "2": 1, "3": 0}


def test_seconds_are_smoothed():
    leader = tiers(1, cohort=1, smoothing=0.25)
    for seconds in (4.0, 8.0):
        round_of(leader, lambda client, seconds=seconds: seconds)
    assert leader.learned() == {"known": [["0", 5.0, 0]]}


def test_who_is_not_there_is_not_asked():
    there = Named(["a", "b", "c"])
    leader = Tiers(fl.Tiered(), ServerConfig(9, seed=1), there)
    round_of(leader, lambda client: 1.0)
    there.names.remove("b")
    assert set(leader.begin().clients) == {"a", "c"}


def test_what_was_learned_is_plain_data_and_comes_back():
    leader = tiers(30)
    for _ in range(5):
        round_of(leader, lambda client: 1.0 + int(client) ** 0.5)
    other = tiers(30)
    other.restore(leader.state())
    assert other.state() == leader.state()
    assert [round_of(other, float) for _ in range(5)] == [round_of(leader, float) for _ in range(5)]


@pytest.mark.parametrize(
    ("name", "value"),
    [("num_tiers", 0), ("waits_for", 0.0), ("waits_for", 1.1), ("smoothing", -1), ("max_staleness", -1)],
)
def test_what_is_no_setting_is_refused(name, value):
    with pytest.raises(ConfigError, match=f"{name} must be"):
        fl.Tiered(**{name: value})


@pytest.mark.parametrize(("name", "value"), [("over_selection", 0.5), ("quorum", 0.5), ("round_timeout", 9.0)])
def test_settings_of_rounds_that_wait_are_refused(name, value):
    with pytest.raises(NotSupported, match=f"{name} has no meaning in tiered rounds: waits_for says"):
        tiers(config={name: value})
