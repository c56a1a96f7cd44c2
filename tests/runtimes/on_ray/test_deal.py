"""Who gets how much: paces fitted to calls, shares that end together, calls of falling size."""

import pytest

pytest.importorskip("ray", reason="ray is not installed")

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from umbel.arrays import Arrays
from umbel.message import Ask, Receipt, Task
from umbel.runtimes.ray.deal import Deal
from umbel.runtimes.ray.experience import Experience
from umbel.runtimes.ray.node import Node
from umbel.runtimes.ray.pace import Pace, fitted, shares

TASK = Task(1, Arrays.of([np.zeros(1)]))
positive = st.floats(0.01, 100)


def asks(count):
    return [Ask(str(client), "fit", TASK) for client in range(count)]


def node(name, workers=1):
    return Node(name, name, workers, actor=None, starting=None)


@given(st.floats(0, 10), positive, st.lists(st.floats(1, 1000), min_size=2, max_size=32, unique=True))
def test_a_line_through_calls_is_found_again(a, b, works):
    if max(works) - min(works) < 1:
        return
    pace = fitted([(n, a + b * n) for n in works])
    assert pace.a_s == pytest.approx(a, rel=1e-3, abs=1e-3)
    assert pace.b_s == pytest.approx(b, rel=1e-3)


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0.001, 100)), min_size=1, max_size=9))
def test_no_cost_is_negative_whatever_calls_took(calls):
    pace = fitted(calls)
    assert pace.a_s >= 0
    assert pace.b_s > 0


@given(
    st.dictionaries(st.text(max_size=3), st.builds(Pace, st.floats(0, 10), positive), min_size=1, max_size=9), positive
)
def test_shares_add_up_and_all_who_take_part_end_together(paces, work):
    parts = shares(paces, work)
    ends = [paces[name].a_s + paces[name].b_s * part for name, part in parts.items() if part > 0]
    assert sum(parts.values()) == pytest.approx(work, rel=1e-6)
    assert min(parts.values()) >= 0
    assert max(ends) == pytest.approx(min(ends), rel=1e-6)
    idle = [paces[name].a_s for name, part in parts.items() if part == 0]
    assert all(a >= max(ends) * (1 - 1e-9) for a in idle)


def played(paces, true, count, workers=2):
    """Simulated time at which all is done, and the calls of each node, where nodes are as fast as `true` says."""
    deal = Deal((ask, 1.0) for ask in asks(count))
    free = dict.fromkeys(paces, 0.0)
    calls = {name: [] for name in paces}
    while deal:
        name = min(free, key=lambda name: free[name])
        call = deal.next(name, paces, workers)
        if not call:
            free[name] = float("inf")
            continue
        calls[name].append(len(call))
        free[name] += true[name].a_s + true[name].b_s * len(call)
    return max(end for end in free.values() if end < float("inf")), calls


def test_two_to_four_calls_of_falling_size_for_equal_nodes():
    paces = {name: Pace(0.5, 0.1) for name in "abcd"}
    end, calls = played(paces, paces, 400)
    for sizes in calls.values():
        assert 2 <= len(sizes) <= 4
        assert sizes == sorted(sizes, reverse=True)
    busy = sum(0.5 * len(sizes) + 0.1 * sum(sizes) for sizes in calls.values())
    assert end < 1.1 * busy / 4


def test_a_cluster_of_one_node_gets_four_calls_too():
    _, calls = played({"a": Pace(0.0, 1.0)}, {"a": Pace(0.0, 1.0)}, 400)
    assert calls == {"a": [220, 120, 30, 30]}


def test_calls_are_fewer_where_they_cost_more_than_the_work_in_them():
    paces = {name: Pace(1.0, 0.01) for name in "ab"}
    _, calls = played(paces, paces, 100)
    assert sorted(map(len, calls.values())) == [0, 1]


def test_a_node_ten_times_slower_than_thought_holds_up_no_more_than_its_first_call():
    paces = {name: Pace(0.0, 1.0) for name in "abcd"}
    true = {**paces, "d": Pace(0.0, 10.0)}
    _, calls = played(paces, true, 400)
    assert len(calls["d"]) == 1
    assert sum(map(sum, calls.values())) == 400


def test_everybody_is_asked_once_and_those_put_back_once_more_in_small_calls():
    deal = Deal((ask, 1.0) for ask in asks(20))
    back = deal.next("a", {"a": Pace(0.0, 1.0)}, 5)
    deal.put_back(back, most=2)
    first = {ask.client for ask, _ in back}
    calls = []
    while deal:
        calls.append([ask.client for ask, _ in deal.next("a", {"a": Pace(0.0, 1.0)}, 5)])
    assert sorted((client for call in calls for client in call), key=int) == [ask.client for ask in asks(20)]
    assert all(len(call) <= 2 for call in calls if first & set(call))
    assert max(map(len, calls)) > 2


def test_a_new_node_is_taken_to_be_as_fast_as_the_others_worker_for_worker():
    known = Experience()
    for work in (10, 20, 40):
        known.played("old", "fit", work, 1 + work / 4)
    paces = known.paces("fit", [node("old", workers=4), node("new", workers=2)])
    assert paces["old"].b_s == pytest.approx(0.25)
    assert paces["new"].b_s == pytest.approx(0.5)
    assert known.paces("evaluate", [node("old", workers=4)])["old"] == Pace(0.0, 0.25)


def test_clients_with_more_examples_are_more_work_and_go_first():
    known = Experience()
    known.learn([Receipt(str(client), 1, 0, "done", examples=client) for client in (1, 2, 3)])
    works = {ask.client: work for ask, work in known.works(asks(4))}
    assert works == {"0": 1.0, "1": 0.5, "2": 1.0, "3": 1.5}
    call = Deal(known.works(asks(4))).next("a", {"a": Pace(0.0, 1.0)}, 1)
    assert call[0][0].client == "3"
