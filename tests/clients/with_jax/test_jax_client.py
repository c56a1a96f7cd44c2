"""`JaxClient`: its loop against NumPy's, its names and data, and what is refused."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

import jax.numpy as jnp  # noqa: E402

import umbel as fl  # noqa: E402
from umbel.clients import linear as numpy_linear  # noqa: E402
from umbel.errors import ArraysError, ConfigError  # noqa: E402
from umbel.testing import check_client  # noqa: E402

from . import parts  # noqa: E402

CLIENTS = 6
TRACED = []


def simulated(client_fn, strategy=None, engine="serial", clients=CLIENTS, **more):
    config = fl.ServerConfig(num_rounds=2, seed=1, **more)
    return fl.simulate(client_fn, clients, strategy=strategy, config=config, engine=engine, workers=2, progress=False)


def by_jax(context, **more):
    own = parts.data(context.partition_id, parts.ragged(context.partition_id))
    return fl.JaxClient(parts.linear, parts.linear_params(), own, test_data=own, batch_size=5, shuffle=False, **more)


def by_numpy(context, **more):
    own = parts.data(context.partition_id, parts.ragged(context.partition_id))
    return fl.GradientClient(
        lambda params, x, y: numpy_linear.gradient("cross_entropy", 0.0, params, x, y),
        parts.linear_params(),
        own,
        batch_size=5,
        shuffle=False,
        **more,
    )


def far(one, other):
    return max(np.abs(one[name] - other[name]).max() for name in one)


@pytest.mark.parametrize(
    "strategy",
    [fl.FedAvg(), fl.FedProx(mu=0.5), fl.Scaffold(), fl.FedDyn(alpha=0.2), fl.FedNova(), fl.FedSGD(server=fl.sgd(0.3))],
    ids=lambda strategy: type(strategy).__name__,
)
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_its_loop_is_that_of_numpy(strategy, momentum):
    one = simulated(
        lambda context: by_jax(context, lr=0.1, momentum=momentum, epochs=2), strategy, fraction_evaluate=0.0
    )
    other = simulated(lambda context: by_numpy(context, lr=0.1, momentum=momentum, epochs=2), strategy)
    assert far(one.parameters, other.parameters) < 2e-6
    assert one.parameters != fl.Arrays.of(parts.linear_params())


def test_the_bits_are_those_of_serial_with_any_number_of_workers():
    def client_fn(context):
        return by_jax(context, epochs=2)

    assert simulated(client_fn, engine="pool").parameters == simulated(client_fn).parameters


APP = """
import jax.numpy as jnp, umbel as fl
from tests.clients.with_jax import parts
PARAMS = {name: jnp.asarray(value) for name, value in parts.linear_params().items()}  # starts JAX's threads

def client_fn(context):
    return fl.JaxClient(parts.linear, PARAMS, parts.data(context.partition_id, 9))

def digest(engine):
    config = fl.ServerConfig(num_rounds=2, seed=1)
    return fl.simulate(client_fn, 4, config=config, engine=engine, workers=2, progress=False).parameters.digest

if __name__ == "__main__":
    print(digest("pool") == digest("serial"))
"""


def test_an_app_that_makes_arrays_when_it_is_loaded_runs_in_the_pool(tmp_path, pytestconfig):
    (tmp_path / "threads_at_load.py").write_text(APP)
    environment = {**os.environ, "PYTHONPATH": f"{pytestconfig.rootpath}:{pytestconfig.rootpath}/src"}
    command = [sys.executable, str(tmp_path / "threads_at_load.py")]
    ended = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert ended.stdout == "True\n", ended.stderr


@pytest.mark.parametrize(
    "params",
    [
        {"dense": {"kernel": np.ones((2, 3)), "bias": np.zeros(3)}, "scale": [np.ones(1), np.ones(2)]},
        [jnp.ones(3), {"a": jnp.ones(2, jnp.bfloat16)}],
        np.ones((2, 2), np.float32),
    ],
)
def test_arrays_are_named_by_their_path_and_keep_their_dtype(params):
    client = fl.JaxClient(lambda params, batch: 0.0, params)
    arrays = client.parameters(fl.Context("0", 0, 1))
    leaves = jax.tree_util.tree_leaves(params)
    assert [array.shape for array in arrays.values()] == [leaf.shape for leaf in leaves]
    wanted = {3: ["0", "1/a"], 2: ["params"]}.get(len(leaves) + 1, ["dense/bias", "dense/kernel", "scale/0", "scale/1"])
    assert sorted(arrays) == wanted


def test_half_precision_trains_and_whole_numbers_stay():
    params = {"w": jnp.ones(3, jnp.bfloat16), "steps": np.array([7], np.int32)}

    def loss(params, batch):
        return ((batch @ params["w"].astype(jnp.float32)) ** 2).mean() + 0.0 * params["steps"].sum()

    def client_fn(context):
        return fl.JaxClient(loss, params, np.ones((4, 3), np.float32), lr=0.01)

    schema = simulated(client_fn, clients=2).parameters.schema.by_name
    assert (schema["w"].dtype, schema["w"].role) == ("BF16", "trained")
    assert (schema["steps"].dtype, schema["steps"].role) == ("I32", "frozen")
    found = simulated(client_fn, clients=2).parameters
    assert found["steps"].tolist() == [7]
    assert found["w"].view(jnp.bfloat16).astype(np.float32).max() < 1


def test_an_optimizer_of_optax_moves_as_it_does_by_hand():
    own = parts.data(0, 12)

    def client_fn(context):
        return fl.JaxClient(
            parts.linear, parts.linear_params(), own, optimizer=optax.adam(0.05), batch_size=4, shuffle=False
        )

    params, optimizer = jax.tree_util.tree_map(jnp.asarray, parts.linear_params()), optax.adam(0.05)
    state = optimizer.init(params)
    for start in range(0, 12, 4):
        batch = tuple(column[start : start + 4] for column in own)
        changes, state = optimizer.update(jax.grad(parts.linear)(params, batch), state, params)
        params = optax.apply_updates(params, changes)
    history = fl.simulate(client_fn, 1, config=fl.ServerConfig(num_rounds=1), progress=False, engine="serial")
    assert far(history.parameters, params) < 1e-6


def test_clipping_comes_before_the_correction():
    def client_fn(context):
        return by_jax(context, lr=1.0, clip_grad_norm=1e-6)

    still = simulated(client_fn)
    assert far(still.parameters, parts.linear_params()) < 1e-4
    assert far(simulated(client_fn, fl.FedProx(mu=0.5)).parameters, still.parameters) < 1e-4


def test_evaluation_is_the_mean_over_all_examples_and_draws_nothing():
    own = parts.data(3, 11)
    client = fl.JaxClient(
        parts.dropped,
        parts.linear_params(),
        test_data=own,
        batch_size=4,
        metrics={"accuracy": parts.accuracy},
    )
    found = client.evaluate_arrays(fl.Arrays.of(parts.linear_params()), fl.Context("0", 0, 1))
    assert found.loss == pytest.approx(np.log(3), rel=1e-6)
    assert found.metrics["accuracy"] == pytest.approx(float((own[1] == 0).mean()))
    assert client.capabilities == {"inside", "partial", "evaluate"}


def test_what_a_loss_draws_comes_from_the_turns_key():
    def client_fn(context):
        return fl.JaxClient(parts.dropped, parts.linear_params(), parts.data(context.partition_id, 9))

    assert simulated(client_fn).parameters == simulated(client_fn).parameters
    assert simulated(client_fn).parameters != simulated(lambda context: by_jax(context)).parameters


@pytest.mark.parametrize("form", [tuple, dict, list, "one"])
def test_data_may_be_a_tuple_a_mapping_batches_or_one_array(form):
    x, y = parts.data(0, 10)
    given = {
        tuple: (x, y),
        dict: {"x": x, "y": y},
        list: [(x[:5], y[:5]), (x[5:], y[5:])],
        "one": np.concatenate([x, y[:, None]], 1),
    }[form]

    def loss(params, batch):
        if form == "one":
            batch = (batch[:, :-1], batch[:, -1].astype(int))
        return parts.linear(params, (batch["x"], batch["y"]) if form is dict else batch)

    def client_fn(context):
        return fl.JaxClient(loss, parts.linear_params(), given, batch_size=5, shuffle=False)

    reference = simulated(
        lambda context: fl.JaxClient(parts.linear, parts.linear_params(), (x, y), batch_size=5, shuffle=False)
    )
    assert far(simulated(client_fn).parameters, reference.parameters) < 1e-6


def test_losses_that_are_made_anew_for_each_client_are_compiled_once():
    TRACED.clear()

    def client_fn(context):
        def loss(params, batch):
            TRACED.append(1)
            return parts.linear(params, batch)

        return fl.JaxClient(loss, parts.linear_params(), parts.data(context.partition_id, 10), batch_size=5)

    simulated(client_fn, clients=12)
    assert len(TRACED) == 1


def test_losses_of_other_numbers_are_other_losses():
    def client_fn(context):
        weight = float(context.partition_id)
        return fl.JaxClient(
            lambda params, batch: weight * parts.linear(params, batch), parts.linear_params(), parts.data(0, 8)
        )

    one = simulated(client_fn, clients=1)
    assert far(one.parameters, parts.linear_params()) == 0
    assert far(simulated(client_fn, clients=2).parameters, parts.linear_params()) > 0


def test_it_keeps_the_laws_of_clients():
    check_client(lambda context: by_jax(context))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"loss": 3}, "loss must be a function"),
        ({"params": {}}, "params has no arrays"),
        ({"params": {"a": "text"}}, "the leaf 'a' of params is a str"),
        ({"params": {"a/b": np.ones(1), "a": {"b": np.ones(1)}}}, "two leaves of params are called 'a/b'"),
        ({"lr": 0}, "lr must be a number above 0"),
        ({"lr": float("nan")}, "lr must be a number above 0"),
        ({"momentum": 1.0}, "momentum must be at least 0 and below 1"),
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1"),
        ({"batch_size": 2.5}, "batch_size must be a whole number"),
        ({"epochs": "2"}, "epochs must be a whole number"),
        ({"epochs": -1}, "epochs must be a whole number of at least 0"),
        ({"max_steps": -1}, "max_steps must be a whole number of at least 0"),
        ({"clip_grad_norm": 0}, "clip_grad_norm must be above 0"),
        ({"optimizer": object()}, "optimizer must have init and update"),
        ({"optimizer": optax.sgd(0.1), "momentum": 0.5}, "momentum is of plain SGD"),
        ({"train_data": (np.ones(3), np.ones(4))}, "the arrays of train_data differ in length: [3, 4]"),
        ({"train_data": iter([])}, "give a tuple or mapping of arrays"),
        ({"train_data": ()}, "train_data must be arrays"),
        ({"test_data": (np.array(3.0),)}, "test_data must be arrays"),
    ],
)
def test_arguments_out_of_range_are_refused(arguments, sentence):
    given = {"loss": parts.linear, "params": parts.linear_params(), "train_data": parts.data(0, 4), **arguments}
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        fl.JaxClient(given.pop("loss"), given.pop("params"), **given)


def test_a_model_that_changed_is_named_by_its_array():
    other = {**parts.linear_params(), "bias": np.zeros(4, np.float32)}
    client = fl.JaxClient(parts.linear, parts.linear_params(), parts.data(0, 4))
    with pytest.raises(ArraysError, match="the array 'weight'"):
        client.load(fl.Arrays.of({"bias": np.zeros(3, np.float32)}), fl.Context("0", 0, 1))
    with pytest.raises(ArraysError, match=re.escape("'bias' has shape (4,) in the task and (3,)")):
        client.load(fl.Arrays.of(other), fl.Context("0", 0, 1))


@pytest.mark.parametrize("none", [{"max_steps": 0}, {"epochs": 0}])
def test_a_client_that_takes_no_step_weighs_nothing(none):
    found = simulated(lambda context: by_jax(context, **none if context.partition_id else {}), clients=2)
    alone = simulated(lambda context: by_jax(context), clients=1)
    assert far(found.parameters, alone.parameters) == 0


def test_nan_in_one_client_is_its_own_trouble():
    def client_fn(context):
        x, y = parts.data(context.partition_id, 8)
        return fl.JaxClient(parts.linear, parts.linear_params(), (x * (np.nan if context.partition_id == 1 else 1), y))

    record = simulated(client_fn, clients=3).rounds[0]
    assert [failure.client for failure in record.failures] == ["1"]
