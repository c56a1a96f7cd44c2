"""One hospital's half of the training, and the run that joins any number of them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from moments import Scaling, federated_scaling

import umbel as fl

ROUNDS = 20
LOCAL_STEPS = 5
LR = 0.5  # chosen with tune.py, like the three others; see README.md
L2 = 0.1


class Hospital(fl.NumPyClient):
    """Logistic regression by gradient descent on the hospital's own patients."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def fit(self, parameters: Any, config: Any) -> Any:
        weights, bias = parameters["weights"], parameters["bias"]
        for _ in range(LOCAL_STEPS):
            error = probability(self.x, weights, bias) - self.y
            weights -= LR * (error @ self.x / len(self.y) + L2 * weights)
            bias -= LR * error.mean()
        return {"weights": weights, "bias": bias}, len(self.y), {}


def probability(x: Any, weights: Any, bias: Any) -> Any:
    """How likely heart disease is, per patient."""
    return 1 / (1 + np.exp(-(x @ weights + bias)))


class Model:
    """What a federation of any size ends with. `predict` takes raw features."""

    def __init__(self, scaling: Scaling, history: fl.History) -> None:
        self.scaling, self.history = scaling, history

    def predict(self, features: Any) -> Any:
        learned = self.history.parameters
        return probability(self.scaling.apply(features), learned["weights"], learned["bias"])


def train(parts: Sequence[tuple[Any, Any]]) -> Model:
    """Train on hospitals' (features, labels): first the scaling, then the model.

    A hospital alone is a federation of one; pooled rows are one large hospital. So all three share every line.
    """
    scaling = federated_scaling([features for features, _ in parts])
    scaled = [(scaling.apply(features), labels) for features, labels in parts]
    start = {"weights": np.zeros(scaled[0][0].shape[1]), "bias": np.zeros(())}
    history = fl.simulate(
        lambda context: Hospital(*scaled[context.partition_id]),
        len(scaled),
        strategy=fl.FedAvg(),
        config=fl.ServerConfig(num_rounds=ROUNDS, fraction_evaluate=0.0, checkpoint_every=ROUNDS, seed=1),
        initial_parameters=start,
        engine="serial",
        progress=False,
    )
    return Model(scaling, history)
