"""One model for all clients, or one for each: same bits, for any number of workers, and nothing leaks."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

import umbel as fl  # noqa: E402
from umbel.testing import check_client  # noqa: E402

from .torch_parts import LOSS, data, made, mlp, normed, sgd, simulate  # noqa: E402

ENGINES = [("serial", None), ("pool", 1), ("pool", 2), ("pool", 5)]


def part(index):
    return data(24 + 3 * index, seed=10 + index)


def loader(index, **more):
    return DataLoader(TensorDataset(*part(index)), batch_size=8, shuffle=True, **more)


def all_engines(client_fn, strategy=None, **more):
    return [
        simulate(client_fn, 5, strategy, 2, engine=engine, workers=workers, fraction_evaluate=1.0, **more)
        for engine, workers in ENGINES
    ]


def assert_same(histories):
    first = histories[0]
    for other in histories[1:]:
        assert other.parameters == first.parameters
        assert [r.loss for r in other.rounds] == [r.loss for r in first.rounds]


def dropping():
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.3), nn.Linear(5, 3))


def test_a_shuffling_loader_and_dropout_give_the_same_bits_for_any_number_of_workers():
    loaders = [loader(index) for index in range(5)]
    model = made(dropping)
    histories = all_engines(
        lambda context: fl.TorchClient(
            model, LOSS, sgd(), loaders[context.partition_id], test_data=loaders[context.partition_id]
        )
    )
    anew = all_engines(
        lambda context: fl.TorchClient(
            made(dropping), LOSS, sgd(), loader(context.partition_id), test_data=loader(context.partition_id)
        )
    )
    assert_same([*histories, *anew])
    fixed = simulate(
        lambda context: fl.TorchClient(model, LOSS, sgd(), part(context.partition_id), shuffle=False), 5, rounds=2
    )
    assert fixed.parameters != histories[0].parameters  # the order does matter


def test_a_loaders_own_generator_begins_anew_with_each_turn():
    generator = torch.Generator().manual_seed(3)
    loaders = [loader(index, generator=generator) for index in range(5)]
    model = mlp()
    assert_same(all_engines(lambda context: fl.TorchClient(model, LOSS, sgd(), loaders[context.partition_id])))


def test_rounds_and_clients_shuffle_differently():
    orders = []

    def step(model, batch):
        orders.append(tuple(batch[0].flatten().tolist()))
        return model(batch[0]).sum()

    numbers = TensorDataset(torch.arange(64.0).reshape(64, 1))
    simulate(
        lambda context: fl.TorchClient(
            made(lambda: nn.Linear(1, 1)), step=step, optimizer=sgd(0.0), train_data=numbers, batch_size=64
        ),
        2,
        rounds=2,
    )
    assert len(set(orders)) == 4
    assert all(sorted(order) == list(range(64)) for order in orders)


@pytest.mark.parametrize("build", [mlp, normed, dropping])
@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("shared", [False, True])
def test_the_clients_kit_passes(build, bound, shared):
    common = made(build)

    def client_fn(context):
        model = common if shared else made(build)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.01) if bound else sgd(momentum=0.9)
        return fl.TorchClient(model, LOSS, optimizer, loader(0), test_data=part(0))

    check_client(client_fn)


@pytest.mark.parametrize("shared", ["0.*", ["*", "!2.*"], ["*", "!1.*"]], ids=str)
@pytest.mark.parametrize("strategy", [fl.FedAvg, fl.FedProx, fl.Scaffold, fl.FedDyn, fl.FedSGD])
def test_private_arrays_are_each_clients_own_whether_the_model_is_shared_or_not(strategy, shared):
    """A head or (as in FedBN) the batch-norm layers at home; a shared model must not pass them on."""

    def build():
        return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))

    model = made(build)

    def one(context):
        return fl.TorchClient(
            model, LOSS, sgd(), part(context.partition_id), test_data=part(context.partition_id), batch_size=8
        )

    def anew(context):
        return fl.TorchClient(
            made(build), LOSS, sgd(), part(context.partition_id), test_data=part(context.partition_id), batch_size=8
        )

    runs = [
        simulate(client_fn, 4, strategy(shared=shared), 2, engine=engine, workers=2, fraction_evaluate=1.0)
        for client_fn in (one, anew)
        for engine in ("serial", "pool")
    ]
    assert_same(runs)
    travelled = set(runs[0].parameters)
    everything = set(model.state_dict())
    home = {"0.*": "12", "['*', '!2.*']": "2", "['*', '!1.*']": "1"}[str(shared)]
    assert travelled == {name for name in everything if name[0] not in home}


def test_fedbn_statistics_are_those_of_the_clients_own_data():
    """lr = 0, so only the statistics move: each client evaluates with the mean of its own inputs."""
    offsets = (0.0, 100.0)

    def client_fn(context):
        x = data(32)[0] + offsets[context.partition_id]
        bn = nn.Sequential()
        bn.add_module("bn", nn.BatchNorm1d(6, momentum=None))  # a plain mean over batches
        bn.add_module("out", made(lambda: nn.Linear(6, 1)))

        def step(model, batch):
            return (model.bn(batch[0]).mean(0) ** 2).mean() + 0.0 * model.out(batch[0]).sum()

        return fl.TorchClient(bn, step=step, optimizer=sgd(0.0), train_data=(x,), test_data=(x,), batch_size=32)

    private = simulate(client_fn, 2, fl.FedAvg(shared=["*", "!bn*"]), fraction_evaluate=1.0)
    common = simulate(client_fn, 2, fl.FedAvg(), fraction_evaluate=1.0)
    assert set(private.parameters) == {"out.weight", "out.bias"}
    assert private.loss < 1e-6 < 1.0 < common.loss


def test_the_users_model_is_as_it_was_after_a_run():
    model = made(normed)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    def client_fn(context):
        return fl.TorchClient(model, LOSS, sgd(), part(context.partition_id), test_data=part(context.partition_id))

    for strategy in (fl.FedAvg(), fl.FedSGD(), fl.QFedAvg(q=1.0)):
        first, second = (simulate(client_fn, 2, strategy, fraction_evaluate=1.0) for _ in range(2))
        assert first.parameters == second.parameters
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(param.grad is None for param in model.parameters())


def test_a_turn_that_fails_leaves_nothing_in_a_shared_model():
    def run(fails, clients):
        model = made(mlp)

        def client_fn(context):
            index = context.partition_id

            def step(net, batch):
                loss = LOSS(net(batch[0]), batch[1])
                if index == 0 and fails and batch[0].shape[0] < 8:
                    loss.backward()
                    raise RuntimeError("the last batch is broken")
                return loss

            return fl.TorchClient(model, step=step, optimizer=sgd(), train_data=part(index + 1), batch_size=8)

        return simulate(client_fn, clients, fl.FedAvg(shared="0.*"))

    history = run(True, 2)
    assert [f.client for f in history.rounds[-1].failures] == ["0"]
    alone = simulate(
        lambda context: fl.TorchClient(mlp(), LOSS, sgd(), part(2), batch_size=8), 2, fl.FedAvg(shared="0.*")
    )
    # Only the order of client 1's batches is its own; without shuffling they would be equal to the bit.
    assert set(history.parameters) == set(alone.parameters) == {"0.weight", "0.bias"}
    expected = simulate(
        lambda context: (
            fl.TorchClient(mlp(), LOSS, sgd(), part(2), batch_size=8)
            if context.partition_id
            else fl.TorchClient(mlp(), LOSS, sgd(), (part(0)[0][:0], part(0)[1][:0]))
        ),
        2,
        fl.FedAvg(shared="0.*"),
    )
    assert history.parameters == expected.parameters


def test_a_model_in_float64_beside_numpy_is_not_touched_by_reading_its_parameters():
    model = mlp(torch.float64)
    history = simulate(lambda context: fl.TorchClient(model, LOSS, sgd(0.0), data(dtype=torch.float64)))
    for name, value in model.state_dict().items():
        assert np.array_equal(history.parameters[name], value.numpy())
