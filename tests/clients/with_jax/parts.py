"""Losses and data that the tests of JAX clients share."""

import jax
import jax.numpy as jnp
import numpy as np

WIDTH, CLASSES = 6, 3


def cross_entropy(scores, y):
    return -jnp.take_along_axis(jax.nn.log_softmax(scores), y[:, None], 1).mean()


def linear(params, batch):
    x, y = batch
    return cross_entropy(x @ params["weight"].T + params["bias"], y)


def mlp(params, batch):
    x, y = batch
    hidden = jnp.tanh(x @ params["one"]["kernel"] + params["one"]["bias"])
    return cross_entropy(hidden @ params["two"]["kernel"] + params["two"]["bias"], y)


def dropped(params, batch, key):
    x, y = batch
    if key is not None:
        x = x * jax.random.bernoulli(key, 0.5, x.shape)
    return cross_entropy(x @ params["weight"].T + params["bias"], y)


def accuracy(params, batch):
    x, y = batch
    return ((x @ params["weight"].T + params["bias"]).argmax(1) == y).mean()


def linear_params():
    return {"weight": np.zeros((CLASSES, WIDTH), np.float32), "bias": np.zeros(CLASSES, np.float32)}


def mlp_params():
    rng = np.random.default_rng(0)

    def layer(inputs, outputs):
        kernel = (rng.standard_normal((inputs, outputs)) * 0.3).astype(np.float32)
        return {"kernel": kernel, "bias": np.zeros(outputs, np.float32)}

    return {"one": layer(WIDTH, 8), "two": layer(8, CLASSES)}


def data(index, count):
    rng = np.random.default_rng(index)
    x = rng.standard_normal((count, WIDTH)).astype(np.float32)
    return x, x[:, :CLASSES].argmax(1)


def ragged(index):
    return 3 + (index * 7) % 23
