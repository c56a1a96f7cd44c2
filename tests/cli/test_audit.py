"""`umbel audit`: a log that was touched is found, and one that was cut off."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from umbel.audit.key import key_beside
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
    store_of(tmp_path).with_name("log.key").unlink()
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
    unknown = here("audit", "verify").out
    assert "a key that nobody here knows, which anybody may have made; give --key or --ca" in unknown


def test_who_wants_a_signature_is_not_content_without_one(here, ran, tmp_path):
    with sqlite3.connect(store_of(tmp_path)) as db:
        db.execute("DELETE FROM events WHERE number=(SELECT max(number) FROM events)")
    store_of(tmp_path).with_name("log.key").unlink()
    unknown = here("audit", "verify")
    assert (unknown.code, "nothing in it is signed, and no key is known here" in unknown.out) == (0, True)
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
        (["--seen", "means/pyproject.toml"], "no tree head, receipt, proof or report"),
    ],
)
def test_what_is_no_key_ca_or_statement_is_refused(here, ran, words, piece):
    result = here("audit", "verify", *words)
    assert (result.code, piece in result.err) == (2, True)


def test_replay_says_what_fits_and_what_was_not_compared(here, ran, tmp_path):
    told = here("audit", "replay")
    assert (told.code, "all that was compared fits" in told.out) == (0, True)
    assert "not compared: the server's steps" in told.out
    with sqlite3.connect(store_of(tmp_path)) as db:
        assert db.execute("UPDATE checkpoints SET body=zeroblob(64) WHERE round=3 AND part=0").rowcount == 1
    broken = here("audit", "replay", "--json")
    assert (broken.code, json.loads(broken.out)["problems"]) == (1, ["the checkpoint of round 3 cannot be read"])


def test_a_simulation_has_nothing_to_prove_of_a_node(here, ran):
    result = here("audit", "prove", "--node", "0")
    assert result.code == 1
    assert "the log lists no answer of 0; it lists those of real nodes only" in result.err


def two_stories(folder):
    """The last tree head of the run, and another one of the same size by the same key."""
    lines = (folder / "log.jsonl").read_text().splitlines()
    told = json.loads(lines[-1])
    key = key_beside(store_of(folder).parent)
    other = {**told, "root": "0" * 64}
    other["signature"] = key.sign(link.signed_bytes(other))
    return key.public, lines[-1], json.dumps(other)


def test_two_tree_heads_of_one_size_with_different_roots_are_shown(here, ran, tmp_path):
    here("audit", "export", ran, "log.jsonl")
    key, first, second = two_stories(tmp_path)
    (tmp_path / "mine.json").write_text(first)
    (tmp_path / "yours.json").write_text(second)
    fine = here("audit", "check", "mine.json", "--key", key)
    assert (fine.code, "signed by the key that --key names" in fine.out) == (0, True)
    assert here("audit", "check", "yours.json", "--key", key).code == 0
    shown = here("audit", "check", "mine.json", "yours.json", "--key", key)
    assert (shown.code, "two stories were told of the first 5 events" in shown.out) == (1, True)
    assert here("audit", "check", "mine.json", "mine.json", "--key", key).code == 0
    assert here("audit", "verify", "--seen", "yours.json").code == 1


def test_a_statement_that_somebody_else_signed_is_none(here, ran, tmp_path):
    here("audit", "export", ran, "log.jsonl")
    (tmp_path / "mine.json").write_text((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    known = here("audit", "check", "mine.json")
    assert (known.code, "signed by the key in log.key beside the store" in known.out) == (0, True)
    unknown = here("audit", "check", "mine.json", "--store", "elsewhere/runs.db")
    assert (unknown.code, "a key that nobody here knows" in unknown.out) == (0, True)
    result = here("audit", "check", "mine.json", "--key", "0" * 64, "--json")
    assert (result.code, "not by the one" in json.loads(result.out)["problem"]) == (1, True)
