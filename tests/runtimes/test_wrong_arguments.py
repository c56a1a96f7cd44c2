"""Arguments of a simulation that are none: each is refused before the run, in a sentence that names it."""

import math

import numpy as np
import pytest

import umbel as fl
from umbel.coordinators import Everyone, leader
from umbel.errors import ConfigError, EngineError, NotSupported, TooFewClients


class Good(fl.NumPyClient):
    def fit(self, parameters, config):
        return [parameters[0] + 1.0], 1, {}

    def evaluate(self, parameters, config):
        return 0.0, 1, {}


def run(clients=3, **arguments):
    given = {"initial_parameters": [np.zeros(1)], "engine": "serial", "progress": False, **arguments}
    return fl.simulate(lambda context: Good(), clients, **given)


def swept(**arguments):
    def point(seed, lr, **kept):
        return run(config=fl.ServerConfig(seed=seed), **kept)

    return fl.sweep(point, **{"space": {"lr": [0.1]}, "progress": False, **arguments})


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"config": {"num_rounds": 3}}, "config must be a ServerConfig or None, got .*; try fl.ServerConfig"),
        ({"name": 5}, "name must be a text such as"),
        ({"store": 5}, "store must be the path of an SQLite file, a store or None, got 5; try"),
        ({"observers": 5}, r"observers must be a list of functions, got 5; try observers=\[print\]"),
        ({"observers": [5]}, "observers must be a list of functions"),
        ({"evaluate_fn": 5}, "evaluate_fn must be a function or None, got 5; leave it out"),
        ({"on_fit_config_fn": {"lr": 1}}, "on_fit_config_fn must be a function or None, got"),
        ({"fit_metrics_aggregation_fn": 5}, "fit_metrics_aggregation_fn must be a function or None, got 5"),
        ({"settings": [1]}, "settings must map names to plain values, got .*; try settings="),
        ({"clients": 2**63}, "num_clients must be at most 9223372036854775807, got"),
        ({"workers": True, "engine": "pool"}, "workers must be a whole number of at least 1 or None, got True"),
        ({"device": None}, 'device must be a name such as "cpu" .* got None; try device="cpu"'),
        ({"device": 5}, 'device must be a name such as "cpu" .* got 5; try device="cpu"'),
        ({"device": ("cpu", 5)}, "device must be a name such as"),
        ({"device": "foo"}, 'device must be "cpu", "cuda", .* got \'foo\'; take device="cpu"'),
        ({"device": "cpu:x"}, 'device must be "cpu", "cuda", .* got \'cpu:x\''),
        ({"device": "nn"}, 'device must be "cpu", "cuda", .* got \'nn\''),
        ({"device": "cuda:99"}, "device 'cuda:99' is not here: torch sees . CUDA devices; take device=\"cpu\""),
        ({"device": "tpu"}, "device 'tpu' is not here: torch and JAX see 0 tpu devices; take device=\"cpu\""),
    ],
)
def test_a_wrong_argument_of_simulate_is_named(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        run(**arguments)


def test_devices_that_are_here_are_taken():
    assert run(device="cpu:1").rounds[-1].participants == 3
    assert run(device=["cpu", "cpu"]).rounds[-1].participants == 3


@pytest.mark.parametrize("device", ["cuda:99", "xpu:99"])
def test_a_client_that_trains_on_a_device_that_is_not_here_is_refused_before_the_run(device):
    torch = pytest.importorskip("torch")
    data = (torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))

    def client_fn(context):
        return fl.TorchClient(torch.nn.Linear(3, 2), torch.nn.CrossEntropyLoss(), None, data, device=device)

    with pytest.raises(ConfigError, match=f"device '{device}' is not here: .* take device=\"cpu\""):
        fl.simulate(client_fn, 2, engine="serial", progress=False)


def test_a_jax_client_on_a_device_that_is_not_here_is_refused_before_the_run():
    pytest.importorskip("jax")

    def client_fn(context):
        return fl.JaxClient(
            lambda p, b: (b[0] * p["w"]).sum(), {"w": np.ones(1, np.float32)}, (np.ones(2),), device="tpu"
        )

    with pytest.raises(ConfigError, match="device 'tpu' is not here"):
        fl.simulate(client_fn, 2, engine="serial", progress=False)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"name": 5}, "name must be 1 to 80 printable characters, got 5"),
        ({"store": 5}, "store must be the path of an SQLite file"),
        ({"observers": 5}, "observers must be a list of functions"),
        ({"space": {"lr": [2.0, 3, 2.0]}}, r"lr has the value 2.0 twice; name each once"),
        ({"space": {"lr": fl.Range(0.1, 1.0)}, "search": "grid"}, "lr"),
    ],
)
def test_a_wrong_argument_of_sweep_is_named(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        swept(**arguments)


def test_true_is_another_value_than_one():
    assert len(swept(space={"lr": [1, True]}).runs) == 2


@pytest.mark.parametrize("flag", ["no", math.nan, [1], None])
def test_a_flag_is_true_or_false(flag):
    with pytest.raises(ConfigError, match="per_client_metrics is True or False, got"):
        fl.ServerConfig(per_client_metrics=flag)


class Window:
    def __init__(self, gives):
        self.gives = gives

    def window(self, client, time_s, seed):
        return 1 / 0 if self.gives == "raise" else self.gives


class Quantile:
    def quantile(self, u):
        return 1 / 0


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: fl.Zipf(1, 1.5), "most must be a whole number from 1 to 1,000,000, got 1.5"),
        (lambda: fl.Diurnal(zones=1.5), "zones must be a whole number of at least 1, got 1.5"),
        (lambda: fl.Range(0, 1, log="x"), "log of a Range must be True or False, got 'x'"),
        (lambda: fl.ServerConfig(arrivals=True), "or leave arrivals out with Buffered, FedAsync or Tiered"),
    ],
)
def test_a_wrong_value_is_named_where_it_is_made(make, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make()


@pytest.mark.parametrize(
    ("system", "sentence"),
    [
        ({"work": lambda client: 1 / 0}, "work gives client . no number: ZeroDivisionError: division by zero"),
        ({"latency_s": Quantile()}, "latency_s gives client . no number: ZeroDivisionError"),
        ({"availability": Window(None)}, r"availability=Window: window\(\) of client . at 0 s gave None; it must be"),
        ({"availability": Window(("a", "b"))}, r"availability=Window: .* gave \('a', 'b'\); it must be"),
        ({"availability": Window((5, 1))}, r"availability=Window: .* gave \(5, 1\); it must be"),
        ({"availability": Window((math.nan, math.nan))}, r"availability=Window: .* gave \(nan, nan\); it must be"),
        ({"availability": Window((-9, 0))}, r"availability=Window: .* gave \(-9, 0\); .* ends after that time"),
        ({"availability": Window("raise")}, r"availability=Window: .* raised ZeroDivisionError"),
    ],
)
def test_a_part_of_a_system_model_of_ones_own_is_named_with_the_client(system, sentence):
    with pytest.raises(ConfigError, match=sentence):
        run(system=fl.SystemModel(**system))


def test_a_window_of_ones_own_that_is_one_is_taken():
    for window in ((-math.inf, math.inf), [0, 1e9], (np.float64(0), np.float64(50))):
        assert run(system=fl.SystemModel(availability=Window(window))).rounds[-1].participants == 3
    with pytest.raises(TooFewClients, match="there are never 1 clients at a time"):
        run(system=fl.SystemModel(availability=Window((math.inf, math.inf))))


def test_a_group_that_is_not_a_number_is_none():
    balanced = fl.Balanced(lambda client: math.nan)
    with pytest.raises(ConfigError, match=r"groups gives client . no group \(nan\); give each a label"):
        run(config=fl.ServerConfig(selector=balanced))


def test_a_round_that_its_deadline_closed_names_it():
    with pytest.raises(
        TooFewClients, match=r"had not answered at the round's deadline, round_timeout=1e-09. Raise round_t"
    ):
        run(system=fl.SystemModel(), config=fl.ServerConfig(round_timeout=1e-9, quorum=0.5, seed=1))


@pytest.mark.parametrize("coordinator", [fl.Buffered(concurrency=2), fl.Tiered()])
def test_arrivals_are_what_an_asynchronous_run_refuses_and_not_what_they_need(coordinator):
    config = fl.ServerConfig(arrivals=True, round_timeout=5.0, fraction_evaluate=0.0, seed=1)
    with pytest.raises(NotSupported, match=r"arrivals has no meaning in .* leave it out"):
        leader(coordinator, config, Everyone(3))


def test_a_cluster_that_is_not_there_leaves_no_run():
    pytest.importorskip("ray")
    store = fl.MemoryStore()
    with pytest.raises(EngineError, match=r"the cluster '127.0.0.1:1' cannot be joined"):
        run(engine="ray", cluster=fl.Cluster(address="127.0.0.1:1"), store=store)
    assert store.runs() == []


@pytest.mark.parametrize(
    ("given", "short"),
    [
        (
            "RuntimeError: vmap: no .item() on a Tensor. We do not support it.",
            "RuntimeError: vmap: no .item() on a Tensor.",
        ),
        ("RuntimeError: not done yet, please file an issue at github.com/x", "RuntimeError: not done yet"),
        ("RuntimeError: no. Please file an issue! (in f, a.py line 3)", "RuntimeError: no. (in f, a.py line 3)"),
        ("ValueError: lr is 0.5 vs. 1 (in f, a.py line 3)", "ValueError: lr is 0.5 vs. 1 (in f, a.py line 3)"),
    ],
)
def test_what_a_library_says_after_its_first_sentence_is_cut(given, short):
    from umbel.runtimes.turn import in_short

    assert in_short(given) == short
