"""The tiny task: logistic regression from 60 features to 10 classes, 20 samples a client, two steps of SGD on ten each.

A client's samples are rows of one table that its number selects, so that loading costs nobody anything.
"""

import numpy as np

from umbelbench.contest import Result

FEATURES, CLASSES, SAMPLES, BATCH, LEARNING_RATE = 60, 10, 20, 10, 0.1
POPULATION = 100_000
_ROWS = 65_000
TOLERANCE = 1e-3


def table() -> tuple[np.ndarray, np.ndarray]:
    """The samples of all clients: features and labels."""
    x = np.random.default_rng(0).standard_normal((_ROWS + SAMPLES, FEATURES), dtype=np.float32)
    return x, x[:, :CLASSES].argmax(1)


def rows(client: int) -> np.ndarray:
    """Which rows of the table are a client's."""
    start = client * SAMPLES % _ROWS
    return np.arange(start, start + SAMPLES)


def initial_parameters() -> dict[str, np.ndarray]:
    return {"weight": np.zeros((CLASSES, FEATURES), np.float32), "bias": np.zeros(CLASSES, np.float32)}


def reference(cohorts: list[list[int]]) -> np.ndarray:
    """The plainest computation, from the gradient's formula in float64: weight and bias in one row."""
    x, y = table()
    weight, bias = np.zeros((CLASSES, FEATURES)), np.zeros(CLASSES)
    for cohort in cohorts:
        weights, biases = np.zeros_like(weight), np.zeros_like(bias)
        for client in cohort:
            w, b = weight, bias
            for mine in np.split(rows(client), SAMPLES // BATCH):
                scores = x[mine] @ w.T + b
                p = np.exp(scores - scores.max(1, keepdims=True))
                p /= p.sum(1, keepdims=True)
                p[np.arange(BATCH), y[mine]] -= 1
                w, b = w - LEARNING_RATE * p.T @ x[mine] / BATCH, b - LEARNING_RATE * p.mean(0)
            weights += w
            biases += b
        weight, bias = weights / len(cohort), biases / len(cohort)
    return np.concatenate([weight.ravel(), bias])


def require_agreement(name: str, result: Result) -> float:
    """How far the model lies from the reference, relative to how far it has moved; an error if that is too far."""
    wanted = reference(result.facts["cohorts"])
    off = float(np.linalg.norm(result.parameters - wanted) / np.linalg.norm(wanted))
    if off > TOLERANCE:
        raise SystemExit(f"{name}: final parameters deviate by {off:.2e} of the way trained, {TOLERANCE:g} is allowed")
    return off
