"""Digits under attack: softmax regression, 20 clients of unequal data, 4 of them bad, a step a round with momentum."""

import functools
from collections.abc import Mapping

import numpy as np

import umbel as fl
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

CLIENTS, BAD, ROUNDS, BATCH, LR, MOMENTUM, CLASSES = 20, 4, 300, 32, 0.5, 0.9, 10
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
NONE, FLIPPED, BOOSTED = "none", "label flip", "label flip x50"
ATTACKS: Mapping[str, Attack | None] = {
    NONE: None,
    "sign flip": SignFlip(),
    "noise x100": GaussianNoise(100.0),
    "ALIE": ALIE(),
    "IPM 0.6": IPM(epsilon=0.6),
    "min-max": MinMax(),
    FLIPPED: None,
    BOOSTED: Scaling(50.0),
}


@functools.cache
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """(training pictures, labels, test pictures, labels)."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    x, y = np.asarray(x, np.float32)[order] / 16, np.asarray(y)[order]
    return x[400:], y[400:], x[:400], y[:400]


@functools.cache
def partition(seed: int) -> list[np.ndarray]:
    labels = digits()[1]
    return list(fl.data.DirichletLabels(CLIENTS, alpha=1.0, min_size=BATCH, seed=seed).split(labels))


class Steps(fl.NumPyClient):
    """One step on the mean of its gradients, in which old ones count less and less."""

    def __init__(self, context: fl.Context, *, seed: int, flipped: bool) -> None:
        x, y, _, _ = digits()
        rows = partition(seed)[context.partition_id]
        self.x, self.y, self.context = x[rows], y[rows], context
        if flipped and context.partition_id < BAD:
            self.y = flip_labels(self.y, CLASSES)

    def fit(self, parameters, config):
        drawn = self.context.rng.choice(len(self.y), BATCH, replace=False)
        x, y = self.x[drawn], self.y[drawn]
        error = probabilities(parameters, x)
        error[np.arange(BATCH), y] -= 1
        gradients = [x.T @ error / BATCH, error.mean(axis=0)]
        for name, parameter, gradient in zip("wb", parameters, gradients, strict=True):
            before = self.context.state.get(name, np.zeros_like(parameter))
            mean = MOMENTUM * before + (1 - MOMENTUM) * gradient
            self.context.state[name] = mean
            parameter -= LR * mean
        return parameters, len(self.y), {}


def probabilities(parameters, x: np.ndarray) -> np.ndarray:
    scores = x @ parameters[0] + parameters[1]
    result = np.exp(scores - scores.max(axis=1, keepdims=True))
    return result / result.sum(axis=1, keepdims=True)


def accuracy(reducer: Reducer, attack: str, seed: int = 1, rounds: int = ROUNDS) -> float:
    """Percent of the test pictures that the last model tells right."""
    strategy: fl.Strategy = fl.FedAvg(reducer=reducer, weighting="uniform")
    known = ATTACKS[attack]
    if known is not None:
        strategy = Attacked(strategy, known, clients=[str(number) for number in range(BAD)])
    history = fl.simulate(
        lambda context: Steps(context, seed=seed, flipped=attack in (FLIPPED, BOOSTED)),
        CLIENTS,
        strategy=strategy,
        config=fl.ServerConfig(num_rounds=rounds, seed=seed, fraction_evaluate=0.0, checkpoint_every=rounds),
        initial_parameters=[np.zeros((64, CLASSES), np.float32), np.zeros(CLASSES, np.float32)],
        engine="serial",
        progress=False,
    )
    _, _, x, y = digits()
    told = probabilities([history.parameters["0"], history.parameters["1"]], x).argmax(axis=1)
    return 100.0 * float((told == y).mean())
