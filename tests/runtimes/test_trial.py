"""The engine "auto": blocks where they are faster and end where the loop does, and never else."""

import numpy as np
import pytest

import umbel as fl
from umbel.runtimes import trial
from umbel.runtimes.program import Program

torch = pytest.importorskip("torch")

CLIENTS, WIDTH, CLASSES, ROWS = 100, 6, 3, 12


def table():
    x = np.random.default_rng(0).standard_normal((CLIENTS * ROWS, WIDTH)).astype(np.float32)
    return x, x[:, :CLASSES].argmax(1)


def rows(client):
    return np.arange(client * ROWS, (client + 1) * ROWS)


def sgd(params):
    return torch.optim.SGD(params, lr=0.1)


def small():
    return torch.nn.Linear(WIDTH, CLASSES)


def dropping():
    return torch.nn.Sequential(torch.nn.Dropout(), small())


def built(model=small):
    x, y = (torch.from_numpy(column) for column in table())

    def client_fn(context):
        own = rows(context.partition_id)
        return fl.TorchClient(model(), torch.nn.CrossEntropyLoss(), sgd, (x[own], y[own]), batch_size=5)

    return client_fn


def unbuilt():
    return fl.TorchClients(small(), torch.nn.CrossEntropyLoss(), sgd, table(), rows, batch_size=5)


def linear():
    return fl.LinearClients(table(), rows, batch_size=5)


class Own(fl.NumPyClient):
    def fit(self, parameters, config):
        return parameters, 1, {}


def run(client_fn, engine="auto", strategy=None, num_rounds=10, **more):
    config = fl.ServerConfig(num_rounds=num_rounds, seed=1, fraction_evaluate=0.0, **more)
    initial = [np.zeros(2)] if client_fn is Own else None
    return fl.simulate(
        client_fn,
        CLIENTS,
        strategy=strategy,
        config=config,
        engine=engine,
        workers=1,
        initial_parameters=initial,
        progress=False,
    )


@pytest.fixture
def fast(monkeypatch):
    """A machine on which blocks take no time."""
    monkeypatch.setattr(trial, "FASTER", 0.0)


@pytest.mark.parametrize("clients", [built, unbuilt, linear])
@pytest.mark.usefixtures("fast")
def test_blocks_that_are_faster_are_taken_and_give_what_the_loop_gives(clients):
    client_fn = clients()
    auto, alone = run(client_fn), run(client_fn, "serial")
    assert auto.plan["engine"]["name"] == "vmap"
    assert max(np.abs(auto.parameters[name] - alone.parameters[name]).max() for name in alone.parameters) < 1e-5


@pytest.mark.parametrize("clients", [unbuilt, linear])
@pytest.mark.usefixtures("fast")
def test_gradients_that_are_computed_as_one_are_tried_so(clients):
    assert run(clients(), strategy=fl.FedSGD(server=fl.sgd(0.1))).plan["engine"]["name"] == "vmap"


@pytest.mark.parametrize("clients", [built, linear])
@pytest.mark.usefixtures("fast")
def test_scaffold_is_tried_with_its_controls(clients):
    history = run(clients(), strategy=fl.Scaffold())
    assert history.plan["engine"]["name"] == "vmap"
    assert history.warnings == ()


@pytest.mark.parametrize(
    ("client_fn", "more"),
    [
        (built(dropping), {}),
        (built(), {"num_rounds": 9}),
        (built(), {"client_timeout": 60.0}),
        (Own, {}),
    ],
    ids=["draws itself", "short", "time limit", "closed loop"],
)
@pytest.mark.usefixtures("fast")
def test_what_blocks_would_change_or_not_speed_up_trains_one_by_one(client_fn, more):
    history = run(client_fn, **more)
    assert history.plan["engine"]["name"] == "serial"
    assert history.warnings == ()


class Branching(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = small()

    def forward(self, x):
        return self.inner(x) if x.sum() > 0 else self.inner(-x)


@pytest.mark.parametrize(
    ("client_fn", "strategy", "reason"),
    [
        (built(Branching), None, "data-dependent control flow"),
        (
            fl.TorchClients(Branching(), torch.nn.CrossEntropyLoss(), sgd, table(), rows),
            None,
            "data-dependent control flow",
        ),
        (built(), fl.FedSGD(server=fl.sgd(0.1)), "its strategy does more with a client than to train it once"),
        (linear(), fl.QFedAvg(), "its strategy does more with a client than to train it once"),
    ],
    ids=["branches", "branches unbuilt", "gradient", "losses"],
)
@pytest.mark.usefixtures("fast")
def test_why_blocks_could_not_be_tried_is_said_once(client_fn, strategy, reason):
    history = run(client_fn, strategy=strategy)
    assert history.plan["engine"]["name"] == "serial"
    (said,) = history.warnings
    assert said.startswith('engine="auto" lets clients train one by one and not in blocks: ')
    assert reason in said


def test_blocks_that_are_no_faster_are_not_taken(monkeypatch):
    monkeypatch.setattr(trial, "FASTER", 1e9)
    assert run(built()).plan["engine"]["name"] == "serial"


def test_a_client_that_takes_long_is_not_tried_in_a_block(monkeypatch):
    monkeypatch.setattr(trial, "LONGEST_S", 0.0)
    assert run(built()).plan["engine"]["name"] == "serial"


@pytest.mark.usefixtures("fast")
def test_a_client_that_fails_in_the_trial_fails_in_its_turn_and_is_told():
    good = built()

    def client_fn(context):
        if context.partition_id == 3:
            raise ValueError("no data here")
        return good(context)

    history = run(client_fn)
    assert history.plan["engine"]["name"] == "vmap"
    assert [failure.client for failure in history.rounds[0].failures] == ["3"]


@pytest.mark.usefixtures("fast")
def test_a_trial_leaves_the_processes_threads_as_they_were():
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        run(built())
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


@pytest.mark.usefixtures("fast")
def test_clients_that_take_long_to_build_are_not_all_built_for_the_trial(monkeypatch):
    good, numbers = built(), []

    def client_fn(context):
        numbers.append(context.partition_id)
        return good(context)

    ticks = iter(range(10**6))
    monkeypatch.setattr(trial.time, "perf_counter", lambda: float(next(ticks)))
    monkeypatch.setattr(trial, "LONGEST_S", 4.0)
    program = Program(client_fn, fl.FedAvg(), 1, CLIENTS, {})
    params = fl.Arrays.of({name: value.detach().numpy() for name, value in small().state_dict().items()})
    assert not trial.tried(program, [str(number) for number in range(CLIENTS)], params).pays
    assert len(numbers) < 6


@pytest.mark.usefixtures("fast")
def test_a_run_that_goes_on_keeps_its_blocks_without_another_trial(tmp_path, monkeypatch):
    config = fl.ServerConfig(num_rounds=10, seed=1, fraction_evaluate=0.0)
    store = str(tmp_path / "runs.db")
    first = fl.simulate(built(), CLIENTS, config=config, workers=1, store=store, progress=False)
    monkeypatch.setattr(trial, "tried", lambda *given: pytest.fail("tried again"))
    longer = fl.ServerConfig(num_rounds=12, seed=1, fraction_evaluate=0.0)
    again = fl.simulate(built(), CLIENTS, config=longer, workers=1, store=store, resume=first.run, progress=False)
    assert again.plan["engine"]["block"] == first.plan["engine"]["block"]
    assert len(again.rounds) == 12
