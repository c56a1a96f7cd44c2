"""What `umbel check` warns of, each with the plan that is just right beside it."""

import json

import pytest

import umbel as fl
from umbel.cli.advice import about_numbers, advise, cohort
from umbel.runtimes.app import load_app

from .conftest import CLIENT, RUN, write_app


def plan(*, num_clients: int = 10, evaluate_fn=None, **settings) -> fl.Run:
    config = fl.ServerConfig(**{"num_rounds": 5, "seed": 1, **settings})
    return fl.Run(num_clients=num_clients, config=config, evaluate_fn=evaluate_fn)


def test_a_sound_plan_has_no_warning():
    assert list(about_numbers(plan())) == []


@pytest.mark.parametrize(
    ("wrong", "right", "sentence"),
    [
        ({"num_rounds": 0}, {"num_rounds": 1}, "num_rounds is 0"),
        ({"seed": None}, {"seed": 0}, "there is no seed"),
        ({"num_clients": 1}, {"num_clients": 2}, "there is one client"),
        ({"fraction_fit": 0.1}, {"fraction_fit": 0.2}, "each round asks 1 of 10 clients"),
        ({"fraction_fit": 0.05, "min_fit_clients": 2}, {"fraction_fit": 0.1, "min_fit_clients": 2}, "less than one"),
        ({"min_fit_clients": 11}, {"min_fit_clients": 10}, "min_fit_clients is 11 but there are 10 clients"),
        ({"min_evaluate_clients": 11}, {"min_evaluate_clients": 10}, "min_evaluate_clients is 11"),
        ({"min_available_clients": 11}, {"min_available_clients": 10}, "every run fails at once"),
        ({"over_selection": 0.5}, {"over_selection": 0.5, "fraction_fit": 0.6}, "only 0 are left over"),
        ({"patience": 2, "fraction_evaluate": 0.0}, {"patience": 2}, "patience is set but nothing is evaluated"),
        ({"target": 0.1, "fraction_evaluate": 0.0}, {"target": 0.1}, "target is set but nothing is evaluated"),
        ({"patience": 5}, {"patience": 4}, "not less than the 5 evaluations"),
        ({"round_timeout": 9.0}, {"client_timeout": 9.0}, "round_timeout does nothing"),
    ],
)
def test_numbers_that_will_hurt(wrong, right, sentence):
    told = list(about_numbers(plan(**wrong)))
    assert len(told) == 1
    assert sentence in told[0]
    assert list(about_numbers(plan(**right))) == []


def test_patience_may_watch_the_central_evaluation():
    assert list(about_numbers(plan(patience=2, fraction_evaluate=0.0, evaluate_fn=print))) == []


def test_the_cohort_is_that_of_the_coordinator():
    assert cohort(fl.ServerConfig(fraction_fit=0.1), 30) == 3
    assert cohort(fl.ServerConfig(fraction_fit=0.0, min_fit_clients=40, over_selection=1.0), 30) == 30


@pytest.fixture
def told(here, tmp_path):
    """The warnings for an app with these changes."""

    def warn(**changes: str) -> list[str]:
        app = write_app(tmp_path / f"app{len(list(tmp_path.iterdir()))}", **changes)
        loaded = load_app(app)
        return advise(loaded, loaded.describe(loaded.config), loaded.config)

    return warn


def test_a_sound_app_has_no_warning(told):
    assert told() == []


def test_float64_is_told(told):
    (sentence,) = told(run=RUN.replace("np.zeros(3, np.float32)", "np.zeros(3)"))
    assert sentence.startswith("initial parameters are float64 (0), twice the bytes")


def test_a_client_without_evaluate_is_told_unless_the_server_evaluates(told):
    client = CLIENT.replace("def evaluate", "def judge")
    assert told(client=client) == [
        "Mean has no evaluate and the run no evaluate_fn, so nothing is measured; give it one of them"
    ]
    assert told(client=client, run=RUN.replace("(num_c", "(evaluate_fn=lambda n, p, c: (0.5, {}), num_c")) == []


def test_a_closed_client_under_a_strategy_that_reaches_inside_is_told(told):
    (sentence,) = told(run=RUN.replace("fl.Run(", "fl.Run(strategy=fl.Scaffold(), "))
    assert "Scaffold reaches inside the training loop" in sentence


def test_a_monitor_that_nobody_reports_is_told(told):
    (sentence,) = told(run=RUN.replace("num_rounds=c", 'monitor="accuracy", num_rounds=c'))
    assert sentence == "monitor='accuracy' is never reported; there is loss, size"
    assert told(run=RUN.replace("num_rounds=c", 'monitor="size", num_rounds=c')) == []


def test_an_evaluation_that_fails_is_told(told):
    (sentence,) = told(client=CLIENT.replace("return float(np", "return 1 / 0, float(np"))
    assert sentence.startswith("client 0 cannot evaluate the first model: ZeroDivisionError")


def test_a_later_client_that_cannot_be_built_is_told(told):
    client = CLIENT.replace(
        "    return Mean", "    if context.partition_id == 3: raise OSError('no file')\n    return Mean"
    )
    (sentence,) = told(client=client)
    assert sentence.startswith("client 3 cannot be built: OSError: no file")


TORCH = """
import torch
import umbel as fl
from torch import nn

def client_fn(context):
    labels = torch.full((8,), {label})
    labels[:2] = torch.tensor([0, 1])
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    data = torch.randn(8, 3), labels
    return fl.TorchClient(model, nn.CrossEntropyLoss(), train_data=data, test_data=data)
"""


@pytest.mark.parametrize(
    ("label", "shared", "warned"),
    [("context.partition_id % 2", "None", True), ("1", "None", False), ("context.partition_id % 2", '"2.*"', False)],
)
def test_batch_norm_with_skewed_labels_is_told(told, label, shared, warned):
    pytest.importorskip("torch")
    run = RUN.replace(", initial_parameters=[np.zeros(3, np.float32)]", f", strategy=fl.FedAvg(shared={shared})")
    sentences = told(client=TORCH.replace("{label}", label), run=run)
    assert len(sentences) == warned
    if warned:
        assert "BatchNorm1d" in sentences[0]
        assert 'FedBN) with shared=["*", "!*bn*"]' in sentences[0]


def test_the_exit_code_is_1_with_warnings_and_0_without(here, app):
    fine = here("check", "means")
    assert (fine.code, fine.out) == (0, "means: all is well\n")
    warned = here("check", "means", "--set", "num_rounds=0")
    assert warned.code == 1
    assert warned.out == "warning: num_rounds is 0, so nothing is trained; set it to at least 1\n"
    data = json.loads(here("check", "means", "--json", "--set", "fraction=0.1").out)
    assert data["app"] == "means"
    assert len(data["warnings"]) == 2


def test_checking_trains_nobody_and_keeps_nothing(here, tmp_path):
    client = CLIENT.replace("return [w +", "raise AssertionError('trained')\n        return [w +")
    write_app(tmp_path / "means", client=client)
    assert here("check", "means").code == 0
    assert not (tmp_path / ".umbel").exists()


@pytest.mark.parametrize(
    ("sampling", "warned"), [("every", 0), ("poisson", 1)], ids=["as it should be", "with a draw that has no cohort"]
)
def test_a_plan_for_privacy_is_held_against_the_other_parts(told, sampling, warned):
    for library in ("cryptography", "dp_accounting"):
        pytest.importorskip(library)
    plan = f'fl.PrivacyPlan(clip=1.0, noise_multiplier=1.0, delta=1e-5, sampling="{sampling}")'
    parts = f'fl.Run(strategy=fl.FedAvg(weighting="uniform"), coordinator=fl.Secure(), privacy={plan}, '
    run = RUN.replace("fl.Run(", parts).replace('fraction_fit=config["fraction"]', "fraction_evaluate=0.0")
    sentences = told(run=run)
    assert len(sentences) == warned
    assert not warned or "Secure() needs a cohort" in sentences[0]
