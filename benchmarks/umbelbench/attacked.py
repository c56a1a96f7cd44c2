"""Digits under attack: softmax regression, 20 clients of unequal data, 4 of them bad, a step a round with momentum.

A run of `fl.simulate` takes eight seconds, and a table over seeds needs hundreds: here is the same run by a loop over
Umbel's reducers and attacks, in a second. `check` holds the loop against `fl.simulate`, to the bit.
"""

import functools
from collections.abc import Mapping

import numpy as np

import umbel as fl
from umbel.arrays import Arrays, Vector
from umbel.message import Group
from umbel.reducers import Reducer
from umbel.testing.attacks import (
    ALIE,
    IPM,
    Attack,
    Attacked,
    GaussianNoise,
    MinMax,
    Scaling,
    SignFlip,
    flip_labels,
)

CLIENTS, BAD, ROUNDS, BATCH, LR, MOMENTUM = 20, 4, 300, 32, 0.5, 0.9
PIXELS, CLASSES = 64, 10
REDUCERS: Mapping[str, Reducer] = {
    "mean": fl.Mean(),
    "mean of updates clipped to the median norm": fl.ClippedMean(),
    "median": fl.Median(),
    "trimmed mean": fl.TrimmedMean(f=BAD),
    "geometric median": fl.GeometricMedian(),
    "centered clipping": fl.CenteredClipping(),
    "Krum": fl.Krum(f=BAD),
    "Multi-Krum": fl.MultiKrum(f=BAD),
    "Bulyan": fl.Bulyan(f=BAD),
    "FoolsGold": fl.FoolsGold(),
    "buckets of 2 + geometric median": fl.Bucketing(fl.GeometricMedian(), size=2),
    "NNM + trimmed mean": fl.NearestNeighbourMixing(fl.TrimmedMean(f=BAD)),
    "NNM + geometric median": fl.NearestNeighbourMixing(fl.GeometricMedian(), f=BAD),
    "NNM + Krum": fl.NearestNeighbourMixing(fl.Krum(f=BAD)),
}
NONE, NOISE, FLIPPED, BOOSTED = "none", "noise x100", "label flip", "label flip x50"
HONEST = Attack()
"""Sends what it has."""
ATTACKS: Mapping[str, Attack] = {
    NONE: HONEST,
    "sign flip": SignFlip(),
    NOISE: GaussianNoise(100.0),
    "ALIE": ALIE(),
    "IPM 0.6": IPM(epsilon=0.6),
    "min-max": MinMax(),
    FLIPPED: HONEST,
    BOOSTED: Scaling(50.0),
}
ROWS = np.arange(BATCH)


@functools.cache
def digits(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(training pictures, labels, test pictures, labels); each seed has other test pictures."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(y))
    x, y = np.asarray(x, np.float32)[order] / 16, np.asarray(y)[order]
    return x[400:], y[400:], x[:400], y[:400]


@functools.cache
def drawn(seed: int) -> np.ndarray:
    """The rows of each round's and client's batch."""
    labels, rng = digits(seed)[1], np.random.default_rng(seed)
    parts = list(fl.data.DirichletLabels(CLIENTS, alpha=1.0, min_size=BATCH, seed=seed).split(labels))
    return np.array([[rng.choice(part, BATCH, replace=False) for part in parts] for _ in range(ROUNDS)])


def told(labels: np.ndarray, bad: bool, attack: str) -> np.ndarray:
    """What a client takes for the labels of its pictures."""
    return flip_labels(labels, CLASSES) if bad and attack in (FLIPPED, BOOSTED) else labels


def step(model: np.ndarray, mean: np.ndarray, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A client's change to the model, and the mean of its gradients, in which old ones count less and less."""
    error = scores(model, x)
    error = np.exp(error - error.max(axis=1, keepdims=True))
    error /= error.sum(axis=1, keepdims=True)
    error[ROWS, y] -= 1
    gradient = np.concatenate([(x.T @ error).ravel(), error.sum(axis=0)]) / np.float32(BATCH)
    mean = MOMENTUM * mean + (1 - MOMENTUM) * gradient
    return -LR * mean, mean


def scores(model: np.ndarray, x: np.ndarray) -> np.ndarray:
    return x @ model[: PIXELS * CLASSES].reshape(PIXELS, CLASSES) + model[PIXELS * CLASSES :]


INITIAL = np.zeros((PIXELS + 1) * CLASSES, np.float32)


def trained(reducer: str, attack: str, seed: int, rounds: int = ROUNDS) -> np.ndarray:
    """The model after the last round."""
    x, y, _, _ = digits(seed)
    schema = {"delta": Arrays.of([INITIAL]).schema.delta}
    rng, known = np.random.default_rng([seed, 1]), ATTACKS[attack]
    model, means = INITIAL, [INITIAL] * CLIENTS
    for batches in drawn(seed)[:rounds]:
        updates = np.empty((CLIENTS, INITIAL.size), np.float32)
        for client, rows in enumerate(batches):
            bad = client < BAD
            change, means[client] = step(model, means[client], x[rows], told(y[rows], bad, attack))
            change = (model + change) - model  # with the rounding of a client that answers with its model
            updates[client] = known.sent(change.astype(np.float64), rng) if bad else change
        crafted = known.crafted(updates[BAD:].astype(np.float64), BAD)
        if crafted is not None:
            updates[:BAD] = crafted
        accumulator = REDUCERS[reducer].start(schema)
        accumulator.began_from(Arrays.of([model]))
        for update in np.roll(updates, -BAD, axis=0):  # honest ones first, as `Attacked` tells them
            arrays = Vector(schema["delta"], update.astype(np.float64)).arrays()
            accumulator.fold({"delta": Group(arrays, 1.0)})
        model = (model + accumulator.result()["delta"].mean().values).astype(np.float32)
    return model


def accuracy(reducer: str, attack: str, seed: int) -> float:
    """Percent of the test pictures that the last model tells right."""
    _, _, x, y = digits(seed)
    return 100.0 * float((scores(trained(reducer, attack, seed), x).argmax(axis=1) == y).mean())


class Steps(fl.NumPyClient):
    """The same client for `fl.simulate`."""

    def __init__(self, context: fl.Context, attack: str, seed: int) -> None:
        self.context, self.attack, self.seed = context, attack, seed

    def fit(self, parameters, config):
        x, y, _, _ = digits(self.seed)
        number = self.context.partition_id
        rows = drawn(self.seed)[config["server_round"] - 1, number]
        mean = self.context.state.get("mean", INITIAL)
        change, mean = step(parameters[0], mean, x[rows], told(y[rows], number < BAD, self.attack))
        self.context.state["mean"] = mean
        return [parameters[0] + change], BATCH, {}


def simulated(reducer: str, attack: str, seed: int, rounds: int) -> np.ndarray:
    """The model of the same run by `fl.simulate`."""
    strategy = fl.FedAvg(reducer=REDUCERS[reducer], weighting="uniform")
    history = fl.simulate(
        lambda context: Steps(context, attack, seed),
        CLIENTS,
        strategy=Attacked(strategy, ATTACKS[attack], clients=[str(number) for number in range(BAD)]),
        config=fl.ServerConfig(num_rounds=rounds, seed=seed, fraction_evaluate=0.0, checkpoint_every=rounds),
        initial_parameters=[INITIAL],
        engine="serial",
        progress=False,
    )
    return history.parameters["0"]


def check() -> None:
    """Raises SystemExit where the loop and `fl.simulate` do not end in the same bits. Noise has other draws in each."""
    cells = [(name, "IPM 0.6") for name in REDUCERS] + [("mean", attack) for attack in ATTACKS if attack != NOISE]
    for reducer, attack in cells:
        ours, theirs = trained(reducer, attack, seed=1, rounds=20), simulated(reducer, attack, seed=1, rounds=20)
        if not np.array_equal(ours, theirs):
            away = float(np.abs(ours - theirs).max())
            raise SystemExit(f"{reducer} under {attack}: the loop's model is {away:.2g} from that of fl.simulate")
