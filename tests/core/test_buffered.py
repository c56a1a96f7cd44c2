"""The asynchronous coordinator: places, buffers, discounts and ends, as replayable lists of events."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import umbel as fl
from umbel.coordinators import Ended, Everyone, Rounds, ServerConfig, Streams
from umbel.coordinators.population import draw
from umbel.errors import ConfigError, NotSupported, TooFewClients
from umbel.message import Receipt


def streams(settings=None, population=30, **config):
    settings = settings or fl.Buffered(concurrency=6, buffer_size=3)
    return Streams(settings, ServerConfig(**{"seed": 1, "num_rounds": 20, **config}), Everyone(population))


def answer(client, version, verdict="done"):
    return Receipt(client, version, 0, verdict, reason="it broke")


@given(
    seed=st.integers(0, 10**6),
    concurrency=st.integers(1, 9),
    buffer_size=st.integers(1, 9),
    population=st.integers(1, 40),
    most=st.sampled_from([None, 0, 2]),
)
def test_any_order_of_arrivals_keeps_the_laws(seed, concurrency, buffer_size, population, most):
    rng = Random(seed)
    settings = fl.Buffered(concurrency=concurrency, buffer_size=buffer_size, max_staleness=most)
    leader = streams(settings, population)
    training = {}
    for step in range(1, 8):
        phase = leader.begin()
        assert phase.round == step
        asked, arrived = list(phase.clients), []
        while True:
            assert not set(asked) & set(training), "a client trains on one model at a time"
            assert not set(asked) & set(arrived), "who is in the buffer waits for the step"
            training |= dict.fromkeys(asked, step)
            assert len(training) <= concurrency
            if not training:
                break
            client = rng.choice(list(training))
            version = training.pop(client)
            verdict = rng.choice(["done", "done", "failed"])
            decision = leader.receipt(answer(client, version, verdict))
            fresh = most is None or step - version <= most
            assert decision.accept == (verdict == "done" and fresh)
            arrived.append(client)
            if decision.close:
                break
            asked = list(leader.fill())
        accepted = [c for c in arrived if c in leader.mark()[1].accepted]
        assert len(accepted) == len(leader.mark()[1].accepted) <= buffer_size
        if not accepted:
            with pytest.raises(TooFewClients):
                leader.close()
            return
        assert leader.close() == "step"
        leader.finish({})


def test_a_fresh_update_counts_in_full_and_a_stale_one_for_less():
    assert fl.Buffered(concurrency=1).discount(0) == 1.0
    assert fl.Buffered(concurrency=1).discount(8) == pytest.approx(1 / 3)
    assert fl.Buffered(concurrency=1, staleness_exponent=0.0).discount(8) == 1.0
    assert fl.FedAsync(concurrency=1, mixing=0.5).discount(3) == pytest.approx(0.25)


def test_places_are_filled_from_the_cohort_that_rounds_would_draw():
    settings = fl.Buffered(concurrency=5, buffer_size=5)
    cohort = fl.ServerConfig(seed=1, num_rounds=1, fraction_fit=0.0, min_fit_clients=5)
    assert streams(settings).begin().clients == Rounds(cohort, Everyone(30)).begin().clients


def test_answers_that_nobody_waits_for_are_dropped():
    leader = streams()
    phase = leader.begin()
    stranger = next(c for c in Everyone(30).first(30) if c not in phase.clients)
    first = phase.clients[0]
    assert not leader.receipt(answer(stranger, 1)).accept
    assert not leader.receipt(answer(first, 7)).accept
    assert leader.receipt(answer(first, 1)).accept
    assert not leader.receipt(answer(first, 1)).accept


def test_going_back_to_a_mark_undoes_everything_since():
    leader = streams()
    phase = leader.begin()
    leader.receipt(answer(phase.clients[0], 1))
    mark = leader.mark()

    def rest():
        asked = leader.fill()
        return asked, leader.receipt(answer(phase.clients[1], 1)), leader.excluded, leader.own_state()

    once = rest()
    leader.reset(mark)
    assert rest() == once


def test_a_restored_coordinator_goes_on_as_the_one_it_was():
    leader, other = streams(), streams()
    phase = leader.begin()
    for client in phase.clients[:3]:
        leader.receipt(answer(client, 1))
    leader.close()
    leader.finish({"loss": 2.0})
    other.restore(leader.state())
    assert other.begin() == leader.begin()
    assert other.excluded == leader.excluded
    assert (other.best, other.scale(1)) == (2.0, 2**-0.5)


def test_a_failure_ends_the_run_where_failures_are_not_accepted():
    leader = streams(accept_failures=False)
    phase = leader.begin()
    assert leader.receipt(answer(phase.clients[0], 1, "failed")).close
    with pytest.raises(TooFewClients, match="it broke"):
        leader.close()


def test_the_run_ends_after_its_steps_and_needs_its_clients():
    assert streams(num_rounds=0).begin() == Ended("finished")
    with pytest.raises(TooFewClients, match="min_available_clients is 50"):
        streams(min_available_clients=50).begin()


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"fraction_fit": 0.5}, "fraction_fit has no meaning"),
        ({"min_fit_clients": 3}, "min_fit_clients has no meaning"),
        ({"over_selection": 0.5}, "over_selection has no meaning"),
        ({"quorum": 0.5}, "quorum has no meaning"),
        ({"round_timeout": 9.0}, "round_timeout has no meaning"),
        ({"round_retries": 1}, "round_retries has no meaning"),
    ],
)
def test_settings_that_speak_of_cohorts_are_refused(config, said):
    with pytest.raises(NotSupported, match=said):
        streams(**config)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: fl.Buffered(concurrency=0), "concurrency must be at least 1, got 0"),
        (lambda: fl.Buffered(concurrency=2, buffer_size=0), "buffer_size must be at least 1"),
        (lambda: fl.Buffered(concurrency=2, staleness_exponent=-1), "staleness_exponent must be"),
        (lambda: fl.Buffered(concurrency=2, max_staleness=-1), "max_staleness must be"),
        (lambda: fl.FedAsync(concurrency=2, mixing=0.0), "mixing must be"),
        (lambda: fl.FedAsync(concurrency=2.5), "concurrency must be"),
    ],
)
def test_what_is_no_setting_is_refused_with_its_value(make, said):
    with pytest.raises(ConfigError, match=said):
        make()


def test_the_first_argument_may_be_given_without_its_name():
    assert fl.Buffered(5) == fl.Buffered(concurrency=5)
    assert fl.FedAsync(5) == fl.FedAsync(concurrency=5)
    with pytest.raises(ConfigError, match="concurrency must be at least 1, got 'many'"):
        fl.Buffered("many")


@given(key=st.integers(0, 2**60), size=st.integers(1, 60), count=st.integers(0, 60), away=st.sets(st.integers(0, 59)))
def test_drawing_passes_over_the_excluded_and_finds_all_others(key, size, count, away):
    excluded = {str(n) for n in away}
    found = draw(Everyone(size), key, count, excluded)
    left = size - len([n for n in away if n < size])
    assert len(found) == len(set(found)) == min(count, left)
    assert not set(found) & excluded
    if not away:
        assert found == Everyone(size).sample(key, count)[:count]


def test_steps_are_taken_whenever_the_updates_come():
    leader = streams()
    leader.begin()
    assert leader.looks_at_s == math.inf
    assert not leader.tick(1e9)
