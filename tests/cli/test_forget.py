"""`umbel forget`: a new run without a client, a signed report, and nothing said that is not so."""

import json

import pytest

from .conftest import RUN, write_app

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
        (("--node", "1", "--method", "hope"), 2, "'hope' is not one of"),
        (("--node", "1", "--rounds", "3"), 2, 'is for method="approximate"'),
        (("--node", "1", "--report", "."), 2, "is there already"),
        ((), 2, "Missing option '--node'"),
    ],
)
def test_bad_input_is_one_sentence_and_does_nothing(ran, words, code, says):
    before = ran("ls", "--all", "--json").out
    result = ran("forget", "last", *words)
    assert (result.code, "Traceback" in result.err) == (code, False)
    assert says in result.err
    assert ran("ls", "--all", "--json").out == before


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
    from umbel.stores import SQLiteStore

    store = SQLiteStore(tmp_path / ".umbel" / "runs.db")
    (info,) = store.runs()
    store.set_plan(info.id, {key: value for key, value in info.plan.items() if key != "engine"})
    store.close()
    return ran


def test_a_run_over_real_nodes_is_not_trained_again_but_its_checkpoints_go(led):
    for words in (("forget", "last", "--node", "3"), ("contributions", "last")):
        refused = led(*words)
        assert refused.code == 2
        assert "led over real nodes, which would have to train again" in refused.err
    told = json.loads(led("forget", "last", "--node", "3", "--method", "remove", "--json").out)
    # Whether the first model was the node's, nobody has written down: it is taken for its own.
    assert (told["guarantee"], told["first_round"], told["rounds"]) == ("removed", 0, [1, 2, 3])
    assert led("export", "last", "old.safetensors").code == 4


def test_in_a_servers_folder_its_own_key_signs(led, tmp_path):
    pytest.importorskip("cryptography")
    from umbel.audit.key import LogKey, new_pem

    (tmp_path / ".umbel" / "identity").mkdir()
    pem = new_pem()
    (tmp_path / ".umbel" / "identity" / "log.pem").write_bytes(pem)
    told = json.loads(led("forget", "last", "--node", "3", "--method", "remove", "--json").out)
    assert told["key"] == LogKey.read(pem, "it").public
