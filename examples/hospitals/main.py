"""Four real hospitals learn to recognise heart disease together, and no patient's row leaves its hospital.

    python examples/hospitals/main.py [--repeats 5]

Prints, for each hospital, what the federated model is worth against the hospital's own and against pooling all rows.
"""

import argparse
import sys
import time
from typing import Any

import numpy as np
from hospital import L2, LOCAL_STEPS, LR, ROUNDS, Model, train
from measure import auc, balanced_accuracy, best_cutoff, splits
from report import MODELS, report

from umbel.data import heart_disease

FOLDS = 5
SEED = 2026


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5, help="times that the patients are dealt into 5 folds")
    repeats = parser.parse_args().repeats
    if repeats < 1:
        parser.error(f"--repeats must be at least 1, got {repeats}; try 5")
    names, parts = zip(*((name, (data.features, data.labels)) for name, data in heart_disease().items()), strict=True)
    started = time.perf_counter()
    scores, tests = [], []
    for number, masks in enumerate(splits([labels for _, labels in parts], repeats, FOLDS, SEED), start=1):
        if sys.stderr.isatty():
            print(f"\rsplit {number} of {repeats * FOLDS}", end="", file=sys.stderr, flush=True)
        federated, row = one_split(parts, masks)
        scores.append(row)
        tests.append([np.bincount(labels[mask], minlength=2) for (_, labels), mask in zip(parts, masks, strict=True)])
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    print(f"One logistic regression, {ROUNDS} rounds of {LOCAL_STEPS} steps per hospital, lr {LR}, L2 {L2} for all.")
    print(report(names, parts, np.array(scores), np.array(tests), repeats, FOLDS, federated.history))
    print(f"\n{repeats * FOLDS} splits, {10 * repeats * FOLDS} models, {time.perf_counter() - started:.0f} s.")


def one_split(parts: Any, masks: Any) -> tuple[Model, Any]:
    """Train every kind of model without the test patients; scores by hospital, model and measure."""
    own = [(x[~test], y[~test]) for (x, y), test in zip(parts, masks, strict=True)]
    federated = train(own)
    pooled = train([(np.concatenate([x for x, _ in own]), np.concatenate([y for _, y in own]))])
    rows = []
    for site, ((x, y), test, mine) in enumerate(zip(parts, masks, own, strict=True)):
        guest = train(own[:site] + own[site + 1 :])
        models = {"alone": train([mine]), "federated": federated, "pooled": pooled, "guest": guest}
        judged = [score(models[name], mine, x[test], y[test]) for name in MODELS[1:]]
        usual = np.full(test.sum(), mine[1].mean() > 0.5)
        rows.append([(0.5, balanced_accuracy(y[test], usual), np.mean(usual == y[test])), *judged])
    return federated, rows


def score(model: Model, mine: Any, features: Any, labels: Any) -> tuple[float, float, float]:
    """AUC; balanced accuracy with the cut-off that suits the hospital's training patients best; accuracy at 0.5."""
    predicted = model.predict(features)
    cutoff = best_cutoff(mine[1], model.predict(mine[0]))
    return (
        auc(labels, predicted),
        balanced_accuracy(labels, predicted > cutoff),
        float(np.mean((predicted > 0.5) == labels)),
    )


if __name__ == "__main__":
    main()
