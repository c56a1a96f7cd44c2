"""A JAX client's memory is told before it trains, by the plan of its compiler."""

import numpy as np
import pytest

pytest.importorskip("jax")

import umbel as fl

from .parts import CLASSES, WIDTH, dropped, linear_params, mlp

HIDDEN = 64
PARAMETERS = WIDTH * HIDDEN + HIDDEN + HIDDEN * CLASSES + CLASSES
X, Y = np.ones((4096, WIDTH), np.float32), np.zeros(4096, np.int32)


def deep():
    one = {"kernel": np.ones((WIDTH, HIDDEN), np.float32), "bias": np.zeros(HIDDEN, np.float32)}
    two = {"kernel": np.ones((HIDDEN, CLASSES), np.float32), "bias": np.zeros(CLASSES, np.float32)}
    return {"one": one, "two": two}


def footprint(batch_size=32, **more):
    return fl.JaxClient(mlp, deep(), (X, Y), batch_size=batch_size, **more).footprint()


def test_arrays_are_counted_to_the_byte():
    found = footprint()
    assert (found.model, found.gradients, found.optimizer) == (4 * PARAMETERS, 4 * PARAMETERS, 0)
    assert found.batch == 32 * (4 * WIDTH + 4)
    assert footprint(momentum=0.9).optimizer == 4 * PARAMETERS


def test_what_a_step_keeps_grows_with_its_batch():
    small, large = footprint(batch_size=32).activations, footprint(batch_size=4096).activations
    assert 4096 * HIDDEN * 4 <= large <= 4096 * HIDDEN * 4 * 8, "the hidden layer's values, a few times at most"
    assert large > 50 * small > 0


def test_a_loss_that_draws_is_measured_too():
    assert fl.JaxClient(dropped, linear_params(), (X, Y)).footprint().activations > 0


def test_nothing_is_said_of_clients_without_data_or_whose_loss_fails():
    assert fl.JaxClient(mlp, deep()).footprint() is None
    assert fl.JaxClient(lambda params, batch: params["none"].sum(), deep(), (X, Y)).footprint() is None
