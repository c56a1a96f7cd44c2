"""Each mistake gives one sentence on stderr and its exit code, and never a traceback."""

import sqlite3
from dataclasses import replace

import pytest

import umbel as fl

from .conftest import CLIENT, PROJECT, RUN, write_app


def check(result, code: int, *pieces: str) -> None:
    assert result.out == ""
    assert len(result.err.splitlines()) == 1, result.err
    assert "Traceback" not in result.err
    for piece in pieces:
        assert piece in result.err
    assert result.code == code


@pytest.mark.parametrize(
    ("words", "pieces"),
    [
        (["frobnicate"], ["No such command 'frobnicate'", "umbel --help"]),
        (["run", "means", "--frob"], ["--frob", "umbel run --help"]),
        (["run", "means", "other"], ["unexpected extra argument", "umbel run --help"]),
        (["run", "means", "--workers", "two"], ["'two' is not a valid integer"]),
        (["run", "means", "--workers", "0"], ["workers", "at least 1"]),
        (["run", "means", "--engine", "steam"], ["engine", "'steam'"]),
        (["run", "means", "--set", "lr"], ["--set takes key=value, got 'lr'"]),
        (["run", "means", "--set", "=1"], ["--set takes key=value"]),
        (["run", "means", "--set", "num_round=1"], ["no setting 'num_round'", "did you mean 'num_rounds'?"]),
        (["run", "means", "--set", "xyz=1"], ["no setting 'xyz'", "it has num_rounds, lr"]),
        (["run", "means", "--set", "lr=fast"], ["lr must be a number like its default 0.5, got 'fast'"]),
        (["run", "means", "--set", "num_rounds=2.5"], ["num_rounds must be a whole number", "'2.5'"]),
        (["run", "means", "--set", "num_rounds=true"], ["num_rounds must be a whole number"]),
        (["run", "means", "--set", "lr=nan"], ["lr must be finite, got 'nan'"]),
        (["run", "means", "--set", "lr=-inf"], ["lr must be finite, got '-inf'"]),
        (["run", "means", "--set", "seed=99999999999999999999999"], ["seed must be from", "to 9223372036854775807"]),
        (["run", "means", "--set", "label=[1]"], ["label must be text"]),
        (["run", "means", "--set", "num_rounds=-1"], ["num_rounds must be a whole number of at least 0, got -1"]),
        (["run", "nowhere"], ["there is no folder nowhere", "umbel new"]),
        (["run", "."], [". has no pyproject.toml"]),
        (["check", "nowhere"], ["there is no folder nowhere"]),
        (["new"], ["Missing argument 'NAME'", "umbel new --help"]),
        (["new", "means"], ["means is there already", "never overwrites"]),
        (["new", "Größe"], ["cannot be an app's name"]),
        (["new", "class"], ["cannot be an app's name"]),
        (["new", "numpy"], ["a Python module 'numpy' already"]),
        (["new", "means/pyproject.toml/x"], ["cannot be written"]),
        (["show"], ["Missing argument 'RUN'"]),
        # Neither --listen x nor the app nowhere would do: what is wrong is found before.
        *[
            (["server", "--insecure", "--listen", "x", "--away", wrong], ["--away is in seconds, from 1 to 2592000"])
            for wrong in ("nan", "inf", "-1", "0.5", "1e400", "2592001")
        ],
        (["node", "nowhere", "--partition", "-1"], ["partition must be at least 0, got -1"]),
        (["node", "nowhere", "--threads", "0"], ["threads must be at least 1, got 0"]),
        (["node", "nowhere", "--threads", "-1"], ["threads must be at least 1, got -1"]),
    ],
)
def test_wrong_words_are_code_2(here, app, words, pieces):
    check(here(*words), 2, *pieces)


@pytest.mark.parametrize(
    ("change", "pieces"),
    [
        ({"project": "[tool.other]"}, ["has no [tool.umbel]", "pkg.module:client_fn"]),
        ({"project": "[tool"}, ["is not valid TOML"]),
        ({"project": PROJECT.replace("client = ", "clients = ")}, ["client of broken is missing", "pkg.module:name"]),
        ({"project": PROJECT.replace(".run:run", ".run.run")}, ["'broken.run.run'", '"pkg.module:name"']),
        ({"project": PROJECT.replace(".run:run", ".ran:run")}, ["broken has no module 'broken.ran'"]),
        ({"project": PROJECT.replace(".run:run", ".run:ran")}, ["module broken.run of broken has no 'ran'"]),
        ({"project": PROJECT.replace(".run:run", ".run:np")}, ["must name a function"]),
        ({"project": PROJECT.replace("lr = 0.5", "lr = nan")}, ["setting 'lr' of broken must be finite, got nan"]),
        ({"project": PROJECT.replace("lr = 0.5", "lr = {a = 1}")}, ["setting 'lr' of broken is a table"]),
        ({"project": PROJECT.replace("lr = 0.5", "lr = 2020-01-01")}, ["setting 'lr' of broken is a date"]),
        ({"client": "import nothing_of_this_name"}, ["nothing_of_this_name", "client.py line 1", "not installed?"]),
        ({"client": "1 / 0"}, ["does not import: ZeroDivisionError", "client.py line 1"]),
        ({"client": "import sys\nsys.exit(3)"}, ["does not import: SystemExit", "client.py line 2"]),
        ({"run": "def run(:"}, ["SyntaxError", "run.py line 1"]),
        ({"run": "def run(config): return 3"}, ["returned a int; return fl.Run(...)"]),
        ({"run": "def run(config): return config['mu']"}, ["there is no setting 'mu'", "run.py line 1"]),
        ({"run": "def run(config): return 1 / 0"}, ["run() of the app means failed: ZeroDivisionError", "line 1"]),
        ({"run": RUN.replace("num_clients=4", "num_clients=0")}, ["num_clients must be at least 1, got 0"]),
        ({"client": CLIENT.replace("def fit", "def fitted").replace("def eval", "def evalu")}, ["neither", "fit"]),
        ({"client": "def client_fn(context): return 1 / 0"}, ["client_fn cannot build client 0: ZeroDivisionError"]),
    ],
)
def test_a_broken_app_is_code_2(here, tmp_path, change, pieces):
    write_app(tmp_path / "broken", **change)
    result = here("run", "broken")
    result.err = result.err.replace("one of\n    def", "one of def").replace("metrics\n    def", "metrics def")
    check(result, 2, *pieces)


def test_a_module_of_that_name_from_elsewhere_is_not_run_in_its_place(here, tmp_path):
    write_app(tmp_path / "json")
    check(here("run", "json"), 2, "has no module 'json.client'")
    write_app(tmp_path / "colorsys", project=PROJECT.replace("{package}.client:client_fn", "colorsys:rgb_to_hls"))
    import colorsys

    assert "colorsys" in colorsys.__file__
    check(here("run", "colorsys"), 2, "was loaded from", "rename the app's package")


def test_a_store_that_cannot_be_used_is_code_4(here, app, tmp_path):
    (tmp_path / "text.db").write_text("this is no database, however long one reads in it " * 10)
    check(here("run", "means", "--store", "text.db"), 4, "cannot use the store text.db")
    check(here("ls", "--store", "none.db"), 4, "there is no store none.db")
    check(here("ls"), 4, "there is no store", "umbel run")
    check(here("run", "means", "--store", "text.db/runs.db"), 4, "the folder text.db cannot be made")
    here("run", "means")
    with sqlite3.connect(tmp_path / ".umbel/runs.db") as db:
        db.execute("UPDATE about SET value='99'")
    db.close()
    check(here("ls"), 4, "store format 99")


def test_a_run_that_is_not_there_is_code_2(here, app):
    here("run", "means", "--set", "num_rounds=1")
    here("run", "means", "--set", "num_rounds=1")
    check(here("show", "zz"), 2, "there is no run 'zz'", "umbel ls")
    check(here("show", "2"), 2, "2 runs begin with '2'", "give more of the id")
    check(here("export", "last", "model.bin"), 2, "try model.safetensors")
    check(here("export", "last", "means/model.safetensors", "--round", "7"), 2, "round 7", "the rounds 0, 1")
    check(here("export", "last", "no/model.safetensors"), 2, "cannot be written", "choose another place")
    assert here("export", "last", "model.safetensors").code == 0
    check(here("export", "last", "model.safetensors"), 2, "is there already", "--force")
    assert here("export", "last", "model.safetensors", "--force", "--round", "0").code == 0


def test_too_few_clients_fail_the_run_with_code_1_and_the_way_to_go_on(here, tmp_path):
    client = CLIENT.replace(
        "return [w +", "if config['server_round'] == 2: raise OSError('no disk')\n        return [w +"
    )
    write_app(tmp_path / "failing", client=client)
    result = here("run", "failing", "--engine", "serial")
    result.out = ""
    check(result, 1, "round 2", "no disk", "client.py line", "go on with: umbel resume 2")
    assert "failed" in here("ls").out
    assert "no disk" in here("show", "last").out


def test_an_error_in_the_users_evaluation_names_file_and_line(here, tmp_path):
    run = RUN.replace("def run", "def judge(n, parameters, config): return {}[n]\ndef run").replace(
        "num_clients=4", "num_clients=4, evaluate_fn=judge"
    )
    write_app(tmp_path / "judged", run=run)
    ended = here("run", "judged", "--engine", "serial")
    # It had begun, and how it ended is in its log, which is shown as it is written.
    assert ended.out == "failed: KeyError: 0 after round 0\n"
    check(replace(ended, out=""), 1, "KeyError: 0", "in judge, run.py line 5", "--traceback")
    shown = here("--traceback", "run", "judged", "--engine", "serial")
    assert shown.code == 1
    assert "Traceback" in shown.err


def test_resume_refuses_what_cannot_end_as_it_should(here, app, tmp_path):
    here("run", "means", "--set", "num_rounds=2")
    check(here("resume", "last"), 2, "is finished and has nothing left to do", "num_rounds")
    (app / "means" / "client.py").write_text(CLIENT + "\n# changed")
    changed = ("resume", "last", "--set", "num_rounds=4")
    check(here(*changed), 2, "the app means has changed since run", "--force")
    assert here(*changed, "--force").code == 0
    check(here("resume", "last", "--set", "num_rounds=6", "--set", "lr=0.1", "--force"), 2, "settings.lr was 0.5")
    app.rename(tmp_path / "moved")
    check(here("resume", "last", "--set", "num_rounds=6"), 2, "no folder means", "--app names it")


def test_a_run_from_python_is_not_resumed_here(here, app, tmp_path):
    (tmp_path / ".umbel").mkdir()
    plan = fl.ServerConfig(num_rounds=1, seed=1)
    fl.simulate(
        lambda context: Mean(),
        2,
        initial_parameters=[[0.0]],
        config=plan,
        store=tmp_path / ".umbel/runs.db",
        engine="serial",
        progress=False,
    )
    check(here("resume", "last"), 2, "was started from Python", "fl.simulate")
    assert "none: started from Python" in here("show", "last").out


class Mean(fl.NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}
