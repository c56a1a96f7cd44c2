"""How the four numbers in hospital.py were chosen: by validation inside the training part of the first split.

    python examples/hospitals/tune.py

No test patient of that split is looked at. The numbers hold for alone, federated and pooled alike, so the judge is the
mean over alone and federated. (Patients of that training part are test patients of the other splits. One choice out of
a few, for all models at once, is too little to favour one of them.)
"""

import hospital
import numpy as np
from main import FOLDS, SEED
from measure import auc, splits

from umbel.data import heart_disease

# rounds, local steps, lr, L2
CANDIDATES = [(20, 5, 0.5, l2) for l2 in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)] + [
    (100, 1, 0.5, 0.1),
    (10, 10, 0.5, 0.1),
    (40, 5, 0.5, 0.1),
    (20, 5, 0.2, 0.1),
]


def log_loss(labels, probability):
    p = np.clip(probability, 1e-9, 1 - 1e-9)
    return -np.mean(labels * np.log(p) + (1 - labels) * np.log(1 - p))


def validate(parts):
    """Mean AUC and log-loss over hospitals and four inner folds, for (alone, federated)."""
    found = []
    for masks in splits([labels for _, labels in parts], 1, 4, SEED + 1):
        own = [(x[~held], y[~held]) for (x, y), held in zip(parts, masks, strict=True)]
        federated = hospital.train(own)
        for (x, y), held, mine in zip(parts, masks, own, strict=True):
            predicted = [model.predict(x[held]) for model in (hospital.train([mine]), federated)]
            found.append([(auc(y[held], p), log_loss(y[held], p)) for p in predicted])
    return np.nanmean(found, axis=0)


def main():
    everyone = [(data.features, data.labels) for data in heart_disease().values()]
    first = next(splits([labels for _, labels in everyone], 1, FOLDS, SEED))
    training = [(x[~test], y[~test]) for (x, y), test in zip(everyone, first, strict=True)]
    print("rounds  steps  lr   L2      AUC alone  federated   log-loss alone  federated")
    for rounds, steps, lr, l2 in CANDIDATES:
        hospital.ROUNDS, hospital.LOCAL_STEPS, hospital.LR, hospital.L2 = rounds, steps, lr, l2
        (auc_alone, loss_alone), (auc_both, loss_both) = validate(training)
        print(
            f"{rounds:<8}{steps:<7}{lr:<5}{l2:<8}{auc_alone:<11.4f}{auc_both:<12.4f}{loss_alone:<16.4f}{loss_both:.4f}"
        )


if __name__ == "__main__":
    main()
