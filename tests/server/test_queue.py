"""Whose turn it is, and what has been used: laws of the queue and of the tally."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from umbel.identity import Federation
from umbel.runtimes.server.queue import Queue
from umbel.runtimes.server.usage import Today, Used, by_day, day_of, table, why_over
from umbel.stores import MemoryStore, RunInfo

NOON_S = 1_800_014_400.0
DAY_S = 86400.0


def queue(places=2, over=lambda one: None, **federations):
    return Queue(places, lambda name: federations.get(name, Federation(name=name)), over)


def test_a_federation_with_many_runs_does_not_keep_another_from_its_turn():
    line = queue(places=2)
    for number in range(5):
        line.enter(f"a{number}", "a")
    line.enter("b0", "b")
    assert line.look() == ["a0", "b0"]
    assert "2 runs are under way, which is all this server leads" in line.reason("a1")
    line.leave("b0")
    line.enter("b1", "b")
    assert line.look() == ["b1"]


def test_within_a_federation_who_came_first_is_first():
    line = queue(places=1)
    for name in ("x", "c", "m"):
        line.enter(name, "a")
    order = []
    for _ in range(3):
        (run,) = line.look()
        order.append(run)
        line.leave(run)
    assert order == ["x", "c", "m"]


def test_no_more_runs_of_a_federation_are_under_way_than_it_may_have():
    line = queue(places=8, a=Federation(name="a", runs_at_once=1))
    for name in ("one", "two"):
        line.enter(name, "a")
    assert line.look() == ["one"]
    assert "all it may have at once" in line.reason("two")
    line.leave("one")
    assert line.look() == ["two"]


def test_a_run_over_quota_gives_its_place_to_others_and_goes_on_when_it_may():
    spent = {"a"}
    line = queue(places=1, over=lambda one: "spent" if one.name in spent else None)
    spent.clear()
    line.enter("first", "a")
    line.enter("second", "b")
    assert line.look() == ["first"]
    assert line.why_not("first") is None
    spent.add("a")
    assert line.why_not("first") == "spent"
    assert line.look() == ["second"]
    spent.clear()
    assert line.look() == []
    line.leave("second")
    assert line.look() == ["first"]
    assert line.why_not("first") is None


@given(st.lists(st.sampled_from("abc"), max_size=20), st.integers(1, 4), st.integers(0, 3))
def test_every_run_has_one_turn_and_never_too_many_at_once(names, places, most):
    limits = {"a": Federation(name="a", runs_at_once=most)}
    line = queue(places=places, **limits)
    for number, name in enumerate(names):
        line.enter(f"{name}{number}", name)
    turns, under_way = [], []
    while True:
        under_way += (given_now := line.look())
        turns += given_now
        assert len(under_way) <= places
        assert sum(run.startswith("a") for run in under_way) <= most
        if not under_way:
            break
        line.leave(under_way.pop(0))
    assert len(set(turns)) == len(turns)
    expected = {f"{name}{number}" for number, name in enumerate(names) if name != "a" or most}
    assert set(turns) == expected


# Usage


def round_event(number, at_s, **more):
    return {"kind": "round", "round": number, "at_s": at_s, "bytes_sent": 10, "bytes_received": 5, **more}


def kept(*runs):
    """A store with runs given as (federation or None, times of rounds)."""
    store = MemoryStore()
    for number, (federation, times) in enumerate(runs):
        plan = {} if federation is None else {"federation": federation}
        store.create(RunInfo(f"run{number}", "it", float(number), "running", plan))
        for number_of_round, at_s in enumerate(times, 1):
            store.append(f"run{number}", round_event(number_of_round, at_s, node_seconds=2.0))
    return store


def test_the_rounds_of_a_log_are_summed_by_the_day_in_which_they_ended():
    events = [round_event(1, NOON_S), round_event(2, NOON_S, node_seconds=1.5), round_event(3, NOON_S + DAY_S)]
    assert by_day(events) == {day_of(NOON_S): Used(2, 20, 10, 1.5), day_of(NOON_S + DAY_S): Used(1, 10, 5, 0.0)}


def test_logs_of_older_versions_which_do_not_say_when_are_read_and_not_counted():
    assert by_day([{"kind": "round", "round": 1, "bytes_sent": 10}, {"kind": "warning", "round": 1}]) == {}


def test_a_table_has_one_federation_or_all():
    store = kept(("a", [NOON_S]), (None, [NOON_S, NOON_S]))
    assert [(row["federation"], row["rounds"]) for row in table(store)] == [("a", 1), ("default", 2)]
    assert [row["run"] for row in table(store, "a")] == ["run0"]


def test_what_is_told_and_what_was_read_add_up_and_a_new_day_begins_at_nothing():
    clock = itertools.chain([NOON_S] * 3, itertools.repeat(NOON_S + DAY_S))
    today = Today(kept(("a", [NOON_S, NOON_S - DAY_S]), ("b", [NOON_S])), lambda: next(clock))
    assert today.used("a") == Used(1, 10, 5, 2.0)
    today.tell("a", round_event(2, NOON_S))
    assert today.used("a").rounds == 2
    assert today.used("b").rounds == 1
    assert today.used("a") == Used()


def test_each_quota_is_over_once_it_is_used_up():
    today = Today(kept(("a", [NOON_S, NOON_S])), lambda: NOON_S)
    for most, limit in (("rounds_per_day", 2), ("bytes_per_day", 30), ("node_seconds_per_day", 4.0)):
        assert "of its" in why_over(Federation(name="a", **{most: limit}), today)
        assert why_over(Federation(name="a", **{most: limit + 1}), today) is None
    assert why_over(Federation(name="a"), today) is None
