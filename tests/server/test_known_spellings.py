"""The server's side in the spellings that people know: every keyword reaches its one owner, none twice."""

import numpy as np
import pytest

import umbel as fl
from umbel.errors import ConfigError, TooFewClients
from umbel.reducers import Median

ServerConfig = fl.server.ServerConfig
known = fl.server.strategy


class Adds(fl.NumPyClient):
    """Client i adds i + 1 to every number."""

    def __init__(self, index):
        self.number = index + 1

    def fit(self, parameters, config):
        return [p + self.number for p in parameters], self.number, {"seen": float(config.get("seen", 0))}

    def evaluate(self, parameters, config):
        return float(parameters[0][0]), self.number, {"asked": float(config.get("asked", 0))}


def simulate(strategy, clients=4, config=None, **more):
    given = {"engine": "serial", "progress": False, **more}
    if "initial_parameters" not in getattr(strategy, "run", {}):
        given.setdefault("initial_parameters", [np.zeros(2)])
    config = config or ServerConfig(1)
    return fl.simulate(lambda context: Adds(context.partition_id), clients, strategy=strategy, config=config, **given)


def test_server_config_takes_num_rounds_by_place_or_name_and_nothing_else_by_place():
    assert ServerConfig is fl.ServerConfig
    assert ServerConfig(3) == ServerConfig(num_rounds=3) == fl.ServerConfig(num_rounds=3)
    assert simulate(known.FedAvg(), config=ServerConfig(3)).rounds[-1].round == 3
    with pytest.raises(TypeError, match="positional"):
        ServerConfig(3, 0.5)


def test_every_keyword_reaches_its_owner():
    calls = []

    def evaluate_fn(server_round, parameters, config):
        calls.append(("evaluate_fn", server_round, [p.tolist() for p in parameters], config))
        return 0.5, {"central": 1.0}

    def on_fit(server_round):
        calls.append(("on_fit", server_round))
        return {"seen": server_round}

    def on_evaluate(server_round):
        calls.append(("on_evaluate", server_round))
        return {"asked": 10 * server_round}

    def fit_metrics(metrics):
        calls.append(("fit_metrics", metrics))
        return {"own": sum(n * m["seen"] for n, m in metrics)}

    def evaluate_metrics(metrics):
        calls.append(("evaluate_metrics", metrics))
        return {"asked_sum": sum(m["asked"] for _, m in metrics)}

    strategy = known.FedAvg(
        fraction_fit=0.5,
        fraction_evaluate=0.75,
        min_fit_clients=1,
        min_evaluate_clients=1,
        min_available_clients=4,
        accept_failures=True,
        evaluate_fn=evaluate_fn,
        on_fit_config_fn=on_fit,
        on_evaluate_config_fn=on_evaluate,
        fit_metrics_aggregation_fn=fit_metrics,
        evaluate_metrics_aggregation_fn=evaluate_metrics,
        initial_parameters=[np.full(2, 7.0)],
        inplace=True,
    )
    history = simulate(strategy, config=ServerConfig(1, seed=1))
    assert [call[0] for call in calls[:4]] == ["evaluate_fn", "on_fit", "on_evaluate", "evaluate_fn"]
    aggregated = dict(calls[4:])
    after = history.parameters["0"].tolist()
    assert calls[0] == ("evaluate_fn", 0, [[7.0, 7.0]], {})
    assert calls[3] == ("evaluate_fn", 1, [after], {})
    assert calls[1:3] == [("on_fit", 1), ("on_evaluate", 1)]
    fits, evaluations = aggregated["fit_metrics"], aggregated["evaluate_metrics"]
    assert len(calls) == 6
    assert [m for _, m in fits] == [{"seen": 1.0}] * 2
    # The mean of numbers weighted by themselves: who was asked is known from the counts.
    counts = [n for n, _ in fits]
    assert len(counts) == 2
    assert after == [7.0 + sum(n * n for n in counts) / sum(counts)] * 2
    assert len(evaluations) == 3
    assert all(set(m) == {"asked", "loss"} and m["asked"] == 10.0 for _, m in evaluations)
    record = history.rounds[-1]
    assert record.participants == 2
    assert record.metrics["train_own"] == sum(counts)
    assert record.metrics["asked_sum"] == 30.0
    assert record.metrics["central_loss"] == 0.5
    assert record.metrics["central_central"] == 1.0
    assert history.loss == after[0]


@pytest.mark.parametrize(
    ("keywords", "sentence"),
    [
        ({"min_available_clients": 5}, "4 clients are available, min_available_clients is 5"),
        ({"min_available_clients": 9, "min_fit_clients": 9}, "min_available_clients is 9"),
    ],
)
def test_min_available_clients_is_the_coordinators(keywords, sentence):
    with pytest.raises(TooFewClients, match=sentence):
        simulate(known.FedAvg(**keywords))


def test_min_fit_clients_asks_more_than_the_fraction():
    assert simulate(known.FedAvg(fraction_fit=0.25)).rounds[-1].participants == 1
    assert simulate(known.FedAvg(fraction_fit=0.25, min_fit_clients=3)).rounds[-1].participants == 3


def test_accept_failures_false_ends_the_round_with_the_first_failure():
    class Fails(Adds):
        def fit(self, parameters, config):
            raise RuntimeError("no power")

    def run(**keywords):
        return fl.simulate(
            lambda context: (Fails if context.partition_id == 1 else Adds)(context.partition_id),
            3,
            strategy=known.FedAvg(**keywords),
            initial_parameters=[np.zeros(2)],
            engine="serial",
            progress=False,
        )

    assert run(accept_failures=True).rounds[-1].participants == 2
    with pytest.raises(fl.RoundError, match="no power"):
        run(accept_failures=False)


def test_evaluate_fn_may_return_none_and_its_mistake_is_named():
    assert simulate(known.FedAvg(evaluate_fn=lambda server_round, parameters, config: None)).rounds[0].round == 1
    with pytest.raises(ConfigError, match=r"evaluate_fn returned a float; it must return \(loss, metrics\) or None"):
        simulate(known.FedAvg(evaluate_fn=lambda server_round, parameters, config: 0.5))


def test_none_is_as_good_as_leaving_a_function_out():
    nothing = known.FedAvg(evaluate_fn=None, on_fit_config_fn=None, initial_parameters=None)
    assert dict(nothing.run) == {}
    history = simulate(nothing, evaluate_fn=lambda server_round, parameters, config: (0.25, {}))
    assert history.rounds[-1].metrics["central_loss"] == 0.25


@pytest.mark.parametrize(
    ("keywords", "given", "sentence"),
    [
        (
            {"evaluate_fn": lambda *a: None},
            {"evaluate_fn": lambda *a: None},
            "evaluate_fn was given twice: with the run and with the strategy; drop one",
        ),
        (
            {"initial_parameters": [np.zeros(2)]},
            {"initial_parameters": [np.zeros(2)]},
            "initial_parameters was given twice: with the run and with the strategy; drop one",
        ),
        (
            {"on_fit_config_fn": lambda r: {}},
            {"on_fit_config_fn": lambda r: {}},
            "on_fit_config_fn was given twice",
        ),
        (
            {"fraction_fit": 0.5},
            {"config": ServerConfig(1, fraction_fit=0.25)},
            "fraction_fit was given twice: 0.25 in ServerConfig and 0.5 in the strategy; drop one",
        ),
        (
            {"accept_failures": True},
            {"config": ServerConfig(1, accept_failures=False)},
            "accept_failures was given twice: False in ServerConfig and True in the strategy",
        ),
    ],
)
def test_giving_one_fact_twice_is_refused(keywords, given, sentence):
    with pytest.raises(ConfigError, match=sentence):
        simulate(known.FedAvg(**keywords), **given)


def test_the_same_value_in_both_places_is_no_contradiction():
    history = simulate(known.FedAvg(fraction_fit=0.5), config=ServerConfig(1, fraction_fit=0.5, seed=4))
    assert history.rounds[-1].participants == 2


def test_one_argument_under_both_its_names_is_refused():
    with pytest.raises(ConfigError, match="FedProx: mu and proximal_mu are the same argument; drop one"):
        known.FedProx(mu=0.1, proximal_mu=0.1)
    with pytest.raises(ConfigError, match="FedAdam: eta and lr are the same argument; drop one"):
        known.FedAdam(eta=0.1, lr=0.1)


def test_an_unknown_keyword_is_refused_and_the_known_ones_are_named():
    with pytest.raises(ConfigError) as caught:
        known.FedProx(proximal_mu=0.1, fraction_fits=0.1)
    sentence = str(caught.value)
    assert sentence.startswith("FedProx has no argument 'fraction_fits'; known are ")
    for name in ("proximal_mu", "mu", "shared", "weighting", "reducer", "server", "evaluate_fn", "fraction_fit"):
        assert name in sentence
    with pytest.raises(ConfigError, match="FedAvg has no argument 'proximal_mu'"):
        known.FedAvg(proximal_mu=0.1)
    with pytest.raises(ConfigError, match="FedAdagrad has no argument 'beta_1'"):
        known.FedAdagrad(beta_1=0.9)
    with pytest.raises(ConfigError, match="FedAdam has no argument 'server'"):
        known.FedAdam(server=fl.sgd())
    with pytest.raises(ConfigError, match="FedAvg has no argument 'reducer'"):
        known.FedMedian(reducer=fl.Mean())


def test_values_out_of_range_are_refused_where_they_stand():
    with pytest.raises(ConfigError, match="fraction_fit must be from 0 to 1, got 2"):
        known.FedAvg(fraction_fit=2)
    with pytest.raises(ConfigError, match="min_fit_clients must be a whole number of at least 0, got None"):
        known.FedAvg(min_fit_clients=None)
    with pytest.raises(ConfigError, match="mu must be at least 0, got -1"):
        known.FedProx(proximal_mu=-1)


@pytest.mark.parametrize(
    ("routed", "strategy"),
    [
        (known.FedAvg(), fl.FedAvg()),
        (known.FedAvg(weighting="uniform", server=fl.sgd(0.5)), fl.FedAvg(weighting="uniform", server=fl.sgd(0.5))),
        (known.FedProx(proximal_mu=0.3), fl.FedProx(mu=0.3)),
        (known.FedAvgM(server_learning_rate=0.5, server_momentum=0.8), fl.FedAvgM(lr=0.5, beta=0.8)),
        (
            known.FedAdam(eta=0.2, eta_l=0.1, beta_1=0.8, beta_2=0.9, tau=1e-2),
            fl.FedAdam(lr=0.2, beta1=0.8, beta2=0.9, tau=1e-2),
        ),
        (
            known.FedYogi(eta=0.2, beta_1=0.8, beta_2=0.9, tau=1e-2),
            fl.FedYogi(lr=0.2, beta1=0.8, beta2=0.9, tau=1e-2),
        ),
        (known.FedAdam(eta=0.2, weighting="uniform"), fl.FedAdam(lr=0.2, weighting="uniform")),
        (known.FedAdagrad(eta=0.2, tau=1e-2), fl.FedAdagrad(lr=0.2, tau=1e-2)),
        (known.QFedAvg(q_param=0.5, qffl_learning_rate=0.3), fl.QFedAvg(q=0.5, lr=0.3)),
        (known.FedMedian(fraction_fit=1.0), fl.FedAvg(reducer=Median())),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_known_strategy_is_the_one_of_this_house(routed, strategy):
    assert routed.strategy == strategy
    both = [simulate(way, config=ServerConfig(2, seed=1)) for way in (routed, strategy) if not strategy.corrects]
    assert all(run.parameters == both[0].parameters for run in both)


def test_fedprox_runs_with_clients_that_apply_it_themselves():
    class Proximal(Adds):
        corrections = ("proximal",)

        def fit(self, parameters, config):
            return [p + config["mu"] for p in parameters], 1, {}

    history = fl.simulate(
        lambda context: Proximal(0),
        2,
        strategy=known.FedProx(proximal_mu=0.25),
        initial_parameters=[np.zeros(2)],
        engine="serial",
        progress=False,
    )
    assert history.parameters["0"].tolist() == [0.25, 0.25]


def test_the_median_is_not_moved_by_one_client():
    class Wild(Adds):
        def fit(self, parameters, config):
            return [p + (1e6 if self.number == 3 else 1.0) for p in parameters], 1, {}

    history = fl.simulate(
        lambda context: Wild(context.partition_id),
        3,
        strategy=known.FedMedian(),
        initial_parameters=[np.zeros(2)],
        engine="serial",
        progress=False,
    )
    assert history.parameters["0"].tolist() == [1.0, 1.0]


def test_a_strategy_that_is_not_there_names_those_that_are():
    with pytest.raises(AttributeError) as caught:
        _ = known.FedTrimmed
    sentence = str(caught.value)
    assert sentence.startswith("fl.server.strategy has no 'FedTrimmed'; there are FedAdagrad, FedAdam, FedAvg, FedAvgM")
    assert "QFedAvg" in sentence
    assert not hasattr(known, "__wrapped__")


def test_the_clients_side_has_its_known_spellings_too():
    assert fl.client.NumPyClient is fl.NumPyClient
    assert fl.client.Client is fl.Client
