"""`umbel audit` on a store that somebody has changed: what nobody wrote is found, and said in a sentence."""

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from umbel.audit.contribution import Contribution
from umbel.audit.key import key_beside
from umbel.audit.notary import Notary
from umbel.stores import SQLiteStore, link

STORE = Path(".umbel", "runs.db")
FIXTURES = Path(__file__).parents[1] / "fixtures"


@pytest.fixture
def ran(here, app):
    return json.loads(here("run", "means", "--json", "--engine", "serial").out.splitlines()[-1])["run"]


def change(folder, *statements):
    with sqlite3.connect(folder / STORE) as db:
        for text, *values in statements:
            assert db.execute(text, values).rowcount > 0


def log_of(folder):
    store = SQLiteStore(folder / STORE)
    try:
        [info] = store.runs()
        return info, store.log(info.id)
    finally:
        store.close()


def rewrite(folder, events, *, chained=True):
    """Put these in the place of the run's log, each named by the next one; nothing is signed again."""
    info, _ = log_of(folder)
    last, rows = link.opening(info.id), []
    for event in events:
        bare = {key: value for key, value in event.items() if key != link.LINK}
        event = link.linked(bare, last) if chained else bare
        last = link.digest(event)
        rows.append((info.id, event.get("round", 0), link.canonical(event).decode()))
    with sqlite3.connect(folder / STORE) as db:
        db.execute("DELETE FROM events")
        db.executemany("INSERT INTO events (run, round, body) VALUES (?,?,?)", rows)


# The plan


def other_plan(folder):
    info, _ = log_of(folder)
    plan = {**info.plan, "config": {**info.plan["config"], "num_rounds": 3, "fraction_fit": 0.4999}}
    change(folder, ("UPDATE runs SET plan=?", json.dumps(plan)))


def test_a_plan_that_is_not_the_one_that_was_led_is_found(here, ran, tmp_path):
    assert "its plan is the one that the log names" in here("audit", "verify").out
    assert "compared: the plan, by its digest in the log: 1" in here("audit", "replay").out
    other_plan(tmp_path)
    for command in ("verify", "replay"):
        found = here("audit", command)
        assert (found.code, "the run was led by another plan than this one" in found.out) == (1, True)


def test_a_run_that_goes_on_with_more_rounds_names_its_new_plan_and_is_signed(here, ran, tmp_path):
    assert here("resume", ran, "--set", "num_rounds=4").code == 0
    info, events = log_of(tmp_path)
    named = [event["plan"] for event in events if "plan" in event]
    assert [event["kind"] for event in events if "plan" in event] == ["begun", "plan"]
    assert named[0] != named[1] == link.plan_digest(info.plan)
    assert here("audit", "verify").code == 0
    change(tmp_path, ("UPDATE runs SET plan=?", json.dumps({**info.plan, "threads": 7})))
    assert here("audit", "verify").code == 1


def test_a_log_of_an_earlier_version_is_read_and_that_it_names_no_plan_is_said(here, tmp_path, app):
    (tmp_path / ".umbel").mkdir()
    shutil.copy(FIXTURES / "store-1.sqlite", tmp_path / STORE)
    told = here("audit", "verify")
    assert (told.code, "its plan is in no event, as an earlier version wrote them" in told.out) == (0, True)
    told = here("audit", "replay")
    assert (told.code, "not compared: the plan: it is in no event" in told.out) == (0, True)


# A log that was written anew


def without_heads(events):
    return [event for event in events if event["kind"] != "tree_head"]


@pytest.mark.parametrize(
    ("tamper", "says"),
    [
        (lambda folder, events: rewrite(folder, without_heads(events)), "nothing in its log is signed"),
        (lambda folder, events: rewrite(folder, without_heads(events), chained=False), "nothing in its log is signed"),
        (lambda folder, events: rewrite(folder, events[:3]), "its end was cut off"),
        (lambda folder, events: rewrite(folder, []), "its end was cut off"),
        (lambda folder, events: rewrite(folder, [*events, events[1]]), "is signed up to event 5 only"),
    ],
)
def test_a_finished_log_that_is_not_signed_to_its_end_is_none(here, ran, tmp_path, tamper, says):
    tamper(tmp_path, log_of(tmp_path)[1])
    for command in ("verify", "replay"):
        found = here("audit", command)
        assert found.code == 1
        assert says in found.out
    key = key_beside(tmp_path / ".umbel").public
    (tmp_path / ".umbel" / "log.key").unlink()
    assert here("audit", "verify", "--key", key).code == 1


@pytest.mark.parametrize("status", ["failed", "interrupted"])
@pytest.mark.parametrize("length", [0, 3])
def test_so_is_that_of_a_run_that_broke_off(here, ran, tmp_path, status, length):
    change(tmp_path, ("UPDATE runs SET status=?", status))
    assert here("audit", "verify").code == 0
    rewrite(tmp_path, log_of(tmp_path)[1][:length])
    found = here("audit", "verify")
    assert (found.code, f"the run is {status}, and its log" in found.out) == (1, True)


def test_a_run_that_is_under_way_may_be_unsigned_yet(here, ran, tmp_path):
    change(tmp_path, ("UPDATE runs SET status='running'",))
    rewrite(tmp_path, log_of(tmp_path)[1][:3])
    found = here("audit", "verify")
    assert (found.code, "nothing in it is signed yet" in found.out) == (0, True)


def test_without_a_key_what_cannot_be_known_is_said(here, ran, tmp_path):
    rewrite(tmp_path, without_heads(log_of(tmp_path)[1]))
    (tmp_path / ".umbel" / "log.key").unlink()
    found = here("audit", "verify")
    assert (found.code, "no key is known here: all of it may have been written anew" in found.out) == (0, True)


# What was kept


def receipt_for(folder, run):
    """A receipt of another run of the same node's, and one that speaks of this run's log as it is."""
    info, events = log_of(folder)
    key = key_beside(folder / ".umbel")
    one = Contribution("ada", 1, 0, "0" * 64)
    stand = Notary(info.id, key, events).stand()
    [receipt] = Notary(run, key, events).receipts([(0, "0" * 64, [one])]).values()
    return receipt.decode(), json.dumps({"kind": "tree_head", **stand})


def test_receipts_of_other_runs_are_skipped_and_counted(here, ran, tmp_path):
    other, own = receipt_for(tmp_path, "20260101-000000-abcdef")
    (tmp_path / "receipts.jsonl").write_text(f"{other}\n{own}\n{other}\n")
    found = here("audit", "verify", "--seen", "receipts.jsonl")
    assert (found.code, "that are in it: 1; 2 of other runs were skipped" in found.out) == (0, True)
    assert json.loads(here("audit", "verify", "--seen", "receipts.jsonl", "--json").out)["skipped"] == 2
    (tmp_path / "receipts.jsonl").write_text(f"{other}\n{own.replace(json.loads(own)['root'], '0' * 64)}\n")
    assert here("audit", "verify", "--seen", "receipts.jsonl").code == 1
    (tmp_path / "receipts.jsonl").write_text(other)
    refused = here("audit", "verify", "--seen", "receipts.jsonl")
    assert (refused.code, f"holds nothing of run {ran}, only of 20260101" in refused.err) == (2, True)


# Broken bytes

BROKEN = "UPDATE events SET body=? WHERE number=2"


@pytest.mark.parametrize("command", [("audit", "verify"), ("audit", "replay"), ("show", "last"), ("privacy", "last")])
@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("{", "is no JSON"),
        ("[1, 2]", "is no JSON object"),
        ("{}", "does not say its kind"),
        ('{"kind": 7, "round": 0}', "does not say its kind"),
        ('{"kind": "round", "round": "one"}', "has the round 'one', which is no whole number"),
        ("[" * 100_000, "is no JSON"),
        (b"\xff\x00", "is no JSON"),
    ],
)
def test_an_event_that_is_none_is_named(here, ran, tmp_path, command, body, says):
    change(tmp_path, (BROKEN, body))
    found = here(*command)
    assert (found.code, len(found.err.splitlines())) == (4, 1)
    assert f"event 2 of run {ran} {says}" in found.err


@pytest.mark.parametrize("command", [("audit", "verify"), ("audit", "replay"), ("show", "last"), ("privacy", "last")])
@pytest.mark.parametrize("plan", ["{", "[]", "7"])
def test_a_plan_that_is_none_is_named(here, ran, tmp_path, command, plan):
    change(tmp_path, ("UPDATE runs SET plan=?", plan))
    found = here(*command)
    assert (found.code, f"the plan of run {ran} is no JSON" in found.err) == (4, True)


@pytest.mark.parametrize("command", [("audit", "replay"), ("show", "last"), ("privacy", "last"), ("ls",)])
@pytest.mark.parametrize(
    "body",
    [
        {"kind": "round", "round": 1, "failures": [[1, 2, 3]]},
        {"kind": "round", "round": 1, "metrics": 7, "clients": 7, "loss": "much"},
        {"kind": "ended", "round": 1},
        {"kind": "ended", "round": 1, "reason": ["finished"]},
        {"kind": "release", "round": 1},
        {"kind": "warning", "round": 1, "text": {}},
    ],
)
def test_an_event_of_another_shape_is_a_sentence(here, ran, tmp_path, command, body):
    change(tmp_path, (BROKEN, json.dumps(body)))
    found = here(*command)
    assert found.code in (0, 1, 4)
    assert "umbel --traceback" not in found.err, found.err
    if "reason" not in body and body["kind"] in ("ended", "release") and command[0] in ("show", "ls"):
        assert f"event 2 of run {ran} is not what was written" in found.err


@pytest.mark.parametrize("command", [("audit", "verify"), ("audit", "replay"), ("show", "last"), ("privacy", "last")])
def test_a_plan_of_another_shape_is_a_sentence(here, ran, tmp_path, command):
    change(tmp_path, ("UPDATE runs SET plan=?", '{"config": 7}'))
    found = here(*command)
    assert found.code != 0
    assert "umbel --traceback" not in found.err, found.err


# For an auditor without Umbel


def test_an_auditor_compares_the_plan_too(here, ran, tmp_path):
    told = here("audit", "export", ran, "log.jsonl", "--plan", "plan.json")
    assert (told.code, "plan.json: its plan" in told.out) == (0, True)
    assert here("audit", "export", ran, "other.jsonl", "--plan", "plan.json").code == 2

    def ended():
        words = [sys.executable, "-I", "-S", link.__file__, ran, "log.jsonl", "--plan", "plan.json"]
        return subprocess.run(words, capture_output=True, text=True, cwd=tmp_path)

    fine = ended()
    assert (fine.returncode, "the plan is the one that the log names" in fine.stdout) == (0, True)
    plan = json.loads((tmp_path / "plan.json").read_text())
    (tmp_path / "plan.json").write_text(json.dumps({**plan, "num_clients": 5}))
    wrong = ended()
    assert (wrong.returncode, "another plan than this one" in wrong.stdout, wrong.stderr) == (1, True, "")
