"""Shapley values are those of the definition, and have the properties that make them the only fair division."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.runtimes.worth.game import Remembered
from umbel.runtimes.worth.shapley import exact, leave_one_out, sampled, student


def game(players, worth):
    return Remembered(players, lambda coalitions: [worth(coalition) for coalition in coalitions])


def table(count, seed):
    """A game without any structure."""
    players = [str(index) for index in range(count)]
    rng, known = np.random.default_rng(seed), {}

    def worth(coalition):
        key = tuple(sorted(coalition))
        if key not in known:
            known[key] = float(rng.normal())
        return known[key]

    for size in range(count + 1):
        for coalition in itertools.combinations(players, size):
            worth(frozenset(coalition))
    return game(players, worth)


def by_definition(one):
    """The mean over all orders of what each adds to those before it."""
    orders = list(itertools.permutations(one.players))
    gains = dict.fromkeys(one.players, 0.0)
    for order in orders:
        for place, player in enumerate(order):
            gains[player] += one.value(order[: place + 1]) - one.value(order[:place])
    return {player: gain / len(orders) for player, gain in gains.items()}


@pytest.mark.parametrize("count", [1, 2, 3, 5, 6])
def test_exact_values_are_those_of_the_definition(count):
    one = table(count, seed=count)
    found = exact(one)
    for player, value in by_definition(one).items():
        assert found[player].value == pytest.approx(value, abs=1e-12)
        assert found[player].low == found[player].value == found[player].high


@given(st.integers(1, 8), st.integers(0, 2**32))
def test_values_add_up_to_the_gain_of_all(count, seed):
    one = table(count, seed)
    gain = one.value(one.players) - one.value(())
    assert math.fsum(share.value for share in exact(one).values()) == pytest.approx(gain, abs=1e-9)


@given(st.integers(2, 7), st.integers(0, 2**32), st.integers(1, 7))
def test_sampled_values_add_up_to_it_however_they_are_sampled(count, seed, starts):
    one = table(count, seed)
    gain = one.value(one.players) - one.value(())
    for tolerance in (0.0, 0.5):
        found = sampled(one, 3, seed, starts=min(starts, count), tolerance=tolerance)
        assert math.fsum(share.value for share in found.values()) == pytest.approx(gain, abs=1e-9)


@given(st.integers(0, 2**32))
def test_players_that_are_alike_are_worth_the_same(seed):
    inner = table(5, seed)

    # "1" and "2" count only by how many of them there are.
    def worth(coalition):
        twins = len(coalition & {"1", "2"})
        return inner.value((coalition - {"1", "2"}) | set(["1", "2"][:twins]))

    found = exact(game(inner.players, worth))
    assert found["1"].value == pytest.approx(found["2"].value, abs=1e-12)


@given(st.integers(0, 2**32))
def test_a_player_that_changes_nothing_is_worth_nothing(seed):
    inner = table(5, seed)
    idle = game(inner.players, lambda coalition: inner.value(coalition - {"3"}))
    assert exact(idle)["3"].value == pytest.approx(0.0, abs=1e-12)
    assert leave_one_out(idle)["3"].value == 0.0
    assert sampled(idle, 2, seed, starts=5)["3"].value == 0.0


def test_leave_one_out_misses_those_that_stand_in_for_each_other():
    """Why it is not the default: two clients with the same data are each worth nothing beside the other."""
    either = game(["a", "b", "c"], lambda coalition: float(bool(coalition & {"a", "b"})))
    assert [share.value for share in leave_one_out(either).values()] == [0, 0, 0]
    assert [share.value for share in exact(either).values()] == pytest.approx([0.5, 0.5, 0])


def test_every_coalition_is_asked_for_once():
    asked = []

    def worth(coalitions):
        asked.extend(coalitions)
        return [float(len(one)) for one in coalitions]

    one = Remembered("abcd", worth)
    exact(one)
    exact(one)
    sampled(one, 4, 1, starts=4)
    assert len(asked) == len(set(asked)) == 16


def test_95_percent_intervals_hold_the_exact_value_in_90_percent_of_seeds():
    one = table(6, seed=11)
    truth = exact(one)
    hits = dict.fromkeys(one.players, 0)
    seeds = 200
    for seed in range(seeds):
        for player, share in sampled(one, 6, seed, starts=3).items():
            hits[player] += share.low <= truth[player].value <= share.high
    assert min(hits.values()) >= 0.9 * seeds
    # And they are not so wide that they say nothing: the level is 95 %.
    assert sum(hits.values()) <= 0.985 * seeds * len(hits)


def test_of_ten_players_two_rings_are_within_five_percent_with_fifteen_percent_of_the_coalitions():
    rng = np.random.default_rng(5)
    size = dict(zip("abcdefghij", rng.gamma(1.0, 1.0, 10), strict=True))
    whole = sum(size.values())
    # Accuracy as a function of data that are more and more alike.
    one = game(list(size), lambda coalition: 1 - math.exp(-3 * sum(size[p] for p in sorted(coalition)) / whole))
    truth = np.array([share.value for share in exact(one).values()])
    errors = []
    for seed in range(20):
        one.known.clear()
        found = np.array([share.value for share in sampled(one, 2, seed, starts=10).values()])
        assert len(one.known) <= 0.16 * 2**10
        errors.append(np.linalg.norm(found - truth) / np.linalg.norm(truth))
    assert np.median(errors) <= 0.05


def test_truncation_saves_coalitions():
    saturated = game("abcdefgh", lambda coalition: min(len(coalition), 3) / 3)
    sampled(saturated, 4, 1, starts=2, tolerance=0.01)
    few = len(saturated.known)
    saturated.known.clear()
    sampled(saturated, 4, 1, starts=2)
    assert few < 0.7 * len(saturated.known)


def test_the_quantiles_are_those_of_the_tables():
    # Two-sided 95 % and 99 %, any textbook.
    for degrees, wanted in ((1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (30, 2.042)):
        assert student(0.95, degrees) == pytest.approx(wanted, rel=2e-3)
    assert student(0.99, 5) == pytest.approx(4.032, rel=5e-3)


def test_students_quantile_is_exact_for_few_permutations_and_high_confidence():
    """From a table of Student's t."""
    for confidence, degrees, wanted in ((0.999, 3, 12.924), (0.999, 4, 8.610), (0.99, 3, 5.841), (0.9, 1, 6.314)):
        assert student(confidence, degrees) == pytest.approx(wanted, abs=6e-4)
