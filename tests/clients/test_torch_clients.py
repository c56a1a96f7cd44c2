"""`TorchClients`: the same clients built one by one, in blocks, or not at all."""

from typing import final

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import umbel as fl  # noqa: E402
from umbel.data import IID  # noqa: E402

CLIENTS, ROWS, WIDTH, CLASSES = 40, 400, 5, 3
RNG = np.random.default_rng(0)
X = RNG.standard_normal((ROWS, WIDTH)).astype(np.float32)
Y = X[:, :CLASSES].argmax(1)
EVEN = [np.arange(10 * number, 10 * number + 10) for number in range(CLIENTS)]
UNEVEN = [np.arange(number, number + 1 + (number * 7) % 19) for number in range(CLIENTS)]


def sgd(params):
    return torch.optim.SGD(params, lr=0.1)


def clients_of(parts=UNEVEN, data=(X, Y), **more):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, 6), nn.ReLU(), nn.Linear(6, CLASSES))
    return fl.TorchClients(model, nn.CrossEntropyLoss(), sgd, data, parts, **{"batch_size": 4, "epochs": 2, **more})


def run(clients, engine="vmap", strategy=None, workers=1, fraction_evaluate=0.0, rounds=2, block=None, **more):
    block = 128 if block is None and engine == "vmap" else block
    config = fl.ServerConfig(num_rounds=rounds, fraction_evaluate=fraction_evaluate, seed=1, **more)
    return fl.simulate(
        clients, CLIENTS, strategy=strategy, config=config, engine=engine, workers=workers, block=block, progress=False
    )


def agree(one, other):
    for name, values in one.parameters.items():
        np.testing.assert_allclose(other.parameters[name], values, rtol=1e-4, atol=1e-4 * np.abs(values).max())
    for mine, theirs in zip(one.rounds, other.rounds, strict=True):
        assert mine.participants == theirs.participants
        assert dict(theirs.metrics) == pytest.approx(dict(mine.metrics), rel=1e-4)
        assert [f.client for f in theirs.failures] == [f.client for f in mine.failures]


@pytest.fixture
def built(monkeypatch):
    """How many clients are built."""
    numbers = []
    build = fl.TorchClients.__call__

    def counting(self, context):
        numbers.append(context.partition_id)
        return build(self, context)

    monkeypatch.setattr(fl.TorchClients, "__call__", counting)
    return numbers


@pytest.mark.parametrize(
    ("clients", "strategy"),
    [
        (clients_of(EVEN), fl.FedAvg()),
        (clients_of(), fl.FedAvg()),
        (clients_of(IID(CLIENTS, seed=3).split(Y)), fl.FedAvg()),
        (clients_of(lambda number: UNEVEN[number]), fl.FedAvg()),
        (clients_of(shuffle=False), fl.FedAvg()),
        (clients_of(max_steps=2, clip_grad_norm=0.2), fl.FedAvg()),
        (clients_of(), fl.FedAvg(weighting="uniform")),
        (clients_of(), fl.FedAvg(reducer=fl.Mean(exact=False))),
        (clients_of(), fl.FedProx(mu=0.5)),
        (clients_of(), fl.FedAvg(server=fl.adam(0.1))),
    ],
    ids=[
        "even",
        "uneven",
        "partition",
        "function",
        "in order",
        "few steps",
        "uniform",
        "plain sum",
        "FedProx",
        "FedAdam",
    ],
)
def test_clients_that_are_not_built_give_what_the_loop_gives(clients, strategy, built):
    block = run(clients, strategy=strategy)
    assert built == [0], "one is looked at before the run, and none is built after it"
    assert not block.warnings
    agree(run(clients, "serial", strategy=strategy), block)


@pytest.mark.parametrize(
    "strategy",
    [fl.Scaffold(), fl.FedDyn(), fl.FedNova(), fl.FedAvg(reducer=fl.Median()), fl.FedAvg(shared="0.*"), fl.QFedAvg()],
    ids=lambda strategy: type(strategy).__name__,
)
def test_a_method_that_needs_each_client_gets_each(strategy, built):
    clients = clients_of()
    block = run(clients, strategy=strategy)
    assert len(built) > CLIENTS
    agree(run(clients, "serial", strategy=strategy), block)


@pytest.mark.parametrize("weighting", ["examples", "uniform"])
@pytest.mark.parametrize("parts", [UNEVEN, [[], *UNEVEN[1:]]], ids=["uneven", "one without rows"])
def test_a_block_of_fedsgd_is_one_large_gradient(weighting, parts, built):
    strategy = fl.FedSGD(server=fl.sgd(0.5), weighting=weighting)
    clients = clients_of(parts)
    block = run(clients, strategy=strategy)
    assert built == [0], "one is looked at before the run, and none is built after it"
    assert not block.warnings
    agree(run(clients, "serial", strategy=strategy), block)


def test_fedsgd_of_models_that_look_from_row_to_row_is_played_one_by_one(built):
    model = nn.Sequential(nn.Linear(WIDTH, 6), nn.BatchNorm1d(6), nn.Linear(6, CLASSES))
    clients = fl.TorchClients(model, nn.CrossEntropyLoss(), sgd, (X, Y), EVEN, batch_size=100)
    block = run(clients, strategy=fl.FedSGD())
    assert len(built) > CLIENTS
    agree(run(clients, "serial", strategy=fl.FedSGD()), block)


def test_the_bits_of_one_large_gradient_do_not_depend_on_the_number_of_workers():
    one, two = (run(clients_of(), strategy=fl.FedSGD(), workers=workers, block=8) for workers in (1, 2))
    assert one.parameters == two.parameters


def test_the_bits_do_not_depend_on_the_number_of_workers():
    one, *others = [run(clients_of(), workers=workers, block=8) for workers in (1, 2, 3)]
    for other in others:
        for name, values in one.parameters.items():
            np.testing.assert_array_equal(values, other.parameters[name])


@pytest.mark.parametrize("strategy", [fl.FedAvg(), fl.FedSGD()], ids=lambda strategy: type(strategy).__name__)
@pytest.mark.parametrize("spoilt", ["a NaN", "rows that are not there", "a class that is not there"])
def test_one_clients_bad_rows_are_its_own_trouble(spoilt, strategy):
    x, y, parts = X.copy(), Y.copy(), list(EVEN)
    if spoilt == "a NaN":
        x[35] = np.nan
    elif spoilt == "a class that is not there":
        y[35] = CLASSES
    else:
        parts[3] = [ROWS + 1]
    # A list is looked at when the clients are made; of a function nobody knows what it gives.
    clients = clients_of(parts.__getitem__, (x, y))
    block = run(clients, strategy=strategy)
    assert [[failure.client for failure in record.failures] for record in block.rounds] == [["3"], ["3"]]
    agree(run(clients, "serial", strategy=strategy), block)


def test_stale_updates_are_scaled_in_blocks_too():
    def go(engine):
        return fl.simulate(
            clients_of(),
            CLIENTS,
            config=fl.ServerConfig(num_rounds=6, fraction_evaluate=0.0, seed=1),
            system=fl.SystemModel(seconds_per_unit=fl.LogNormal(1.0, 1.0)),
            coordinator=fl.Buffered(concurrency=20, buffer_size=8),
            engine=engine,
            workers=1,
            progress=False,
        )

    agree(go("serial"), go("vmap"))


def test_a_client_without_rows_weighs_nothing():
    clients = clients_of([*EVEN[:3], np.array([], int), *EVEN[4:]])
    agree(run(clients, "serial"), run(clients))


def test_what_each_client_measured_is_kept_if_that_was_asked_for():
    loop, block = (run(clients_of(), engine, per_client_metrics=True) for engine in ("serial", "vmap"))
    for mine, theirs in zip(loop.rounds, block.rounds, strict=True):
        assert [entry["client"] for entry in theirs.clients] == [entry["client"] for entry in mine.clients]
        assert [e["examples"] for e in theirs.clients] == [e["examples"] for e in mine.clients]


def test_they_evaluate_on_rows_of_their_own():
    tested = [np.arange(10 * number, 10 * number + 3) for number in range(CLIENTS)]
    history = run(clients_of(EVEN, test_parts=tested), fraction_evaluate=1.0, per_client_metrics=True)
    assert {e["examples"] for e in history.rounds[-1].clients if e["kind"] == "evaluate"} == {3.0}
    assert history.rounds[-1].loss is not None


def test_data_that_are_no_columns_are_refused():
    with pytest.raises(fl.errors.ConfigError, match=r"data must be a tuple of arrays such as \(x, y\), got list"):
        clients_of(data=[1, 2])
    with pytest.raises(fl.errors.ConfigError, match="the arrays of data differ in length"):
        clients_of(data=(X, Y[:-1]))
    with pytest.raises(fl.errors.ConfigError, match="batch_size must be a whole number of at least 1"):
        clients_of(batch_size=0)
    assert len(clients_of()) == CLIENTS
    for rows in (np.arange(ROWS) < 5, [0.5, 1.0]):
        with pytest.raises(fl.errors.ConfigError, match="rows of client 0 must be whole numbers in a row"):
            clients_of([rows])(fl.Context("0", 0, 1))


TESTED = [np.arange(number, number + (number * 5) % 7) for number in range(CLIENTS)]
"""Rows to evaluate on: some clients have none."""


@final
class Moody(nn.Module):
    """A model that does, in evaluation, what batches of several clients at once would change."""

    def __init__(self, how):
        super().__init__()
        self.how, self.linear = how, nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        if self.training:
            return self.linear(x)
        if self.how == "looks at its neighbours":
            return self.linear(x - x.mean(0))
        return self.linear(x + 0.1 * torch.randn_like(x))


def like(model=None, loss=None, **more):
    torch.manual_seed(0)
    model = model or nn.Sequential(nn.Linear(WIDTH, 6), nn.ReLU(), nn.Linear(6, CLASSES))
    return fl.TorchClients(
        model, loss or nn.CrossEntropyLoss(), sgd, more.pop("data", (X, Y)), EVEN, test_parts=TESTED, **more
    )


def assessed(clients, engine):
    history = run(clients, engine, fraction_evaluate=1.0, per_client_metrics=True, workers=1)
    told = [[entry for entry in record.clients if entry["kind"] == "evaluate"] for record in history.rounds]
    return [record.loss for record in history.rounds], told


@pytest.mark.parametrize("fraction", [1.0, 0.5])
def test_evaluation_at_once_says_what_evaluation_one_by_one_says(built, fraction):
    loop, block = (run(like(), engine, fraction_evaluate=fraction) for engine in ("serial", "vmap"))
    agree(loop, block)
    assert [r.loss for r in block.rounds] == pytest.approx([r.loss for r in loop.rounds], rel=1e-5)
    assert "accuracy" in block.rounds[-1].metrics


def test_who_evaluates_at_once_is_not_built(built):
    run(like(), fraction_evaluate=1.0)
    assert len(built) <= 4, "more than were looked at before the first round"


@pytest.mark.parametrize(
    "clients",
    [
        like(),
        like(nn.Sequential(nn.Linear(WIDTH, 6), nn.BatchNorm1d(6), nn.Linear(6, CLASSES))),
        like(nn.Linear(WIDTH, 2), nn.MSELoss(), data=(X, X[:, :2].copy())),
        like(nn.Linear(WIDTH, 1), nn.MSELoss(), data=(X, X[:, 0].copy())),
        like(loss=nn.CrossEntropyLoss(ignore_index=1)),
        like(loss=lambda output, target: nn.functional.cross_entropy(output, target) * 2),
        like(metrics={"worst": lambda output, target: (output.argmax(1) == target).float().min()}),
        like(Moody("looks at its neighbours")),
        like(Moody("draws at random")),
    ],
    ids=[
        "a network",
        "batch norm",
        "no labels",
        "a loss that broadcasts",
        "a loss that leaves targets out",
        "a loss of the user's own",
        "metrics of batches",
        "a model that looks at its neighbours",
        "a model that draws at random",
    ],
)
@pytest.mark.filterwarnings("ignore:Using a target size")
def test_each_client_hears_of_itself_what_it_would_hear_alone(clients):
    (losses, loop), (at_once, block) = assessed(clients, "serial"), assessed(clients, "vmap")
    assert at_once == pytest.approx(losses, rel=2e-4)
    for mine, theirs in zip(loop, block, strict=True):
        for one, other in zip(mine, theirs, strict=True):
            assert (other["client"], other["examples"]) == (one["client"], one["examples"])
            assert other["metrics"] == pytest.approx(one["metrics"], rel=1e-3, abs=1e-4)


def test_one_client_that_cannot_evaluate_fails_alone():
    broken = [[ROWS + 5] if number == 7 else rows for number, rows in enumerate(TESTED)]
    torch.manual_seed(0)
    clients = fl.TorchClients(
        nn.Linear(WIDTH, CLASSES), nn.CrossEntropyLoss(), sgd, (X, Y), EVEN, test_parts=broken.__getitem__
    )
    history = run(clients, fraction_evaluate=1.0, rounds=1, accept_failures=True)
    assert "7" in {failure.client for failure in history.rounds[-1].failures}
    assert history.rounds[-1].loss is not None
