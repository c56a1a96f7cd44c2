"""The chain of a log: whatever is changed in it is seen."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import umbel as fl
from umbel.stores import MemoryStore, RunInfo, SQLiteStore, link

RUN = "a-run"


def logged(count=8):
    store = MemoryStore()
    store.create(RunInfo(RUN, "", 0.0, "running", {}))
    for number in range(count):
        store.append(
            RUN, {"kind": "round", "round": number, "loss": 1 / (number + 1), "failures": [["é", "no\nanswer"]]}
        )
    return store.log(RUN)


def test_a_log_that_nobody_touched_is_unbroken():
    verdict = link.verify(RUN, logged())
    assert (verdict.events, verdict.unlinked, verdict.problem) == (8, 0, None)


def changed(events, place):
    events[place]["loss"] += 1e-12


def removed(events, place):
    del events[place]


def swapped(events, place):
    events[place], events[place + 1] = events[place + 1], events[place]


def inserted(events, place):
    events.insert(place + 1, {"kind": "warning", "round": 0, "text": "nothing", "previous": link.digest(events[place])})


def unlinked(events, place):
    del events[place + 1]["previous"]


def repeated(events, place):
    events.insert(place, copy.deepcopy(events[place]))


@pytest.mark.parametrize("place", [0, 3, 6])
@pytest.mark.parametrize("tamper", [changed, removed, swapped, inserted, unlinked, repeated])
def test_whatever_is_changed_is_seen(tamper, place):
    events = logged()
    tamper(events, place)
    assert "changed, removed or put in" in link.verify(RUN, events).problem


@pytest.mark.parametrize("length", [0, 4, 7])
def test_a_log_that_was_cut_off_lacks_a_digest_that_was_kept(length):
    events = logged()
    head = link.verify(RUN, events).head
    assert link.verify(RUN, events, head=head).problem is None
    assert "cut off" in link.verify(RUN, events[:length], head=head).problem


def test_the_last_events_change_is_seen_by_who_kept_its_digest():
    events = logged()
    head = link.verify(RUN, events).head
    changed(events, -1)
    assert link.verify(RUN, events).problem is None
    assert link.verify(RUN, events, head=head).problem is not None


def test_a_log_of_another_run_is_none_of_this():
    assert link.verify("another", logged()).problem is not None


def test_what_an_earlier_version_wrote_is_counted_and_linked_to():
    store = MemoryStore()
    store.create(RunInfo(RUN, "", 0.0, "running", {}))
    old = [{"kind": "begun", "round": 0}, {"kind": "round", "round": 1}]
    store._events[RUN] = [link.canonical(event) for event in old]
    store._heads[RUN] = link.digest(old[-1])
    store.append(RUN, {"kind": "round", "round": 2})
    events = store.events(RUN)
    assert (link.verify(RUN, events).unlinked, link.verify(RUN, events).problem) == (2, None)
    events[1]["round"] = 7
    assert link.verify(RUN, events).problem is not None


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None, max_examples=100)
@given(events=st.lists(st.dictionaries(st.text(max_size=5).filter(lambda key: key != "round"), PLAIN), max_size=4))
def test_any_plain_event_keeps_its_digest_through_a_file(tmp_path_factory, events):
    store = SQLiteStore(tmp_path_factory.mktemp("link") / "runs.db")
    store.create(RunInfo(RUN, "", 0.0, "running", {}))
    for event in events:
        store.append(RUN, event)
    assert link.verify(RUN, store.events(RUN)).problem is None
    store.close()


class Still(fl.NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}


def test_a_run_that_was_resumed_has_an_unbroken_log_and_the_digests_of_its_models(tmp_path):
    def run(rounds, **more):
        config = fl.ServerConfig(num_rounds=rounds, seed=1)
        path = tmp_path / "runs.db"
        return fl.simulate(
            lambda context: Still(), 3, config=config, initial_parameters=[[1.0]], store=path, engine="serial", **more
        )

    first = run(2)
    second = run(4, resume=first.run)
    store = SQLiteStore(tmp_path / "runs.db")
    events = store.events(first.run)
    store.close()
    assert link.verify(first.run, events).problem is None
    models = [event["model"] for event in events if event["kind"] == "round" and event["round"]]
    assert models == [second.parameters.digest] * 4


def test_the_file_works_by_itself(tmp_path):
    events = logged()
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps({"run": RUN, **event}) + "\n" for event in events))
    alone = tmp_path / "link.py"
    alone.write_text(Path(link.__file__).read_text())

    def ended(*arguments):
        return subprocess.run([sys.executable, "-I", "-S", alone, *arguments], capture_output=True, text=True)

    fine = ended(RUN, log)
    assert (fine.returncode, fine.stdout.split(",")[0]) == (0, "8 events")
    assert ended(RUN, log, link.verify(RUN, events).head).returncode == 0
    assert ended(RUN, log, "0" * 64).returncode == 1
    assert ended("another", log).returncode == 1
    assert ended().returncode == 2
