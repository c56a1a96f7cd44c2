"""A sweep is its runs, however often it broke off; what cannot be is refused before the first of them."""

import os
import signal
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import umbel as fl
from umbel.errors import ConfigError, StoreError, UmbelError
from umbel.runtimes.sweep.leading import name_of
from umbel.runtimes.sweep.space import text_of
from umbel.stores import SQLiteStore
from umbel.testing import Quadratics

GRID = {"lr": [0.01, 0.05], "mu": [0.0, 0.5]}


class Toy:
    """A function to sweep over, and what it was called with and gave."""

    def __init__(self, observers=(), rounds=3):
        self.calls, self.histories, self.observers, self.rounds = [], [], observers, rounds

    def __call__(self, seed, lr=0.01, mu=0.0, **kept):
        self.calls.append((lr, mu, seed))
        history = fl.simulate(
            Quadratics(lr=lr).client,
            4,
            strategy=fl.FedProx(mu=mu),
            config=fl.ServerConfig(num_rounds=self.rounds, fraction_fit=0.5, seed=seed),
            engine="serial",
            progress=False,
            observers=self.observers,
            **kept,
        )
        self.histories.append(history)
        return history


def digests(path):
    """The final model of every run in the store, by the run's name."""
    store = SQLiteStore(path)
    found = {info.name: store.checkpoint(info.id, store.checkpoints(info.id)[-1]) for info in store.runs()}
    store.close()
    return found


def test_a_sweep_of_one_point_is_that_run_to_the_bit():
    sweep = fl.sweep(toy := Toy(), {"lr": [0.05]}, seeds=[7], progress=False)
    alone = Toy()(7, lr=0.05)
    assert toy.histories[0].parameters.digest == alone.parameters.digest
    assert [run.value for run in sweep.runs] == [alone.loss]
    assert sweep.best.mean == alone.loss


def test_every_point_gets_every_seed_and_its_mean_and_spread():
    sweep = fl.sweep(toy := Toy(), GRID, seeds=3, progress=False)
    assert toy.calls == [(lr, mu, seed) for lr in (0.01, 0.05) for mu in (0.0, 0.5) for seed in range(3)]
    losses = [history.loss for history in toy.histories]
    for number, result in enumerate(sweep.points):
        mine = losses[3 * number : 3 * number + 3]
        assert result.mean == pytest.approx(statistics.mean(mine), rel=1e-14)
        assert result.spread == pytest.approx(statistics.stdev(mine), rel=1e-14)
    assert sweep.best.mean == min(result.mean for result in sweep.points)
    assert sweep.ended == "finished"


def test_no_settings_at_all_are_one_point():
    assert [run.point for run in fl.sweep(Toy(), {}, seeds=2, progress=False).runs] == [{}, {}]


def test_more_can_be_better():
    losses = fl.sweep(Toy(), GRID, mode="max", progress=False)
    assert losses.best.mean == max(result.mean for result in losses.points)


def test_finished_runs_are_read_and_not_run_again(tmp_path):
    first = fl.sweep(Toy(), GRID, store=tmp_path / "s.db", progress=False)
    again = fl.sweep(toy := Toy(), GRID, store=tmp_path / "s.db", progress=False)
    assert toy.calls == []
    assert again == first
    assert all(run.kept for run in again.runs)
    assert again.table() == first.table()


def test_more_seeds_and_values_are_added_to_what_there_is(tmp_path):
    fl.sweep(Toy(), GRID, store=tmp_path / "s.db", progress=False)
    # The order of the settings does not matter either.
    wider = {"mu": [0.0, 0.5], "lr": [0.01, 0.02, 0.05]}
    fl.sweep(toy := Toy(), wider, seeds=2, store=tmp_path / "s.db", progress=False)
    there = {(lr, mu, 0) for lr in GRID["lr"] for mu in GRID["mu"]}
    assert set(toy.calls) == {(lr, mu, seed) for lr in wider["lr"] for mu in GRID["mu"] for seed in (0, 1)} - there


def test_another_name_is_another_sweep(tmp_path):
    fl.sweep(Toy(), GRID, store=tmp_path / "s.db", progress=False)
    fl.sweep(toy := Toy(), GRID, store=tmp_path / "s.db", name="other", progress=False)
    assert len(toy.calls) == 4


# Broken off


def test_after_an_interrupt_between_two_runs_it_goes_on_where_it_was(tmp_path):
    class Tired(Toy):
        def __call__(self, *args, **kwargs):
            if len(self.calls) == 2:
                raise KeyboardInterrupt
            return super().__call__(*args, **kwargs)

    broken = fl.sweep(Tired(), GRID, store=tmp_path / "s.db", progress=False)
    assert (broken.ended, len(broken.runs)) == ("interrupted", 2)
    resumed = fl.sweep(toy := Toy(), GRID, store=tmp_path / "s.db", progress=False)
    assert len(toy.calls) == 2
    assert resumed == fl.sweep(Toy(), GRID, progress=False)


def test_after_an_interrupt_inside_of_a_run_that_run_goes_on(tmp_path):
    rounds = []

    def tired(event):
        rounds.append(event["kind"] == "round")
        if event["kind"] == "round" and sum(rounds) == 5:  # the second of the second run
            raise KeyboardInterrupt

    broken = fl.sweep(Toy([tired]), GRID, store=tmp_path / "s.db", progress=False)
    assert (broken.ended, len(broken.runs)) == ("interrupted", 1)
    played = []
    resumed = fl.sweep(Toy([lambda e: played.append(e["kind"])]), GRID, store=tmp_path / "s.db", progress=False)
    fl.sweep(Toy(), GRID, store=tmp_path / "whole.db", progress=False)
    assert played.count("round") == 4 * 3 - 5
    assert resumed == fl.sweep(Toy(), GRID, store=tmp_path / "whole.db", progress=False)
    assert digests(tmp_path / "s.db") == digests(tmp_path / "whole.db")


# It kills itself at the n-th round that is played, or before the n-th run.
PROGRAM = """
import os, signal, sys
import umbel as fl
from test_sweep import GRID, RANGES, Toy

path, search, place, countdown = sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])

def here(name):
    global countdown
    countdown -= name == place
    if countdown == 0:
        os.kill(os.getpid(), signal.SIGKILL)

class Deadly(Toy):
    def __call__(self, *args, **kwargs):
        here("run")
        return super().__call__(*args, **kwargs)

toy = Deadly([lambda event: here(event["kind"])])
space, trials = (GRID, None) if search == "grid" else (RANGES, 4)
fl.sweep(toy, space, trials=trials, search=search, seeds=2, store=path, progress=False)
print("never reached")
"""
RANGES = {"lr": fl.Range(1e-3, 1e-1, log=True), "mu": [0.0, 0.5]}


@pytest.mark.parametrize(
    ("search", "place", "countdown"),
    [
        *(("grid", *where) for where in [("run", 1), ("run", 4), ("round", 2), ("round", 9), ("ended", 3)]),
        *((search, *where) for search in ("random", "optuna") for where in [("run", 4), ("round", 9)]),
    ],
)
def test_a_sweep_that_was_killed_ends_as_if_it_was_not(search, place, countdown, tmp_path):
    if search == "optuna":
        pytest.importorskip("optuna")
    space, trials = (GRID, None) if search == "grid" else (RANGES, 4)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    arguments = [str(tmp_path / "s.db"), search, place, str(countdown)]
    ran = subprocess.run([sys.executable, "-c", PROGRAM, *arguments], env=environment, capture_output=True, timeout=120)
    assert ran.returncode == -signal.SIGKILL, ran.stderr.decode()
    options = {"trials": trials, "search": search, "seeds": 2, "progress": False}
    resumed = fl.sweep(toy := Toy(), space, store=tmp_path / "s.db", **options)
    whole = fl.sweep(Toy(), space, store=tmp_path / "whole.db", **options)
    assert resumed == whole
    assert digests(tmp_path / "s.db") == digests(tmp_path / "whole.db")
    # A run that is over but for its last word is read as well; others are played from where they were.
    done = {("run", 4): 3, ("round", 9): 2, ("ended", 3): 2}.get((place, countdown), 0)
    assert len(toy.calls) == 8 - done


# What a search names


def points(sweep):
    return [text_of(run.point) for run in sweep.runs]


def test_random_points_depend_on_the_search_seed_alone():
    def drawn(**options):
        return points(fl.sweep(Toy(rounds=1), RANGES, search="random", progress=False, **options))

    assert drawn(trials=6) == drawn(trials=6)
    assert drawn(trials=6)[:3] == drawn(trials=3)
    assert drawn(trials=6) != drawn(trials=6, search_seed=1)


@given(st.floats(1e-6, 1e3), st.floats(1e-6, 1e3), st.booleans(), st.integers(0, 2**32))
def test_a_range_is_never_left(one, other, log, seed):
    import numpy as np

    if one == other:
        other = one + 1.0
    chosen = fl.Range(min(one, other), max(one, other), log=log)
    drawn = [chosen.draw(np.random.default_rng(seed + number)) for number in range(5)]
    values = [*drawn, chosen.rounded(chosen.low), chosen.rounded(chosen.high)]
    assert all(chosen.low <= value <= chosen.high for value in values)


@pytest.mark.parametrize("log", [False, True])
def test_a_range_of_whole_numbers_gives_each_of_them(log):
    import numpy as np

    rng = np.random.default_rng(0)
    values = [fl.Range(1, 4, log=log).draw(rng) for _ in range(200)]
    assert {1, 2, 3, 4} == set(values)
    assert all(type(value) is int for value in values)


def test_a_logarithmic_range_gives_each_decade_its_share():
    import numpy as np

    rng = np.random.default_rng(0)
    values = [fl.Range(1e-4, 1e-1, log=True).draw(rng) for _ in range(600)]
    # 200 expected with a standard deviation of √(600·⅓·⅔) = 11.5
    assert all(155 < sum(low <= value < 10 * low for value in values) < 245 for low in (1e-4, 1e-3, 1e-2))


def test_a_point_that_is_drawn_twice_counts_once():
    sweep = fl.sweep(toy := Toy(rounds=1), {"lr": [0.01, 0.05]}, trials=12, search="random", progress=False)
    assert len(toy.calls) == len(sweep.runs) == 2


def test_optuna_looks_where_it_was_good():
    pytest.importorskip("optuna")
    space = {"lr": fl.Range(1e-4, 1.0, log=True), "mu": fl.Range(0, 3), "kind": [1, 1.0, True, "a b", [1, 2]]}
    seen = []

    def run(seed, lr, mu, kind, **kept):
        seen.append((lr, mu, kind))
        return Toy(rounds=1)(seed, lr=lr, mu=float(mu), **kept)

    sweep = fl.sweep(run, space, trials=30, progress=False)
    assert all(1e-4 <= lr <= 1.0 and type(mu) is int for lr, mu, _ in seen)
    assert all(any(kind is value or kind == value for value in space["kind"]) for _, _, kind in seen)
    means = [result.mean for result in sweep.points]
    assert statistics.median(means[-10:]) < statistics.median(means[:10])


def test_without_optuna_it_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'umbel\[tune\]', or search='random'"):
        fl.sweep(Toy(), RANGES, trials=3, progress=False)


# Failures


def test_a_point_that_fails_is_a_row_and_does_not_end_the_sweep(tmp_path):
    sweep = fl.sweep(Toy(), {"mu": [-1.0, 0.0]}, seeds=2, store=tmp_path / "s.db", progress=False)
    bad, good = sweep.points
    assert bad.errors == ("mu must be at least 0, got -1.0; try 0.001 to 1",) * 2
    assert (bad.mean, bad.spread) == (None, None)
    assert sweep.best == good
    assert [line.split()[-2:] for line in sweep.table().splitlines()] == [["runs", "failed"], ["0", "2"], ["0", "*"]]


def test_a_seed_that_fails_leaves_its_point_without_a_mean():
    def run(seed, lr, **kept):
        if (seed, lr) == (1, 0.01):
            raise OSError("no disk")
        return Toy()(seed, lr, **kept)

    sweep = fl.sweep(run, {"lr": [0.01, 1000.0]}, seeds=2, progress=False)
    assert sweep.points[0].mean is None
    assert len(sweep.points[0].values) == 1
    assert "OSError: no disk" in sweep.points[0].errors[0]
    assert sweep.best.point == {"lr": 1000.0}


def test_a_run_that_failed_is_tried_again(tmp_path):
    def broken(seed, lr, **kept):
        raise OSError("no disk")

    fl.sweep(broken, {"lr": [0.01]}, store=tmp_path / "s.db", progress=False)
    assert fl.sweep(Toy(), {"lr": [0.01]}, store=tmp_path / "s.db", progress=False).best.mean is not None


def test_where_all_fail_the_best_says_why():
    sweep = fl.sweep(Toy(), {"mu": [-1.0]}, progress=False)
    with pytest.raises(UmbelError, match="no point of the sweep has a mean loss; the first reason: mu must be at"):
        _ = sweep.best
    assert "-1.0" in sweep.table()


def test_a_store_that_cannot_be_opened_or_used_ends_the_sweep(tmp_path):
    with pytest.raises(StoreError):
        fl.sweep(toy := Toy(), GRID, store=tmp_path / "nowhere" / "s.db", progress=False)
    assert toy.calls == []

    def interrupted(event):
        if event["kind"] == "round":
            raise KeyboardInterrupt

    fl.sweep(Toy([interrupted]), GRID, store=tmp_path / "s.db", progress=False)
    other = SQLiteStore(tmp_path / "s.db")
    [run] = other.runs()
    other.claim(run.id)
    with pytest.raises(StoreError):
        fl.sweep(Toy(), GRID, store=tmp_path / "s.db", progress=False)
    assert len(other.runs()) == 1
    other.close()


# Refusals


@pytest.mark.parametrize(
    ("space", "options", "said"),
    [
        ({"lr": []}, {}, r"lr has no value; give at least one, such as lr=\[0.1\]"),
        ({"lr": 0.1}, {}, r"lr must be a list of values or a Range, got 0.1; try lr=\[0.1\]"),
        ({"lr": "0.1"}, {}, "lr must be a list"),
        ([0.1], {}, "space must map names to lists"),
        ({"lr": [0.1, 0.1]}, {}, "lr has the value 0.1 twice"),
        ({"lr": [float("nan")]}, {}, "lr must be finite, got nan"),
        ({"mu": [fl.FedAvg()]}, {}, "mu must be plain: .* name it by a text"),
        ({"": [1]}, {}, "a setting's name must be a printable text, got ''"),
        ({"seed": [1]}, {}, "'seed' cannot be a setting"),
        ({"lr": fl.Range(0.1, 1.0)}, {}, "lr is a Range, which no grid can try out; give a list, or trials=50"),
        ({"lr": [0.1]}, {"trials": 0, "search": "random"}, "trials must be a whole number of at least 1, got 0"),
        ({"lr": [0.1]}, {"trials": 3, "search": "grid"}, "a grid tries every point, got trials=3"),
        ({"lr": [0.1]}, {"search": "random"}, "search='random' needs to know how many points"),
        ({"lr": [0.1]}, {"search": "best"}, "search must be one of grid, random, optuna, got 'best'"),
        ({"lr": [0.1]}, {"seeds": 0}, "seeds must be at least 1, or a list of seeds, got 0"),
        ({"lr": [0.1]}, {"seeds": []}, r"seeds must be a number or distinct seeds, got \[\]"),
        ({"lr": [0.1]}, {"seeds": [1, 1]}, "distinct seeds"),
        ({"lr": [0.1]}, {"seeds": [-1]}, "distinct seeds"),
        ({"lr": [0.1]}, {"metric": ""}, "metric must be a name such as 'loss', got ''"),
        ({"lr": [0.1]}, {"mode": "less"}, "mode must be 'auto', 'min' or 'max', got 'less'"),
        ({"lr": [0.1]}, {"name": "a\nb"}, "name must be 1 to 80 printable characters"),
        ({"lr": [0.1]}, {"search_seed": "x"}, "search_seed must be a whole number, got 'x'"),
    ],
)
def test_bad_input_is_refused_before_the_first_run(space, options, said):
    toy = Toy()
    with pytest.raises(ConfigError, match=said):
        fl.sweep(toy, space, progress=False, **options)
    assert toy.calls == []


def test_a_function_that_cannot_take_the_settings_is_refused_before_it_is_called():
    def run(seed, lr, **kept):
        raise AssertionError

    def bare(seed, lr):
        raise AssertionError

    with pytest.raises(ConfigError, match=r"missing a required argument: 'lr'; write def run\(seed, \*\*kept\)"):
        fl.sweep(run, {}, progress=False)
    with pytest.raises(ConfigError, match=r"unexpected keyword argument 'store'; write def run\(seed, lr, \*\*kept\)"):
        fl.sweep(bare, {"lr": [0.1]}, progress=False)
    with pytest.raises(ConfigError, match="run must be a function that simulates one point, got a int"):
        fl.sweep(1, {"lr": [0.1]}, progress=False)


def test_a_metric_that_no_run_measures_is_refused_after_the_first():
    with pytest.raises(ConfigError, match="metric 'accuracy' is none that the runs measure; they measure loss"):
        fl.sweep(toy := Toy(), GRID, metric="accuracy", progress=False)
    assert len(toy.calls) == 1


def test_a_function_that_hands_nothing_on_is_refused():
    def run(seed, lr, **kept):
        return Toy()(seed, lr)

    with pytest.raises(ConfigError, match=r"hand on to fl.simulate what run\(\) is given"):
        fl.sweep(run, {"lr": [0.1]}, progress=False)
    with pytest.raises(ConfigError, match=r"must return the History of fl.simulate, got a NoneType"):
        fl.sweep(lambda seed, **kept: None, {}, progress=False)


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ((1, 1), "low of a Range must be less than high, got 1 and 1"),
        ((0.0, 1.0), "low of a Range with log=True must be above 0, got 0.0"),
        (("a", 1), "low of a Range must be a number, got 'a'"),
        ((1, float("inf")), "high of a Range must be finite, got inf"),
    ],
)
def test_a_range_that_is_none_is_refused(ends, said):
    with pytest.raises(ConfigError, match=said):
        fl.Range(*ends, log=True)


# Names and pictures


PLAIN = st.one_of(st.booleans(), st.integers(-9, 9), st.floats(-2, 2), st.text(max_size=200), st.just("true"))


@example({"a": "x" * 300}, {"a": "x" * 301})
@example({"a": "true"}, {"a": True})
@example({"a": "b", "c": 1}, {"a": "b c=1"})
@example({"a": 1}, {"a": 1.0})
@given(st.dictionaries(st.sampled_from("abc"), PLAIN), st.dictionaries(st.sampled_from("abc"), PLAIN))
def test_runs_of_different_points_have_different_printable_names(one, other):
    first, second = name_of("sweep", one, 1), name_of("sweep", other, 1)
    same = {k: (type(v), repr(v)) for k, v in one.items()} == {k: (type(v), repr(v)) for k, v in other.items()}
    assert (first == second) == same
    assert first.isprintable()
    assert len(first) <= 200


def test_a_line_per_run_is_printed(capsys):
    fl.sweep(Toy(), {"mu": [0.0, -1.0]}, progress=True)
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("1/2  mu=0.0 seed=0: loss ")
    assert second == "2/2  mu=-1.0 seed=0: failed: mu must be at least 0, got -1.0; try 0.001 to 1"


def test_observers_see_every_run():
    seen = []
    assert fl.sweep(Toy(), GRID, observers=[seen.append], progress=False).runs == tuple(seen)


def test_a_data_frame_has_a_row_per_run():
    pytest.importorskip("pandas")
    frame = fl.sweep(Toy(), GRID, seeds=2, progress=False).to_pandas()
    assert list(frame.columns) == ["lr", "mu", "seed", "loss", "error", "rounds", "seconds", "run"]
    assert len(frame) == 8


@pytest.mark.parametrize(
    "space", [GRID, {}, {"lr": [0.01 * n for n in range(1, 15)]}, {"lr": [0.01], "mu": [-1.0, 0.0]}]
)
def test_a_plot_is_a_picture(space, tmp_path):
    pytest.importorskip("matplotlib")
    sweep = fl.sweep(Toy(rounds=1), space, seeds=2, progress=False)
    sweep.plot(tmp_path / "sweep.png")
    assert (tmp_path / "sweep.png").read_bytes().startswith(b"\x89PNG")


def test_the_plot_has_a_panel_per_setting_that_varies():
    pytest.importorskip("matplotlib")
    sweep = fl.sweep(Toy(rounds=1), {"lr": [0.01, 0.05], "mu": [0.0]}, progress=False)
    figure = sweep.plot()
    assert [axes.get_xlabel() for axes in figure.axes] == ["lr"]
    assert figure.axes[0].get_ylabel() == "loss"


def test_a_run_ends_where_it_is_told_to_and_can_go_on():
    store, seen = fl.MemoryStore(), []

    def enough(record):
        seen.append((record.round, record.loss))
        return record.round == 2

    def run(rounds, **more):
        return fl.simulate(
            Quadratics().client,
            4,
            config=fl.ServerConfig(num_rounds=rounds, fraction_fit=0.5, seed=1),
            progress=False,
            **more,
        )

    stopped = run(5, stop_when=enough, store=store, engine="pool", workers=2)
    whole = run(5)
    assert (stopped.ended, [record.round for record in stopped.rounds]) == ("stopped", [1, 2])
    assert seen == [(record.round, record.loss) for record in whole.rounds[:2]]
    assert run(5, store=store, resume="last").parameters == whole.parameters
    assert run(2, stop_when=enough).ended == "finished"


class Half:
    """A pruner that needs nothing but what it was told: it breaks off what is worse than the best at that step."""

    def __new__(cls):
        optuna = pytest.importorskip("optuna")

        class Pruner(optuna.pruners.BasePruner):
            def prune(self, study, trial):
                step = trial.last_step
                others = [t.intermediate_values.get(step) for t in study.trials if t.number < trial.number]
                known = [value for value in others if value is not None]
                return bool(known) and trial.intermediate_values[step] > min(known)

        return Pruner()


def pruned(store=None, toy=None, seeds=2, trials=6, **more):
    toy = toy or Toy(rounds=4)
    space = {"lr": fl.Range(1e-3, 0.2, log=True)}
    return fl.sweep(toy, space, seeds=seeds, trials=trials, pruner=Half(), store=store, progress=False, **more)


def told(sweep):
    return [(run.point, run.seed, run.value, run.error, run.pruned, run.last_round) for run in sweep.runs]


def test_a_point_that_does_worse_is_broken_off_and_the_others_are_what_they_are_without():
    toy = Toy(rounds=4)
    sweep = pruned(toy=toy)
    broken = [run for run in sweep.runs if run.pruned]
    assert broken
    assert all(run.last_round < 4 and run.value is None for run in broken)
    assert all(f"pruned after round {run.last_round}, where loss was" in run.error for run in broken)
    # Its other seeds are not begun, and it has no mean.
    for result in sweep.points:
        runs = [run for run in sweep.runs if run.point == result.point]
        assert result.pruned == sum(run.pruned for run in runs)
        assert not any(run.pruned for run in runs[:-1])
        assert result.mean is None if result.pruned else len(runs) == 2
    for run in sweep.runs:
        if not run.pruned:
            assert run.value == Toy(rounds=4)(run.seed, **run.point).loss
    assert sweep.cells()[0] == ["lr", "loss", "spread", "runs", "failed", "pruned", ""]


def test_a_sweep_that_prunes_goes_on_to_the_same_end(tmp_path):
    whole = told(pruned(tmp_path / "whole.db"))
    for rounds in range(1, 9):
        path = tmp_path / f"{rounds}.db"
        left = rounds

        def interrupt(event):
            nonlocal left
            if event["kind"] == "round":
                left -= 1
                if not left:
                    raise KeyboardInterrupt

        assert pruned(path, Toy([interrupt], rounds=4)).ended == "interrupted"
        assert told(pruned(path)) == whole
        assert all(run.kept for run in pruned(path).runs)
        assert told(pruned(path)) == whole


def test_without_a_pruner_what_was_pruned_goes_on(tmp_path):
    path = tmp_path / "sweep.db"
    first = pruned(path, seeds=1)
    points = {"lr": [run.point["lr"] for run in first.runs if run.pruned]}
    sweep = fl.sweep(Toy(rounds=4), points, store=path, progress=False)
    assert [run.value for run in sweep.runs] == [Toy(rounds=4)(0, lr=lr).loss for lr in points["lr"]]


@pytest.mark.parametrize("pruner", ["median", "halving"])
def test_pruners_have_names(pruner):
    pytest.importorskip("optuna")
    sweep = fl.sweep(Toy(rounds=4), {"lr": fl.Range(1e-3, 0.2, log=True)}, trials=9, pruner=pruner, progress=False)
    assert any(run.pruned for run in sweep.runs)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pruner": "median"}, "compares the points of an Optuna search, got search='grid'"),
        ({"pruner": "median", "trials": 3, "search": "random"}, "got search='random'"),
        ({"pruner": "worst", "trials": 3}, 'pruner must be "median", "halving"'),
    ],
)
def test_a_pruner_that_cannot_be_is_refused(options, said):
    pytest.importorskip("optuna")
    with pytest.raises(ConfigError, match=said):
        fl.sweep(Toy(), {"lr": [0.1]}, progress=False, **options)


def test_a_pruner_hears_of_the_rounds_of_all_seeds_and_of_what_was_pruned():
    optuna = pytest.importorskip("optuna")
    heard = []

    class Second(optuna.pruners.BasePruner):
        """Breaks off the second point in its sixth round, which is the second of its second seed."""

        def prune(self, study, trial):
            heard.append((trial.number, trial.last_step))
            states = [other.state.name for other in study.trials if other.number < trial.number]
            assert states == ["COMPLETE", "PRUNED"][: trial.number]
            return (trial.number, trial.last_step) == (1, 6)

    space = {"lr": fl.Range(1e-3, 0.2, log=True)}
    sweep = fl.sweep(Toy(rounds=4), space, seeds=3, trials=3, pruner=Second(), progress=False)
    assert heard == [*((0, n) for n in range(1, 13)), *((1, n) for n in range(1, 7)), *((2, n) for n in range(1, 13))]
    assert [run.last_round for run in sweep.runs] == [4, 4, 4, 4, 2, 4, 4, 4]
