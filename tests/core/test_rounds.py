"""The coordinator: cohorts, quorum, deadlines, retries and ends, as replayable lists of events."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.coordinators import Ended, Everyone, Rounds, ServerConfig
from umbel.coordinators.population import Named
from umbel.errors import ConfigError, TooFewClients
from umbel.message import Receipt


def rounds(population=10, timed=False, **config):
    people = population if not isinstance(population, int) else Everyone(population)
    return Rounds(ServerConfig(**{"seed": 1, "num_rounds": 3, **config}), people, timed=timed)


def answer(phase, client, verdict="done", **changes):
    values = {"client": client, "round": phase.round, "attempt": phase.attempt, "verdict": verdict, **changes}
    return Receipt(reason="it broke", **values)


@pytest.mark.parametrize(
    ("population", "config", "size"),
    [
        (10, {}, 10),
        (10, {"fraction_fit": 0.3}, 3),
        (30, {"fraction_fit": 0.1}, 3),
        (10, {"fraction_fit": 0.0, "min_fit_clients": 2}, 2),
        (10, {"fraction_fit": 0.0}, 1),
        (3, {"min_fit_clients": 50}, 3),
    ],
)
def test_the_cohort_has_the_size_that_was_asked_for(population, config, size):
    assert len(rounds(population, **config).begin().clients) == size


def test_equal_seeds_give_equal_cohorts_and_rounds_differ():
    one, two, other = (
        rounds(100, fraction_fit=0.1),
        rounds(100, fraction_fit=0.1),
        rounds(100, fraction_fit=0.1, seed=2),
    )
    first = one.begin()
    assert first == two.begin()
    assert first.clients != other.begin().clients
    for client in first.clients:
        one.receipt(answer(first, client))
    assert one.close() == "step"
    one.finish({})
    assert one.begin().clients != first.clients


def test_a_hundred_million_clients_are_drawn_without_building_them():
    chosen = Everyone(10**8).sample(5, 1000)
    assert len(set(chosen)) == 1000
    assert all(0 <= int(c) < 10**8 for c in chosen)


@given(st.integers(0, 2**64), st.sets(st.text(min_size=1, max_size=4), min_size=5, max_size=30), st.data())
def test_an_absent_client_changes_nobody_elses_draw(key, names, data):
    absent = data.draw(st.sampled_from(sorted(names)))
    everyone = Named(sorted(names)).sample(key, 4)
    without = Named(sorted(names - {absent})).sample(key, 4)
    assert [n for n in everyone if n != absent] == [n for n in without if n in everyone]


def test_a_failure_is_replaced_from_the_reserve_where_no_time_passes():
    coordinator = rounds(10, fraction_fit=0.4, over_selection=0.5)
    phase = coordinator.begin()
    assert len(phase.clients) == 4
    decision = coordinator.receipt(answer(phase, phase.clients[0], "failed"))
    assert not decision.accept
    assert len(decision.ask) == 1
    assert decision.ask[0] not in phase.clients
    again = coordinator.receipt(answer(phase, decision.ask[0]))
    assert again.accept


def test_over_selected_real_nodes_are_all_asked_and_the_first_are_kept():
    coordinator = rounds(10, timed=True, fraction_fit=0.4, over_selection=0.5)
    phase = coordinator.begin()
    assert len(phase.clients) == 6
    decisions = [coordinator.receipt(answer(phase, client)) for client in reversed(phase.clients)]
    assert [d.accept for d in decisions] == [True] * 4 + [False] * 2
    assert decisions[3].close


def test_an_answer_is_counted_once_and_late_ones_never():
    coordinator = rounds(4)
    phase = coordinator.begin()
    assert coordinator.receipt(answer(phase, "0")).accept
    assert not coordinator.receipt(answer(phase, "0")).accept
    assert not coordinator.receipt(answer(phase, "1", round=7)).accept
    assert not coordinator.receipt(answer(phase, "1", attempt=3)).accept
    assert not coordinator.receipt(answer(phase, "nobody")).accept


def test_the_round_closes_at_its_deadline_with_what_it_has():
    coordinator = rounds(4, timed=True, round_timeout=10.0, quorum=0.5)
    phase = coordinator.begin(now_s=100.0)
    assert phase.ends_at_s == 110.0
    coordinator.receipt(answer(phase, "0"))
    coordinator.receipt(answer(phase, "1"))
    assert not coordinator.tick(109.9)
    assert coordinator.tick(110.0)
    assert coordinator.close() == "step"


def test_below_quorum_the_round_is_tried_again_and_then_the_run_ends():
    coordinator = rounds(4, quorum=0.75, round_retries=1)
    for expected in ("retry", None):
        phase = coordinator.begin()
        coordinator.receipt(answer(phase, phase.clients[0]))
        coordinator.receipt(answer(phase, phase.clients[1]))
        for client in phase.clients[2:]:
            coordinator.receipt(answer(phase, client, "failed"))
        if expected:
            assert coordinator.close() == expected
        else:
            with pytest.raises(TooFewClients, match=r"2 of 4 clients answered, 3 are needed; client .*: it broke"):
                coordinator.close()


def test_a_retry_asks_another_cohort():
    coordinator = rounds(1000, fraction_fit=0.01, round_retries=1)
    first = coordinator.begin()
    for client in first.clients:
        coordinator.receipt(answer(first, client, "failed"))
    assert coordinator.close() == "retry"
    second = coordinator.begin()
    assert (second.round, second.attempt) == (1, 1)
    assert set(second.clients) != set(first.clients)


def test_no_answer_at_all_is_never_a_silent_round():
    coordinator = rounds(2)
    phase = coordinator.begin()
    for client in phase.clients:
        coordinator.receipt(answer(phase, client, "failed"))
    with pytest.raises(TooFewClients, match="it broke"):
        coordinator.close()


def test_clients_without_examples_are_no_round_either():
    coordinator = rounds(2)
    phase = coordinator.begin()
    for client in phase.clients:
        coordinator.receipt(answer(phase, client))
    with pytest.raises(TooFewClients, match="has any examples"):
        coordinator.close(examples=0.0)


def test_one_failure_fails_the_round_where_failures_are_not_accepted():
    coordinator = rounds(3, accept_failures=False)
    phase = coordinator.begin()
    decision = coordinator.receipt(answer(phase, phase.clients[0], "failed"))
    assert decision.close
    with pytest.raises(TooFewClients, match="accept_failures is False"):
        coordinator.close()


def test_too_few_available_clients_do_not_start():
    with pytest.raises(TooFewClients, match="3 clients are available, min_available_clients is 5"):
        rounds(3, min_available_clients=5).begin()


def play(coordinator, values):
    ended = None
    for value in values:
        phase = coordinator.begin()
        if isinstance(phase, Ended):
            return phase
        for client in phase.clients:
            coordinator.receipt(answer(phase, client))
        coordinator.close()
        ended = coordinator.finish({"loss": value, "accuracy": -value})
        if ended:
            return ended
    return ended


def test_the_run_stops_at_its_target_or_for_want_of_patience():
    losses = [5.0, 4.0, 4.5, 4.2, 1.0, 0.5]
    assert play(rounds(2, num_rounds=6, target=4.0), losses) == Ended("target")
    tired = rounds(2, num_rounds=6, patience=2)
    assert play(tired, losses) == Ended("patience")
    assert (tired.round, tired.best, tired.best_round) == (4, 4.0, 2)
    assert play(rounds(2, num_rounds=6, monitor="accuracy", target=-1.0), losses) == Ended("target")
    assert play(rounds(2, num_rounds=6), losses) == Ended("finished")


def test_a_missing_metric_or_a_nan_is_no_improvement_and_no_end():
    coordinator = rounds(2, num_rounds=2, patience=1, target=0.0)
    assert play(coordinator, [math.nan, math.nan]) == Ended("finished")


def test_evaluation_is_due_every_so_often_and_at_the_end():
    coordinator = rounds(10, num_rounds=5, evaluate_every=2, fraction_evaluate=0.5)
    due = [n for n in range(1, 6) if coordinator.evaluation(n) is not None]
    assert due == [2, 4, 5]
    assert len(coordinator.evaluation(2).clients) == 5
    assert rounds(10, fraction_evaluate=0.0).evaluation(1) is None


def test_a_restored_coordinator_goes_on_where_it_was():
    coordinator = rounds(10, num_rounds=5, fraction_fit=0.5)
    play(coordinator, [3.0, 2.0])
    other = rounds(10, num_rounds=5, fraction_fit=0.5)
    other.restore(coordinator.state())
    assert other.begin() == coordinator.begin()


@pytest.mark.parametrize(
    ("config", "sentence"),
    [
        ({"num_rounds": -1}, "num_rounds must be a whole number of at least 0, got -1"),
        ({"num_rounds": True}, "num_rounds must be a whole number of at least 0, got True"),
        ({"num_rounds": 2**63}, "num_rounds must be at most 9223372036854775807"),
        ({"fraction_fit": 1.5}, "fraction_fit must be from 0 to 1, got 1.5"),
        ({"min_fit_clients": 2.5}, "min_fit_clients must be a whole number"),
        ({"over_selection": -0.1}, "over_selection must be at least 0"),
        ({"patience": 0}, "patience must be above 0"),
        ({"mode": "best"}, "mode must be"),
        ({"seed": "x"}, "seed must be a whole number"),
        ({"checkpoint_every": 0}, "checkpoint_every"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(config, sentence):
    with pytest.raises(ConfigError, match=sentence):
        ServerConfig(**config)


def arriving(*there, **config):
    wants = {"arrivals": True, "round_timeout": 60.0, "fraction_evaluate": 0.0, "min_fit_clients": 2, **config}
    return rounds(Named(there), timed=True, **wants)


def test_with_arrivals_devices_are_asked_as_they_come_until_there_are_enough():
    coordinator = arriving("there", over_selection=0.5)
    phase = coordinator.begin(0.0)
    assert (phase.clients, phase.ends_at_s) == (("there",), 60.0)
    assert [coordinator.arrived(client).ask for client in "abc"] == [("a",), ("b",), ()]
    assert coordinator.seats == 0


def test_with_arrivals_a_round_may_begin_without_anybody():
    coordinator = arriving()
    assert coordinator.begin(0.0).clients == ()
    assert not coordinator.tick(59.0)
    assert coordinator.tick(60.0)
    with pytest.raises(TooFewClients):
        coordinator.close()


def test_with_arrivals_a_round_waits_for_more_when_all_that_came_have_answered():
    coordinator = arriving()
    phase = coordinator.begin(0.0)
    coordinator.arrived("a")
    decision = coordinator.receipt(answer(phase, "a"))
    assert decision.accept
    assert not decision.close
    coordinator.arrived("b")
    assert coordinator.receipt(answer(phase, "b")).close


def test_with_arrivals_a_failure_leaves_its_seat_to_another_device():
    coordinator = arriving()
    phase = coordinator.begin(0.0)
    assert [coordinator.arrived(client).ask for client in "abc"] == [("a",), ("b",), ()]
    assert not coordinator.receipt(answer(phase, "a", "failed")).close
    assert coordinator.arrived("a").ask == ()  # it had its turn
    assert coordinator.arrived("c").ask == ("c",)


def test_with_arrivals_nobody_is_asked_twice_in_a_round():
    coordinator = arriving()
    phase = coordinator.begin(0.0)
    assert coordinator.arrived("a").ask == ("a",)
    assert coordinator.arrived("a").ask == ()
    coordinator.receipt(answer(phase, "a"))
    assert coordinator.arrived("a").ask == ()


def test_with_arrivals_a_device_that_is_gone_keeps_its_seat_until_the_deadline():
    coordinator = arriving()
    phase = coordinator.begin(0.0)
    coordinator.arrived("a")
    coordinator.arrived("b")
    assert coordinator.lost("a", 1.0).ask == ()
    coordinator.receipt(answer(phase, "b"))
    assert coordinator.looks_at_s == 60.0
    assert coordinator.back("a")
    assert coordinator.receipt(answer(phase, "a")).accept


def test_where_no_time_passes_arrivals_draw_their_cohort():
    coordinator = rounds(10, arrivals=True, round_timeout=60.0, fraction_evaluate=0.0, min_fit_clients=3)
    assert len(coordinator.begin().clients) == 3
