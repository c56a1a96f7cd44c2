"""Draws by weight: their distribution, and that they need no list of the population."""

import math
import time
import tracemalloc
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from tests.selection.population import Unlisted

import umbel as fl
from umbel.coordinators import Everyone, Experience, Named, Rounds, ServerConfig, Some, Streams
from umbel.errors import ConfigError, TooFewClients
from umbel.message import Receipt
from umbel.testing import Quadratics

NOTHING = Experience()
MANY = 10**8


def draw(selector, population, key, count, excluded=()):
    return selector.draw(population, key, count, NOTHING, excluded)


def chances(weights, count):
    """The exact chance of each ordered draw without replacement, one factor per place."""
    found = {}
    for order in permutations(range(len(weights)), count):
        chance, left = 1.0, sum(weights)
        for one in order:
            chance, left = chance * weights[one] / left, left - weights[one]
        found[tuple(map(str, order))] = chance
    return found


@pytest.mark.parametrize("kind", [Everyone, Unlisted], ids=["listed", "proposed"])
def test_cohorts_come_with_the_chances_that_weights_give_them(kind):
    weights, times = [1.0, 2.0, 4.0, 0.5], 4000
    exact = chances(weights, 2)
    assert sum(exact.values()) == pytest.approx(1.0)
    counted = Counter(tuple(draw(fl.Weighted(weights), kind(4), key, 2)) for key in range(times))
    squares = sum((counted[order] - times * chance) ** 2 / (times * chance) for order, chance in exact.items())
    # The 99.9 % quantile of chi-square with 12 - 1 degrees of freedom (scipy.stats.chi2.ppf(0.999, 11)).
    assert squares < 31.26


@pytest.mark.parametrize("kind", [Everyone, Unlisted], ids=["listed", "proposed"])
@pytest.mark.parametrize("count", [3, 40])
def test_a_weight_of_zero_is_never_drawn(kind, count):
    selector = fl.Weighted(lambda client: int(client) % 2, most=1)
    for key in range(50):
        drawn = draw(selector, kind(40), key, count)
        assert len(drawn) == len(set(drawn)) == min(count, 20)
        assert all(int(client) % 2 for client in drawn)


@pytest.mark.parametrize("kind", [Everyone, Unlisted], ids=["listed", "proposed"])
def test_a_longer_draw_goes_on_where_a_shorter_one_ended(kind):
    selector = fl.Weighted(lambda client: 1 + int(client), most=30)
    for key in range(20):
        assert draw(selector, kind(30), key, 12)[:5] == draw(selector, kind(30), key, 5)


@pytest.mark.parametrize("kind", [Everyone, Unlisted], ids=["listed", "proposed"])
def test_who_is_excluded_is_not_drawn(kind):
    selector = fl.Weighted([1.0, 1.0, 5.0, 1.0])
    assert set(draw(selector, kind(4), 1, 4, excluded={"2"})) == {"0", "1", "3"}


def test_an_absent_client_changes_nobody_elses_rank():
    weights = {name: 1.0 + place for place, name in enumerate("abcdefgh")}
    everyone = draw(fl.Weighted(weights), Named(sorted(weights)), 3, 5)
    without = draw(fl.Weighted(weights), Named(sorted(set(weights) - {"h"})), 3, 5)
    assert [name for name in everyone if name != "h"] == [name for name in without if name in everyone]


def test_a_function_a_mapping_and_an_array_of_the_same_weights_draw_the_same():
    numbers = [1.0, 3.0, 0.0, 2.0]
    ways = [numbers, np.array(numbers), {str(n): w for n, w in enumerate(numbers)}, lambda client: numbers[int(client)]]
    assert len({tuple(draw(fl.Weighted(by), Everyone(4), 5, 2)) for by in ways}) == 1


def test_only_clients_of_the_population_are_drawn():
    drawn = draw(fl.Weighted(lambda client: 1.0), Some([3, 5, 9]), 1, 5)
    assert set(drawn) == {"3", "5", "9"}


def test_a_thousand_of_a_hundred_million_need_no_list_of_them():
    selector = fl.Weighted(lambda client: 0.5 + int(client) % 2 / 2, most=1.0)
    draw(selector, Everyone(MANY), 0, 1000)
    tracemalloc.start()
    try:
        drawn = draw(selector, Everyone(MANY), 1, 1000)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(set(drawn)) == 1000
    assert peak < 2**20


def test_the_size_of_the_population_makes_no_difference_to_the_time():
    selector = fl.Weighted(lambda client: 0.5 + int(client) % 2 / 2, most=1.0)

    def seconds(size):
        times = []
        for key in range(7):
            started = time.perf_counter()
            draw(selector, Everyone(size), key, 1000)
            times.append(time.perf_counter() - started)
        return min(times)

    assert seconds(MANY) < 5 * seconds(10**5)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"by": 3}, "by must be a function"),
        ({"by": [[1.0]]}, "by must be a function"),
        ({"by": [1.0, math.nan]}, "finite weights"),
        ({"by": {"0": "much"}}, "client 0 has 'much'"),
        ({"by": {"0": 1.0, 7: -1.0}}, "client 7 has -1.0"),
        ({"by": [1.0, -1.0]}, "a weight is at least 0, and by holds -1.0"),
        ({"by": [1.0], "most": 0}, "most must be a finite number above 0"),
        ({"by": [1.0, 3.0], "most": 2.0}, "by holds the weight 3.0"),
    ],
)
def test_weights_that_are_none_are_refused(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        fl.Weighted(**arguments)


def test_a_list_that_is_too_short_is_refused_before_the_run():
    with pytest.raises(ConfigError, match="by has 2 weights for 3 clients"):
        fl.Weighted([1.0, 2.0]).check(Everyone(3))
    fl.Weighted([1.0, 2.0]).check(Everyone(2))


@pytest.mark.parametrize(
    ("by", "most", "sentence"),
    [
        (lambda client: -1.0, None, "weight of client 0 must be a finite number of at least 0, got -1.0"),
        (lambda client: "heavy", None, "got 'heavy'"),
        (lambda client: math.inf, None, "got inf"),
        (lambda client: 3.0, 2.0, "is 3.0, above most=2.0; raise most"),
        (lambda client: 1 / 0, None, "by gives client 0 no weight: ZeroDivisionError"),
        ([1.0], None, "by has 1 weights and none for client 1"),
    ],
)
def test_a_weight_that_turns_out_wrong_is_a_sentence(by, most, sentence):
    with pytest.raises(ConfigError, match=sentence):
        draw(fl.Weighted(by, most=most), Everyone(2), 1, 2)


def test_a_large_population_needs_to_be_told_the_largest_weight_before_the_run():
    config = ServerConfig(seed=1, selector=fl.Weighted(lambda client: 1.0))
    with pytest.raises(ConfigError, match="give most="):
        Rounds(config, Everyone(MANY))
    with pytest.raises(ConfigError, match="give most="):
        fl.simulate(Quadratics(clients=2).client, MANY, config=config, engine="serial")


def test_a_cohort_of_nobody_is_a_sentence():
    with pytest.raises(TooFewClients, match="draws none of 10 clients"):
        Rounds(ServerConfig(seed=1, selector=fl.Weighted(lambda client: 0.0)), Everyone(10)).begin()


def test_clients_that_fail_are_replaced_by_weight():
    selector = fl.Weighted([0.0, 1.0, 1.0, 1.0, 0.0, 1.0])
    config = ServerConfig(seed=1, fraction_fit=0.34, over_selection=1.0, selector=selector)
    leader = Rounds(config, Everyone(6))
    phase = leader.begin()
    asked, waiting = set(phase.clients), list(phase.clients)
    while waiting:
        waiting += leader.receipt(Receipt(waiting.pop(), 1, 0, "failed")).ask
        asked |= set(waiting)
    assert len(asked) == 4
    assert asked == {"1", "2", "3", "5"}


def test_an_asynchronous_run_draws_its_next_client_by_weight():
    streams = fl.Buffered(concurrency=3, buffer_size=1)
    leader = Streams(
        streams,
        ServerConfig(num_rounds=9, seed=1, selector=fl.Weighted(lambda client: int(client) < 6)),
        Everyone(100),
    )
    asked = list(leader.begin().clients)
    for client in asked[:2]:
        leader.receipt(Receipt(client, leader.round + 1, 0, "done", examples=1.0))
        asked += leader.fill()
    assert len(asked) == 5
    assert {int(client) for client in asked} <= set(range(6))


def test_no_selector_but_uniform_goes_with_arrivals():
    with pytest.raises(ConfigError, match="arrivals=True draws nobody"):
        ServerConfig(arrivals=True, round_timeout=9.0, fraction_evaluate=0.0, selector=fl.Weighted([1.0]))
    with pytest.raises(ConfigError, match="selector must be one such as"):
        ServerConfig(selector=fl.Uniform)
