"""JAX clients that train in blocks: what their loops would give, but for rounding."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")
optax = pytest.importorskip("optax")

import jax.numpy as jnp  # noqa: E402

import umbel as fl  # noqa: E402

from . import parts  # noqa: E402

CLIENTS = 20
SAID = "some clients are trained one by one and not in blocks: "


def simulated(client_fn, engine, strategy=None, workers=1, **more):
    config = fl.ServerConfig(num_rounds=2, seed=1, fraction_evaluate=0.0)
    return fl.simulate(
        client_fn, CLIENTS, strategy=strategy, config=config, engine=engine, workers=workers, progress=False, **more
    )


def clients(loss=parts.mlp, params=parts.mlp_params, **more):
    def client_fn(context):
        own = parts.data(context.partition_id, parts.ragged(context.partition_id))
        return fl.JaxClient(loss, params(), own, **{"batch_size": 5, "epochs": 2, **more})

    return client_fn


def far(one, other):
    return max(np.abs(one[name] - other[name]).max() for name in one)


@pytest.mark.parametrize(
    ("client_fn", "strategy"),
    [
        (clients(lr=0.2), fl.FedAvg()),
        (clients(momentum=0.9), fl.FedNova()),
        (clients(clip_grad_norm=0.1), fl.FedAvg()),
        (clients(), fl.FedProx(mu=0.5)),
        (clients(), fl.Scaffold()),
        (clients(), fl.FedDyn(alpha=0.2)),
        (clients(optimizer=optax.adam(1e-2)), fl.FedAvg()),
        (clients(max_steps=3), fl.FedAvg()),
        (clients(shuffle=False, batch_size=100), fl.FedAvg()),
        (clients(parts.dropped, parts.linear_params), fl.FedAvg()),
    ],
    ids=["sgd", "momentum", "clip", "prox", "scaffold", "dyn", "adam", "max_steps", "full batch", "dropout"],
)
def test_a_block_gives_what_the_loop_gives(client_fn, strategy):
    looped, blocks = simulated(client_fn, "serial", strategy), simulated(client_fn, "vmap", strategy)
    assert blocks.warnings == ()
    assert far(looped.parameters, blocks.parameters) < 1e-6
    assert [r.participants for r in blocks.rounds] == [CLIENTS] * 2


def test_the_bits_do_not_depend_on_the_number_of_workers():
    one, two = (simulated(clients(), "vmap", workers=workers, block=10) for workers in (1, 2))
    assert one.parameters == two.parameters


def test_a_loss_that_looks_from_row_to_row_is_given_its_own_batch():
    def centred(params, batch):
        x, y = batch
        return parts.cross_entropy((x - x.mean(0)) @ params["weight"].T + params["bias"], y)

    client_fn = clients(centred, parts.linear_params)
    assert far(simulated(client_fn, "serial").parameters, simulated(client_fn, "vmap").parameters) < 1e-6


def test_half_precision_in_blocks_is_that_of_the_loop():
    def params():
        return {name: jnp.asarray(value, jnp.bfloat16) for name, value in parts.linear_params().items()}

    looped, blocks = (simulated(clients(parts.linear, params), engine).parameters for engine in ("serial", "vmap"))
    assert blocks.schema == looped.schema
    halves = [arrays["weight"].view(jnp.bfloat16).astype(np.float32) for arrays in (looped, blocks)]
    assert np.abs(halves[0] - halves[1]).max() < 2e-2


def test_clients_of_another_loss_train_in_blocks_of_their_own():
    def client_fn(context):
        weight = 1.0 + context.partition_id % 2
        own = parts.data(context.partition_id, 10)
        return fl.JaxClient(lambda p, batch: weight * parts.linear(p, batch), parts.linear_params(), own, batch_size=5)

    looped, blocks = simulated(client_fn, "serial"), simulated(client_fn, "vmap", block=CLIENTS)
    assert blocks.warnings == ()
    assert far(looped.parameters, blocks.parameters) < 1e-6


def test_clients_that_no_block_can_take_train_one_by_one_and_the_reason_is_said_once():
    def client_fn(context):
        x, y = parts.data(context.partition_id, 10)
        return fl.JaxClient(parts.linear, parts.linear_params(), [(x[:5], y[:5]), (x[5:], y[5:])])

    history = simulated(client_fn, "vmap")
    assert history.warnings == (SAID + "its training data are batches, and not whole arrays",)
    assert far(history.parameters, simulated(client_fn, "serial").parameters) == 0


def test_nan_in_one_client_of_a_block_spoils_no_other():
    def client_fn(context):
        x, y = parts.data(context.partition_id, 10)
        return fl.JaxClient(parts.linear, parts.linear_params(), (x * (np.nan if context.partition_id == 7 else 1), y))

    looped, blocks = simulated(client_fn, "serial"), simulated(client_fn, "vmap")
    assert [failure.client for failure in blocks.rounds[0].failures] == ["7"]
    assert far(looped.parameters, blocks.parameters) < 1e-6
