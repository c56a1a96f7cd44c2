"""`umbel contributions`: what each client of a kept run was worth."""

import json
from pathlib import Path

import pytest

from .conftest import CLIENT, RUN, write_app

PRIVATE = """
import numpy as np
import umbel as fl

def run(config):
    plan = fl.ServerConfig(num_rounds=config["num_rounds"], seed=1, fraction_evaluate=0.0)
    start, strategy = [np.zeros(3, np.float32)], fl.FedAvg(weighting="uniform")
    return fl.Run(num_clients=4, strategy=strategy, config=plan, initial_parameters=start, {what})
"""


@pytest.fixture
def ran(here, app):
    assert here("run", "means", "--engine", "serial").code == 0
    return here


def test_values_add_up_and_are_those_of_the_run(ran):
    result = ran("contributions", "last", "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    assert sum(one["value"] for one in found["clients"]) == pytest.approx(found["gain"], abs=1e-9)
    assert [one["client"] for one in found["clients"]] == ["0", "1", "2", "3"]
    assert (found["method"], found["coalitions"]) == ("exact", 16)


def busy(ran):
    """A client that took part in the newest run."""
    found = json.loads(ran("contributions", "--method", "participation", "--json").out)
    return next(one["client"] for one in found["clients"] if one["value"])


def test_a_client_that_the_run_is_without_is_in_no_coalition(ran):
    gone = busy(ran)
    assert ran("forget", "last", "--node", gone).code == 0
    result = ran("contributions", "last", "--json")
    assert (result.code, result.err) == (0, "")
    assert [one["client"] for one in json.loads(result.out)["clients"]] == sorted({"0", "1", "2", "3"} - {gone})


@pytest.mark.parametrize("cached", [True, False])
def test_a_client_that_was_forgotten_is_not_trained_again_for_the_old_run(here, tmp_path, cached):
    write_app(tmp_path / "means", client=WATCHED)
    here("run", "means", "--engine", "serial")
    gone = busy(here)
    run = json.loads(here("contributions", "--method", "participation", "--json").out)["run"]
    if cached:
        assert here("contributions").code == 0
    assert here("forget", "last", "--node", gone, "--report", "report.json").code == 0
    (tmp_path / "built").write_text("")
    refused = here("contributions", run)
    new = json.loads((tmp_path / "report.json").read_text())["new_run"]
    assert refused.code == 2
    assert f"of the clients of run {run}, {gone} had to be forgotten and may not be trained again" in refused.err
    assert f"ask for umbel contributions {new}" in refused.err
    assert (tmp_path / "built").read_text() == ""
    assert here("contributions", run, "--of", "rounds").code == 2
    assert here("contributions", run, "--method", "participation").code == 0
    assert here("contributions", new).code == 0
    assert gone not in (tmp_path / "built").read_text().split()


WATCHED = CLIENT.replace(
    "def client_fn(context):",
    """def client_fn(context):
    with open("built", "a") as file: file.write(context.client + "\\n")""",
)


def test_nor_is_one_that_had_no_part_and_had_to_be_forgotten(here, tmp_path):
    write_app(tmp_path / "means")
    here("run", "means", "--engine", "serial", "--set", "num_rounds=1")
    idle = next(one for one in "0123" if one not in took_part(here))
    here("forget", "last", "--node", idle)
    refused = here("contributions")
    assert (refused.code, f"{idle} had to be forgotten" in refused.err) == (2, True)
    assert "see who took part with --method participation" in refused.err


def took_part(ran):
    found = json.loads(ran("contributions", "--method", "participation", "--json").out)
    return {one["client"] for one in found["clients"] if one["value"]}


def test_values_of_other_data_are_not_taken_for_those_of_the_run_once_its_data_are_back(here, tmp_path):
    moving = "np.float32(context.partition_id + float(Path('shift').read_text()))"
    client = "from pathlib import Path\n" + CLIENT.replace("np.float32(context.partition_id)", moving)
    write_app(tmp_path / "means", client=client)
    (tmp_path / "shift").write_text("0")
    here("run", "means", "--engine", "serial")
    (tmp_path / "shift").write_text("1")
    assert here("contributions", "--method", "leave-one-out").code == 1
    (tmp_path / "shift").write_text("0")
    assert here("contributions", "--method", "leave-one-out").code == 0


def test_a_run_that_goes_on_from_another_s_model_has_no_values(ran):
    assert ran("forget", "last", "--node", busy(ran), "--method", "approximate", "--rounds", "1").code == 0
    result = ran("contributions", "last")
    assert result.code == 2
    assert "after a client was forgotten" in result.err


def test_what_coalitions_were_worth_is_for_this_user_only(ran, tmp_path):
    ran("contributions", "--method", "leave-one-out")
    (file,) = (tmp_path / ".umbel").glob("coalitions-*.jsonl")
    assert file.stat().st_mode & 0o077 == 0


def test_people_read_a_table(ran):
    result = ran("contributions")
    assert "exact values, 16 coalitions, the run again with each" in result.out
    assert "client" in result.out
    assert result.code == 0


def test_it_goes_on_with_what_was_trained(ran, tmp_path):
    first = ran("contributions", "--json", "--method", "leave-one-out")
    (file,) = (tmp_path / ".umbel").glob("coalitions-*.jsonl")
    before = file.read_text().splitlines()
    assert len(before) == 6
    assert ran("contributions", "--json", "--method", "leave-one-out").out == first.out
    assert file.read_text().splitlines() == before
    ran("contributions", "--json")
    assert file.read_text().splitlines()[:6] == before
    assert len(file.read_text().splitlines()) == 16


def test_who_took_part_is_read_from_the_log_alone(ran, app):
    (app / "means" / "client.py").unlink()
    found = json.loads(ran("contributions", "--method", "participation", "--json").out)
    assert sum(one["value"] for one in found["clients"]) == 6  # 3 rounds of 2 of 4
    assert "who took part in how many of its 3 rounds" in ran("contributions", "--method", "participation").out


def test_values_can_be_written_into_the_log_which_stays_whole(ran):
    assert ran("contributions", "--record", "--method", "leave-one-out").code == 0
    result = ran("audit", "verify", "last")
    assert (result.code, result.err) == (0, "")
    assert "came later and are not signed" not in result.out
    ran("audit", "export", "last", "log.jsonl")
    events = [json.loads(line) for line in Path("log.jsonl").read_text().splitlines()]
    (event,) = [event for event in events if event["kind"] == "contributions"]
    assert event["method"] == "leave-one-out"
    assert ran("audit", "replay", "last").code == 0
    assert ran("show", "last").code == 0


def test_a_run_that_another_program_would_not_end_in_is_said(here, tmp_path):
    moving = "np.float32(context.partition_id + float(Path('shift').read_text()))"
    client = "from pathlib import Path\n" + CLIENT.replace("np.float32(context.partition_id)", moving)
    write_app(tmp_path / "means", client=client)
    (tmp_path / "shift").write_text("0")
    here("run", "means", "--engine", "serial")
    (tmp_path / "shift").write_text("1")
    result = here("contributions", "--method", "leave-one-out")
    assert result.code == 1
    assert "all clients together now train" in result.err


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("coordinator=fl.Secure()", "the difference of two secure sums is one client's update"),
        ("privacy=fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=1e-5, sampling='every')", "without the noise"),
    ],
)
def test_runs_that_hide_single_clients_say_who_took_part_and_no_more(here, tmp_path, what, words):
    pytest.importorskip("dp_accounting")
    write_app(tmp_path / "means", run=PRIVATE.replace("{what}", what))
    ran = here("run", "means", "--engine", "serial")
    assert ran.code == 0, ran.err
    refused = here("contributions")
    assert refused.code == 2
    assert words in refused.err
    assert here("contributions", "--method", "participation").code == 0


def test_an_app_that_has_changed_is_refused(ran, app):
    (app / "means" / "run.py").write_text(RUN + "\n")
    result = ran("contributions")
    assert result.code == 2
    assert "has changed since" in result.err
    assert ran("contributions", "--force", "--method", "leave-one-out").code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--permutations", "1"), "permutations must be"),
        (("--metric", "beauty"), "'beauty' is none that is measured"),
        (("--method", "luck"), "'luck' is not one of"),
        (("--workers", "0"), "workers must be"),
    ],
)
def test_bad_input_is_one_sentence(ran, words, says):
    result = ran("contributions", "last", *words)
    assert result.code == 2
    assert says in result.err
    assert "Traceback" not in result.err
