"""What bad input gets: a sentence naming what, where and how to mend it, and nothing lost."""

import numpy as np
import pytest

import umbel as fl
from umbel.errors import ConfigError, NotSupported, TooFewClients


class Good(fl.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 1.0], 10, {"accuracy": 0.5}

    def evaluate(self, parameters, config):
        return float(parameters[0].sum()), 10, {}


def bad(**methods):
    return type("Bad", (Good,), methods)


def run(bad_client, clients=3, arguments=None, **config):
    """Client 1 is bad, the others are good."""

    def client_fn(context):
        return bad_client() if context.partition_id == 1 else Good()

    return fl.simulate(
        client_fn,
        clients,
        config=fl.ServerConfig(**{"num_rounds": 2, "seed": 1, **config}),
        progress=False,
        **{"engine": "serial", "initial_parameters": [np.zeros(3, np.float32)], **(arguments or {})},
    )


def fit_returns(value):
    return bad(fit=lambda self, parameters, config: value)


def raises(self, parameters, config):
    raise RuntimeError("the disk is on fire")


@pytest.mark.parametrize(
    ("client", "sentence"),
    [
        (bad(fit=raises), "RuntimeError: the disk is on fire (in raises, test_bad_input.py line"),
        (fit_returns(([np.full(3, np.nan, np.float32)], 1, {})), "array '0' holds NaN; lower the learning rate"),
        (fit_returns(([np.full(3, np.inf, np.float32)], 1, {})), "array '0' holds an infinite value"),
        (fit_returns(([np.zeros(4, np.float32)], 1, {})), "array '0' has shape (4,), the model has (3,)"),
        (fit_returns(([np.zeros(3), np.zeros(1)], 1, {})), "fit returned 2 arrays, the model has 1"),
        (fit_returns(({"w": np.zeros(3)}, 1, {})), "the client sent 'w', the task has '0' (did the model change?)"),
        (fit_returns(([np.zeros(3, complex)], 1, {})), "array '0': dtype complex128 cannot be part of a model"),
        (fit_returns(([["a", "b", "c"]], 1, {})), "array '0': dtype"),
        (fit_returns(([np.zeros(3)], -1, {})), "num_examples is -1; allowed is a finite number of at least 0"),
        (fit_returns(([np.zeros(3)], "many", {})), "num_examples is 'many'"),
        (fit_returns(None), "fit returned a NoneType; it must return (new_parameters, num_examples, metrics)"),
        (fit_returns([1, 2]), "fit returned a list of 2; it must return (new_parameters, num_examples, metrics)"),
        (fit_returns(np.zeros(3)), "fit returned a ndarray"),
        (fit_returns((3.0, 1, {})), "fit returned parameters that are no arrays"),
    ],
)
def test_a_bad_answer_is_refused_in_a_sentence_and_the_run_goes_on(client, sentence):
    history = run(client)
    assert history.parameters["0"].tolist() == [2.0, 2.0, 2.0]
    for record in history.rounds:
        assert record.participants == 2
        assert [f.client for f in record.failures] == ["1"]
        assert sentence in record.failures[0].reason


def test_a_bad_evaluation_is_named_and_left_out():
    history = run(bad(evaluate=lambda self, parameters, config: "good"))
    assert (
        "evaluate returned a str; it must return (loss, num_examples, metrics)" in history.rounds[0].failures[0].reason
    )
    assert history.loss == 6.0
    history = run(bad(evaluate=lambda self, parameters, config: (None, 3, {})))
    assert "the loss None, which is no number" in history.rounds[0].failures[0].reason


def test_a_metric_that_is_not_a_number_is_left_out_and_said_once():
    def fit(self, parameters, config):
        return [parameters[0] + 1], 10, {"accuracy": "high", "f1": float("nan"), "recall": 0.25}

    history = run(bad(fit=fit))
    assert history.rounds[-1].metrics["train_recall"] == 0.25
    assert history.rounds[-1].metrics["train_accuracy"] == 0.5
    assert [w for w in history.warnings if "accuracy" in w] == [
        "client 1: metric 'accuracy' is 'high', not a finite number, and was left out"
    ]


def test_metrics_may_be_left_out_and_other_float_widths_are_converted():
    history = run(fit_returns(([[2.0, 2.0, 2.0]], 10)))
    assert history.rounds[0].participants == 3
    assert history.parameters["0"].dtype == np.float32


def test_zero_examples_weigh_nothing_and_none_at_all_end_the_run():
    history = run(fit_returns(([np.full(3, 100.0)], 0, {})))
    assert history.parameters["0"].tolist() == [2.0, 2.0, 2.0]
    with pytest.raises(TooFewClients, match="none of the 3 clients that answered has any examples"):
        fl.simulate(
            lambda context: fit_returns(([np.zeros(3)], 0, {}))(),
            3,
            initial_parameters=[np.zeros(3)],
            engine="serial",
            progress=False,
        )


def test_a_client_that_never_returns_is_given_up():
    def forever(self, parameters, config):
        while True:
            try:
                sum(range(1000))
            except Exception:
                continue

    history = run(bad(fit=forever), num_rounds=1, client_timeout=0.2)
    assert history.rounds[0].failures[0].reason == "did not answer within client_timeout = 0.2 s"
    assert history.rounds[0].participants == 2


def test_a_client_without_evaluate_is_no_failure_and_said_once():
    class Trains(fl.NumPyClient):
        def fit(self, parameters, config):
            return parameters, 1, {}

    history = fl.simulate(
        lambda context: Trains(),
        2,
        config=fl.ServerConfig(num_rounds=3),
        initial_parameters=[[0.0]],
        engine="serial",
        progress=False,
    )
    assert history.warnings == ("clients have no evaluate (or no test data); evaluation by clients is skipped",)
    assert all(not record.failures for record in history.rounds)


def simulate(client_fn=lambda context: Good(), clients=2, **arguments):
    given = {"initial_parameters": [np.zeros(3)], "engine": "serial", "progress": False, **arguments}
    return fl.simulate(client_fn, clients, **given)


@pytest.mark.parametrize("seconds", [float("inf"), 1e20, 10**400])
def test_a_client_timeout_that_no_clock_can_wait_for_is_refused(seconds):
    with pytest.raises(ConfigError, match=r"client_timeout must be at most 1000000000 seconds, .* None waits as long"):
        fl.ServerConfig(client_timeout=seconds)
    history = run(Good, num_rounds=1, client_timeout=1e9)
    assert history.rounds[0].participants == 3


class Empty(fl.NumPyClient):
    pass


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"clients": 0}, "num_clients must be a whole number of at least 1, got 0"),
        ({"clients": 2.5}, "num_clients must be a whole number of at least 1, got 2.5"),
        ({"client_fn": Good()}, "client_fn must be a function that builds a client, got Good"),
        ({"stop_when": 3}, "stop_when must be a function of a round's record, got 3"),
        ({"client_fn": lambda context: Empty()}, "Empty can neither be trained nor evaluated; give it at least one of"),
        ({"client_fn": lambda context: Good}, r"client_fn returned the class Good; return an object: Good\("),
        ({"client_fn": lambda context: None}, "NoneType can neither be trained nor evaluated"),
        ({"client_fn": lambda context: 1 / 0}, "client_fn cannot build client 0: ZeroDivisionError"),
        ({"client_fn": lambda a, b: Good()}, "client_fn takes 2 arguments; it is called with one, the context"),
        ({"engine": "gpu"}, "engine must be one of auto, serial, pool, vmap, ray, got 'gpu'"),
        ({"workers": 0}, "workers must be a whole number of at least 1"),
        ({"initial_parameters": []}, "the initial parameters are empty"),
        ({"initial_parameters": ["a"]}, "array '0' has dtype"),
        ({"initial_parameters": None}, "there are no initial parameters: pass initial_parameters="),
        ({"strategy": "FedAvg"}, r"strategy must be a Strategy such as FedAvg\(\), got 'FedAvg'"),
        ({"strategy": fl.FedAvg(shared="nothing.*")}, "matches no array; the model has 0"),
    ],
)
def test_wrong_arguments_are_refused_before_the_run(arguments, sentence):
    with pytest.raises((ConfigError, ValueError), match=sentence):
        simulate(**arguments)


@pytest.mark.parametrize(
    ("strategy", "sentence"),
    [
        (fl.FedProx(mu=0.1), 'FedProx reaches inside .* a Good keeps closed; .* declare corrections = ."proximal",.'),
        (fl.Scaffold(), "Scaffold reaches inside the training loop, which a Good keeps closed"),
        (fl.FedSGD(), "FedSGD reaches inside"),
        (fl.FedDyn(), "FedDyn reaches inside"),
    ],
)
def test_a_strategy_that_needs_the_inside_refuses_closed_clients(strategy, sentence):
    with pytest.raises(NotSupported, match=sentence):
        simulate(strategy=strategy)


def test_fedprox_with_mu_zero_and_clients_that_apply_the_correction_are_welcome():
    class Proximal(Good):
        corrections = ("proximal",)

        def fit(self, parameters, config):
            return [parameters[0] + config["mu"]], 1, {}

    assert simulate(strategy=fl.FedProx(mu=0.0)).rounds[-1].participants == 2
    history = simulate(lambda context: Proximal(), strategy=fl.FedProx(mu=0.25))
    assert history.parameters["0"].tolist() == [0.25] * 3


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: fl.FedProx(mu=-0.1), "mu must be at least 0, got -0.1"),
        (lambda: fl.QFedAvg(q=-1), "q must be at least 0"),
        (lambda: fl.FedDyn(alpha=0), "alpha must be above 0"),
        (lambda: fl.FedAvg(weighting="size"), "weighting must be"),
        (lambda: fl.adam(lr=0), "lr must be above 0"),
        (lambda: fl.adam(beta1=1.0), "beta1 must be at least 0 and below 1"),
        (lambda: fl.momentum(beta=1.5), "beta must be"),
    ],
)
def test_hyper_parameters_out_of_range_are_refused(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


def test_an_exploding_server_step_ends_the_run_with_the_array_named():
    with pytest.raises(fl.RoundError, match="the server's step made '0' infinite or NaN"):
        simulate(
            lambda context: fit_returns(([np.full(3, 3e38, np.float32)], 1, {}))(),
            initial_parameters=[np.zeros(3, np.float32)],
            strategy=fl.FedAvg(server=fl.sgd(1e6)),
        )


def test_more_clients_than_exist_are_not_asked():
    history = simulate(clients=2, config=fl.ServerConfig(min_fit_clients=50))
    assert history.rounds[-1].participants == 2


def test_values_too_large_for_a_sum_are_refused_before_they_tear_it():
    history = run(fit_returns(([np.full(3, 1e300)], 1, {})), num_rounds=1)
    assert (
        "NaN or infinite" in history.rounds[0].failures[0].reason or "infinite" in history.rounds[0].failures[0].reason
    )
    wide = fl.simulate(
        lambda context: fit_returns(([np.full(3, 1e290)], 1, {}))() if context.partition_id else Good(),
        2,
        initial_parameters=[np.zeros(3)],
        engine="serial",
        progress=False,
    )
    assert "exceeds 1e+280" in wide.rounds[0].failures[0].reason
    assert wide.parameters["0"].tolist() == [1.0, 1.0, 1.0]


def test_state_that_cannot_be_kept_is_refused_with_the_reason():
    def client_fn(context):
        class Keeps(Good):
            def fit(self, parameters, config):
                context.state["socket"] = object()
                return parameters, 1, {}

        return Keeps() if context.partition_id == 1 else Good()

    history = simulate(client_fn, clients=3)
    assert "context.state cannot be kept: object is not plain data" in history.rounds[0].failures[0].reason


def test_a_client_that_ends_the_process_fails_alone():
    import sys

    for engine in ("serial", "pool"):
        history = fl.simulate(
            lambda context: (
                bad(fit=lambda self, parameters, config: sys.exit(0))() if context.client == "1" else Good()
            ),
            3,
            config=fl.ServerConfig(num_rounds=1, seed=1),
            initial_parameters=[np.zeros(3)],
            engine=engine,
            workers=2 if engine == "pool" else None,
            progress=False,
        )
        assert [failure.client for failure in history.rounds[0].failures] == ["1"]
        assert history.rounds[0].failures[0].reason.startswith("SystemExit: 0")


def test_initial_parameters_that_are_not_finite_are_refused_before_the_run():
    with pytest.raises(ConfigError, match="the initial parameters hold NaN or an infinite value in '0'"):
        run(Good, arguments={"initial_parameters": [np.full(3, np.nan)]})


def test_sharing_nothing_is_refused_and_is_not_sharing_everything():
    with pytest.raises(ConfigError, match=r"shared must be a pattern or a list of at least one, got \[\]"):
        fl.FedAvg(shared=[])
    with pytest.raises(ConfigError, match="server must be a server optimiser"):
        fl.FedAvg(server=3)


def test_private_arrays_need_clients_that_can_say_how_theirs_begin():
    with pytest.raises(NotSupported, match="with shared= each client keeps arrays of its own, and Good cannot say"):
        fl.simulate(
            lambda context: Good(),
            2,
            strategy=fl.FedAvg(shared="a"),
            initial_parameters={"a": np.zeros(2), "b": np.zeros(2)},
            engine="serial",
            progress=False,
        )


def test_hooks_may_return_nothing_and_other_things_are_named():
    history = run(Good, arguments={"on_fit_config_fn": lambda server_round: None}, num_rounds=1)
    assert history.ended == "finished"
    with pytest.raises(ConfigError, match="returned a int; return a dict, or None for nothing"):
        run(Good, arguments={"on_fit_config_fn": lambda server_round: 3}, num_rounds=1)


def test_an_observer_that_fails_is_told_no_more_and_the_run_goes_on():
    told = []

    def observe(event):
        told.append(event["kind"])
        raise OSError("the terminal is gone")

    history = run(Good, arguments={"observers": [observe]}, num_rounds=3)
    assert len(history.rounds) == 3
    assert len(told) == 1
    assert any("an observer failed and is told no more (OSError: the terminal is gone)" in w for w in history.warnings)


class Mute(Exception):
    def __str__(self):
        return 1 / 0


@pytest.mark.parametrize("engine", [{"engine": "serial"}, {"engine": "pool", "workers": 2}])
def test_an_exception_that_cannot_be_printed_is_one_failed_client(engine):
    def fit(self, parameters, config):
        raise Mute

    (record,) = run(bad(fit=fit), arguments=engine, num_rounds=1).rounds
    assert record.participants == 2
    assert record.failures[0].reason.startswith(
        "Mute: its message cannot be had, __str__ raises ZeroDivisionError (in fit, "
    )


def test_a_long_reason_is_cut():
    def fit(self, parameters, config):
        raise ValueError("x" * 100_000)

    history = run(bad(fit=fit), num_rounds=1)
    assert len(history.rounds[0].failures[0].reason) < 700
