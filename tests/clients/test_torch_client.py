"""`TorchClient` against the training loop that one writes by hand."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import umbel as fl  # noqa: E402
from umbel.errors import ConfigError, TooFewClients  # noqa: E402
from umbel.local import train  # noqa: E402
from umbel.message import Context  # noqa: E402

from .torch_parts import (  # noqa: E402
    LOSS,
    Odd,
    assert_close,
    by_hand,
    data,
    in_batches,
    made,
    mlp,
    normed,
    sgd,
    simulate,
)

BATCHES = in_batches(*data())  # four of 8 and one of 3


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(2, 4, batch_first=True), nn.Linear(4, 3)

    def forward(self, x):
        return self.head(self.gru(x.reshape(-1, 3, 2))[1][0])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(2, 1, 8, dropout=0.0, batch_first=True)
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        return self.head(self.block(x.reshape(-1, 3, 2)).flatten(1))


MODELS = {
    "mlp": mlp,
    "recurrent": Recurrent,
    "attention": Attention,
    "odd": Odd,
    "batch norm": normed,
    "convolution": lambda: nn.Sequential(nn.Unflatten(1, (1, 6)), nn.Conv1d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3)),
}


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_fedavg_with_one_client_is_plain_training(build):
    def client_fn(context):
        return fl.TorchClient(made(build), LOSS, sgd(), BATCHES)

    history = simulate(client_fn, rounds=3)
    expected = by_hand(made(build), BATCHES, sgd(), epochs=3)
    assert_close(history.parameters, expected, rtol=1e-5, atol=1e-6)


VARIANTS = {
    "momentum": (sgd(momentum=0.9), {}),
    "nesterov, weight decay": (sgd(momentum=0.9, nesterov=True, weight_decay=0.01), {}),
    "adam": (lambda params: torch.optim.Adam(params, lr=0.01), {}),
    "adamw": (lambda params: torch.optim.AdamW(params, lr=0.01), {}),
    "adagrad": (lambda params: torch.optim.Adagrad(params, lr=0.1), {}),
    "scheduler": (sgd(0.5), {"scheduler": lambda opt: torch.optim.lr_scheduler.StepLR(opt, 2, 0.5)}),
    "clipping": (sgd(1.0), {"clip_grad_norm": 0.1}),
    "accumulation, one left over": (sgd(), {"accumulate": 2}),
    "accumulation of more than there are": (sgd(), {"accumulate": 50}),
    "bfloat16 autocast": (sgd(), {"amp": torch.bfloat16}),
    "all together": (
        sgd(0.3, momentum=0.5),
        {
            "scheduler": lambda opt: torch.optim.lr_scheduler.ExponentialLR(opt, 0.9),
            "clip_grad_norm": 0.2,
            "accumulate": 3,
            "amp": torch.bfloat16,
        },
    ),
}


@pytest.mark.parametrize(("optimizer", "more"), VARIANTS.values(), ids=VARIANTS)
def test_the_local_loop_is_the_one_written_by_hand(optimizer, more):
    history = simulate(lambda context: fl.TorchClient(mlp(), LOSS, optimizer, BATCHES, epochs=3, **more))
    assert_close(history.parameters, by_hand(mlp(), BATCHES, optimizer, epochs=3, **more), rtol=1e-5, atol=1e-6)


def test_float16_with_a_scaled_loss_stays_near_single_precision():
    history = simulate(lambda context: fl.TorchClient(mlp(), LOSS, sgd(), BATCHES, amp=torch.float16))
    assert_close(history.parameters, by_hand(mlp(), BATCHES, sgd()), atol=2e-3)  # float16 has 11 bits


@pytest.mark.parametrize("bound", [False, True])
def test_a_turn_begins_with_an_optimizer_that_remembers_nothing(bound):
    model, make = mlp(), sgd(0.2, momentum=0.9)
    own = make(model.parameters())
    decay = lambda opt: torch.optim.lr_scheduler.StepLR(opt, 2, 0.5)  # noqa: E731

    def client_fn(context):
        return fl.TorchClient(model, LOSS, own if bound else make, BATCHES, scheduler=decay)

    history = simulate(client_fn, rounds=2)
    expected = mlp()
    for _ in range(2):
        expected = by_hand(expected, BATCHES, make, scheduler=decay)
    assert_close(history.parameters, expected, rtol=1e-5, atol=1e-6)
    assert own.param_groups[0]["lr"] == 0.2
    assert not own.state


def test_a_bound_optimizer_moves_its_own_parameters_only():
    model = mlp()
    head = torch.optim.SGD(model[2].parameters(), lr=0.1)
    history = simulate(lambda context: fl.TorchClient(model, LOSS, head, BATCHES))
    expected = by_hand(mlp(), BATCHES, sgd(0.0))
    expected[2] = by_hand(mlp(), BATCHES, lambda params: torch.optim.SGD(list(params)[2:], lr=0.1))[2]
    assert_close(history.parameters, expected, rtol=1e-5, atol=1e-6)


def test_an_optimizer_of_another_model_is_refused():
    with pytest.raises(ConfigError, match="holds none of the model's parameters; bind it to this model"):
        fl.TorchClient(mlp(), LOSS, sgd()(mlp().parameters()), BATCHES)
    other = mlp()
    with pytest.raises(TooFewClients, match="holds none of the model's parameters"):
        simulate(lambda context: fl.TorchClient(mlp(), LOSS, lambda params: sgd()(other.parameters()), BATCHES))


def halves(dtype=torch.float64):
    x, y = data(32, dtype)
    return [in_batches(x[:16], y[:16]), in_batches(x[16:], y[16:])]


def parts_client(context, epochs=2):
    return fl.TorchClient(mlp(torch.float64), LOSS, sgd(), halves()[context.partition_id], epochs=epochs)


def copied(values):
    return {name: value.detach().clone() for name, value in values.items()}


def local(start, batches, rule):
    """Two epochs from `start`, with `rule(name, grad, param)` between backward and step."""
    model = mlp(torch.float64)
    model.load_state_dict(start)
    return copied(by_hand(model, batches, sgd(), epochs=2, correct=rule).state_dict())


def test_fedprox_pulls_each_gradient_towards_the_start():
    history = simulate(parts_client, 2, fl.FedProx(mu=0.7), rounds=2)
    x = copied(mlp(torch.float64).state_dict())
    for _ in range(2):
        ends = [local(x, part, lambda name, g, p, x=x: g + 0.7 * (p - x[name])) for part in halves()]
        x = {name: (ends[0][name] + ends[1][name]) / 2 for name in x}
    assert_close(history.parameters, x, rtol=1e-12, atol=1e-14)


def test_scaffold_adds_the_difference_of_controls_to_each_gradient():
    history = simulate(parts_client, 2, fl.Scaffold(), rounds=3)
    x = copied(mlp(torch.float64).state_dict())
    c = {name: torch.zeros_like(value) for name, value in x.items()}
    mine = [copied(c), copied(c)]
    for _ in range(3):
        ends, change = [], dict.fromkeys(c, 0.0)
        for i, part in enumerate(halves()):
            end = local(x, part, lambda name, g, p, i=i, c=c: g - mine[i][name] + c[name])
            new = {name: mine[i][name] - c[name] + (x[name] - end[name]) / (4 * 0.1) for name in c}  # 4 steps of 0.1
            change = {name: change[name] + (new[name] - mine[i][name]) / 2 for name in c}
            mine[i] = new
            ends.append(end)
        x = {name: (ends[0][name] + ends[1][name]) / 2 for name in x}
        c = {name: c[name] + change[name] for name in c}
    assert_close(history.parameters, x, rtol=1e-10, atol=1e-12)


def test_feddyn_adds_its_regulariser_to_each_gradient():
    alpha = 0.3
    history = simulate(parts_client, 2, fl.FedDyn(alpha=alpha), rounds=3)
    x = copied(mlp(torch.float64).state_dict())
    h = {name: torch.zeros_like(value) for name, value in x.items()}
    duals = [copied(h), copied(h)]
    for _ in range(3):
        ends = []
        for i, part in enumerate(halves()):
            ends.append(local(x, part, lambda name, g, p, i=i, x=x: g - duals[i][name] + alpha * (p - x[name])))
            duals[i] = {name: duals[i][name] - alpha * (ends[i][name] - x[name]) for name in x}
        h = {name: h[name] - alpha / 2 * sum(end[name] - x[name] for end in ends) for name in x}
        x = {name: (ends[0][name] + ends[1][name]) / 2 - h[name] / alpha for name in x}
    assert_close(history.parameters, x, rtol=1e-10, atol=1e-12)


def test_clipping_comes_before_the_correction():
    history = simulate(
        lambda context: fl.TorchClient(mlp(), LOSS, sgd(), BATCHES, clip_grad_norm=0.01), strategy=fl.FedProx(mu=5.0)
    )
    x = copied(mlp().state_dict())
    expected = by_hand(mlp(), BATCHES, sgd(), clip_grad_norm=0.01, correct=lambda name, g, p: g + 5.0 * (p - x[name]))
    assert_close(history.parameters, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("build", [mlp, Odd], ids=["mlp", "odd"])
def test_fedsgd_is_one_step_of_full_batch_descent(build):
    x, y = data()
    history = simulate(
        lambda context: fl.TorchClient(made(build), LOSS, None, in_batches(x, y)),
        strategy=fl.FedSGD(server=fl.sgd(0.3)),
        rounds=3,
    )
    expected = by_hand(made(build), [(x, y)], sgd(0.3), epochs=3)
    assert_close(history.parameters, expected, rtol=1e-5, atol=1e-6)


def test_a_step_function_does_what_the_loss_does():
    def step(model, batch):
        x, y = batch
        return LOSS(model(x), y)

    one = simulate(lambda context: fl.TorchClient(mlp(), step=step, optimizer=sgd(), train_data=BATCHES))
    assert one.parameters == simulate(lambda context: fl.TorchClient(mlp(), LOSS, sgd(), BATCHES)).parameters


class Output:
    def __init__(self, loss, logits):
        self.loss, self.logits = loss, logits


class WithLoss(nn.Module):
    """Takes named inputs and returns its own loss, in an object or in a mapping."""

    def __init__(self, form):
        super().__init__()
        self.net, self.form = mlp(), form

    def forward(self, inputs, labels=None):
        logits = self.net(inputs)
        loss = None if labels is None else LOSS(logits, labels)
        return Output(loss, logits) if self.form == "object" else {"loss": loss, "logits": logits}


@pytest.mark.parametrize("form", ["object", "mapping"])
@pytest.mark.parametrize("whole", [False, True], ids=["batches", "columns"])
def test_models_that_return_their_loss_take_mappings(form, whole):
    x, y = data()
    rows = {"inputs": x.numpy(), "labels": y} if whole else [{"inputs": x, "labels": y} for x, y in BATCHES]
    metrics = {"hits": lambda output, batch: (_logits(output).argmax(1) == batch["labels"]).float().mean()}
    history = simulate(
        lambda context: fl.TorchClient(
            WithLoss(form), None, sgd(), rows, test_data=rows, metrics=metrics, batch_size=8, shuffle=False
        ),
        fraction_evaluate=1.0,
    )
    expected = by_hand(mlp(), BATCHES, sgd())
    assert_close(history.parameters, {f"net.{n}": v for n, v in expected.state_dict().items()}, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        assert history.loss == pytest.approx(float(LOSS(expected(x), y)), rel=1e-5)
        assert history.metrics["hits"] == pytest.approx(float((expected(x).argmax(1) == y).float().mean()))


def _logits(output):
    return output.logits if isinstance(output, Output) else output["logits"]


def test_several_inputs_go_to_the_model_in_order_and_the_last_is_the_target():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.net = mlp()

        def forward(self, one, two):
            return self.net(one + two)

    rows = [(x - 1.0, torch.ones_like(x), y) for x, y in BATCHES]
    history = simulate(lambda context: fl.TorchClient(Sum(), LOSS, sgd(), rows))
    expected = by_hand(mlp(), BATCHES, sgd()).state_dict()
    assert_close(history.parameters, {f"net.{n}": v for n, v in expected.items()}, rtol=1e-4, atol=1e-5)


def test_a_loss_that_does_not_fit_the_data_is_named():
    with pytest.raises(TooFewClients, match="the model returned a Tensor without a loss; give TorchClient loss=, or"):
        simulate(lambda context: fl.TorchClient(mlp(), None, sgd(), [{"input": x} for x, _ in BATCHES]))
    with pytest.raises(TooFewClients, match="loss is for batches of inputs and a target, the data gave a dict; give"):
        simulate(lambda context: fl.TorchClient(mlp(), LOSS, sgd(), [{"input": x} for x, _ in BATCHES]))


def test_evaluation_gives_the_means_over_all_examples():
    x, y = data(21, seed=5)
    metrics = {"largest": lambda output, target: output.max(1).values.mean()}
    for own in (None, metrics):
        history = simulate(
            lambda context, own=own: fl.TorchClient(
                mlp(), LOSS, sgd(), BATCHES, test_data=(x, y), batch_size=8, metrics=own
            ),
            fraction_evaluate=1.0,
        )
        expected = by_hand(mlp(), BATCHES, sgd()).eval()
        with torch.no_grad():
            output = expected(x)
        assert history.loss == pytest.approx(float(LOSS(output, y)), rel=1e-5)
        if own is None:
            assert history.metrics["accuracy"] == pytest.approx(float((output.argmax(1) == y).float().mean()))
        else:
            assert "accuracy" not in history.metrics
            assert history.metrics["largest"] == pytest.approx(float(output.max(1).values.mean()), rel=1e-5)


def test_losses_of_single_examples_are_those_whose_mean_is_the_loss():
    torch.manual_seed(0)
    x, y = torch.randn(7, 3), torch.arange(7) % 2
    client = fl.TorchClient(nn.Linear(3, 2), nn.CrossEntropyLoss(), None, (x, y), test_data=(x[:2], y[:2]))
    ctx = Context(client="0", partition_id=0, num_partitions=1)
    model = client.parameters(ctx)
    losses = list(client.example_losses(model, ctx))
    assert len(losses) == 7
    assert sum(losses) / 7 == pytest.approx(client.loss(model, ctx))
    assert list(client.example_losses(model, ctx, held_out=True)) == losses[:2]


def test_evaluation_is_in_eval_mode_and_training_in_train_mode():
    modes = []

    def step(model, batch):
        modes.append((model.training, torch.is_grad_enabled()))
        return LOSS(model(batch[0]), batch[1])

    simulate(
        lambda context: fl.TorchClient(
            mlp(), step=step, optimizer=sgd(), train_data=BATCHES[:1], test_data=BATCHES[:1]
        ),
        fraction_evaluate=1.0,
        rounds=2,
    )
    assert modes == [(True, True), (False, False)] * 2


def test_training_is_where_the_context_says_unless_the_client_names_a_device():
    """The meta device computes no values; a step function can look where it was called."""

    def step(model, batch):
        raise RuntimeError(f"batch on {batch[0].device}, model on {next(model.parameters()).device}")

    def reason(kind, **arguments):
        def client_fn(context):
            assert context.device == kind
            return fl.TorchClient(mlp(), step=step, optimizer=sgd(), train_data=BATCHES, test_data=BATCHES, **arguments)

        with pytest.raises(TooFewClients) as caught:
            simulate(client_fn, device=kind)
        return str(caught.value)

    assert "batch on meta, model on meta" in reason("meta")
    assert "batch on cpu, model on cpu" in reason("cpu")
    assert "batch on meta, model on meta" in reason("cpu", device="meta")
    assert "batch on cpu, model on cpu" in reason("meta", device=torch.device("cpu"))
    for method in ("evaluate_arrays", "gradient", "loss"):
        client = fl.TorchClient(mlp(), step=step, optimizer=sgd(), train_data=BATCHES, test_data=BATCHES)
        start = client.parameters(Context("0", 0, 1))
        with pytest.raises(RuntimeError, match="batch on meta, model on meta"):
            getattr(client, method)(start, Context("0", 0, 1, device="meta"))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"step": LOSS}, "give loss or step, not both"),
        ({"loss": None, "step": LOSS, "metrics": {}}, "metrics look at the output, which step"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1, got 0"),
        ({"accumulate": 0}, "accumulate must be a whole number of at least 1, got 0"),
        ({"epochs": -1}, "epochs must be a whole number of at least 0, got -1"),
        ({"max_steps": -1}, "max_steps must be a whole number of at least 0 or None, got -1"),
        ({"clip_grad_norm": 0.0}, "clip_grad_norm must be above 0 or None, got 0.0"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        fl.TorchClient(mlp(), **{"loss": LOSS, "train_data": BATCHES, **arguments})


def test_a_model_that_changed_is_named_by_its_array():
    for other, sentence in (
        (nn.Linear(6, 3), "the task and the client's model differ in the array 'weight'"),
        (nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3)), r"'0.weight' has shape \(5, 6\) in the task and"),
    ):
        with pytest.raises(TooFewClients, match=sentence):
            simulate(
                lambda context, other=other: fl.TorchClient(other if context.round else mlp(), LOSS, sgd(), BATCHES)
            )


def test_partial_work_stops_after_the_step_in_which_time_ran_out():
    client = fl.TorchClient(mlp(), LOSS, sgd(), BATCHES, epochs=10)
    now = iter(range(100))
    ctx = Context("0", 0, 1, clock=lambda: float(next(now)), ends_at_s=2.0)
    start = client.parameters(ctx)
    fitted = train(client, start, ctx)
    assert (fitted.steps, fitted.examples) == (3, 24)
    expected = by_hand(mlp(), BATCHES[:3], sgd())
    assert_close(fitted.arrays, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("max_steps", "steps"), [(3, 3), (7, 7), (None, 10)])
def test_max_steps_bounds_the_batches_of_a_turn(max_steps, steps):
    history = simulate(lambda context: fl.TorchClient(mlp(), LOSS, sgd(), BATCHES, epochs=2, max_steps=max_steps))
    assert_close(history.parameters, by_hand(mlp(), (BATCHES * 2)[:steps], sgd()), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("none", [{"max_steps": 0}, {"epochs": 0}])
def test_a_client_that_takes_no_step_weighs_nothing(none):
    def client_fn(context):
        return fl.TorchClient(mlp(), LOSS, sgd(), BATCHES, **(none if context.partition_id else {}))

    for strategy in (fl.FedAvg(), fl.Scaffold()):
        history = simulate(client_fn, 2, strategy)
        assert history.rounds[-1].participants == 2
        assert_close(history.parameters, by_hand(mlp(), BATCHES, sgd()), rtol=1e-5, atol=1e-6)
