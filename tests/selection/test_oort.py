"""Large losses on many examples, soon; new clients now and then."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import umbel as fl
from umbel.coordinators import Everyone, Experience, Seen
from umbel.coordinators.selection.oort import LARGEST, quantile, use
from umbel.errors import ConfigError
from umbel.message import Receipt

EXPLOIT = fl.Oort(exploration=0.0, least_exploration=0.0)


def experience(seen, round=4, **numbers):
    return Experience(round, {str(client): one for client, one in seen.items()}, numbers)


def draw(selector, count, known, population=100, key=1):
    return selector.draw(Everyone(population), key, count, known)


def test_worth_is_the_papers_formula():
    known = experience({0: Seen(2.0, 30.0, 1.0, 3, 1), 1: Seen(1.0, 10.0, 4.0, 2, 1), 2: Seen(0.5, 10.0, 2.0, 4, 2)}, 9)
    worth = fl.Oort(pace=0.6, clip_share=1.0, alpha=2.0).worth(known, dict(known.clients))
    stale = {client: math.sqrt(0.1 * math.log(10) / one.round) for client, one in known.clients.items()}
    assert worth["0"] == pytest.approx(60 / 60 + stale["0"])
    assert worth["1"] == pytest.approx((10 / 60 + stale["1"]) * (2 / 4) ** 2)
    assert worth["2"] == pytest.approx(5 / 60 + stale["2"])


def test_without_time_only_the_loss_counts():
    timed = experience({0: Seen(2.0, 3.0, 1.0, 3, 1), 1: Seen(1.0, 1.0, 90.0, 3, 1)})
    untimed = experience({client: replace(one, took_s=None) for client, one in timed.clients.items()})
    assert fl.Oort(alpha=0.0).worth(timed, dict(timed.clients)) == fl.Oort().worth(untimed, dict(untimed.clients))


def test_one_enormous_loss_is_clipped():
    seen = {n: Seen(1.0, 1.0, None, 3, 1) for n in range(40)} | {40: Seen(1e200, 1e200, None, 3, 1)}
    known = experience(seen)
    worth = fl.Oort().worth(known, dict(known.clients))
    assert worth["40"] == worth["0"]
    assert math.isfinite(use(known.clients["40"]))


def test_the_useful_ones_are_asked():
    known = experience({n: Seen(10.0 if n < 10 else 0.1, 5.0, None, 3, 1) for n in range(100)})
    assert {int(client) for client in draw(EXPLOIT, 8, known)} <= set(range(10))


def test_of_two_equally_useful_ones_the_faster_is_asked():
    known = experience({n: Seen(1.0, 5.0, 1.0 if n % 2 else 50.0, 3, 1) for n in range(100)})
    assert all(int(client) % 2 for client in draw(EXPLOIT, 30, known))


def test_who_took_part_long_ago_comes_before_who_just_did():
    known = experience({n: Seen(1.0, 5.0, None, 1 if n < 10 else 50, 1) for n in range(100)}, round=50)
    assert {int(client) for client in draw(EXPLOIT, 10, known)} == set(range(10))


def test_chances_are_in_proportion_to_the_worth():
    known = experience({0: Seen(1.0, 3.0, None, 1, 1), 1: Seen(1.0, 1.0, None, 1, 1)}, round=0)
    times, selector = 4000, replace(EXPLOIT, cutoff=0.0)
    worth = selector.worth(known, dict(known.clients))
    assert worth == {"0": pytest.approx(1.0), "1": pytest.approx(1 / 3)}
    counts = Counter(draw(selector, 1, known, 2, key)[0] for key in range(times))
    # Five standard deviations of a binomial with chance 3/4.
    assert abs(counts["0"] - times * 3 / 4) < 5 * math.sqrt(times * 3 / 16)


def test_a_share_of_each_cohort_is_new():
    known = experience({n: Seen(1.0, 5.0, None, 3, 1) for n in range(50)}, round=9)
    selector = fl.Oort(exploration=0.9, decay=0.9, least_exploration=0.1)
    assert [selector.share(n) for n in (1, 2, 100)] == [0.9, pytest.approx(0.81), 0.1]
    share, times = selector.share(10), 400
    new = [sum(int(client) >= 50 for client in draw(selector, 7, known, key=key)) for key in range(times)]
    assert set(new) <= {math.floor(share * 7), math.ceil(share * 7)}
    assert sum(new) / times == pytest.approx(share * 7, abs=0.1)


def test_new_clients_are_drawn_as_the_plan_says():
    fast = fl.Oort(explore=fl.Weighted(lambda client: int(client) < 7))
    assert {int(client) for client in draw(fast, 7, Experience())} == set(range(7))


@pytest.mark.parametrize("population", [12, 20])
def test_a_cohort_is_full_while_there_are_clients(population):
    known = experience({n: Seen(1.0, 5.0, None, 3, 1) for n in range(12)})
    for selector in (EXPLOIT, fl.Oort(exploration=1.0, least_exploration=1.0), fl.Oort(most_picks=1)):
        drawn = draw(selector, 12, known, population)
        assert len(set(drawn)) == len(drawn) == 12


def test_who_was_picked_often_comes_last():
    known = experience({n: Seen(9.0 if n < 5 else 1.0, 5.0, None, 3, 4 if n < 5 else 3) for n in range(20)})
    selector = replace(EXPLOIT, most_picks=4)
    assert not {int(client) for client in draw(selector, 15, known, 20)} & set(range(5))
    assert len(draw(selector, 18, known, 20)) == 18


def test_only_who_is_there_is_asked():
    known = experience({n: Seen(1.0 + n, 5.0, None, 3, 1) for n in range(100)})
    assert all(int(client) < 30 for client in draw(EXPLOIT, 10, known, 30))


def test_the_pace_slackens_when_less_is_gained():
    selector, known = fl.Oort(pace=0.5, pace_step=0.2, pace_window=2), Experience()
    paces = []
    for number, loss in enumerate([4.0, 4.0, 2.0, 2.0, 3.0, 3.0, 1.0, 1.0], 1):
        known = selector.learn(known, number, [Receipt("7", number, 0, "done", examples=1.0, loss=loss)])
        paces.append(known.numbers["pace"])
    assert paces == [0.5, 0.5, 0.5, 0.7, 0.7, 0.7, 0.7, pytest.approx(0.9)]
    assert len(known.numbers["gains"]) == 4


def test_clients_that_fail_are_not_asked_for_ever():
    known = fl.Oort().learn(Experience(), 1, [Receipt(str(n), 1, 0, "failed") for n in range(5)])
    later = replace(known, round=200)
    selector = fl.Oort(exploration=1.0, least_exploration=1.0)
    assert not {int(client) for client in draw(selector, 90, later)} & set(range(5))


def test_a_quantile_is_a_value_of_the_list():
    assert [quantile([3.0, 1.0, 2.0, 4.0], share) for share in (0.0, 0.25, 0.5, 0.95, 1.0)] == [1, 1, 2, 4, 4]
    assert quantile([], 0.5) == 0.0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"exploration": 1.5}, "exploration must be from 0 to 1, got 1.5"),
        ({"alpha": -1}, "alpha must be at least 0"),
        ({"pace_window": 0}, "pace_window must be at least 1"),
        ({"pace_window": None}, "pace_window must be at least 1"),
        ({"most_picks": 0}, "most_picks must be at least 1"),
        ({"explore": 1}, "explore must be a selector"),
    ],
)
def test_arguments_that_are_none_are_refused(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        fl.Oort(**arguments)


def worth_one_by_one(oort, experience):
    """The formula of the class, client after client, in Python's own numbers."""
    seen = experience.clients
    useful = {c: 0.0 if s.loss is None else min(s.examples * abs(s.loss), LARGEST) for c, s in seen.items()}
    ordered, times = sorted(useful.values()), sorted(s.took_s for s in seen.values() if s.took_s is not None)

    def smallest(values, share):
        return values[max(math.ceil(round(share * len(values), 9)) - 1, 0)] if values else 0.0

    clip = smallest(ordered, oort.clip_share) or 1.0
    preferred_s = smallest(times, experience.numbers.get("pace", oort.pace))
    found = {}
    for client, one in seen.items():
        if oort.most_picks is not None and one.picks >= oort.most_picks:
            continue
        recent = 0.1 * math.log(experience.round + 1) / max(one.round, 1)
        found[client] = min(useful[client], clip) / clip + math.sqrt(recent)
        if one.took_s is not None and one.took_s > preferred_s:
            found[client] *= (preferred_s / one.took_s) ** oort.alpha
    return found


@pytest.mark.parametrize("settings", [{}, {"alpha": 0.7, "most_picks": 5}, {"clip_share": 0.0, "pace": 0.0}], ids=str)
def test_the_worth_of_many_in_arrays_is_that_of_each_to_the_bit(settings):
    rng = np.random.default_rng(3)
    losses, times, examples = rng.lognormal(size=10_000), rng.lognormal(size=10_000), rng.integers(0, 500, 10_000)
    clients = {
        str(i): Seen(
            None if i % 7 == 0 else 1e308 if i == 8 else float(losses[i]) * (-1) ** i,
            float(examples[i]),
            None if i % 5 == 0 else float(times[i]),
            i % 50,
            i % 9,
        )
        for i in range(10_000)
    }
    known, oort = Experience(50, clients, {}), fl.Oort(**settings)
    assert oort.worth(known, dict(clients)) == worth_one_by_one(oort, known)
    assert oort.worth(Experience(), {}) == {}
