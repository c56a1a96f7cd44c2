"""A cohort in columns says what one object for each client would say."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from umbel.arrays import Arrays
from umbel.cohort import Asks, Done, Receipts, clients_of, joined
from umbel.coordinators import Everyone, Rounds, ServerConfig
from umbel.message import Ask, Receipt, Task

TASK = Task(3, Arrays.of([np.zeros(2)]))
ASKS = Asks(("4", "0", "7"), "fit", TASK, 1)


def test_asks_in_columns_are_the_asks():
    each = [Ask(client, "fit", TASK, attempt=1) for client in ("4", "0", "7")]
    assert list(ASKS) == each
    assert ASKS[1] == each[1]
    assert list(ASKS[1:]) == each[1:]
    assert list(clients_of(ASKS)) == list(clients_of(each)) == ["4", "0", "7"]


def test_parts_are_joined_in_their_order():
    together = joined([ASKS[2:], ASKS[:2]])
    assert isinstance(together, Asks)
    assert list(together) == [ASKS[2], ASKS[0], ASKS[1]]
    assert joined([ASKS[2:], [ASKS[0]]]) == [ASKS[2], ASKS[0]]


def receipts() -> Receipts:
    some = Receipts([Receipt("9", 3, 1, "failed", reason="no"), Receipt("1", 3, 1, "done", 5.0, 2, seconds=0.5)])
    some.add(Done(["4", "0"], 3, 1, [6.0, 7.0], [1, 2], 0.25))
    return some


@pytest.mark.parametrize("made", [receipts, lambda: pickle.loads(pickle.dumps(receipts()))], ids=["made", "sent"])
def test_receipts_in_columns_are_the_receipts(made):
    some = made()
    assert list(some)[2:] == [
        Receipt(c, 3, 1, "done", e, s, seconds=0.25) for c, e, s in (("4", 6.0, 1), ("0", 7.0, 2))
    ]
    assert (len(some), some.done, some.clients()) == (4, 3, ["9", "1", "4", "0"])
    assert [receipt.client for receipt in some.failures()] == ["9"]
    assert some.steps() == [("1", 2), ("4", 1), ("0", 2)]
    assert {client: seconds for clients, seconds in some.seconds() for client in clients} == {
        "9": 0.0,
        "1": 0.5,
        "4": 0.25,
        "0": 0.25,
    }


def test_absorbed_receipts_follow_those_that_were_there():
    some, more = receipts(), receipts()
    some.absorb(more)
    assert list(some) == [*receipts(), *more]
    assert some.done == 6


@given(st.lists(st.booleans(), min_size=4, max_size=4), st.floats(0, 0.9), st.permutations(range(4)))
def test_a_cohort_that_answers_at_once_is_taken_as_one_by_one(succeeds, over_selection, arrival):
    config = ServerConfig(fraction_fit=0.4, over_selection=over_selection, seed=5, round_retries=1)
    marks = []
    for at_once in (True, False):
        rounds = Rounds(config, Everyone(10))
        phase = rounds.begin()
        answers = [
            Receipt(c, 1, 0, "done" if good else "failed") for c, good in zip(phase.clients, succeeds, strict=True)
        ]
        order = {client: place for place, client in enumerate(phase.clients)}
        if at_once:
            instead = rounds.receipts(Receipts(answers[place] for place in arrival), order)
        else:
            instead = tuple(client for receipt in answers for client in rounds.receipt(receipt).ask)
        marks.append((instead, rounds.mark()))
    assert marks[0] == marks[1]
