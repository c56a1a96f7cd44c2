"""`umbel tune`: the app's run once per point, and nothing lost when it breaks off."""

import json
import signal

import pytest

from .conftest import CLIENT, PROJECT, RUN, write_app


def lines(result):
    return [json.loads(text) for text in result.out.splitlines()]


def values(result):
    return [(line["point"], line["seed"], line["value"]) for line in lines(result)[:-1]]


def test_a_sweep_of_one_point_is_that_run_to_the_bit(here, app):
    swept = lines(here("tune", "means", "--set", "lr=0.25", "--json", "--engine", "serial"))
    alone = lines(here("run", "means", "--set", "lr=0.25", "--set", "seed=0", "--json", "--engine", "serial"))[-1]
    assert (swept[0]["value"], swept[0]["rounds"]) == (alone["loss"], 3)
    digest = [
        json.loads(here("export", run, f"{i}.safetensors", "--json").out)["digest"]
        for i, run in enumerate((swept[0]["run"], alone["run"]))
    ]
    assert digest[0] == digest[1] == alone["digest"]


def test_every_point_gets_every_seed_and_the_best_can_be_run(here, app):
    result = here("tune", "means", "--set", "lr=0.25,0.5", "--set", "label='a, b',c d", "--seeds", "2")
    assert result.code == 0
    text = result.out.splitlines()
    assert [line.split("  ")[0] for line in text[:8]] == [f"{number}/8" for number in range(1, 9)]
    assert 'lr=0.25 label="a, b" seed=1: loss' in result.out
    assert 'lr=0.5 label="c d" seed=0: loss' in result.out
    best = text[-1].removeprefix("the best:  umbel ")
    assert best.startswith("run means --set lr=")
    import shlex

    assert here(*shlex.split(best)).code == 0


def test_the_seed_reaches_apps_that_have_no_setting_for_it(here, tmp_path):
    run = RUN.replace('seed=config["seed"]', "seed=5")
    write_app(tmp_path / "bare", run=run, project=PROJECT.replace("seed = 1\n", ""))
    swept = lines(here("tune", "bare", "--seeds", "4", "--json"))
    assert len({line["value"] for line in swept[:-1]}) > 1
    shown = json.loads(here("show", swept[2]["run"], "--json").out)
    assert shown["plan"]["config"]["seed"] == 2


def test_the_same_command_again_reads_what_is_finished(here, app):
    first, again = (here("tune", "means", "--set", "lr=0.25,0.5", "--seeds", "2", "--json") for _ in range(2))
    assert values(first) == values(again)
    assert [line["kept"] for line in lines(first)[:-1]] == [False] * 4
    assert [line["kept"] for line in lines(again)[:-1]] == [True] * 4
    assert lines(first)[-1] == lines(again)[-1]


def test_runs_are_listed_by_their_points(here, app):
    here("tune", "means", "--set", "lr=0.25,0.5")
    assert "means sweep lr=0.25 seed=0" in here("ls").out
    here("tune", "means", "--set", "lr=0.25", "--name", "second")
    assert "second lr=0.25 seed=0" in here("ls").out


def test_random_points_lie_in_the_range(here, app):
    command = ["tune", "means", "--set", "lr=0.001:0.5:log", "--set", "num_rounds=1:3", "--trials", "4"]
    swept = lines(here(*command, "--search", "random", "--json"))
    points = [line["point"] for line in swept[:-1]]
    assert len(points) == 4
    assert all(0.001 <= point["lr"] <= 0.5 and point["num_rounds"] in (1, 2, 3) for point in points)
    assert [line["rounds"] for line in swept[:-1]] == [point["num_rounds"] for point in points]


def test_optuna_names_the_points_when_trials_are_given(here, app):
    pytest.importorskip("optuna")
    swept = lines(here("tune", "means", "--set", "lr=0.001:0.5:log", "--trials", "4", "--json"))
    assert len(swept) == 5
    assert swept[-1]["kind"] == "sweep"


def test_points_that_do_worse_are_broken_off_and_stay_so(here, app):
    pytest.importorskip("optuna")
    words = ("tune", "means", "--set", "lr=0.001:0.5:log", "--trials", "9", "--pruner", "median", "--json")
    first, again = lines(here(*words)), lines(here(*words))
    assert any(line["pruned"] and line["rounds"] < 3 and line["value"] is None for line in first[:-1])
    assert [(line["point"], line["pruned"], line["rounds"]) for line in first[:-1]] == [
        (line["point"], line["pruned"], line["rounds"]) for line in again[:-1]
    ]
    assert all(line["kept"] for line in again[:-1])


def test_the_apps_own_monitor_is_the_metric(here, tmp_path):
    run = RUN.replace("num_rounds=config", 'monitor="size", mode="max", num_rounds=config')
    write_app(tmp_path / "means", run=run)
    end = lines(here("tune", "means", "--json"))[-1]
    assert (end["metric"], end["less_is_better"], end["points"][0]["mean"]) == ("size", False, 1.0)
    assert lines(here("tune", "means", "--metric", "loss", "--json"))[-1]["less_is_better"] is True


def test_a_point_that_fails_is_a_row_and_where_all_fail_the_code_is_one(here, tmp_path):
    run = RUN.replace("def run(config):", "def run(config):\n    if config['lr'] > 1: raise ValueError('too fast')\n")
    write_app(tmp_path / "means", run=run)
    some = here("tune", "means", "--set", "lr=0.5,2")
    assert some.code == 0
    assert "2/2  lr=2.0 seed=0: failed: run() of the app means failed: ValueError: too fast" in some.out
    every = here("tune", "means", "--set", "lr=2,3")
    assert every.code == 1
    assert "no point of the sweep has a mean loss; the first reason: run() of the app means failed" in every.err


def test_a_picture_is_drawn(here, app, tmp_path):
    pytest.importorskip("matplotlib")
    assert here("tune", "means", "--set", "lr=0.25,0.5", "--plot", "sweep.svg").code == 0
    assert "<svg" in (tmp_path / "sweep.svg").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "rl=0.1"], "the app has no setting 'rl'; did you mean 'lr'?"),
        (["--set", "lr=0.1,fast"], "lr must be a number like its default 0.5, got 'fast'"),
        (["--set", "lr=0.1,,0.2"], "lr must be a number like its default 0.5, got '0.1,,0.2'"),
        (["--set", "lr"], "--set takes key=value, got 'lr'; try --set lr=0.1"),
        (["--set", "lr=0.1,0.1"], "lr has the value 0.1 twice"),
        (
            ["--set", "lr=0.1", "--set", "lr=0.2"],
            "--set lr= is there twice; give all its values at once, such as --set",
        ),
        (["--set", "lr=1,1.0"], "lr has the value 1.0 twice"),
        (["--set", "seed=1,2"], "--set seed=1,2 cannot be: every point gets the same seeds; try --seeds 3"),
        (["--set", "lr=0.1:1"], "lr is a range, of which a grid cannot try all; add --trials 50, or list its values"),
        (["--set", "lr=1:0.1", "--trials", "3"], "low of a Range must be less than high, got 1.0 and 0.1"),
        (["--set", "num_rounds=1:2.5", "--trials", "3"], "num_rounds must be a whole number like its default 3"),
        (["--seeds", "0"], "seeds must be at least 1"),
        (["--mode", "less"], "mode must be 'auto', 'min' or 'max', got 'less'"),
        (["--plot", "sweep.txt"], "a picture's path must end in its format, got 'sweep.txt'; try .png, .svg or .pdf"),
        (["--plot", "nowhere/sweep.png"], "there is no folder nowhere for the picture sweep.png"),
        (["--name", "a\nb"], "name must be 1 to 80 printable characters"),
        (["--engine", "bogus"], "engine must be one of auto, serial, pool, vmap, ray, got 'bogus'"),
        (["--workers", "0"], "workers must be a whole number of at least 1 or None, got 0"),
    ],
)
def test_bad_input_is_refused_before_the_first_run(here, app, tmp_path, words, said):
    if "--plot" in words:
        pytest.importorskip("matplotlib")
    result = here("tune", "means", *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(said)
    assert len(result.err.splitlines()) == 1
    assert not (tmp_path / ".umbel").exists()


def test_an_unknown_metric_is_refused_with_those_there_are(here, app):
    result = here("tune", "means", "--metric", "accuracy")
    assert result.code == 2
    assert "metric 'accuracy' is none that the runs measure; they measure loss, size" in result.err


def test_an_app_that_has_changed_does_not_mix_its_results(here, app):
    here("tune", "means", "--set", "lr=0.25")
    (app / "means" / "client.py").write_text(CLIENT + "\n# changed\n")
    refused = here("tune", "means", "--set", "lr=0.25,0.5")
    assert refused.code == 2
    assert "the app means has changed since run" in refused.err
    assert here("tune", "means", "--set", "lr=0.25,0.5", "--force").code == 0
    assert here("tune", "means", "--set", "lr=0.25,0.5", "--name", "new").code == 0


COMMAND = ["tune", "slow", "--set", "lr=0.25,0.5", "--seeds", "2", "--json", "--engine", "serial"]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_broken_off_in_the_middle_it_goes_on_to_the_same_end(umbel, tmp_path, how):
    # The client stops the whole command in the second of three rounds of the second run, once.
    client = (
        CLIENT.replace(
            "return [w +",
            "count(config['server_round'], config['seed'])\n        return [w +",
        )
        .replace(
            "class Mean",
            """
import os, pathlib

def count(round, seed):
    mark = pathlib.Path("broken")
    if "BREAK" in os.environ and (round, seed) == (2, 1) and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), int(os.environ["BREAK"]))

class Mean""",
        )
        .replace(
            "def fit(self, parameters, config):",
            "def fit(self, parameters, config):\n        config['seed'] = self.seed",
        )
        .replace("self.value, self.lr = value, lr", "self.value, (self.lr, self.seed) = value, lr")
        .replace('context.config["lr"])', '(context.config["lr"], context.config["seed"]))')
    )
    write_app(tmp_path / "slow", client=client)
    broken = umbel(*COMMAND, environment={"BREAK": str(int(how))})
    if how == signal.SIGINT:
        assert broken.code == 130
        assert broken.err.strip() == "interrupted after 1 run, which are kept; the same command goes on"
    else:
        assert broken.code == -signal.SIGKILL
    resumed = umbel(*COMMAND)
    whole = umbel(*COMMAND, "--store", "whole.db")
    assert resumed.code == whole.code == 0
    assert values(resumed) == values(whole)
    assert [line["kept"] for line in lines(resumed)[:-1]] == [True, False, False, False]
    # The second run went on: it is still one run, the store has four.
    assert len(json.loads(umbel("ls", "--json").out)) == 4
