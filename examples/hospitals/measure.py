"""Splits, scores and intervals: what it takes to say "better" with care, in NumPy alone."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np


def folds(labels: Any, count: int, rng: np.random.Generator) -> Any:
    """The fold, 0 .. count - 1, of each patient of one hospital; every fold gets its share of ill and healthy ones."""
    fold = np.empty(len(labels), dtype=np.int64)
    dealt = 0
    for label in np.unique(labels):
        rows = rng.permutation(np.flatnonzero(labels == label))
        fold[rows] = (dealt + np.arange(len(rows))) % count  # going on where the last label ended evens out sizes
        dealt += len(rows)
    return fold


def splits(labels: list[Any], repeats: int, count: int, seed: int) -> Iterator[list[Any]]:
    """Per split, for each hospital, the mask of its test patients."""
    for repeat in range(repeats):
        dealt = [folds(y, count, np.random.default_rng((seed, repeat, site))) for site, y in enumerate(labels)]
        for fold in range(count):
            yield [numbers == fold for numbers in dealt]


def auc(labels: Any, scores: Any) -> float:
    """How often an ill patient scores above a healthy one, ties counting half; NaN without both kinds."""
    ill, healthy = scores[labels == 1], scores[labels == 0]
    if not len(ill) or not len(healthy):
        return math.nan
    above = ill[:, None] - healthy[None, :]
    return float(np.mean((above > 0) + 0.5 * (above == 0)))


def balanced_accuracy(labels: Any, positive: Any) -> float:
    """Mean of the share of ill patients found and of healthy patients left in peace; NaN without both kinds."""
    if len(np.unique(labels)) < 2:
        return math.nan
    return float((positive[labels == 1].mean() + (~positive[labels == 0]).mean()) / 2)


def best_cutoff(labels: Any, scores: Any) -> float:
    """The cut-off with the highest balanced accuracy on these patients: middle of the best gap between two scores."""
    order = np.argsort(scores, kind="stable")
    ranked, ill = scores[order], labels[order] == 1
    missed = np.cumsum(ill)[:-1] / max(ill.sum(), 1)
    spared = np.cumsum(~ill)[:-1] / max((~ill).sum(), 1)
    gain = np.where(np.diff(ranked) > 0, spared - missed, -math.inf)
    best = int(np.argmax(gain))
    return float((ranked[best] + ranked[best + 1]) / 2)


@dataclass(frozen=True)
class Estimate:
    """A mean over splits and half the width of its 95 % interval."""

    mean: float
    half: float

    @property
    def verdict(self) -> str:
        """What a difference with this interval shows."""
        if self.mean - self.half > 0:
            return "better"
        return "worse" if self.mean + self.half < 0 else "no difference shown"


def estimate(values: Any, test_share: float) -> Estimate:
    """Mean and 95 % interval of one score over the splits of repeated cross-validation.

    Splits share most of their training patients, so their scores are correlated and s²/J is far too small a variance.
    The corrected one is s²·(1/J + n_test/n_train).

    Args:
        values: one score per split; NaN where it is undefined, which is left out.
        test_share: n_test / (n_test + n_train), 0.2 for five folds.

    References:
        C. Nadeau, Y. Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003,
        https://doi.org/10.1023/A:1024068626366. R. Bouckaert, E. Frank, "Evaluating the Replicability of Significance
        Tests for Comparing Learning Algorithms", 2004, https://doi.org/10.1007/978-3-540-24775-3_3 (repeated folds).
    """
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    if len(known) < 2:
        return Estimate(float(known.mean()) if len(known) else math.nan, math.nan)
    variance = known.var(ddof=1) * (1 / len(known) + test_share / (1 - test_share))
    return Estimate(float(known.mean()), student_quantile(len(known) - 1) * math.sqrt(variance))


def student_quantile(freedom: int, level: float = 0.975) -> float:
    """The point below which Student's t with `freedom` degrees of freedom lies with probability `level`."""
    t = np.linspace(0.0, 100.0, 1_000_001)
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - 0.5 * math.log(freedom * math.pi)
    density = np.exp(log_scale - (freedom + 1) / 2 * np.log1p(t**2 / freedom))
    below = 0.5 + np.cumsum(density) * (t[1] - t[0]) - density[0] * (t[1] - t[0]) / 2
    return float(np.interp(level, below, t))
