"""Numbers for how different the clients of a partition are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias, final

import numpy as np
from numpy.typing import NDArray

from umbel.data.randomness import generator
from umbel.data.samples import IntArray

FloatArray: TypeAlias = NDArray[np.float64]

PAIRS_AT_MOST = 500_000


@final
@dataclass(frozen=True)
class Heterogeneity:
    """How far clients are from each other in label distribution and in size.

    With p_i the label distribution of client i, p that of all samples, n_i the size of client i, H entropy in bits::

        JS(p, q)              = sqrt(H((p + q) / 2) - (H(p) + H(q)) / 2)
        pairwise_label_distance = mean over pairs i < j of JS(p_i, p_j)
        global_label_distance   = mean over i of JS(p_i, p)
        size_variation          = std(n_i) / mean(n_i)
        effective_clients       = (sum n_i)^2 / sum n_i^2

    Clients without samples have no label distribution and are left out of the two distances. Above 500,000 pairs (1,000
    clients) the pairwise mean is taken over 500,000 pairs drawn with a fixed seed. Clients of few samples are apart by
    chance: an IID split of ten classes has a pairwise distance of about 0.23 at 60 samples each. Compare with `IID`.

    Args:
        pairwise_label_distance: 0 when all clients have the same label distribution, 1 when no two share a label; None
            without labels.
        global_label_distance: 0 when every client looks like the whole; below 1 always, since a client is part of the
            whole; None without labels.
        size_variation: 0 when all clients are of one size.
        effective_clients: from 1 (one client holds everything) to the number of clients (equal sizes).

    Example:
        >>> from umbel.data import Shards
        >>> apart = Shards(2, shards_per_client=1).split([0, 0, 1, 1]).heterogeneity()
        >>> apart.pairwise_label_distance, apart.size_variation, apart.effective_clients
        (1.0, 0.0, 2.0)

    References:
        J. Lin, "Divergence measures based on the Shannon entropy", IEEE Trans. Information Theory 37(1), 1991,
        https://doi.org/10.1109/18.61115. D. Endres, J. Schindelin, "A new metric for probability distributions", IEEE
        Trans. Information Theory 49(7), 2003, https://doi.org/10.1109/TIT.2003.813506 (its square root is a metric).
        L. Kish, "Survey Sampling", Wiley, 1965 (the effective size).
    """

    pairwise_label_distance: float | None
    global_label_distance: float | None
    size_variation: float
    effective_clients: float


def measure(sizes: IntArray, counts: IntArray | None) -> Heterogeneity:
    """Compute the four numbers from sizes and class counts."""
    n = sizes.astype(np.float64)
    variation = float(n.std() / n.mean())
    effective = float(n.sum() ** 2 / np.square(n).sum())
    if counts is None:
        return Heterogeneity(None, None, variation, effective)
    held = counts[counts.sum(axis=1) > 0].astype(np.float64)
    p = held / held.sum(axis=1, keepdims=True)
    whole = held.sum(axis=0) / held.sum()
    return Heterogeneity(mean_pairwise(p), float(jensen_shannon(p, whole).mean()), variation, effective)


def jensen_shannon(p: FloatArray, q: FloatArray) -> FloatArray:
    """Jensen-Shannon distance (base 2, so 0 to 1) along the last axis."""
    divergence = _entropy((p + q) / 2) - (_entropy(p) + _entropy(q)) / 2
    return np.sqrt(np.clip(divergence, 0.0, 1.0))


def _entropy(p: FloatArray) -> FloatArray:
    """In bits; 0 log 0 = 0."""
    return -(p * np.log2(np.where(p > 0, p, 1.0))).sum(axis=-1)


def mean_pairwise(p: FloatArray, *, pairs_at_most: int = PAIRS_AT_MOST) -> float:
    """Mean distance over pairs of rows, or over `pairs_at_most` (a multiple of 50) drawn pairs where there are more."""
    clients = len(p)
    pairs = clients * (clients - 1) // 2
    if pairs == 0:
        return 0.0
    if pairs <= pairs_at_most:
        return float(sum(jensen_shannon(p[i + 1 :], p[i]).sum() for i in range(clients - 1)) / pairs)
    rng = generator(0, "heterogeneity-pairs")
    total = 0.0
    for _ in range(50):  # in blocks, so that memory stays small for many classes
        first = rng.integers(clients, size=pairs_at_most // 50)
        second = (first + rng.integers(1, clients, size=len(first))) % clients
        total += float(jensen_shannon(p[first], p[second]).sum())
    return total / pairs_at_most
