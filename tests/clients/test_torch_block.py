"""Clients that train in blocks: what their loops would give, but for rounding."""

import os
import signal

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import umbel as fl  # noqa: E402
from umbel.clients.torch.kind import kind  # noqa: E402

CLIENTS, WIDTH, CLASSES = 30, 6, 3
SAID = "some clients are trained one by one and not in blocks: "


def data(index, count, width=WIDTH):
    rng = np.random.default_rng(index)
    x = rng.standard_normal((count, width)).astype(np.float32)
    return x, x[:, :CLASSES].argmax(1)


def ragged(index):
    return 3 + (index * 7) % 23


def alike(index):
    return 12


def mlp():
    return nn.Sequential(nn.Linear(WIDTH, 8), nn.ReLU(), nn.Linear(8, CLASSES))


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(WIDTH, 8, bias=False), nn.BatchNorm1d(8), nn.Linear(8, CLASSES)

    def forward(self, x):
        return self.last(torch.relu(self.norm(self.first(x))))


class Centred(nn.Module):
    """Looks from one row of a batch at the others, and keeps nothing of them."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        return self.layer(x - x.mean(0))


def sgd(params):
    return torch.optim.SGD(params, lr=0.1)


def client_of(model=mlp, optimizer=sgd, sizes=ragged, loss=None, batch_size=5, epochs=2, **more):
    def client_fn(context):
        torch.manual_seed(0)
        x, y = data(context.partition_id, sizes(context.partition_id))
        return fl.TorchClient(
            model(), loss or nn.CrossEntropyLoss(), optimizer, (x, y), batch_size=batch_size, epochs=epochs, **more
        )

    return client_fn


def run(client_fn, engine="vmap", workers=1, strategy=None, rounds=2, clients=CLIENTS, block=None, **more):
    block = 128 if block is None and engine == "vmap" else block
    config = fl.ServerConfig(num_rounds=rounds, fraction_evaluate=0.0, seed=1, **more)
    return fl.simulate(
        client_fn,
        clients,
        strategy=strategy,
        config=config,
        engine=engine,
        workers=workers,
        block=block,
        progress=False,
    )


def agree(one, other, tolerance=1e-4):
    for name, values in one.parameters.items():
        np.testing.assert_allclose(
            other.parameters[name], values, rtol=tolerance, atol=tolerance * np.abs(values).max()
        )
    for mine, theirs in zip(one.rounds, other.rounds, strict=True):
        assert mine.participants == theirs.participants
        assert dict(theirs.metrics) == pytest.approx(dict(mine.metrics), rel=1e-4)


def same_bits(one, other):
    for name, values in one.parameters.items():
        np.testing.assert_array_equal(values, other.parameters[name])


@pytest.mark.parametrize(
    ("client_fn", "strategy"),
    [
        (client_of(sizes=alike), fl.FedAvg()),
        (client_of(), fl.FedAvg()),
        (client_of(optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.2)), fl.FedNova()),
        (client_of(optimizer=lambda p: torch.optim.SGD(p, 0.05, 0.9, nesterov=True, weight_decay=0.01)), fl.FedNova()),
        (client_of(optimizer=lambda p: torch.optim.Adam(p, lr=0.01, weight_decay=0.01)), fl.FedAvg()),
        (client_of(optimizer=lambda p: torch.optim.AdamW(p, lr=0.01)), fl.FedAvg()),
        (client_of(clip_grad_norm=0.3), fl.FedAvg()),
        (client_of(shuffle=False, epochs=1), fl.FedAvg()),
        (client_of(max_steps=3), fl.FedAvg()),
        (client_of(), fl.FedProx(mu=0.5)),
        (client_of(), fl.Scaffold()),
        (client_of(), fl.FedDyn(alpha=0.2)),
        (client_of(), fl.FedAvg(shared="0.*")),
        (client_of(sizes=lambda index: 4 + index % 2 * 4, model=Normed, batch_size=4), fl.FedAvg()),
        (client_of(sizes=lambda index: 4 + index % 3, model=Normed, batch_size=6), fl.FedAvg()),
        (
            client_of(
                model=Normed, optimizer=lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9), sizes=lambda i: 8 + i % 3
            ),
            fl.FedAvg(),
        ),
        (
            client_of(model=Normed, optimizer=lambda p: torch.optim.Adam(p, lr=0.01), sizes=lambda i: 8 + i % 3),
            fl.FedAvg(),
        ),
        (client_of(model=Centred), fl.FedAvg()),
        (client_of(loss=lambda output, target: nn.functional.nll_loss(output.log_softmax(1), target)), fl.FedAvg()),
    ],
    ids=[
        "equal sizes",
        "ragged",
        "momentum with dampening",
        "nesterov with weight decay",
        "adam",
        "adamw",
        "clipping",
        "in order",
        "max_steps",
        "FedProx",
        "SCAFFOLD",
        "FedDyn",
        "personal head",
        "batch norm",
        "batch norm, ragged",
        "batch norm, ragged, momentum",
        "batch norm, ragged, adam",
        "rows that look at each other",
        "a loss of the user's own",
    ],
)
def test_a_block_gives_what_the_loop_gives(client_fn, strategy):
    loop, block = (run(client_fn, engine, strategy=strategy) for engine in ("serial", "vmap"))
    assert not block.warnings
    agree(loop, block)


def test_the_bits_do_not_depend_on_the_number_of_workers():
    one, *others = [run(client_of(), workers=workers, block=8) for workers in (1, 2, 3)]
    for other in others:
        same_bits(one, other)
        assert [r.failures for r in other.rounds] == [r.failures for r in one.rounds]


@pytest.mark.parametrize(
    ("client_fn", "reason"),
    [
        (client_of(scheduler=lambda o: torch.optim.lr_scheduler.ConstantLR(o)), "it has a scheduler"),
        (client_of(accumulate=2), "it accumulates gradients"),
        (client_of(amp=torch.bfloat16), "it trains in mixed precision"),
        (client_of(optimizer=lambda p: torch.optim.Adagrad(p)), "its optimizer is Adagrad"),
        (client_of(optimizer=lambda p: torch.optim.Adam(p, amsgrad=True)), "its optimizer is set to amsgrad"),
    ],
)
def test_clients_that_no_block_can_take_train_one_by_one_and_the_reason_is_said_once(client_fn, reason):
    loop, block = (run(client_fn, engine) for engine in ("serial", "vmap"))
    same_bits(loop, block)
    assert len(block.warnings) == 1
    assert block.warnings[0].startswith(SAID + reason)


def test_clients_that_were_built_each_in_its_own_way_train_one_by_one_and_that_is_said():
    def client_fn(context):
        torch.manual_seed(0)
        lr = 0.01 + 0.001 * context.partition_id
        return fl.TorchClient(
            mlp(), nn.CrossEntropyLoss(), lambda p: torch.optim.SGD(p, lr=lr), data(context.partition_id, 9)
        )

    loop, block = (run(client_fn, engine) for engine in ("serial", "vmap"))
    same_bits(loop, block)
    assert block.warnings == (f"{SAID}fewer than 5 of those in a block were built alike",)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(WIDTH, CLASSES)

    def forward(self, x):
        return self.layer(x) if x.mean().item() > 0 else -self.layer(x)


def test_a_model_that_cannot_be_batched_is_trained_one_by_one():
    loop, block = (run(client_of(model=Branching), engine) for engine in ("serial", "vmap"))
    same_bits(loop, block)
    assert len(block.warnings) == 1
    assert block.warnings[0].startswith(SAID)


def test_a_loss_that_stretches_its_target_is_computed_one_by_one():
    def client_fn(context):
        x, y = data(context.partition_id, 9)
        torch.manual_seed(0)
        return fl.TorchClient(nn.Linear(WIDTH, 1), nn.MSELoss(), sgd, (x, y.astype(np.float32)), batch_size=4)

    with pytest.warns(UserWarning, match="Using a target size"):
        loop, block = (run(client_fn, engine) for engine in ("serial", "vmap"))
    same_bits(loop, block)
    assert "an output of shape (4, 1) and a target of (4,)" in block.warnings[0]


def test_one_clients_bad_data_are_its_own_trouble():
    def client_fn(context):
        x, y = data(context.partition_id, 9)
        if context.partition_id == 4:
            y = y + CLASSES
        if context.partition_id == 5:
            x = x * np.nan
        return fl.TorchClient(mlp(), nn.CrossEntropyLoss(), sgd, (x, y))

    loop, block = (run(client_fn, engine) for engine in ("serial", "vmap"))
    agree(loop, block)
    assert [[f.client for f in r.failures] for r in block.rounds] == [["4", "5"], ["4", "5"]]


def test_nan_in_one_client_of_a_block_spoils_no_other():
    def client_fn(context):
        x, y = data(context.partition_id, 9)
        return fl.TorchClient(mlp(), nn.CrossEntropyLoss(), sgd, (x * np.nan if context.partition_id == 5 else x, y))

    block = run(client_fn)
    assert not block.warnings
    assert [[f.client for f in r.failures] for r in block.rounds] == [["5"], ["5"]]
    agree(run(client_fn, "serial"), block)


def test_clients_that_differ_in_a_number_do_not_share_it():
    """Learning rates, labels' smoothing and a setting of the model's own that its name does not show."""

    class Scaled(nn.Module):
        def __init__(self, scale):
            super().__init__()
            self.layer, self.scale = nn.Linear(WIDTH, CLASSES), scale

        def forward(self, x):
            return self.scale * self.layer(x)

    def client_fn(context):
        torch.manual_seed(0)
        part = context.partition_id % 4
        lr, smoothing, scale = (0.1, 0.3)[part == 1], (0.0, 0.2)[part == 2], (1.0, 2.0)[part == 3]
        loss = nn.CrossEntropyLoss(label_smoothing=smoothing)
        return fl.TorchClient(
            Scaled(scale), loss, lambda p: torch.optim.SGD(p, lr=lr), data(context.partition_id, 9), batch_size=4
        )

    agree(run(client_fn, "serial"), run(client_fn))


def test_one_model_may_be_shared_by_all_clients():
    shared = mlp()

    def client_fn(context):
        return fl.TorchClient(shared, nn.CrossEntropyLoss(), sgd, data(context.partition_id, 9))

    before = {name: value.clone() for name, value in shared.state_dict().items()}
    loop, block = (run(client_fn, engine) for engine in ("serial", "vmap"))
    agree(loop, block)
    assert all(torch.equal(before[name], value) for name, value in shared.state_dict().items())


def test_a_worker_that_dies_with_a_block_costs_no_client_but_its_own():
    def client_fn(context):
        if context.partition_id == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return fl.TorchClient(mlp(), nn.CrossEntropyLoss(), sgd, data(context.partition_id + 1, 9))

    history = run(client_fn, workers=2, block=8, rounds=1, min_available_clients=1)
    assert history.rounds[-1].participants == CLIENTS - 1
    assert [failure.client for failure in history.rounds[-1].failures] == ["3"]


def test_a_resumed_run_ends_in_the_bits_of_the_undisturbed_one(tmp_path):
    def go(rounds, engine, **more):
        return fl.simulate(
            client_of(),
            CLIENTS,
            config=fl.ServerConfig(num_rounds=rounds, fraction_evaluate=0.0, seed=1),
            engine=engine,
            workers=1,
            progress=False,
            **more,
        )

    undisturbed = go(3, "vmap", block=8)
    first = go(1, "vmap", block=8, store=tmp_path / "runs.db")
    for engine in ("serial", "pool"):
        with pytest.raises(fl.errors.ConfigError, match="train in blocks of 8,"):
            go(3, engine, store=tmp_path / "runs.db", resume=first.run)
    with pytest.raises(fl.errors.ConfigError, match="train in blocks of 8, which block=16 would change"):
        go(3, "vmap", block=16, store=tmp_path / "runs.db", resume=first.run)
    resumed = go(3, "auto", store=tmp_path / "runs.db", resume=first.run)
    assert resumed.plan["engine"]["block"] == 8
    same_bits(undisturbed, resumed)
    alone = go(1, "serial", store=tmp_path / "runs.db")
    with pytest.raises(fl.errors.ConfigError, match="train one by one"):
        go(3, "vmap", store=tmp_path / "runs.db", resume=alone.run)


class Unused(nn.Module):
    """A layer that forward does not use, which the loop's weight decay passes over."""

    def __init__(self):
        super().__init__()
        self.layer, self.spare = nn.Linear(WIDTH, CLASSES), nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x)


class Outside(nn.Module):
    """A buffer that is not in the state."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(WIDTH, CLASSES)
        self.register_buffer("scale", torch.rand(1), persistent=False)

    def forward(self, x):
        return self.scale * self.layer(x)


def hooked():
    model = mlp()
    model[0].weight.register_hook(lambda grad: grad * 0.5)
    return model


def test_parameters_that_are_not_used_are_not_decayed():
    client_fn = client_of(model=Unused, optimizer=lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.5))
    loop, block = (run(client_fn, engine) for engine in ("serial", "vmap"))
    assert not block.warnings
    agree(loop, block)


@pytest.mark.parametrize("model", [Outside, hooked])
def test_what_a_block_would_do_otherwise_trains_one_by_one(model):
    loop, block = (run(client_of(model=model), engine) for engine in ("serial", "vmap"))
    same_bits(loop, block)
    assert block.warnings[0].startswith(SAID)


@pytest.mark.parametrize("shared", [False, True])
def test_a_loss_that_reads_the_model_itself_trains_one_by_one(shared):
    one = mlp()

    def client_fn(context):
        torch.manual_seed(0)
        model = one if shared else mlp()

        def loss(output, target):
            return nn.functional.cross_entropy(output, target) + 0.5 * model[0].weight.square().sum()

        return fl.TorchClient(model, loss, sgd, data(context.partition_id, 9))

    loop, block = (run(client_fn, engine) for engine in ("serial", "vmap"))
    same_bits(loop, block)
    assert block.warnings[0].startswith(f"{SAID}its loss reads a model's parameters itself")


@pytest.mark.parametrize(
    "loss", [nn.CrossEntropyLoss(), nn.functional.cross_entropy, nn.CrossEntropyLoss(ignore_index=1)]
)
def test_what_a_loss_ignores_is_not_in_its_mean(loss):
    def client_fn(context):
        torch.manual_seed(0)
        x, y = data(context.partition_id, ragged(context.partition_id) + 3)
        y = np.where(np.arange(len(y)) % 3 == 1, -100 if getattr(loss, "ignore_index", -100) == -100 else 1, y)
        return fl.TorchClient(mlp(), loss, sgd, (x, y), batch_size=5)

    agree(run(client_fn, "serial"), run(client_fn))


def test_what_client_fn_leaves_in_the_state_is_kept():
    def client_fn(context):
        turns = context.state["turns"] = context.state.get("turns", 0) + 1
        torch.manual_seed(0)
        return fl.TorchClient(
            mlp(), nn.CrossEntropyLoss(), lambda p: torch.optim.SGD(p, lr=0.1 / turns), data(context.partition_id, 9)
        )

    agree(run(client_fn, "serial", rounds=4), run(client_fn, rounds=4))


def test_clients_that_set_a_shared_model_to_something_else_train_one_by_one():
    class Tempered(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.temperature = nn.Linear(WIDTH, CLASSES), 1.0

        def forward(self, x):
            return self.layer(x) / self.temperature

    torch.manual_seed(0)
    model = Tempered()

    def client_fn(context):
        model.temperature = 1.0 + context.partition_id % 3
        return fl.TorchClient(model, nn.CrossEntropyLoss(), sgd, data(context.partition_id, 9))

    agree(run(client_fn, "serial"), run(client_fn))


def test_clients_that_freeze_parts_of_a_shared_model_train_those_that_they_want():
    torch.manual_seed(0)
    model = mlp()

    def client_fn(context):
        model[0].weight.requires_grad_(context.partition_id % 3 > 0)
        return fl.TorchClient(model, nn.CrossEntropyLoss(), sgd, data(context.partition_id, 9))

    loop, block = (run(client_fn, engine) for engine in ("serial", "vmap"))
    assert loop.rounds[-1].participants == block.rounds[-1].participants
    agree(loop, block)


class CentredThenZero(Centred):
    """A head of zeros, behind which it cannot be seen that rows look at each other."""

    def __init__(self):
        super().__init__()
        nn.init.zeros_(self.layer.weight)


def test_a_head_of_zeros_does_not_hide_that_rows_look_at_each_other():
    agree(*(run(client_of(model=CentredThenZero), engine) for engine in ("serial", "vmap")))


def test_few_steps_of_many_passes_draw_few_passes():
    agree(*(run(client_of(epochs=10**6, max_steps=4), engine) for engine in ("serial", "vmap")))


def test_a_time_limit_per_client_is_refused_with_blocks():
    with pytest.raises(fl.errors.ConfigError, match="client_timeout is for clients that train one by one"):
        run(client_of(), client_timeout=1.0)


def test_kinds_are_equal_for_what_computes_the_same():
    assert kind(mlp()) == kind(mlp())
    assert kind(mlp()) != kind(nn.Sequential(nn.Linear(WIDTH, 8), nn.Tanh(), nn.Linear(8, CLASSES)))
    assert kind(nn.Dropout(0.1)) != kind(nn.Dropout(0.2))

    def scaled(number):
        return lambda output, target: number * (output - target).square().mean()

    assert kind(scaled(1.0)) == kind(scaled(1.0))
    assert kind(scaled(1.0)) != kind(scaled(2.0))
    assert kind(torch.ones(2)) != kind(torch.ones(2))
    assert kind({"a": 1}) != kind({"a": 1})
