"""What clients are worth to a run, trained again with some of them or taken apart by rounds."""

import json
import math

import numpy as np
import pytest

import umbel as fl
from umbel.errors import ConfigError, NotSupported
from umbel.runtimes.worth.federation import Federation
from umbel.runtimes.worth.retrained import trained
from umbel.testing import Quadratics

CONFIG = fl.ServerConfig(num_rounds=3, seed=4)


class Pull(fl.NumPyClient):
    """Pulls the model towards a number; of no examples, towards nothing."""

    def __init__(self, target, examples=10):
        self.target, self.examples = target, examples

    def fit(self, parameters, config):
        return [w + 0.5 * (self.target - w) for w in parameters], self.examples, {}

    def evaluate(self, parameters, config):
        return float(np.square(parameters[0] - 2.0).mean()), 1, {"far": float(parameters[0].mean())}


def pulls(*targets, **kept):
    """Contributions of clients with these targets; a pair is (target, examples)."""

    def client(context):
        one = targets[context.partition_id]
        return Pull(*one) if isinstance(one, tuple) else Pull(one)

    given = {"config": CONFIG, "initial_parameters": [np.zeros(2)], **kept}
    return fl.contributions(client, len(targets), **given)


@pytest.mark.parametrize("of", ["retrained", "rounds"])
@pytest.mark.parametrize(
    "strategy", [fl.FedAvg(), fl.Scaffold(), fl.FedAdam()], ids=lambda strategy: type(strategy).__name__
)
def test_all_clients_together_are_the_run_itself_to_the_bit(of, strategy):
    toy, config = Quadratics(examples=(1, 2, 3, 4)), fl.ServerConfig(num_rounds=3, seed=4, fraction_fit=0.75)
    run = fl.simulate(toy.client, 4, strategy=strategy, config=config, engine="serial", progress=False)
    found = fl.contributions(toy.client, 4, strategy=strategy, config=config, of=of, method="leave-one-out")
    assert found.digest == run.parameters.digest
    assert found.whole == pytest.approx(run.loss, rel=1e-12)


@pytest.mark.parametrize("of", ["retrained", "rounds"])
def test_values_add_up_to_what_training_brought(of):
    found = pulls(1.0, 2.0, 3.0, (5.0, 30), of=of)
    assert math.fsum(one.value for one in found.clients) == pytest.approx(found.gain, abs=1e-9)
    assert found.gain == pytest.approx(found.empty - found.whole)
    assert found.method == "exact"
    assert found.less_is_better


@pytest.mark.parametrize("of", ["retrained", "rounds"])
def test_two_clients_with_the_same_data_are_worth_the_same(of):
    found = pulls(1.0, 3.0, 1.0, of=of)
    assert found["0"].value == pytest.approx(found["2"].value, abs=1e-12)
    assert found["0"].value != pytest.approx(found["1"].value, abs=1e-3)


@pytest.mark.parametrize("of", ["retrained", "rounds"])
def test_a_client_without_examples_is_worth_nothing(of):
    found = pulls(1.0, (9.0, 0), 3.0, of=of)
    assert found["1"].value == pytest.approx(0.0, abs=1e-12)
    assert found["0"].value > 0.1


def test_a_client_that_pulls_the_wrong_way_is_worth_less_than_nothing():
    found = pulls(2.0, 2.0, -4.0)
    assert found["2"].value < 0 < found["0"].value


def test_a_coalition_is_worth_what_a_run_of_it_alone_gives():
    """Trained on its own partitions, measured by everybody."""
    targets = {"0": 1.0, "2": 5.0}
    federation = Federation.of(
        lambda context: Pull([1.0, 9.0, 5.0][context.partition_id]),
        3,
        {"config": CONFIG, "initial_parameters": [np.zeros(2)]},
    )
    found = trained(federation, frozenset(targets))
    alone = fl.simulate(
        lambda context: Pull(list(targets.values())[context.partition_id]),
        2,
        config=CONFIG,
        initial_parameters=[np.zeros(2)],
        engine="serial",
        progress=False,
    )
    assert found.digest == alone.parameters.digest
    assert found.metrics["loss"] == alone.loss


def test_one_round_taken_apart_is_one_round_trained_again():
    config = fl.ServerConfig(num_rounds=1, seed=4)
    one, other = (pulls(1.0, 3.0, (5.0, 30), config=config, of=of) for of in ("retrained", "rounds"))
    assert [c.value for c in one.clients] == pytest.approx([c.value for c in other.clients], abs=1e-12)


def test_more_workers_change_nothing():
    assert pulls(1.0, 2.0, 3.0, workers=2) == pulls(1.0, 2.0, 3.0)


def test_what_is_kept_is_not_trained_again(tmp_path):
    file = tmp_path / "coalitions.jsonl"
    first = pulls(1.0, 2.0, 3.0, memory=file)
    size = file.stat().st_size
    built = []

    def client(context):
        built.append(context.round)
        return Pull([1.0, 2.0, 3.0][context.partition_id])

    again = fl.contributions(client, 3, config=CONFIG, initial_parameters=[np.zeros(2)], memory=file)
    assert (again, file.stat().st_size) == (first, size)
    assert len(built) == 1  # the look at what a client can


def test_a_line_that_was_cut_off_is_measured_again(tmp_path):
    file = tmp_path / "coalitions.jsonl"
    first = pulls(1.0, 2.0, 3.0, memory=file)
    file.write_bytes(file.read_bytes()[:-20])
    assert pulls(1.0, 2.0, 3.0, memory=file) == first


@pytest.mark.parametrize(
    "changed",
    [
        {"config": fl.ServerConfig(num_rounds=2, seed=4)},
        {"config": fl.ServerConfig(num_rounds=3, seed=5, fraction_fit=0.5)},
        {"initial_parameters": [np.ones(2)]},
        {"strategy": fl.FedAdam()},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_what_was_kept_of_another_plan_is_not_used(tmp_path, changed):
    file = tmp_path / "coalitions.jsonl"
    first = pulls(1.0, 2.0, 3.0, memory=file)
    assert pulls(1.0, 2.0, 3.0, memory=file, **changed) == pulls(1.0, 2.0, 3.0, **changed)
    # What is of each is still there for each.
    assert pulls(1.0, 2.0, 3.0, memory=file) == first


def test_what_was_measured_by_other_clients_is_not_used(tmp_path):
    toy, given = Quadratics(clients=3), {"config": CONFIG, "memory": tmp_path / "coalitions.jsonl"}
    fl.contributions(toy.client, 3, **given)
    found = fl.contributions(toy.client, 3, without=["2"], **given)
    assert found == fl.contributions(toy.client, 3, without=["2"], config=CONFIG)


@pytest.mark.parametrize("moved", [0, 1, 2])
@pytest.mark.parametrize("begun", ["leave-one-out", "broken off"])
def test_what_was_kept_of_other_data_is_not_mixed_with_what_is_trained_now(tmp_path, moved, begun):
    file, targets = tmp_path / "coalitions.jsonl", [1.0, 2.0, 3.0]
    if begun == "leave-one-out":
        pulls(*targets, memory=file, method=begun)
    else:
        pulls(*targets, memory=file)
        # Of those that were trained when it broke off, none had all clients.
        lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join(line for line in lines if len(json.loads(line)["clients"]) < 3))
    targets[moved] += 4.0
    found = pulls(*targets, memory=file)
    assert found == pulls(*targets)
    assert pulls(*targets, memory=file, method="leave-one-out") == pulls(*targets, method="leave-one-out")


def test_data_that_only_measure_are_data_as_well(tmp_path):
    file = tmp_path / "coalitions.jsonl"

    def found(goal, method, **memory):
        def judge(server_round, parameters, config):
            return float(np.square(parameters[0] - goal).mean()), {}

        config = fl.ServerConfig(num_rounds=3, seed=4, fraction_evaluate=0.0)
        return pulls(1.0, 4.0, 6.0, config=config, evaluate_fn=judge, method=method, **memory)

    found(1.0, "leave-one-out", memory=file)
    assert found(3.0, "exact", memory=file) == found(3.0, "exact")


def test_many_clients_are_sampled_with_bounds():
    found = pulls(*[float(number % 5) for number in range(14)], permutations=4, starts=2)
    assert found.method == "monte-carlo"
    assert all(one.low < one.value < one.high for one in found.clients)
    assert math.fsum(one.value for one in found.clients) == pytest.approx(found.gain, abs=1e-9)


def test_the_servers_own_evaluation_can_be_what_is_measured():
    calls = []

    def judge(server_round, parameters, config):
        calls.append(server_round)
        return float(np.square(parameters[0] - 1.0).mean()), {}

    config = fl.ServerConfig(num_rounds=3, seed=4, fraction_evaluate=0.0)
    found = pulls(1.0, 4.0, config=config, evaluate_fn=judge)
    assert found["0"].value > found["1"].value
    assert len(calls) == 4  # once per coalition, not once per round


def test_more_of_another_metric_can_be_better():
    found = pulls(2.0, 3.0, metric="far", mode="max")
    assert found["1"].value > found["0"].value > 0
    assert found.gain == pytest.approx(found.whole - found.empty)


def test_a_target_ends_coalitions_where_it_would_end_runs_of_theirs():
    config = fl.ServerConfig(num_rounds=20, seed=4, target=0.5)
    run = fl.simulate(
        lambda context: Pull(2.0), 3, config=config, initial_parameters=[np.zeros(2)], engine="serial", progress=False
    )
    found = pulls(2.0, 2.0, 2.0, config=config)
    assert found.digest == run.parameters.digest


def test_a_coalition_that_cannot_close_a_round_keeps_the_model_that_it_had():
    class Broken(Pull):
        def fit(self, parameters, config):
            raise RuntimeError("no disk")

    def client(context):
        return Broken(1.0) if context.partition_id == 1 else Pull(2.0)

    found = fl.contributions(client, 2, config=CONFIG, initial_parameters=[np.zeros(2)])
    assert found.stuck == 1
    assert found["1"].value == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "banzhaf"}, "method must be one of auto, exact, monte-carlo, leave-one-out"),
        ({"of": "hope"}, "of must be one of retrained, rounds"),
        ({"permutations": 1}, "permutations must be a whole number of at least 2, got 1"),
        ({"starts": 0}, "starts must be a whole number of at least 1"),
        ({"workers": 0}, "workers must be a whole number of at least 1"),
        ({"tolerance": -1.0}, "tolerance must be at least 0"),
        ({"tolerance": math.nan}, "tolerance must be at least 0"),
        ({"confidence": 1.0}, "confidence must be between 0 and 1"),
        ({"metric": "beauty"}, "'beauty' is none that is measured of a model; measured is far, loss"),
        ({"num_partitions": 3}, "does not take 'num_partitions'"),
        ({"config": fl.ServerConfig(num_rounds=1, fraction_evaluate=0.0)}, "give clients an evaluate, or evaluate_fn="),
    ],
)
def test_what_cannot_be_is_refused(arguments, words):
    with pytest.raises(ConfigError, match=words.replace("(", r"\(")):
        pulls(1.0, 2.0, **arguments)


def test_exact_values_of_many_clients_are_refused():
    with pytest.raises(ConfigError, match="at most 12 clients, there are 13"):
        pulls(*[1.0] * 13, method="exact")


def test_runs_that_hide_single_clients_are_refused():
    with pytest.raises(NotSupported, match="two secure sums"):
        pulls(1.0, 2.0, 3.0, coordinator=fl.Secure())
    with pytest.raises(NotSupported, match="without the noise that privacy= promises"):
        pulls(1.0, 2.0, 3.0, privacy=fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=1e-5))
    with pytest.raises(NotSupported, match="shared="):
        pulls(1.0, 2.0, strategy=fl.FedAvg(shared="0"))


def test_rounds_that_are_not_plain_are_not_taken_apart():
    with pytest.raises(NotSupported, match="plain rounds apart, got system="):
        pulls(1.0, 2.0, of="rounds", system=fl.SystemModel())
    with pytest.raises(NotSupported, match="has a target, patience"):
        pulls(1.0, 2.0, of="rounds", config=fl.ServerConfig(num_rounds=2, seed=1, target=0.1))
    with pytest.raises(NotSupported, match="smaller coalitions do not have"):
        pulls(*[1.0] * 5, of="rounds", strategy=fl.FedAvg(reducer=fl.Krum(f=1)))


def test_a_reducer_that_needs_several_updates_makes_smaller_coalitions_worth_nothing():
    krum = fl.Krum(f=1)
    found = pulls(1.0, 1.5, 2.0, 2.5, 3.0, strategy=fl.FedAvg(reducer=krum))
    assert found.coalitions == 1 + sum(math.comb(5, size) for size in range(krum.least_updates, 6)) < 2**5
    assert math.fsum(one.value for one in found.clients) == pytest.approx(found.gain, abs=1e-9)
