"""`umbel privacy`: what holds, what does not, and what could not be shown."""

import json
import re
import sqlite3

import pytest

from umbel.audit.key import key_beside
from umbel.audit.notary import Notary
from umbel.stores import SQLiteStore

from .conftest import CLIENT, PROJECT, RUN, write_app

pytest.importorskip("dp_accounting")
pytest.importorskip("cryptography")

PLAN = 'privacy=fl.PrivacyPlan(clip=1.0, noise_multiplier=2.0, delta=1e-5, sampling="every"), '
PRIVATE = (
    RUN.replace("fl.Run(", f'fl.Run({PLAN}strategy=fl.FedAvg(weighting="uniform"), ')
    .replace('fraction_fit=config["fraction"]', "fraction_evaluate=0.0")
    .replace("num_clients=4", "num_clients=20")
)
FIELD_BY_FIELD = """
from dataclasses import dataclass
from typing import ClassVar
import numpy as np
from umbel.reducers import Mean, Reducer, Reduced

class Half:
    # What it yields hangs on how many answered: the fault of dividing by replies.
    def __init__(self, inner): self.inner, self.count = inner, 0
    def fold(self, groups):
        self.count += 1
        self.inner.fold(groups)
    def result(self):
        found = self.inner.result()
        return {n: Reduced(type(r.total)(r.total.schema, r.total.values / self.count), r.weight, r.count)
                for n, r in found.items()}

@dataclass(frozen=True)
class Divided(Reducer):
    linear: ClassVar[bool] = True
    def memory_bytes(self, schema, updates): return 0
    def start(self, schema, allocate=None): return Half(Mean().start(schema, allocate))
    def restore(self, schema, plain, buffers): raise AssertionError
"""


@pytest.fixture
def private(tmp_path):
    return write_app(tmp_path / "private", run=PRIVATE)


def rows_of(result) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads(result.out)["rows"]}


def test_a_sound_plan_holds_and_both_files_say_so(here, private, tmp_path):
    result = here("privacy", "private", "--level", "A0", "--level", "A1", "--out", "out")
    assert result.code == 0, result.err
    assert re.search(
        r"A0 passed    epsilon: ε = \d\.\d+ at δ = 1e-05 for each client, all 3 models together", result.out
    )
    assert "of 5 faults that were put in, 5 were found" in result.out
    data = json.loads((tmp_path / "out" / "privacy.json").read_text())
    assert (data["kind"], data["holds"], data["levels"]) == ("privacy_report", True, ["A0", "A1"])
    page = (tmp_path / "out" / "privacy.html").read_text()
    assert "<svg" in page
    assert not re.search(r"https?://|<script|<link|src=\"(?!data:)", page)


def test_a_run_without_a_plan_fails_and_its_aggregator_is_not_looked_at(here, app):
    result = here("privacy", "means", "--level", "A0", "--level", "A1", "--json", "--out", "out")
    assert result.code == 1
    rows = rows_of(result)
    assert (rows["promise"]["verdict"], rows["noise"]["verdict"]) == ("failed", "not shown")
    assert (rows["metrics"]["verdict"], rows["secure sum"]["verdict"]) == ("weak", "weak")
    assert rows["noise"]["text"] == "no differential privacy is promised, so there is no noise to be measured"


@pytest.mark.parametrize(
    ("before", "after", "name", "verdict", "says"),
    [
        ("noise_multiplier=2.0", "noise_multiplier=0.5", "epsilon", "weak", "bring ε to 8 or below"),
        ("num_clients=20", "num_clients=4", "cohort", "weak", "hides among 4"),
        ("delta=1e-5", "delta=0.2", "refused", "failed", "below 1 / 20"),
        ("fraction_evaluate=0.0", "fraction_evaluate=0.5", "refused", "failed", "outside of the budget"),
        ('sampling="every"', 'sampling="poisson"', "sampling", "weak", "nobody knowing who was asked"),
        ('weighting="uniform"', 'reducer=fl.Median(), weighting="uniform"', "refused", "failed", "linear reducer"),
        (
            'fl.FedAvg(weighting="uniform")',
            'fl.FedNova(weighting="uniform")',
            "refused",
            "failed",
            "FedNova sends delta, path",
        ),
        ("np.float32", "np.int32", "refused", "failed", "needs float32 or float64"),
        ("num_clients=20", "num_clients=20, evaluate_fn=lambda *a: None", "metrics", "weak", "outside of every budget"),
        ("num_clients=20", "num_clients=20, coordinator=fl.Secure()", "secure sum", "passed", "no update of one"),
    ],
)
def test_what_is_weak_or_refused_has_its_sentence(here, tmp_path, before, after, name, verdict, says):
    assert PRIVATE.count(before) == 1
    write_app(tmp_path / "changed", run=PRIVATE.replace(before, after))
    result = here("privacy", "changed", "--level", "A0", "--json", "--out", "out")
    row = rows_of(result)[name]
    assert row["verdict"] == verdict
    assert says in row["text"] + row["mend"]
    assert result.code == (1 if verdict == "failed" else 0)


def test_an_aggregator_with_a_fault_is_found(here, tmp_path):
    run = FIELD_BY_FIELD + PRIVATE.replace('weighting="uniform"', 'reducer=Divided(), weighting="uniform"')
    write_app(tmp_path / "faulty", run=run)
    result = here("privacy", "faulty", "--level", "A1", "--out", "out")
    assert result.code == 1
    assert "A1 failed    noise" in result.out
    assert "what the sum is divided by depends on who answers" in result.out


def test_a_run_is_looked_at_with_its_own_ledger_and_signed_by_the_key_of_its_log(here, private, tmp_path):
    assert here("run", "private", "--engine", "serial").code == 0
    result = here("privacy", "last", "--level", "A0", "--json", "--out", "out")
    assert result.code == 0, result.err
    row = rows_of(result)["ledger"]
    assert "3 releases" in row["text"]
    file = tmp_path / "out" / "privacy.json"
    assert here("audit", "check", str(file), "--key", json.loads(file.read_text())["key"]).code == 0
    file.write_text(file.read_text().replace('"weak"', '"passed"'))
    changed = here("audit", "check", str(file))
    assert (changed.code, "has a signature that is not good" in changed.out) == (1, True)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("nowhere",), 2, "no folder nowhere"),
        (("private", "--level", "A9"), 2, "A9"),
        (("private", "--app", "private"), 2, "leave it out"),
        (("private", "--set", "epsilon=1"), 2, "epsilon"),
    ],
)
def test_bad_input_is_one_sentence(here, private, words, code, says):
    result = here("privacy", *words)
    assert result.code == code
    assert says in result.err
    assert len(result.err.strip().splitlines()) == 1


def test_a_run_that_is_not_there_and_a_folder_that_is_no_app_are_told(here, private, tmp_path):
    assert here("run", "private", "--engine", "serial").code == 0
    assert "there is no run 'nowhere'" in here("privacy", "nowhere").err
    (tmp_path / "empty").mkdir()
    assert "not an app" in here("privacy", "empty").err
    assert "--set is for an app's folder" in here("privacy", "last", "--set", "lr=1").err
    code = private / "private" / "run.py"
    code.write_text(code.read_text() + "\n")
    assert "look at a new run" in here("privacy", "last").err


def test_a_folder_that_cannot_be_written_is_told_before_anything_is_done(here, tmp_path):
    (tmp_path / "file").write_text("")
    write_app(
        tmp_path / "open", client=OPEN.replace("TEST", "").replace("x, y =", 'open("built", "w"); x, y ='), run=PRIVATE
    )
    result = here("privacy", "open", "--level", "A3", "--out", "file/out")
    assert not (tmp_path / "built").exists()
    assert (result.code, "choose another one with --out" in result.err) == (2, True)
    assert len(result.err.strip().splitlines()) == 1


def test_a_run_from_python_is_told(here, private, tmp_path):
    import umbel as fl

    (tmp_path / ".umbel").mkdir()
    client = fl.GradientClient(lambda params: (0.0, {"w": params["w"]}), {"w": [1.0]}, ())
    fl.simulate(lambda: client, 2, config=fl.ServerConfig(1), engine="serial", progress=False, store=".umbel/runs.db")
    assert "was started from Python" in here("privacy", "last").err


OPEN = """
import numpy as np
import umbel as fl

FEATURES = 40

def logistic(params, x, y):
    logits = x @ params["w"]
    error = 1 / (1 + np.exp(-logits)) - y
    loss = np.logaddexp(0, logits) - y * logits
    return float(loss.mean()), {"w": x.T @ error / len(y)}

def data(number):
    # Labels that nothing explains: what a model knows of them it knows by heart.
    rng = np.random.default_rng(number)
    return rng.standard_normal((40, FEATURES)), rng.integers(0, 2, 40)

def client_fn(context):
    x, y = data(context.partition_id)
    return fl.GradientClient(logistic, {"w": np.zeros(FEATURES)}, (x[:8], y[:8]), TEST lr=1.0, epochs=50)
"""
OPEN_RUN = """
import numpy as np
import umbel as fl

def run(config):
    plan = fl.ServerConfig(num_rounds=config["num_rounds"], seed=config["seed"], fraction_evaluate=0.0)
    return fl.Run(num_clients=4, config=plan, PRIVACY initial_parameters={"w": np.zeros(40)})
"""


def open_app(folder, *, test="test_data=(x[8:], y[8:]),", privacy=""):
    return write_app(folder, client=OPEN.replace("TEST", test), run=OPEN_RUN.replace("PRIVACY", privacy))


def test_membership_in_an_unprotected_model_that_learnt_by_heart_is_inferred(here, tmp_path):
    open_app(tmp_path / "bare")
    result = here("privacy", "bare", "--level", "A3", "--json", "--out", "out")
    row = rows_of(result)["membership by loss"]
    assert (result.code, row["verdict"], row["control"]["works"]) == (1, "failed", True)
    assert row["numbers"]["auc_low"] > 0.55


def test_a_run_whose_models_are_gone_is_not_judged_by_another_model(here, tmp_path):
    open_app(tmp_path / "bare")
    assert here("run", "bare", "--engine", "serial").code == 0
    assert here("forget", "last", "--node", "0", "--method", "remove").code == 0
    result = here("privacy", "last", "--level", "A3", "--json", "--out", "out")
    row = rows_of(result)["membership by loss"]
    assert (result.code, row["verdict"]) == (1, "not shown")
    assert "is kept" in row["text"]


def test_who_was_forgotten_is_no_member(here, tmp_path):
    open_app(tmp_path / "bare")
    assert here("run", "bare", "--engine", "serial").code == 0
    run = json.loads(here("forget", "last", "--node", "0", "--json").out)["new_run"]
    members = [
        rows_of(here("privacy", target, "--level", "A3", "--json", "--out", "out"))["membership by loss"]["numbers"]
        for target in ("bare", run)
    ]
    assert [each["members"] for each in members] == [32, 24]


def test_membership_in_a_private_model_is_not_inferred_and_the_control_is(here, tmp_path):
    plan = PLAN + 'strategy=fl.FedAvg(weighting="uniform"),'
    open_app(tmp_path / "noisy", privacy=plan.replace("noise_multiplier=2.0", "noise_multiplier=20.0"))
    assert here("run", "noisy", "--engine", "serial").code == 0
    result = here("privacy", "last", "--level", "A3", "--json", "--out", "out")
    row = rows_of(result)["membership by loss"]
    assert (result.code, row["verdict"], row["control"]["works"]) == (0, "passed", True)
    assert row["numbers"]["members"] == 32


@pytest.mark.parametrize(
    ("client", "says"),
    [
        (OPEN.replace("TEST", ""), "0 that were held out"),
        (CLIENT, "Mean gives no losses of single examples"),
        (OPEN.replace("TEST", "test_data=absent,"), "NameError: name 'absent' is not defined"),
        (OPEN.replace("TEST", "").replace('{"w": np', '{"head": np.zeros(2), "w": np'), "keep 'head' to themselves"),
    ],
)
def test_what_cannot_be_attacked_is_not_shown(here, tmp_path, client, says):
    run = RUN if client is CLIENT else OPEN_RUN.replace("PRIVACY", "")
    if "head" in client:
        whole = 'strategy=fl.FedAvg(shared="w"), initial_parameters={"head": np.zeros(2), "w"'
        run = run.replace('initial_parameters={"w"', whole)
    write_app(tmp_path / "without", client=client, run=run)
    result = here("privacy", "without", "--level", "A3", "--out", "out")
    assert result.code == 1
    assert "A3 not shown" in result.out
    assert says in result.out


def test_names_are_text_in_the_page_and_an_unsigned_report_says_so(here, tmp_path):
    project = PROJECT.replace('name = "means"', 'name = "<script>means</script>"')
    write_app(tmp_path / "odd", project=project)
    assert here("privacy", "odd", "--level", "A0", "--out", "out").code == 1
    page = (tmp_path / "out" / "privacy.html").read_text()
    assert "&lt;script&gt;means" in page
    assert "<script" not in page
    assert "not signed" in page
    assert "signature" not in json.loads((tmp_path / "out" / "privacy.json").read_text())


def test_a_report_is_no_tree_head_that_a_log_could_be_held_against(here, private):
    assert here("run", "private", "--engine", "serial").code == 0
    assert here("privacy", "last", "--level", "A0").code == 0
    refused = here("audit", "verify", "last", "--seen", "privacy-report/privacy.json")
    assert (refused.code, "is a report on privacy" in refused.err) == (2, True)
    assert here("audit", "verify", "last").code == 0


def tampered(folder, change):
    """The ledger's entries as `change` makes them, in a log whose links are mended and which is signed anew."""
    store = SQLiteStore(folder / ".umbel" / "runs.db")
    [info] = store.runs()
    events = [event for event in store.log(info.id) if event["kind"] != "tree_head"]
    with sqlite3.connect(store.path) as db:
        db.execute("DELETE FROM events")
    notary = Notary(info.id, key_beside(folder / ".umbel"))
    for event in change(events):
        bare = {key: value for key, value in event.items() if key != "previous"}
        store.append(info.id, bare)
        notary.noted(bare)
    store.append(info.id, notary.tree_head(3))
    store.close()


def with_entries(change):
    """Each entry of the ledger, changed."""
    return lambda events: [{**event, **change} if event["kind"] == "release" else event for event in events]


def cheaper(events):
    """The ledger of less than was released: ε as of one release less, one entry less."""
    first, *others = [event for event in events if event["kind"] == "release"]
    spent = iter([first, *others])
    return [
        {**event, "epsilon": next(spent)["epsilon"]} if event in others else event for event in events if event != first
    ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (with_entries({"noise_multiplier": 999.0}), "noise_multiplier=999.0, and the plan has 2.0"),
        (with_entries({"epsilon": 0.5}), "cost ε = 0.5 at δ = 1e-05, and they cost ε = "),
        (with_entries({"delta": 0.1}), "at δ = 0.1, and they cost"),
        (cheaper, "the run finished 3 rounds, and its ledger has 2 releases"),
    ],
)
def test_a_ledger_that_is_not_what_was_released_fails(here, private, tmp_path, change, says):
    assert here("run", "private", "--engine", "serial").code == 0
    tampered(tmp_path, change)
    assert here("audit", "verify").code == 0
    result = here("privacy", "last", "--level", "A0", "--json", "--out", "out")
    row = rows_of(result)["ledger"]
    assert (result.code, row["verdict"]) == (1, "failed")
    assert says in row["text"]


def test_a_ledger_in_a_log_that_is_broken_fails(here, private, tmp_path):
    assert here("run", "private", "--engine", "serial").code == 0
    with sqlite3.connect(tmp_path / ".umbel" / "runs.db") as db:
        assert db.execute("DELETE FROM events WHERE number=2").rowcount == 1
    result = here("privacy", "last", "--level", "A0", "--json", "--out", "out")
    row = rows_of(result)["ledger"]
    assert (result.code, row["verdict"]) == (1, "failed")
    assert "in a log that is not whole: event 2" in row["text"]


def test_replay_holds_the_ledger_against_the_plan(here, private, tmp_path):
    assert here("run", "private", "--engine", "serial").code == 0
    fine = here("audit", "replay")
    assert (fine.code, "compared: releases and the plan's noise: 3" in fine.out) == (0, True)
    tampered(tmp_path, with_entries({"noise_multiplier": 999.0}))
    found = here("audit", "replay")
    assert (found.code, "had noise_multiplier=999.0, which is not the plan's" in found.out) == (1, True)
    tampered(tmp_path, lambda events: [event for event in events if event["kind"] != "release"])
    assert "round 1 was finished, and its release is not in the ledger" in here("audit", "replay").out


@pytest.mark.parametrize(
    "plan",
    [
        'noise_multiplier=2.0, sampling="poisson"',
        'target_epsilon=4.0, sampling="every"',
        'noise_multiplier=2.0, sampling="every", noise="local"',
        'noise_multiplier=9.0, sampling="turns", separation=2',
    ],
)
def test_a_ledger_of_any_plan_that_was_kept_passes(here, tmp_path, plan):
    write_app(
        tmp_path / "kept",
        run=PRIVATE.replace('noise_multiplier=2.0, delta=1e-5, sampling="every"', plan + ", delta=1e-5"),
    )
    assert here("run", "kept", "--engine", "serial").code == 0
    row = rows_of(here("privacy", "last", "--level", "A0", "--json", "--out", "out"))["ledger"]
    assert (row["verdict"], row["mend"]) == ("passed", ""), row
    assert here("audit", "replay").code == 0
    if "target" not in plan and "turns" not in plan:
        # More rounds of the same noise.
        assert here("resume", "last", "--set", "num_rounds=5").code == 0
        row = rows_of(here("privacy", "last", "--level", "A0", "--json", "--out", "out"))["ledger"]
        assert (row["verdict"], "5 releases" in row["text"]) == ("passed", True)
        assert here("audit", "replay").code == 0
