"""Four real hospitals learn together; nobody sees a hospital's update, and the model says next to nothing of a patient.

    python examples/private_hospitals/main.py [--repeats 5]

Secure aggregation shows the server the sum of the hospitals' gradients alone. Before that each hospital clips the
gradient of each of its patients, and the server adds noise to the sum: differential privacy for patients. Prints what
that costs in AUC on patients who were not trained on, for several budgets; and what it costs if no hospital trusts
anybody, and each trains with noise of its own in every step (DP-SGD).

Needs: pip install 'umbel[privacy]'
"""

import argparse
import time
from typing import Any

import numpy as np
from federation import DELTA, LR, ROUNDS, by_itself, logistic, protection, sites, start

import umbel as fl

EPSILONS = (0.5, 1.0, 2.0, 4.0, 8.0)
TRUSTING_NOBODY = (2.0, 8.0)


def train(parts: Any, **protected: Any) -> fl.History:
    """One model of these hospitals."""
    first = start(parts[0][0].shape[1])
    return fl.simulate(
        lambda context: fl.GradientClient(logistic, first, parts[context.partition_id], lr=0.3),
        len(parts),
        strategy=protected.pop("strategy", fl.FedSGD(server=fl.sgd(LR))),
        config=fl.ServerConfig(ROUNDS, fraction_evaluate=0.0, checkpoint_every=ROUNDS),
        initial_parameters=first,
        engine="serial",
        progress=False,
        **protected,
    )


def auc(history: fl.History, x: Any, y: Any) -> float:
    """How often an ill patient scores above a healthy one, ties counting half."""
    scores = x @ history.parameters["weights"]
    above = scores[y == 1][:, None] - scores[y == 0][None, :]
    return float(np.mean((above > 0) + 0.5 * (above == 0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="splits into patients to train on and to judge by")
    repeats = parser.parse_args().repeats
    if repeats < 1:
        parser.error(f"--repeats must be at least 1, got {repeats}; try 5")
    started, everybody = time.perf_counter(), sites()
    names = ["alone, the four on average", "together, unprotected", *(f"together, ε = {e:g}" for e in EPSILONS)]
    names += [f"noise of each one's own, ε = {e:g}" for e in TRUSTING_NOBODY]
    scores: list[list[float]] = []
    for repeat in range(repeats):
        rng = np.random.default_rng(repeat)
        held = [rng.random(len(y)) < 0.25 for _, y in everybody]
        parts = [(x[~test], y[~test]) for (x, y), test in zip(everybody, held, strict=True)]
        x, y = (np.concatenate([site[i][test] for site, test in zip(everybody, held, strict=True)]) for i in (0, 1))
        # Public: about how many patients the hospitals have together.
        patients = round(0.75 * sum(len(labels) for _, labels in everybody))
        alone = np.mean([auc(train([part]), x, y) for part in parts])
        private = [train(parts, **protection(epsilon, patients)) for epsilon in EPSILONS]
        private += [train(parts, strategy=fl.FedAvg(), privacy=by_itself(e, patients)) for e in TRUSTING_NOBODY]
        scores.append([float(alone), *(auc(history, x, y) for history in (train(parts), *private))])
    table = np.array(scores)
    error = table.std(axis=0, ddof=1) / np.sqrt(repeats) if repeats > 1 else np.zeros(len(names))
    print(f"One logistic regression, {ROUNDS} rounds, {repeats} splits; AUC on all hospitals' held-out patients.\n")
    for name, mean, spread in zip(names, table.mean(axis=0), error, strict=True):
        print(f"  {name:<32} {mean:.3f} ± {2 * spread:.3f}")
    took = f"{time.perf_counter() - started:.0f} s"
    print(f"\nε is per patient, at δ = {DELTA:g}, for all {ROUNDS} models together. {took}.")


if __name__ == "__main__":
    main()
