"""Every group has its share of every cohort."""

from collections import Counter

import pytest

import umbel as fl
from umbel.coordinators import Everyone, Experience
from umbel.errors import ConfigError

SIZES = {"a": 2, "b": 8, "c": 30, "d": 60}
LABELS = [label for label, size in SIZES.items() for _ in range(size)]


def label(client):
    return LABELS[int(client) % 100]


def draw(selector, count, population=100, key=1):
    return selector.draw(Everyone(population), key, count, Experience())


@pytest.mark.parametrize("count", [1, 4, 7, 10, 30, 100])
@pytest.mark.parametrize("key", range(5))
def test_equal_shares_differ_by_one_at_most_while_a_group_lasts(count, key):
    drawn = draw(fl.Balanced(label), count, key=key)
    counts = Counter(map(label, drawn))
    assert len(set(drawn)) == len(drawn) == count
    most = max(counts.values())
    assert all(counts[group] in (most, most - 1) or counts[group] == size for group, size in SIZES.items())


@pytest.mark.parametrize("count", [1, 7, 10, 53, 100])
@pytest.mark.parametrize("key", range(5))
def test_proportional_shares_are_off_by_less_than_one(count, key):
    counts = Counter(map(label, draw(fl.Balanced(label, shares="proportional"), count, key=key)))
    assert sum(counts.values()) == count
    assert all(abs(counts[group] - count * size / 100) < 1 for group, size in SIZES.items())


@pytest.mark.parametrize("key", range(5))
def test_one_large_group_among_many_small_ones_has_its_share(key):
    drawn = draw(fl.Balanced(lambda client: min(int(client), 40), shares="proportional"), 10, key=key)
    assert sum(int(client) >= 40 for client in drawn) == 6


def test_proportional_shares_are_right_on_average():
    times = 3000
    counts = Counter(
        label(c) for key in range(times) for c in draw(fl.Balanced(label, shares="proportional"), 5, key=key)
    )
    for group, size in SIZES.items():
        wanted = times * 5 * size / 100
        # Four times more than a standard deviation of independent draws, which vary more.
        assert abs(counts[group] - wanted) < 4 * wanted**0.5


@pytest.mark.parametrize("shares", ["equal", "proportional"])
def test_within_a_group_chances_are_equal(shares):
    times, clients = 2000, [n for n, group in enumerate(LABELS) if group == "b"]
    counts = Counter(int(c) for key in range(times) for c in draw(fl.Balanced(label, shares=shares), 20, key=key))
    expected = sum(counts[n] for n in clients) / len(clients)
    # The 99.9 % quantile of chi-square with 8 - 1 degrees of freedom (scipy.stats.chi2.ppf(0.999, 7)).
    assert sum((counts[n] - expected) ** 2 / expected for n in clients) < 24.33


def test_the_start_of_a_cohort_is_balanced_too():
    drawn = draw(fl.Balanced(label), 30)
    assert set(Counter(map(label, drawn[:8])).values()) == {2}


def test_a_table_and_a_function_are_the_same():
    table = {str(n): label(n) for n in range(100)}
    assert draw(fl.Balanced(table), 20) == draw(fl.Balanced(label), 20)


def test_a_table_by_number_is_a_table_by_id():
    by_number, by_id = fl.Balanced(dict(enumerate(LABELS))), fl.Balanced({str(n): g for n, g in enumerate(LABELS)})
    assert draw(by_number, 10) == draw(by_id, 10) != []


def test_who_is_in_no_group_of_a_table_is_not_drawn():
    assert set(draw(fl.Balanced({"3": "x", "5": "y", "6": "y"}), 50)) == {"3", "5", "6"}


def test_a_hundred_million_clients_are_looked_at_in_a_sample():
    counts = Counter(map(label, draw(fl.Balanced(label), 40, 10**8)))
    assert set(counts.values()) == {10}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"groups": {}}, "groups must be a function"),
        ({"groups": 3}, "groups must be a function"),
        ({"groups": label, "shares": "same"}, 'shares must be "equal" or "proportional"'),
    ],
)
def test_arguments_that_are_none_are_refused(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        fl.Balanced(**arguments)


@pytest.mark.parametrize(
    ("groups", "sentence"),
    [
        (lambda client: None, "gives client 0 no group"),
        (lambda client: {}[client], "groups has no group for 0: KeyError"),
    ],
)
def test_a_client_without_a_group_is_a_sentence(groups, sentence):
    with pytest.raises(ConfigError, match=sentence):
        draw(fl.Balanced(groups), 1)
