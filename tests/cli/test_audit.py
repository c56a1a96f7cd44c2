"""`umbel audit`: a log that was touched is found, and one that was cut off."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from umbel.stores import link


@pytest.fixture
def ran(here, app):
    return json.loads(here("run", "means", "--json", "--engine", "serial", "--name", "one").out.splitlines()[-1])["run"]


def store_of(folder):
    return next(folder.rglob("*.db"))


def test_a_log_that_nobody_touched_is_unbroken(here, ran):
    found = json.loads(here("audit", "verify", ran, "--json").out)
    assert (found["run"], found["events"], found["problem"]) == (ran, 6, None)
    assert "6 events, unbroken" in here("audit", "verify").out
    assert here("audit", "verify", "last", "--head", found["head"]).code == 0


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE events SET body=replace(body, '\"loss\":', '\"loss\":1') WHERE number=2",
        "DELETE FROM events WHERE number=3",
        "UPDATE events SET number=number+100 WHERE number=2",
    ],
)
def test_a_changed_removed_or_moved_event_is_found(here, ran, tmp_path, change):
    with sqlite3.connect(store_of(tmp_path)) as db:
        assert db.execute(change).rowcount == 1
    result = here("audit", "verify", ran)
    assert (result.code, "changed, removed or put in" in result.out) == (1, True)


def test_a_log_that_was_cut_off_is_found_by_who_kept_a_digest(here, ran, tmp_path):
    head = json.loads(here("audit", "verify", ran, "--json").out)["head"]
    with sqlite3.connect(store_of(tmp_path)) as db:
        db.execute("DELETE FROM events WHERE number=(SELECT max(number) FROM events)")
    assert here("audit", "verify", ran).code == 0
    result = here("audit", "verify", ran, "--head", head)
    assert (result.code, "the log was cut off" in result.out) == (1, True)


def test_an_auditor_needs_one_file_and_python(here, ran, tmp_path):
    log = tmp_path / "log.jsonl"
    assert "6 events" in here("audit", "export", ran, str(log)).out
    ended = subprocess.run([sys.executable, "-I", "-S", Path(link.__file__), ran, log], capture_output=True, text=True)
    assert (ended.returncode, "6 events, unbroken" in ended.stdout) == (0, True)
    assert here("audit", "export", ran, str(log)).code == 2


@pytest.mark.parametrize("head", ["", "12", "G" * 64])
def test_a_head_that_is_no_digest_is_refused(here, ran, head):
    result = here("audit", "verify", ran, "--head", head)
    assert (result.code, "64 digits" in result.err) == (2, True)


def test_a_run_that_is_not_there_is_said(here, ran):
    assert here("audit", "verify", "nobody").code == 2


def test_a_log_is_signed_by_the_key_beside_its_store(here, ran, tmp_path):
    assert "the first 5 are signed by the key in log.key beside the store" in here("audit", "verify").out
    found = json.loads(here("audit", "verify", "--json").out)
    assert (found["tree_heads"], found["covered"]) == (1, 5)
    other = here("audit", "verify", "--key", "0" * 64)
    assert (other.code, "not by the one that is trusted" in other.out) == (1, True)
    store_of(tmp_path).with_name("log.key").unlink()
    assert "a key that nobody here knows" in here("audit", "verify").out


def test_who_wants_a_signature_is_not_content_without_one(here, ran, tmp_path):
    with sqlite3.connect(store_of(tmp_path)) as db:
        db.execute("DELETE FROM events WHERE number=(SELECT max(number) FROM events)")
    assert here("audit", "verify").code == 0
    assert "nothing in it is signed" in here("audit", "verify").out
    assert here("audit", "verify", "--key", "0" * 64).code == 1


def test_a_tree_head_that_was_kept_must_still_be_in_the_log(here, ran, tmp_path):
    assert here("audit", "export", ran, "log.jsonl").code == 0
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    (tmp_path / "seen.json").write_text(lines[-1])
    assert here("audit", "verify", "--seen", "seen.json").code == 0
    with sqlite3.connect(store_of(tmp_path)) as db:
        db.execute("DELETE FROM events WHERE number>3")
    result = here("audit", "verify", "--seen", "seen.json")
    assert (result.code, "cut off" in result.out) == (1, True)


@pytest.mark.parametrize(
    ("words", "piece"),
    [
        (["--key", "12"], "64 digits"),
        (["--ca", "nowhere.crt"], "cannot be read"),
        (["--ca", "means/pyproject.toml"], "no certificate"),
        (["--key", "0" * 64, "--ca", "x"], "take one"),
        (["--seen", "nowhere.json"], "cannot be read"),
        (["--seen", "means/pyproject.toml"], "no tree head, receipt or proof"),
    ],
)
def test_what_is_no_key_ca_or_statement_is_refused(here, ran, words, piece):
    result = here("audit", "verify", *words)
    assert (result.code, piece in result.err) == (2, True)
