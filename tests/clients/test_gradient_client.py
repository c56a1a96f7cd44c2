"""`GradientClient` against descent written out."""

import numpy as np
import pytest

import umbel as fl
from umbel.arrays import Arrays
from umbel.errors import ConfigError
from umbel.local import Correction, train
from umbel.message import Context
from umbel.testing import check_client

X = np.random.default_rng(0).normal(size=(10, 3))
Y = X @ np.array([1.0, -2.0, 0.5]) + 0.3


def gradient(params, x, y):
    """Half the mean squared error of a line."""
    error = x @ params["w"] + params["b"] - y
    return 0.5 * float((error**2).mean()), {"w": x.T @ error / len(x), "b": error.mean()}


def client(data=(X, Y), **arguments):
    start = {"w": np.zeros(3), "b": np.zeros(())}
    return fl.GradientClient(gradient, start, data, **{"shuffle": False, "lr": 0.1, **arguments})


def context(**more):
    return Context("0", 0, 1, key=1, **more)


def trained(made, correction=None, **more):
    ctx = context(**more)
    return train(made, made.parameters(ctx), ctx, correction)


def by_hand(batches, *, lr=lambda step: 0.1, momentum=0.0, pull=0.0):
    w, v = np.zeros(4), np.zeros(4)
    for step, (x, y) in enumerate(batches):
        g = gradient({"w": w[:3], "b": w[3]}, x, y)[1]
        v = momentum * v + np.append(g["w"], g["b"]) + pull * w
        w = w - lr(step) * v
    return {"w": w[:3], "b": w[3]}


def slices(size, epochs=1):
    return [(X[i : i + size], Y[i : i + size]) for _ in range(epochs) for i in range(0, 10, size)]


@pytest.mark.parametrize("size", [1, 3, 5, 10, 99, None])
@pytest.mark.parametrize("epochs", [1, 4])
def test_batches_and_epochs_are_the_steps_of_descent(size, epochs):
    fitted = trained(client(batch_size=size, epochs=epochs))
    batches = slices(size or 10, epochs)
    for name, value in by_hand(batches).items():
        np.testing.assert_allclose(fitted.arrays[name], value, rtol=1e-12)
    assert (fitted.steps, fitted.examples) == (len(batches), 10)
    assert fitted.path == pytest.approx(0.1 * len(batches))


def test_a_learning_rate_may_be_a_function_of_the_step():
    def rate(step):
        return 0.2 / (step + 1)

    fitted = trained(client(batch_size=3, epochs=2, lr=rate))
    for name, value in by_hand(slices(3, 2), lr=rate).items():
        np.testing.assert_allclose(fitted.arrays[name], value, rtol=1e-12)
    assert fitted.path == pytest.approx(sum(rate(step) for step in range(8)))


def test_momentum_is_that_of_heavy_ball_and_its_path_counts_what_each_gradient_goes_on_doing():
    fitted = trained(client(batch_size=3, epochs=2, momentum=0.6))
    for name, value in by_hand(slices(3, 2), momentum=0.6).items():
        np.testing.assert_allclose(fitted.arrays[name], value, rtol=1e-12)
    # Step s adds gradient t with the factor 0.6^(s-t).
    assert fitted.path == pytest.approx(0.1 * sum(0.6 ** (s - t) for s in range(8) for t in range(s + 1)))


def test_a_correction_enters_before_momentum():
    pull = Correction("proximal", lambda grad, param, start, extra: grad + 0.5 * (param - start))
    fitted = trained(client(batch_size=3, epochs=2, momentum=0.6), pull)
    for name, value in by_hand(slices(3, 2), momentum=0.6, pull=0.5).items():
        np.testing.assert_allclose(fitted.arrays[name], value, rtol=1e-12)


def test_a_turn_begins_without_momentum_or_steps_of_the_last_one():
    made = client(batch_size=3, momentum=0.9, lr=lambda step: 0.2 / (step + 1))
    first, second = trained(made), trained(made)
    assert first.arrays == second.arrays
    assert (first.steps, first.path) == (second.steps, second.path)


def test_each_pass_shuffles_anew_from_the_contexts_generator():
    orders = []

    def look(params, x):
        orders.append(x.tolist())
        return 0.0, {"w": np.zeros(1)}

    made = fl.GradientClient(look, {"w": np.zeros(1)}, np.arange(50), batch_size=50, epochs=2)
    trained(made)
    trained(made)
    assert orders[0] == orders[2] != orders[1] == orders[3]
    assert sorted(orders[0]) == list(range(50))


def test_no_epochs_and_no_data_are_no_steps_and_no_weight():
    for made in (client(epochs=0), client((X[:0], Y[:0]))):
        fitted = trained(made)
        assert fitted.arrays["w"].tolist() == [0.0] * 3
        assert (fitted.steps, fitted.examples, dict(fitted.metrics)) == (0, 0, {})


@pytest.mark.parametrize("strategy", [fl.FedAvg(), fl.FedSGD(), fl.QFedAvg(q=1.0), fl.Scaffold(), fl.FedNova()])
def test_a_client_without_data_changes_nothing(strategy):
    def run(clients):
        return fl.simulate(
            lambda ctx: client() if ctx.partition_id == 0 else client((X[:0], Y[:0])),
            clients,
            strategy=strategy,
            config=fl.ServerConfig(num_rounds=1, seed=1),
            engine="serial",
            progress=False,
        )

    both, alone = run(2), run(1)
    assert both.rounds[-1].failures == ()
    assert both.rounds[-1].participants == 2
    np.testing.assert_allclose(both.parameters["w"], alone.parameters["w"], rtol=1e-12)
    assert both.loss == alone.loss


@pytest.mark.parametrize(("time_s", "steps"), [(0.0, 1), (2.0, 3), (100.0, 8)])
def test_partial_work_counts_the_examples_that_were_used(time_s, steps):
    seconds = iter(range(1000))
    fitted = trained(client(batch_size=3, epochs=2), clock=lambda: float(next(seconds)), ends_at_s=time_s)
    batches = slices(3, 2)[:steps]
    for name, value in by_hand(batches).items():
        np.testing.assert_allclose(fitted.arrays[name], value, rtol=1e-12)
    assert (fitted.steps, fitted.examples) == (steps, min(10, sum(len(x) for x, _ in batches)))


def test_a_model_without_data_is_one_example():
    made = fl.GradientClient(lambda params: (float(params["w"] ** 2), {"w": 2 * params["w"]}), {"w": 3.0}, lr=0.25)
    fitted = trained(made)
    assert (fitted.examples, float(fitted.arrays["w"])) == (1, 1.5)
    assert made.evaluate_arrays(fitted.arrays, context()).loss == 2.25


def test_arrays_without_a_gradient_stay_where_they_are():
    def half(params, x, y):
        loss, gradients = gradient(params, x, y)
        return loss, {"w": gradients["w"]}

    made = fl.GradientClient(half, {"w": np.zeros(3), "b": np.ones(())}, (X, Y))
    assert trained(made).arrays["b"] == 1.0
    assert made.gradient(made.parameters(context()), context()).arrays["b"] == 0.0


def test_evaluation_is_the_loss_unless_there_is_a_function_for_it():
    start = client().parameters(context())
    assert client().evaluate_arrays(start, context()).loss == pytest.approx(0.5 * (Y**2).mean())
    other = client(test_data=(X[:4], Y[:4]))
    assert other.evaluate_arrays(start, context()).loss == pytest.approx(0.5 * (Y[:4] ** 2).mean())
    own = client(evaluate=lambda params, x, y: (1.5, {"rows": len(x)}), test_data=(X[:4], Y[:4]))
    seen = own.evaluate_arrays(start, context())
    assert (seen.loss, seen.examples, dict(seen.metrics)) == (1.5, 4, {"rows": 4})
    none = client(test_data=(X[:0], Y[:0])).evaluate_arrays(start, context())
    assert (none.loss, none.examples) == (0.0, 0.0)


def test_the_given_arrays_are_never_written_to():
    def greedy(params, x, y):
        for value in params.values():
            value[...] = 7.0
        return 0.0, {name: np.zeros_like(value) for name, value in params.items()}

    made = fl.GradientClient(greedy, {"w": np.zeros(3), "b": np.zeros(())}, (X, Y))
    start = made.parameters(context())
    before = start.digest
    made.gradient(start, context())
    made.loss(start, context())
    made.evaluate_arrays(start, context())
    trained(made)
    assert start.digest == before


def test_the_clients_kit_passes():
    check_client(lambda ctx: client(batch_size=3, shuffle=True, momentum=0.5))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"lr": 0.0}, "lr must be a number above 0, got 0.0; try 0.1"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1 or None, got 0"),
        ({"epochs": -1}, "epochs must be a whole number of at least 0, got -1"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1, got 1.0"),
        ({"data": (X, Y[:-1])}, r"the arrays of data differ in length: \[10, 9\]; they must be equal"),
        ({"test_data": (X[:2], Y)}, r"the arrays of test_data differ in length: \[2, 10\]; they must be equal"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, sentence):
    with pytest.raises(ConfigError, match=sentence):
        client(**arguments)


def test_roles_of_the_given_parameters_are_kept():
    start = Arrays.of({"w": np.zeros(3), "b": np.zeros(())}, roles={"b": "frozen"})
    made = fl.GradientClient(lambda p, x, y: (0.0, {"w": np.ones(3)}), start, (X, Y))
    assert [spec.role for spec in made.parameters(context()).schema] == ["trained", "frozen"]


def test_losses_of_single_examples_are_those_whose_mean_is_the_loss():
    ctx = Context(client="0", partition_id=0, num_partitions=1)
    one = client(test_data=(X[:4], Y[:4]))
    model = one.parameters(ctx)
    losses = list(one.example_losses(model, ctx))
    assert len(losses) == len(X)
    assert np.mean(losses) == pytest.approx(one.loss(model, ctx))
    assert list(one.example_losses(model, ctx, held_out=True)) == losses[:4]
    # What is evaluated on the data that are trained on holds nothing out.
    assert list(client().example_losses(model, ctx, held_out=True)) == []
