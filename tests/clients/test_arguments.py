"""What clients cannot be given is refused when they are built, in the same words by all of them."""

import numpy as np
import pytest

import umbel as fl
from umbel.data import IID
from umbel.errors import ConfigError, TooFewClients

X = np.arange(24.0, dtype=np.float32).reshape(8, 3)
LABELS = np.array([0, 1] * 4)
PARTS = [[0, 1, 2], [3, 4], [5, 6, 7]]


def gradient(params, x):
    return 0.0, {"w": params["w"]}


def of_gradient(**arguments):
    return fl.GradientClient(gradient, {"w": np.zeros(2)}, X, **arguments)


def of_linear(**arguments):
    return fl.LinearClients((X, LABELS), **{"parts": PARTS, **arguments})


def of_torch(**arguments):
    torch = pytest.importorskip("torch")
    data = (torch.tensor(X), torch.tensor(LABELS))
    given = {"model": torch.nn.Linear(3, 2), "loss": torch.nn.CrossEntropyLoss(), "train_data": data}
    return fl.TorchClient(**{**given, **arguments})


def of_torch_clients(**arguments):
    torch = pytest.importorskip("torch")
    given = {"model": torch.nn.Linear(3, 2), "loss": torch.nn.CrossEntropyLoss(), "optimizer": None, "parts": PARTS}
    return fl.TorchClients(data=(torch.tensor(X), torch.tensor(LABELS)), **{**given, **arguments})


def of_jax(**arguments):
    pytest.importorskip("jax")
    return fl.JaxClient(lambda params, batch: params["w"].sum(), {"w": np.zeros(2, np.float32)}, (X,), **arguments)


PASSES = [
    ({"batch_size": 1.5}, "batch_size must be a whole number of at least 1.*, got 1.5; try 32"),
    ({"batch_size": "8"}, "batch_size must be a whole number of at least 1.*, got '8'; try 32"),
    ({"batch_size": True}, "batch_size must be a whole number of at least 1.*, got True"),
    ({"epochs": 1.5}, "epochs must be a whole number of at least 0, got 1.5; try 1"),
    ({"epochs": None}, "epochs must be a whole number of at least 0, got None; try 1"),
    ({"shuffle": "no"}, "shuffle must be True or False, got 'no'"),
]
STEPS = [
    ({"batch_size": None}, "batch_size must be a whole number of at least 1, got None"),
    ({"max_steps": 1.5}, "max_steps must be a whole number of at least 0 or None, got 1.5; None goes through"),
    ({"clip_grad_norm": "x"}, "clip_grad_norm must be above 0 or None, got 'x'; try 1.0"),
    ({"metrics": 5}, "metrics must map names to functions .*, got 5; try"),
    ({"metrics": {"accuracy": 5}}, "metrics must map names to functions"),
    ({"device": ""}, "device must be a name such as"),
]
RATES = [
    ({"momentum": "x"}, "momentum must be at least 0 and below 1, got 'x'; try 0.9"),
    ({"lr": "x"}, "lr must be a number above 0, got 'x'; try 0.1"),
    ({"lr": float("inf")}, "lr must be a number above 0, got inf; try 0.1"),
]
TORCH = [
    (
        {"optimizer": "sgd"},
        "optimizer must be a factory or an optimiser of this model, got 'sgd'; try optimizer=lambda",
    ),
    ({"loss": "mse"}, "loss must be a function .* or None, got 'mse'"),
    ({"model": 5}, "model must be a torch.nn.Module, got 5"),
]
PARTED = [
    ({"parts": None}, "parts must hold the rows of each client, .* got None; try IID"),
    ({"parts": 5}, "parts must hold the rows of each client, .* got 5; try IID"),
    ({"parts": []}, "parts is empty; give the rows of at least one client"),
    ({"parts": [[0, 1], [2, -1]]}, "parts gives client 1 the row -1, and the data have the rows 0 to 7; split these"),
    ({"parts": [[0, 1], [2, 8]]}, "parts gives client 1 the row 8, and the data have the rows 0 to 7"),
    ({"test_parts": [[0, 1], [2, 8], []]}, "test_parts gives client 1 the row 8, and the data have the rows 0 to 7"),
    ({"test_parts": 5}, "test_parts must hold the rows of each client, .* got 5"),
]
TABLE = [
    *((of_gradient, *row) for row in [*PASSES, *RATES, ({"evaluate": 5}, "evaluate must be a function")]),
    *((of_linear, *row) for row in [*PASSES, *RATES, *PARTED, ({"num_classes": 2.5}, "num_classes is 2.5")]),
    *(
        (of_torch, *row)
        for row in [*PASSES, *STEPS, *TORCH, ({"accumulate": 1.5}, "accumulate must be a whole number")]
    ),
    *(
        (of_torch, *row)
        for row in [({"amp": "half"}, "amp must be a dtype"), ({"scheduler": 5}, "scheduler must be a")]
    ),
    *((of_torch_clients, *row) for row in [*PASSES, *STEPS, *TORCH, *PARTED]),
    *((of_jax, *row) for row in [*PASSES, *STEPS, *RATES]),
]


@pytest.mark.parametrize(("make", "arguments", "sentence"), TABLE)
def test_an_argument_that_is_none_is_refused_when_the_client_is_built(make, arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        make(**arguments)


@pytest.mark.parametrize("make", [of_gradient, of_linear, of_torch, of_torch_clients, of_jax])
def test_numbers_of_numpy_are_numbers(make):
    make(batch_size=np.int64(4), epochs=np.int32(2), shuffle=np.True_)


def run(clients, num_clients=3, **config):
    return fl.simulate(
        clients,
        num_clients,
        config=fl.ServerConfig(**{"num_rounds": 1, "seed": 1, **config}),
        engine="serial",
        progress=False,
    )


@pytest.mark.parametrize("make", [of_linear, of_torch_clients])
@pytest.mark.parametrize(
    ("arguments", "clients", "sentence"),
    [
        ({}, 4, "parts has the rows of 3 clients and there are 4; take num_clients=3, or split the data into 4"),
        ({"test_parts": PARTS[:2]}, 3, "test_parts has the rows of 2 clients and there are 3"),
        ({"parts": lambda number: [0, 8]}, 3, "parts gives client 0 the row 8, and the data have the rows 0 to 7"),
        ({"parts": lambda number: 1 / 0}, 3, "parts gives client 0 no rows: ZeroDivisionError"),
        ({"parts": {1: [0]}}, 1, "parts gives client 0 no rows: KeyError: 0"),
    ],
)
def test_parts_that_are_too_few_or_wrong_are_refused_before_the_run(make, arguments, clients, sentence):
    with pytest.raises(ConfigError, match=sentence):
        run(make(**arguments), clients)


@pytest.mark.parametrize("make", [of_linear, of_torch_clients])
def test_parts_of_every_kind_are_taken(make):
    for parts in (PARTS, tuple(PARTS), IID(3).split(LABELS), np.arange(6).reshape(3, 2), lambda number: [number]):
        assert run(make(parts=parts)).rounds[-1].participants == 3
    assert run(make(), 2).rounds[-1].participants == 2


def test_a_row_of_a_later_client_is_named_too():
    from umbel.clients.arguments import checked_parts

    with pytest.raises(ConfigError, match="parts gives client 2 the row -3"):
        checked_parts("parts", [[0], [1], [1, -3]], 4)
    assert checked_parts("parts", [[0], [], [3]], 4) == [[0], [], [3]]


@pytest.mark.parametrize(
    "clients",
    [
        lambda context: of_gradient(epochs=0),
        of_linear(epochs=0),
        lambda context: of_torch(max_steps=0),
    ],
)
def test_a_run_in_which_no_step_was_taken_says_so(clients):
    with pytest.raises(TooFewClients, match="no step was taken: look at epochs and max_steps"):
        run(clients)
