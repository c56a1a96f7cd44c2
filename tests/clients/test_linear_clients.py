"""`LinearClients`: linear models in NumPy alone, the same one by one and in blocks."""

import subprocess
import sys

import numpy as np
import pytest

import umbel as fl
from umbel.clients import linear
from umbel.data import heart_disease

CLIENTS, ROWS, WIDTH = 30, 400, 5
RNG = np.random.default_rng(0)
X = RNG.standard_normal((ROWS, WIDTH)).astype(np.float32)
LABELS = X[:, :3].argmax(1)
NUMBERS = X @ RNG.standard_normal((WIDTH, 2)).astype(np.float32)
EVEN = [np.arange(10 * number, 10 * number + 10) for number in range(CLIENTS)]
UNEVEN = [np.arange(number, number + (number * 7) % 19) for number in range(CLIENTS)]
"""Client 0 has none."""


def run(clients, engine="vmap", workers=1, block=None, strategy=None, **config):
    block = 128 if block is None and engine == "vmap" else block
    return fl.simulate(
        clients,
        CLIENTS,
        strategy=strategy,
        config=fl.ServerConfig(num_rounds=3, seed=1, **config),
        engine=engine,
        workers=workers,
        block=block,
        progress=False,
    )


def clients_of(y=LABELS, parts=UNEVEN, x=X, **more):
    return fl.LinearClients((x, y), parts, **{"batch_size": 4, "epochs": 2, **more})


@pytest.mark.parametrize(
    ("clients", "strategy"),
    [
        (clients_of(), None),
        (clients_of(NUMBERS, lr=0.05), None),
        (clients_of(NUMBERS[:, 0], lr=0.05), None),
        (clients_of(parts=EVEN, momentum=0.9, l2=0.1), None),
        (clients_of(parts=lambda number: UNEVEN[number], shuffle=False), None),
        (clients_of(batch_size=None, epochs=3), None),
        (clients_of(x=X.astype(np.float64)), None),
        (clients_of(num_classes=5, test_parts=EVEN), None),
        (clients_of(), fl.FedAvg(weighting="uniform")),
        (clients_of(), fl.FedProx(mu=0.5)),
        (clients_of(momentum=0.5), fl.Scaffold()),
        (clients_of(NUMBERS, lr=0.05), fl.Scaffold()),
        (clients_of(batch_size=None, shuffle=False), fl.FedDyn(alpha=0.1)),
        (clients_of(momentum=0.9), fl.FedNova()),
        (clients_of(), fl.FedAvg(reducer=fl.Median())),
        (clients_of(), fl.FedAvg(shared=["weight"])),
        (clients_of(), fl.Scaffold(shared=["weight"])),
        (clients_of(l2=0.1), fl.FedSGD()),
        (clients_of(NUMBERS), fl.FedSGD(weighting="uniform")),
    ],
)
def test_a_block_gives_what_the_clients_give_one_by_one(clients, strategy):
    loop, block = (run(clients, engine, strategy=strategy, per_client_metrics=True) for engine in ("serial", "vmap"))
    for name, values in loop.parameters.items():
        np.testing.assert_allclose(block.parameters[name], values, rtol=1e-4, atol=1e-6)
    for mine, theirs in zip(loop.rounds, block.rounds, strict=True):
        assert theirs.loss == pytest.approx(mine.loss, rel=1e-4)
        assert dict(theirs.metrics) == pytest.approx(dict(mine.metrics), rel=1e-4)
        for one, other in zip(mine.clients, theirs.clients, strict=True):
            assert (other["client"], other["kind"], other["examples"]) == (one["client"], one["kind"], one["examples"])
            assert other["metrics"] == pytest.approx(one["metrics"], rel=1e-3, abs=1e-5)


@pytest.mark.parametrize(
    ("strategy", "reason"),
    [
        (fl.FedAvg(), None),
        (fl.FedProx(mu=0.5), None),
        (fl.Scaffold(), None),
        (fl.FedDyn(alpha=0.1), None),
        (fl.FedNova(), None),
        (fl.FedAvg(shared=["weight"]), None),
        (fl.FedAvg(reducer=fl.Median()), None),
        (fl.QFedAvg(), "its strategy does more with a client than to train it once"),
    ],
)
def test_who_trains_one_by_one_is_said_with_the_cause(strategy, reason):
    said = [] if reason is None else [f"some clients are trained one by one and not in blocks: {reason}"]
    assert list(run(clients_of(), strategy=strategy).warnings) == said


def test_clients_of_a_function_for_one_model_are_told_so():
    def gradient(params, x):
        return 0.0, {"mean": params["mean"] - x.mean()}

    def client_fn(context):
        return fl.GradientClient(gradient, {"mean": 0.0}, np.arange(3.0))

    (said,) = run(client_fn).warnings
    assert said.endswith("the function of a GradientClient gives the gradient of one model at a time")


def test_the_bits_do_not_depend_on_the_number_of_workers():
    one, two, three = (run(clients_of(), workers=workers, block=8) for workers in (1, 2, 3))
    assert one.parameters == two.parameters == three.parameters


@pytest.mark.parametrize("loss", ["cross_entropy", "mse"])
def test_gradients_are_the_slopes_of_the_loss(loss):
    x, y = X[:7].astype(np.float64), LABELS[:7] if loss == "cross_entropy" else NUMBERS[:7].astype(np.float64)
    outputs = 3 if loss == "cross_entropy" else 2
    params = {"weight": RNG.standard_normal((outputs, WIDTH)), "bias": RNG.standard_normal(outputs)}
    _, gradients = linear.gradient(loss, 0.3, params, x, y)
    for name, values in params.items():
        for place in np.ndindex(values.shape):
            ends = []
            for step in (1e-6, -1e-6):
                moved = {key: value.copy() for key, value in params.items()}
                moved[name][place] += step
                ends.append(linear.gradient(loss, 0.3, moved, x, y)[0])
            assert gradients[name][place] == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-5, abs=1e-8)


def test_hospitals_learn_together_without_any_framework():
    hospitals = list(heart_disease().values())
    x = np.concatenate([hospital.features for hospital in hospitals])
    x = np.nan_to_num((x - np.nanmean(x, 0)) / np.nanstd(x, 0)).astype(np.float32)
    y = np.concatenate([hospital.labels for hospital in hospitals])
    ends = np.cumsum([len(hospital.labels) for hospital in hospitals])
    parts = [np.arange(end - len(h.labels), end) for end, h in zip(ends, hospitals, strict=True)]
    clients = fl.LinearClients((x, y), parts, lr=0.1, epochs=5)
    history = fl.simulate(
        clients, len(parts), config=fl.ServerConfig(num_rounds=10, seed=1), engine="vmap", progress=False
    )
    assert history.rounds[-1].metrics["accuracy"] > 0.75


def test_they_need_numpy_alone():
    code = (
        "import numpy as np, sys, umbel as fl\n"
        "c = fl.LinearClients((np.eye(8), np.arange(8) % 2), [[i] for i in range(8)])\n"
        "fl.simulate(c, 8, engine='vmap', config=fl.ServerConfig(num_rounds=1), progress=False)\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"data": [1, 2]}, r"data must be a tuple \(x, y\) of arrays, got list"),
        ({"data": (X, LABELS[:-1])}, "x has 400 rows and y has 399"),
        ({"data": (X[:, 0], LABELS)}, r"x must be numbers of shape \(rows, features\)"),
        ({"data": (X, LABELS.astype(str))}, "y must be labels or numbers"),
        ({"data": (X, LABELS - 1)}, "labels count from 0, got -1"),
        ({"num_classes": 2}, "num_classes is 2 and y has the label 2"),
        ({"data": (X, NUMBERS), "num_classes": 2}, "num_classes is for labels"),
        ({"lr": 0}, "lr must be a number above 0"),
        ({"l2": -1}, "l2 must be a number of at least 0"),
        ({"momentum": 1}, "momentum must be at least 0 and below 1"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1 or None"),
    ],
)
def test_what_cannot_be_is_refused(arguments, sentence):
    with pytest.raises(fl.ConfigError, match=sentence):
        fl.LinearClients(**{"data": (X, LABELS), "parts": EVEN, **arguments})
