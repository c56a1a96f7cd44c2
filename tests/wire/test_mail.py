"""Asks and answers come back as they were, and what is odd in them is named."""

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fuzz.targets import ANSWER, LETTER, MODEL, TASK
from umbel.arrays import Arrays
from umbel.errors import ProtocolError, printable
from umbel.message import Ask, Evaluation, Group, Update
from umbel.runtimes.mail import (
    KINDS,
    VERDICTS,
    Answer,
    read_answer,
    read_basis,
    read_letter,
    write_answer,
    write_basis,
    write_letter,
)
from umbel.wire import pack, unpack

names = st.text(max_size=20)
keys = st.text(max_size=6).filter(lambda key: not key.startswith("$"))
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.binary() | names
plain = st.recursive(scalars, lambda x: st.lists(x, max_size=3) | st.dictionaries(keys, x, max_size=3), max_leaves=8)
tables = st.dictionaries(keys, plain, max_size=4)
small = st.integers(0, 2**32 - 1)
amounts = st.floats(allow_nan=False)
updates = st.builds(
    Update,
    st.dictionaries(keys, st.builds(Group, st.just(MODEL), amounts), max_size=3),
    amounts,
    st.integers(0, 2**53 - 1),
    tables,
)
answers = st.builds(
    Answer,
    names,
    small,
    small,
    st.sampled_from(KINDS),
    names,
    st.sampled_from(VERDICTS),
    names,
    amounts,
    st.booleans(),
    st.lists(names, max_size=3).map(tuple),
    st.none() | updates,
    st.none(),
    tables,
)


def sent(parts) -> memoryview:
    return memoryview(b"".join(parts))


@given(answers)
def test_an_answer_comes_back_with_sentences_that_cannot_move_a_cursor(answer):
    said = dataclasses.replace(
        answer, reason=printable(answer.reason), warnings=tuple(printable(text) for text in answer.warnings)
    )
    assert read_answer(sent(write_answer(answer))) == said


@given(st.builds(Evaluation, amounts, amounts, tables))
def test_an_evaluation_comes_back(judged):
    answer = Answer("r", 1, 0, "evaluate", "c", evaluation=judged)
    assert read_answer(sent(write_answer(answer))) == answer


@given(
    run=names,
    client=names,
    kind=st.sampled_from(KINDS),
    own=tables,
    config=tables,
    shared=st.lists(names, max_size=3).map(tuple),
    place=st.tuples(small, small, small),
    key=st.integers(0, 2**128 - 1),
    basis=st.none() | st.tuples(small, small),
    left=st.floats(0),
)
def test_an_ask_comes_back(run, client, kind, own, config, shared, place, key, basis, left):
    task = dataclasses.replace(TASK, round=place[0], config=config, shared=shared)
    ask = Ask(client, kind, task, own, place[1], place[2], key)
    digests = {"": MODEL.digest, "control": MODEL.digest}
    letter = read_letter(sent(write_letter(run, ask, digests, basis, left)))
    assert (letter.run, letter.basis, letter.left_s) == (run, basis, left)
    assert letter.ask({MODEL.digest: MODEL}) == ask


def test_an_ask_without_a_deadline_leaves_for_ever():
    letter = read_letter(
        sent(
            write_letter("r", Ask("c", "fit", TASK, key=1), {"": MODEL.digest, "control": MODEL.digest}, None, math.inf)
        )
    )
    assert letter.left_s == math.inf


def test_own_data_may_have_arrays_in_them():
    ask = Ask("c", "fit", TASK, {"mask": np.arange(3), "start": MODEL}, key=1)
    letter = read_letter(sent(write_letter("r", ask, {"": MODEL.digest, "control": MODEL.digest}, None, 1.0)))
    assert letter.own["mask"].tolist() == [0, 1, 2]
    assert letter.own["start"] == MODEL


ODD = {
    "run": [5, None, "x" * 257, ["r"]],
    "round": [-1, 2**32, 1.0, True, "1"],
    "attempt": [-1, None],
    "phase": [-1, None],
    "kind": ["train", 3, None, ["fit"]],
    "client": [7, "c" * 257],
    "key": [b"short", 5, None, bytes(17)],
    "own": [None, [], "own"],
    "config": [None, [], {"lr": np.ones(1)}, {"a": {"b": MODEL}}],
    "shared": ["w", [1], None, {"w": 1}],
    "model": ["", "F" * 64, "0" * 63, 5, "0" * 64 + "0"],
    "extra": [[], {"control": "no"}, {"control": 5}],
    "basis": [[1], [1, 2, 3], "12", [1, -1], {"round": 1}],
    "left_s": [math.nan, -1.0, None, "1", True, 10**400],
}
ODD_ANSWER = {
    "run": [5],
    "round": [-1],
    "attempt": [2**32],
    "kind": ["other"],
    "client": [None],
    "verdict": ["fine", None],
    "reason": [5, "x" * 2001],
    "seconds": ["1", None],
    "has_state": [1, None],
    "warnings": ["text", [1], None],
    "facts": [[], {"a": MODEL}],
    "groups": [
        [],
        {"delta": 5},
        {"delta": {"weight": 1.0}},
        {"delta": {"arrays": MODEL}},
        {"d": {"arrays": 1, "weight": 1}},
    ],
    "examples": [None, "5", True],
    "steps": [-1, 1.5, 2**53],
    "metrics": [None, [], {"a": np.ones(2)}],
    "loss": [None, "low"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, odd in ODD.items() for value in odd])
def test_a_field_of_an_ask_that_is_odd_is_a_protocol_error(name, value):
    data = pack("ask", {**unpack("ask", LETTER), name: value})
    with pytest.raises(ProtocolError, match=r"ask|run the same Umbel"):
        read_letter(memoryview(data))


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, odd in ODD_ANSWER.items() for value in odd])
def test_a_field_of_an_answer_that_is_odd_is_a_protocol_error(name, value):
    data = pack("answer", {**unpack("answer", ANSWER), name: value})
    with pytest.raises(ProtocolError, match="answer"):
        read_answer(memoryview(data))


@pytest.mark.parametrize(
    ("kind", "data", "reader"), [("ask", LETTER, read_letter), ("answer", ANSWER, read_answer)], ids=["ask", "answer"]
)
def test_a_field_that_is_missing_is_named(kind, data, reader):
    tree = unpack(kind, data)
    for name in set(tree) - {"groups", "basis", "key"}:
        rest = {key: value for key, value in tree.items() if key != name}
        with pytest.raises(ProtocolError, match=f"lacks '{name}'"):
            reader(memoryview(pack(kind, rest)))


@given(name=st.sampled_from(sorted(unpack("answer", ANSWER))), value=plain | st.just(MODEL) | st.just(np.arange(2)))
def test_any_value_in_any_place_of_an_answer_is_taken_or_refused(name, value):
    data = pack("answer", {**unpack("answer", ANSWER), name: value})
    try:
        answer = read_answer(memoryview(data))
    except ProtocolError:
        return
    assert read_answer(sent(write_answer(answer))) == answer


@given(name=st.sampled_from(sorted(unpack("ask", LETTER))), value=plain | st.just(MODEL) | st.just(np.arange(2)))
def test_any_value_in_any_place_of_an_ask_is_taken_or_refused(name, value):
    data = pack("ask", {**unpack("ask", LETTER), name: value})
    try:
        letter = read_letter(memoryview(data))
    except ProtocolError:
        return
    assert [len(bytes.fromhex(digest)) for digest in letter.digests] == [32] * (1 + len(letter.extra))


def test_long_and_strange_sentences_are_made_to_fit():
    answer = Answer("r", 1, 0, "fit", "c", "failed", "no file \udcff " + "x" * 5000, warnings=("w" * 900,) * 30)
    back = read_answer(sent(write_answer(answer)))
    assert back.reason.startswith("no file ? x")
    assert len(back.reason) == 2000
    assert [len(text) for text in back.warnings] == [500] * 20


def test_arrays_of_an_answer_are_views_on_what_came():
    data = sent(write_answer(Answer("r", 1, 0, "fit", "c", update=Update({"delta": Group(MODEL, 1.0)}, 1.0))))
    arrays = read_answer(data).update.groups["delta"].arrays
    assert isinstance(arrays, Arrays)
    assert np.shares_memory(arrays.buffer, np.frombuffer(data, np.uint8))


def test_a_basis_comes_back():
    assert read_basis(write_basis(3, 1)) == (3, 1)
    assert read_basis(None) is None
