"""What a run prints, and where settings arrive."""

import json
import sqlite3

import pytest

from .conftest import CLIENT, PROJECT, RUN, write_app


def test_settings_reach_run_and_context(here, tmp_path):
    client = CLIENT.replace('context.config["lr"]', 'context.config["lr"] + (context.config["label"] == "x y")')
    write_app(tmp_path / "means", client=client)
    ran = here("run", "means", "--json", "--set", "num_rounds=1", "--set", "lr=0", "--set", "label=x y")
    history = json.loads(ran.out.splitlines()[-1])
    assert [record["round"] for record in history["rounds"]] == [1]
    # With lr 0 + 1 each client answers its own number, and seed 1 asks two of the four.
    assert history["loss"] in {(sum(pair) / 2 - 1.5) ** 2 for pair in [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)]}


def test_a_run_function_may_take_no_argument(here, tmp_path):
    run = RUN.replace("def run(config):", 'def run():\n    config = {"num_rounds": 1, "seed": 1, "fraction": 1.0}')
    write_app(tmp_path / "bare", run=run)
    assert "finished after 1 round in" in here("run", "bare").out


def test_json_lines_are_the_log_and_the_last_is_the_history(here, app):
    result = here("run", "means", "--json", "--engine", "serial")
    lines = [json.loads(text) for text in result.out.splitlines()]
    assert [line["kind"] for line in lines] == ["begun", "round", "round", "round", "ended", "history"]
    assert len({line["run"] for line in lines}) == 1
    assert lines[-1]["ended"] == "finished"
    assert lines[-1]["rounds"][-1]["loss"] == lines[-1]["loss"]


def test_what_clients_print_does_not_spoil_json(here, tmp_path):
    client = CLIENT.replace("return [w +", "print('hello from fit')\n        return [w +")
    write_app(tmp_path / "loud", client="print('hello')\n" + client)
    result = here("run", "loud", "--json", "--engine", "serial")
    assert all(json.loads(text) for text in result.out.splitlines())
    assert "hello from fit" in result.err


def test_the_same_app_gives_the_same_model_again(here, app):
    first, second = (json.loads(here("run", "means", "--json").out.splitlines()[-1]) for _ in range(2))
    assert first["digest"] == second["digest"]
    assert first["run"] != second["run"]


def test_failures_and_warnings_are_shown(here, tmp_path):
    client = CLIENT.replace("return [w +", "if self.value == 3: raise OSError('no disk')\n        return [w +").replace(
        '{"size": 1.0}', '{"size": "large"}'
    )
    write_app(tmp_path / "shaky", client=client, project=PROJECT.replace("fraction = 0.5", "fraction = 1.0"))
    assert here("run", "shaky").code == 0
    shown = here("show", "last").out
    assert "client 3 failed: OSError: no disk" in shown
    assert "metric 'size' is 'large', not a finite number" in shown
    data = json.loads(here("show", "last", "--json").out)
    assert [len(record["failures"]) for record in data["rounds"]] == [1, 1, 1]
    assert data["plan"]["app"]["name"] == "means"


def test_more_rounds_than_planned_can_be_added(here, app):
    here("run", "means", "--set", "num_rounds=2", "--store", "short.db")
    longer = here("resume", "last", "--set", "num_rounds=5", "--json", "--store", "short.db")
    whole = here("run", "means", "--set", "num_rounds=5", "--json")
    digests = [json.loads(result.out.splitlines()[-1])["digest"] for result in (longer, whole)]
    assert digests[0] == digests[1]


def test_an_app_in_a_src_folder_runs(here, tmp_path):
    write_app(tmp_path / "means")
    (tmp_path / "means" / "src").mkdir()
    (tmp_path / "means" / "means").rename(tmp_path / "means" / "src" / "means")
    assert here("run", "means").code == 0


def test_names_with_markup_are_shown_as_they_are(here, app):
    here("run", "means", "--name", "[red]a[/b]")
    assert "[red]a[/b]" in here("ls").out
    assert "[red]a[/b]" in here("show", "last").out


def test_only_the_newest_runs_are_listed(here, app, monkeypatch):
    for number in range(3):
        here("run", "means", "--set", "num_rounds=0", "--name", f"run-{number}")
    monkeypatch.setattr("umbel.cli.show.NEWEST", 2)
    assert "run-0" not in here("ls").out
    assert "and 1 older" in here("ls").out
    assert "run-0" in here("ls", "--all").out


def test_help_and_version(here):
    import umbel

    assert here("--version").out == f"umbel {umbel.__version__}\n"
    assert here().out == here("--help").out
    for line in ("0    all went well", "130  interrupted", "4    the store"):
        assert line in here("--help").out


def test_every_template_is_without_warnings_and_learns(here):
    import pytest

    for kind, module in (("numpy", "numpy"), ("sklearn", "sklearn"), ("torch", "torch")):
        pytest.importorskip(module)
        name = f"app_{kind}"
        assert here("new", name, f"--{kind}").code == 0
        assert here("check", name).out == f"{name}: all is well\n"
        ran = here("run", name, "--json", "--engine", "serial", "--set", "num_rounds=4")
        losses = [record["loss"] for record in json.loads(ran.out.splitlines()[-1])["rounds"]]
        assert losses[-1] < losses[0]


def test_a_name_that_could_move_a_cursor_is_refused_and_one_in_a_store_is_shown_as_text(app, here):
    refused = here("run", "means", "--name", "a\x1b[31mb")
    assert refused.code == 2
    assert "a run's name is at most 200 printable characters" in refused.err
    here("run", "means", "--name", "plain")
    with sqlite3.connect(".umbel/runs.db") as db:
        db.execute("UPDATE runs SET name = ?", ("a\x1b[31mb",))
    db.close()
    for words in (("ls",), ("show", "last")):
        assert "a\N{REPLACEMENT CHARACTER}[31mb" in here(*words).out


def test_a_cluster_that_is_not_there_is_said_once_and_leaves_no_run(here, app):
    pytest.importorskip("ray")
    result = here("run", "means", "--engine", "ray", "--cluster", "127.0.0.1:1")
    assert result.code != 0
    assert (result.out + result.err).count("cannot be joined") == 1
    assert "umbel resume" not in result.out + result.err
    assert "means" not in here("ls").out
