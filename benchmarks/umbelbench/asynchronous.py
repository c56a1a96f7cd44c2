"""A small network on 100,000 clients of unequal speed: what runs of several kinds take to a target accuracy.

Clients hold 20 samples, each around a centre of its own, labelled by a fixed network. How long a turn takes and how
fast bytes travel is lognormal, so a few clients are very slow.
"""

import math

import numpy as np

import umbel as fl

CLIENTS, TRAINING = 100_000, 1_000
INPUTS, HIDDEN, CLASSES, SAMPLES, BATCH, LR = 20, 64, 10, 20, 5, 0.1
TARGET, MOST_UPDATES = 0.70, 60_000
PHONES = fl.SystemModel(
    seconds_per_unit=fl.LogNormal(10.0, sigma=1.0),
    download_bytes_per_s=fl.LogNormal(500_000.0, sigma=1.0),
    upload_bytes_per_s=fl.LogNormal(100_000.0, sigma=1.0),
)
_TEACHER = np.random.default_rng(0)
_FIRST = 1.5 * _TEACHER.normal(0.0, 1 / math.sqrt(INPUTS), (INPUTS, 12))
_SECOND = _TEACHER.normal(0.0, 1.0, (12, CLASSES))


def samples(client: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """A client's data, (count, INPUTS) and (count,)."""
    rng = np.random.default_rng([5, client])
    x = rng.standard_normal((count, INPUTS)) + rng.standard_normal(INPUTS)
    return x.astype(np.float32), (np.tanh(x @ _FIRST) @ _SECOND).argmax(1)


def initial() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    first = rng.normal(0.0, math.sqrt(2 / INPUTS), (INPUTS, HIDDEN))
    second = rng.normal(0.0, math.sqrt(1 / HIDDEN), (HIDDEN, CLASSES))
    return [array.astype(np.float32) for array in (first, np.zeros(HIDDEN), second, np.zeros(CLASSES))]


def forward(params: list[np.ndarray], x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    hidden = np.maximum(x @ params[0] + params[1], 0)
    return hidden, hidden @ params[2] + params[3]


class Phone(fl.NumPyClient):
    """One epoch of SGD on the cross-entropy, written out."""

    def __init__(self, context: fl.Context) -> None:
        self.x, self.y = samples(context.partition_id, SAMPLES)

    def fit(self, parameters, config):
        for start in range(0, SAMPLES, BATCH):
            x, y = self.x[start : start + BATCH], self.y[start : start + BATCH]
            hidden, scores = forward(parameters, x)
            error = np.exp(scores - scores.max(1, keepdims=True))
            error /= error.sum(1, keepdims=True)
            error[np.arange(BATCH), y] -= 1
            error /= BATCH
            back = (error @ parameters[2].T) * (hidden > 0)
            gradients = (x.T @ back, back.sum(0), hidden.T @ error, error.sum(0))
            for param, gradient in zip(parameters, gradients, strict=True):
                param -= np.float32(LR) * gradient
        return parameters, SAMPLES, {}


def measure():
    """An `evaluate_fn`: accuracy on clients that never train."""
    parts = [samples(CLIENTS + index, 10) for index in range(400)]
    x, y = (np.concatenate(part) for part in zip(*parts, strict=True))

    def accuracy(number, parameters, config):
        return 0.0, {"accuracy": float((forward(parameters, x)[1].argmax(1) == y).mean())}

    return accuracy


def to_target(seed: int, *, lr: float, updates: int, coordinator=None, workers: int = 2, **config) -> fl.History:
    """A run until the target accuracy.

    Args:
        lr: of the server.
        updates: how many make a step.
    """
    settings = fl.ServerConfig(
        MOST_UPDATES // updates,
        seed=seed,
        fraction_evaluate=0.0,
        monitor="accuracy",
        mode="max",
        target=TARGET,
        checkpoint_every=MOST_UPDATES,
        **config,
    )
    return fl.simulate(
        Phone,
        CLIENTS,
        strategy=fl.FedAvg(server=fl.sgd(lr)),
        config=settings,
        initial_parameters=initial(),
        evaluate_fn=measure(),
        system=PHONES,
        coordinator=coordinator,
        engine="pool",
        workers=workers,
        progress=False,
    )


def rounds(seed: int) -> fl.History:
    """Synchronous: 1,000 clients a round, all awaited."""
    return to_target(seed, lr=6.0, updates=TRAINING, fraction_fit=TRAINING / CLIENTS)


def over_selected(seed: int) -> fl.History:
    """Synchronous: 1,001 are asked and the first 770 count."""
    return to_target(seed, lr=6.0, updates=770, fraction_fit=770 / CLIENTS, over_selection=0.3)


def buffered(seed: int) -> fl.History:
    """FedBuff: 1,000 at once, a step for every 10 updates."""
    coordinator = fl.Buffered(concurrency=TRAINING, buffer_size=10)
    return to_target(seed, lr=2.0, updates=10, coordinator=coordinator)
