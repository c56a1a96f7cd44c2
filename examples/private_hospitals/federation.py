"""What the four hospitals share: the model, the patients, the protection. With it this folder is an app, too:

umbel run examples/private_hospitals
umbel privacy examples/private_hospitals
"""

from functools import cache
from typing import Any

import numpy as np

import umbel as fl
from umbel.data import heart_disease

ROUNDS = 30
LR = 2.0
CLIP = 1.0
DELTA = 1e-5
# What is usual for a grown-up, and by how much people differ: from textbooks. Scaling by the hospitals' own means would
# be a release outside of the budget.
USUAL = {
    "age": (55, 10),
    "trestbps": (130, 20),
    "chol": (220, 45),
    "thalch": (150, 25),
    "oldpeak": (1, 1),
    "ca": (1, 1),
}
SPREADS = 3.0  # values further from the usual are cut


def scaled(features: Any, names: Any) -> Any:
    """Features in spreads from the usual; what was not measured counts as usual."""
    result = features.copy()
    for column, name in enumerate(names):
        if name in USUAL:
            usual, spread = USUAL[name]
            result[:, column] = np.clip((result[:, column] - usual) / spread, -SPREADS, SPREADS)
    return np.nan_to_num(result)


def logistic(params: Any, x: Any, y: Any) -> Any:
    """Mean loss and gradients of logistic regression."""
    logits = x @ params["weights"] + params["bias"]
    error = 1 / (1 + np.exp(-logits)) - y
    loss = np.logaddexp(0, logits) - y * logits
    return float(loss.mean()), {"weights": error @ x / len(y), "bias": error.mean()}


def protection(epsilon: float, patients: int) -> dict[str, Any]:
    """The two arguments that protect a run of any kind."""
    plan = fl.PrivacyPlan(
        unit="example",
        expected_examples=patients,
        clip=CLIP,
        target_epsilon=epsilon,
        delta=DELTA,
        sampling="every",
    )
    return {"privacy": plan, "coordinator": fl.Secure()}


def by_itself(epsilon: float, patients: int) -> fl.PrivacyPlan:
    """Where a hospital trusts nobody: noise in every step of its own training."""
    return fl.PrivacyPlan(
        unit="example",
        noise="dp-sgd",
        sample_rate=0.2,
        local_steps=5,
        expected_examples=patients,
        clip=CLIP,
        target_epsilon=epsilon,
        delta=DELTA,
        sampling="every",
    )


def sites() -> list[tuple[Any, Any]]:
    """Features and labels of each hospital's patients."""
    return [(scaled(one.features, one.feature_names), one.labels) for one in heart_disease().values()]


def start(features: int) -> dict[str, Any]:
    """The model before it has learnt anything."""
    return {"weights": np.zeros(features), "bias": np.zeros(())}


@cache
def divided() -> list[tuple[tuple[Any, Any], tuple[Any, Any]]]:
    """Of each hospital, the patients to train on and a quarter that are held out."""
    rng = np.random.default_rng(0)
    held = [(x, y, rng.random(len(y)) < 0.25) for x, y in sites()]
    return [((x[~test], y[~test]), (x[test], y[test])) for x, y, test in held]


def client_fn(context: fl.Context) -> fl.GradientClient:
    train, test = divided()[context.partition_id]
    return fl.GradientClient(logistic, start(train[0].shape[1]), train, test_data=test)


def run(config: dict[str, Any]) -> fl.Run:
    everybody = sites()
    # Public: about how many patients the hospitals have together.
    patients = round(0.75 * sum(len(labels) for _, labels in everybody))
    return fl.Run(
        num_clients=len(everybody),
        strategy=fl.FedSGD(server=fl.sgd(LR)),
        config=fl.ServerConfig(config["num_rounds"], seed=config["seed"], fraction_evaluate=0.0),
        initial_parameters=start(everybody[0][0].shape[1]),
        **protection(config["epsilon"], patients),
    )
