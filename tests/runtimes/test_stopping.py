"""Rules that end a run: one that never can is refused, one that does not find its metric says so."""

import numpy as np
import pytest

import umbel as fl
from umbel.errors import NotSupported


class Learns(fl.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 1.0], 1, {"error": 1.0}

    def evaluate(self, parameters, config):
        return float(parameters[0][0]), 1, {"accuracy": 0.5}


class Trains(fl.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 1.0], 1, {"error": 1.0}


def run(client=Learns, evaluate_fn=None, num_rounds=3, **config):
    return fl.simulate(
        lambda context: client(),
        2,
        config=fl.ServerConfig(num_rounds, seed=1, **config),
        initial_parameters=[np.zeros(1)],
        evaluate_fn=evaluate_fn,
        engine="serial",
        progress=False,
    )


def centrally(round, parameters, config):
    return 1.0, {"f1": 0.5}


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"target": 0.5, "fraction_evaluate": 0.0}, "target is set but nothing is evaluated.*fraction_evaluate is 0"),
        ({"patience": 2, "fraction_evaluate": 0.0}, "patience is set but nothing is evaluated, .* raise fraction_ev"),
        (
            {"target": 0.5, "client": Trains},
            r"clients have no evaluate \(or no test data\) and there is no evaluate_fn",
        ),
        (
            {"patience": 2, "monitor": "central_f1"},
            "monitor='central_f1' is what evaluate_fn measures, and there is no",
        ),
    ],
)
def test_a_rule_that_can_never_stop_the_run_is_refused_before_it(given, sentence):
    with pytest.raises(NotSupported, match=sentence):
        run(**given)


@pytest.mark.parametrize(
    ("given", "ended"),
    [
        ({"target": 1.0, "monitor": "train_error", "fraction_evaluate": 0.0}, "target"),
        ({"target": 1.0, "evaluate_fn": centrally, "fraction_evaluate": 0.0}, "target"),
        ({"target": 0.4, "evaluate_fn": centrally, "monitor": "central_f1"}, "target"),
        ({"target": 0.4, "monitor": "accuracy"}, "target"),
        ({"patience": 1, "client": Trains, "monitor": "train_error"}, "patience"),
        ({"target": 0.5, "fraction_evaluate": 0.0, "num_rounds": 0}, "finished"),
    ],
)
def test_a_rule_that_can_stop_the_run_is_taken(given, ended):
    history = run(**given)
    assert history.ended == ended
    assert not [said for said in history.warnings if "monitor" in said]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"target": 0.5, "monitor": "acc"}, "target does not stop the run"),
        ({"patience": 2, "monitor": "acc"}, "patience does not stop the run"),
        ({"monitor": "acc"}, "no checkpoint is the best one"),
    ],
)
def test_a_monitor_that_nobody_reports_is_said_once_with_those_that_are(given, said):
    history = run(**given)
    assert history.warnings == (
        "monitor='acc' is not among the measured metrics ('accuracy', 'loss', 'train_error'), so "
        f"{said}; name one of these, or return it from evaluate or evaluate_fn",
    )


def test_a_monitor_is_looked_for_where_it_is_measured():
    assert run(target=0.4, monitor="accuracy", evaluate_every=3).warnings == ()
    assert len(run(target=0.4, monitor="acc", evaluate_every=2, num_rounds=8).warnings) == 1
