"""Handwritten digits with scikit-learn: ten writers' desks, each with its own mix of digits, train one classifier.

python examples/sklearn_digits/main.py
"""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier

import umbel as fl
from umbel.data import DirichletLabels

CLIENTS, ROUNDS, SEED = 10, 10, 1

x, y = load_digits(return_X_y=True)
x = x / 16
order = np.random.default_rng(SEED).permutation(len(x))
train, test = order[:1437], order[1437:]
parts = DirichletLabels(CLIENTS, alpha=0.5, seed=SEED).split(y[train])


def client_fn(context):
    estimator = SGDClassifier(loss="log_loss", learning_rate="constant", eta0=0.05, random_state=context.round)
    own = parts.take(context.partition_id, x[train], y[train])
    return fl.SklearnClient(estimator, own, classes=range(10), epochs=2)


def evaluate(round, parameters, config):
    scores = x[test] @ parameters["coef_"].T + parameters["intercept_"]
    accuracy = np.mean(scores.argmax(axis=1) == y[test])
    return 1 - accuracy, {"accuracy": accuracy}


def main():
    print(parts.describe())
    config = fl.ServerConfig(num_rounds=ROUNDS, seed=SEED)
    history = fl.simulate(client_fn, CLIENTS, config=config, evaluate_fn=evaluate, engine="serial")
    for record in history.rounds[::2]:
        print(f"round {record.round:2}: accuracy {record.metrics['central_accuracy']:.3f} on {len(test)} new digits")


if __name__ == "__main__":
    main()
