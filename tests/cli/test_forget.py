"""`umbel forget`: a new run without a client, a signed report, and nothing said that is not so."""

import json
import sqlite3
from pathlib import Path

import pytest

from .conftest import CLIENT, RUN, write_app

ALL = "fraction=1.0"


@pytest.fixture
def ran(here, app):
    assert here("run", "means", "--engine", "serial", "--set", ALL).code == 0
    return here


def test_the_new_run_is_that_of_an_app_without_the_client(ran, tmp_path):
    result = ran("forget", "last", "--node", "3", "--report", "report.json", "--json")
    assert (result.code, result.err) == (0, "")
    told = json.loads(result.out)
    assert told == json.loads((tmp_path / "report.json").read_text())
    assert (told["guarantee"], told["client"], told["rounds"]) == ("exact", "3", [1, 2, 3])
    shown = json.loads(ran("show", told["new_run"], "--json").out)
    assert shown["plan"]["without"] == ["3"]
    assert shown["plan"]["origin"] == {
        "run": told["run"],
        "round": 0 if told["from_round"] == 0 else -1,
        "as_it_was": True,
    }
    exported = json.loads(ran("export", told["new_run"], "without.safetensors", "--json").out)
    assert exported["digest"] == told["model"]


def test_people_are_told_what_was_reached_and_what_not(ran):
    result = ran("forget", "last", "--node", "3")
    assert result.code == 0
    for words in ("client 3: exact:", "umbel show", "checkpoints removed: rounds", "not reached: copies and backups"):
        assert words in result.out


def test_the_report_is_checked_by_the_command_that_checks_all_statements(ran, tmp_path):
    pytest.importorskip("cryptography")
    ran("forget", "last", "--node", "3", "--report", "report.json")
    from umbel.audit.key import key_beside

    key = key_beside(tmp_path / ".umbel").public
    result = ran("audit", "check", "report.json", "--key", key)
    assert result.code == 0
    assert "unlearning: client 3, guarantee: exact" in result.out
    told = json.loads((tmp_path / "report.json").read_text())
    assert ran("audit", "verify", told["run"], "--seen", "report.json").code == 0
    (tmp_path / "report.json").write_text(json.dumps({**told, "rounds": []}))
    assert ran("audit", "check", "report.json", "--key", key).code == 1


def test_both_runs_still_replay(ran, tmp_path):
    ran("forget", "last", "--node", "3", "--report", "report.json")
    told = json.loads((tmp_path / "report.json").read_text())
    for run in (told["run"], told["new_run"]):
        result = ran("audit", "replay", run)
        assert result.code == 0, result.out
    assert "compared: cohorts drawn from plan and seed" in ran("audit", "replay", told["new_run"]).out


def test_the_old_run_is_refused_afterwards_and_the_new_one_goes_on(ran, tmp_path):
    ran("forget", "last", "--node", "3", "--report", "report.json")
    told = json.loads((tmp_path / "report.json").read_text())
    refused = ran("resume", told["run"], "--set", "num_rounds=5")
    assert refused.code == 2
    assert f"go on with run {told['new_run']}" in refused.err
    longer = ran("resume", told["new_run"], "--set", "num_rounds=5", "--json")
    assert json.loads(longer.out.splitlines()[-1])["rounds"][-1]["participants"] == 3


def test_checkpoints_alone_can_be_removed_and_kept_ones_are_listed(ran, tmp_path):
    result = ran("forget", "last", "--node", "1", "--method", "remove", "--keep", "--report", "kept.json")
    assert "checkpoints kept, with something of it: rounds" in result.out
    assert ran("export", "last", "old.safetensors").code == 0
    ran("forget", "last", "--node", "1", "--method", "remove")
    assert ran("export", "last", "older.safetensors").code == 4


def test_approximate_says_that_nothing_is_proven(ran):
    result = ran("forget", "last", "--node", "3", "--method", "approximate", "--rounds", "1")
    assert (result.code, result.err) == (0, "")
    assert "approximate: none that is proven" in result.out
    assert "loss of client:" in result.out


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--node", "9"), 2, "there is no client '9'"),
        (("--node", "9", "--method", "remove"), 2, "there is no client '9'; the ids are '0' to '3'"),
        (("--node", "1", "--report", "nowhere/report.json"), 2, "cannot be written: No such file"),
        (("--node", "1", "--method", "remove", "--report", "nowhere/report.json"), 2, "name another place with"),
        (("--node", "1", "--report", f"{'x' * 300}.json"), 2, "cannot be written"),
        (("--node", "1", "--method", "hope"), 2, "'hope' is not one of"),
        (("--node", "1", "--rounds", "3"), 2, 'is for method="approximate"'),
        (("--node", "1", "--report", "."), 2, "is there already"),
        ((), 2, "Missing option '--node'"),
    ],
)
def test_bad_input_is_one_sentence_and_does_nothing(ran, words, code, says):
    before, kept = ran("ls", "--all", "--json").out, checkpoints(ran)
    result = ran("forget", "last", *words)
    assert (result.code, "Traceback" in result.err) == (code, False)
    assert says in result.err
    assert (ran("ls", "--all", "--json").out, checkpoints(ran)) == (before, kept)
    assert kept
    assert not list(Path().glob("*.json"))


def test_a_key_that_cannot_be_read_is_said_while_nothing_is_removed(ran, tmp_path):
    pytest.importorskip("cryptography")
    kept = checkpoints(ran)
    (tmp_path / ".umbel" / "log.key").write_text("no key at all")
    result = ran("forget", "last", "--node", "1", "--method", "remove")
    assert (result.code, "is no Ed25519 key" in result.err) == (2, True)
    assert checkpoints(ran) == kept != []


def test_of_two_that_are_forgotten_one_after_the_other_both_are_named(ran, tmp_path):
    ran("forget", "last", "--node", "1", "--report", "first.json")
    run = json.loads((tmp_path / "first.json").read_text())["run"]
    result = ran("forget", run, "--node", "3", "--report", "second.json")
    assert "it is without these, too: 1" in result.out
    told = json.loads((tmp_path / "second.json").read_text())
    assert told["also_without"] == ["1"]
    shown = json.loads(ran("show", told["new_run"], "--json").out)
    assert shown["plan"]["without"] == ["1", "3"]
    assert {one for event in rounds(told["new_run"]) for one, _ in event["clients"]} == {"0", "2"}


def rounds(run):
    from umbel.stores import SQLiteStore

    store = SQLiteStore(Path(".umbel/runs.db"))
    found = [event for event in store.log(run) if event["kind"] == "round"]
    store.close()
    return found


def test_the_last_client_is_refused_and_no_run_is_begun(here, tmp_path):
    write_app(tmp_path / "means", run=RUN.replace("num_clients=4", "num_clients=1"))
    assert here("run", "means", "--engine", "serial", "--set", ALL).code == 0
    before = here("ls", "--all", "--json").out
    result = here("forget", "last", "--node", "0")
    assert (result.code, "0 clients are left to train" in result.err) == (2, True)
    assert "method='remove'" in result.err
    assert here("ls", "--all", "--json").out == before


def test_with_the_default_folders_the_report_is_checked_with_the_key_that_signed_it(ran, tmp_path):
    pytest.importorskip("cryptography")
    ran("forget", "last", "--node", "3", "--report", "report.json")
    result = ran("audit", "check", "report.json")
    assert (result.code, "signed by the key in log.key beside the store" in result.out) == (0, True)
    assert "beside the store" in ran("audit", "check", "report.json", "--store", ".umbel/runs.db").out
    told = json.loads((tmp_path / "report.json").read_text())
    (tmp_path / "report.json").write_text(json.dumps({**told, "rounds": []}))
    result = ran("audit", "check", "report.json")
    assert (result.code, "has a signature that is not good" in result.out) == (1, True)


def test_a_secure_run_says_why_it_is_not_trained_again(here, tmp_path):
    pytest.importorskip("cryptography")
    write_app(tmp_path / "means", run=RUN.replace("initial_parameters", "coordinator=fl.Secure(), initial_parameters"))
    assert here("run", "means", "--engine", "serial", "--set", ALL).code == 0
    refused = here("forget", "last", "--node", "1")
    assert refused.code == 2
    assert "difference, which is that client's update" in refused.err
    assert here("forget", "last", "--node", "1", "--method", "remove").code == 0


@pytest.fixture
def led(ran, tmp_path):
    """A run as a server keeps it, whose plan says nothing of an engine."""
    as_led(tmp_path)
    return ran


def as_led(tmp_path):
    from umbel.stores import SQLiteStore

    store = SQLiteStore(tmp_path / ".umbel" / "runs.db")
    (info,) = store.runs()
    store.set_plan(info.id, {key: value for key, value in info.plan.items() if key != "engine"})
    store.close()


def test_a_run_over_real_nodes_is_not_trained_again_but_its_checkpoints_go(led):
    for words in (("forget", "last", "--node", "3"), ("contributions", "last")):
        refused = led(*words)
        assert refused.code == 2
        assert "led over real nodes, which would have to train again" in refused.err
    told = json.loads(led("forget", "last", "--node", "3", "--method", "remove", "--json").out)
    # The log says that the first model was nobody's.
    assert (told["guarantee"], told["first_round"], told["rounds"]) == ("removed", 1, [1, 2, 3])
    assert checkpoints(led) == []


def checkpoints(led):
    """The checkpoints of the newest run, without the one of the first model."""
    from umbel.stores import SQLiteStore

    store = SQLiteStore(Path(".umbel/runs.db"))
    kept = store.checkpoints(store.runs()[-1].id)
    store.close()
    return [number for number in kept if number > 0]


@pytest.fixture
def old(led):
    """The same with a log as an older version wrote it, which does not say whose the first model was."""
    db = sqlite3.connect(".umbel/runs.db")
    ((number, body),) = db.execute("SELECT number, body FROM events WHERE body LIKE '%\"giver\"%'").fetchall()
    event = {key: value for key, value in json.loads(body).items() if key not in ("giver", "model")}
    with db:
        db.execute("UPDATE events SET body=? WHERE number=?", (json.dumps(event), number))
    db.close()
    return led


def test_whose_the_first_model_was_where_no_log_says_it_is_taken_for_the_client_s_own(old):
    told = json.loads(old("forget", "last", "--node", "3", "--method", "remove", "--json").out)
    assert (told["guarantee"], told["first_round"], told["rounds"]) == ("removed", 0, [1, 2, 3])


def test_but_not_where_the_run_is_private_and_had_one(old, tmp_path):
    from umbel.stores import SQLiteStore

    store = SQLiteStore(tmp_path / ".umbel" / "runs.db")
    (info,) = store.runs()
    store.set_plan(info.id, {**info.plan, "strategy": {"name": "Private", "plan": {}}})
    store.close()
    told = json.loads(old("forget", "last", "--node", "3", "--method", "remove", "--json").out)
    assert told["first_round"] == 1


@pytest.mark.parametrize("logs", ["led", "old"])
def test_a_name_that_took_part_in_nothing_is_refused_and_nothing_is_removed(request, logs, tmp_path):
    led = request.getfixturevalue(logs)
    before = checkpoints(led)
    assert before
    for node in ("33", "cleveland", "round", ""):
        refused = led("forget", "last", "--node", node, "--method", "remove", "--report", "report.json")
        assert refused.code == 2
        assert f"there is no client '{node}' in run" in refused.err
        assert "those that took part are 0, 1, 2, 3" in refused.err
    assert checkpoints(led) == before
    assert not (tmp_path / "report.json").exists()


def test_a_name_that_only_failed_is_known(here, tmp_path):
    failing = CLIENT.replace("    def fit(self, parameters, config):", BREAKS)
    write_app(tmp_path / "means", client=failing)
    assert here("run", "means", "--engine", "serial", "--set", ALL).code == 0
    as_led(tmp_path)
    told = json.loads(here("forget", "last", "--node", "3", "--method", "remove", "--json").out)
    assert (told["guarantee"], told["rounds"]) == ("nothing to forget", [])


BREAKS = """    def fit(self, parameters, config):
        if self.value == 3: raise RuntimeError("no disk")"""


def test_in_a_servers_folder_its_own_key_signs(led, tmp_path):
    pytest.importorskip("cryptography")
    from umbel.audit.key import LogKey, new_pem

    (tmp_path / ".umbel" / "identity").mkdir()
    pem = new_pem()
    (tmp_path / ".umbel" / "identity" / "log.pem").write_bytes(pem)
    told = json.loads(led("forget", "last", "--node", "3", "--method", "remove", "--json").out)
    assert told["key"] == LogKey.read(pem, "it").public
