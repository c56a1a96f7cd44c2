"""`check_store`: the laws that every store keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from umbel.errors import StoreError
from umbel.stores import RunInfo, Store
from umbel.stores.link import verify
from umbel.testing.expect import expect


def check_store(make: Callable[[], Store]) -> None:
    """Run the laws on an empty store.

    Args:
        make: gives an empty store.

    Raises:
        AssertionError: names the law that is broken.
    """
    store = make()
    expect(store.runs() == [], "a new store has runs in it")
    store.create(RunInfo("one", "first", 1.0, "running", {"a": [1, 2.5, "x", None]}))
    store.create(RunInfo("other", "second", 2.0, "running", {}))
    _refuses(lambda: store.create(RunInfo("one", "again", 3.0, "running", {})), "a second run with the same id")
    _refuses(lambda: store.events("nobody"), "events of an unknown run")
    expect([run.id for run in store.runs()] == ["one", "other"], "runs are not listed oldest first")
    expect(store.runs()[0].plan == {"a": [1, 2.5, "x", None]}, "a plan came back changed")
    store.set_status("one", "finished")
    expect(store.runs()[0].status == "finished", "a status was not kept")
    store.set_plan("other", {"b": 2})
    expect(store.runs()[1].plan == {"b": 2}, "a plan that was replaced is still the old one")
    _says_its_plan(store)
    store.claim("one")
    store.release("one")
    store.claim("one")
    store.release("one")
    found = store.find("o")
    expect(found is None, "an ambiguous prefix found a run")
    _keeps_rounds(store)
    _keeps_few_states(store)
    _links(store)
    _rewinds(store)
    store.append("one", {"kind": "ended", "round": 3})
    _links(store)
    store.close()


def _keeps_rounds(store: Store) -> None:
    store.append("one", {"kind": "begun", "round": 0})
    for number in range(1, 5):
        states = {"7": f"seven {number}".encode()} if number != 3 else {"8": b"eight"}
        event: dict[str, Any] = {"kind": "round", "round": number, "loss": 1 / number}
        parts = [b"part one ", memoryview(f"of {number}".encode())]
        store.commit("one", event, round=number, checkpoint=parts, states=states, keep={number - 1, 1})
    expect([e["round"] for e in store.events("one")] == [0, 1, 2, 3, 4], "events are not in order")
    expect(store.events("one")[1]["loss"] == 1.0, "an event came back changed")
    expect(store.events("other") == [], "an event is in another run's log")
    expect(store.checkpoints("one") == [1, 3, 4], f"kept {store.checkpoints('one')}, wanted 1, 3 and 4")
    expect(store.checkpoint("one", 4) == b"part one of 4", "a checkpoint came back changed")
    _refuses(lambda: store.checkpoint("one", 2), "a checkpoint that was not kept")
    expect(store.state("one", "7", 4) == b"seven 4", "the newest state is wrong")
    expect(store.state("one", "7", 3) == b"seven 2", "a state as of an earlier round is wrong")
    expect(store.state("one", "7", 1) == b"seven 1", "a state that a kept checkpoint needs is gone")
    expect(store.state("one", "8", 2) is None, "a state is there before its round")
    expect(store.state("other", "7", 4) is None, "a state is in another run")
    store.commit("one", {"kind": "round", "round": 5}, round=5, checkpoint=None, states={}, keep=set())
    expect(store.checkpoints("one") == [1, 3, 4], "a commit without a checkpoint touched the others")


def _keeps_few_states(store: Store) -> None:
    for number in range(25):
        parts = [b"x"] if number % 6 < 3 else None
        states = {"7": f"seven {number}".encode()}
        keep = {*store.checkpoints("other")[-1:], 1}
        store.commit(
            "other", {"kind": "round", "round": number}, round=number, checkpoint=parts, states=states, keep=keep
        )
    kept = store.checkpoints("other")
    expect(kept == [1, 20, 24], f"kept {kept}, wanted 1, 20 and 24")
    for number in kept:
        there = store.state("other", "7", number)
        expect(there == f"seven {number}".encode(), "a state that a kept checkpoint needs is gone")
    seen = {state for number in range(25) if (state := store.state("other", "7", number)) is not None}
    expect(len(seen) == len(kept), f"{len(seen)} states of a client are kept for {len(kept)} checkpoints")
    for number in (25, 26):
        states = {"7": f"seven {number}".encode()}
        store.commit("other", {"kind": "round", "round": number}, round=number, checkpoint=None, states=states, keep=())
    expect(store.state("other", "7", 25) != b"seven 25", "an older state after the newest checkpoint is kept")
    expect(store.state("other", "7", 26) == b"seven 26", "the newest state is wrong")


def _says_its_plan(store: Store) -> None:
    store.create(RunInfo("third", "of another plan", 3.0, "running", {"a": 1}))
    store.set_plan("third", {"a": 2}, {"kind": "plan", "round": 0})
    expect(store.runs()[2].plan == {"a": 2}, "a plan that was replaced with an event is still the old one")
    expect([e["kind"] for e in store.log("third")] == ["plan"], "the event of a plan that was replaced is not there")


def _links(store: Store) -> None:
    problem = verify("one", store.log("one")).problem
    expect(problem is None, f"the log's chain is broken: {problem}")


def _rewinds(store: Store) -> None:
    store.append("one", {"kind": "warning", "round": 0, "text": "of nobody's round"})
    before = store.log("one")
    store.rewind("one", 3)
    expect(store.log("one")[: len(before)] == before, "rewind changed what the log says")
    expect(store.log("one")[len(before) :][0]["kind"] == "rewound", "the log does not say that it was rewound")
    expect([e["round"] for e in store.events("one")] == [0, 1, 2, 3], "rewind left later events")
    store.rewind("one", 3)
    expect(len(store.log("one")) == len(before) + 1, "a second rewind to the same place is noted again")
    expect(store.checkpoints("one") == [1, 3], "rewind left later checkpoints")
    expect(store.state("one", "7", 9) == b"seven 2", "rewind left later states")


def _refuses(action: Callable[[], Any], what: str) -> None:
    try:
        action()
    except StoreError:
        return
    raise AssertionError(f"{what} is no StoreError")
