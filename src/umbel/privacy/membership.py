"""Membership inference: how well losses tell examples that a model was trained on from others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

import numpy as np

from umbel.dtypes import Float64

_NORMAL = 1.96


@final
@dataclass(frozen=True)
class Inference:
    """How well an attack tells members from others; scores are the larger, the more it takes one for a member.

    Args:
        members, others: scores; at least one each.

    References:
        S. Yeom, I. Giacomelli, M. Fredrikson, S. Jha, "Privacy Risk in Machine Learning: Analyzing the Connection to
        Overfitting", CSF 2018, https://arxiv.org/abs/1709.01604
        N. Carlini, S. Chien, M. Nasr, S. Song, A. Terzis, F. Tramèr, "Membership Inference Attacks From First
        Principles", IEEE S&P 2022, https://arxiv.org/abs/2112.03570
    """

    members: Float64
    others: Float64

    @property
    def auc(self) -> float:
        """How often a member scores above another, ties counting half: 0.5 is guessing."""
        ordered = np.sort(self.others)
        below = np.searchsorted(ordered, self.members, "left")
        ties = np.searchsorted(ordered, self.members, "right") - below
        return float((below + ties / 2).mean() / len(self.others))

    @property
    def auc_interval(self) -> tuple[float, float]:
        """95 % of it.

        References:
            J. A. Hanley, B. J. McNeil, "The Meaning and Use of the Area under a Receiver Operating Characteristic
            (ROC) Curve", Radiology 143, 1982, https://doi.org/10.1148/radiology.143.1.7063747
        """
        # At 0 and 1 the variance would be nothing, however few there are.
        few = 0.5 / min(len(self.members), len(self.others))
        area = min(max(self.auc, few), 1 - few)
        both, twice = area / (2 - area), 2 * area**2 / (1 + area)
        more = (len(self.members) - 1) * (both - area**2) + (len(self.others) - 1) * (twice - area**2)
        error = math.sqrt((area * (1 - area) + more) / (len(self.members) * len(self.others)))
        return max(0.0, self.auc - _NORMAL * error), min(1.0, self.auc + _NORMAL * error)

    def caught(self, false_positives: float) -> float:
        """The share of members above a threshold that no more than this share of others is above."""
        allowed = int(false_positives * len(self.others))
        threshold = np.sort(self.others)[len(self.others) - 1 - allowed]
        return float((self.members > threshold).mean())

    def caught_at_least(self, false_positives: float) -> float:
        """The lower end of 95 % of `caught`.

        References:
            E. B. Wilson, "Probable Inference, the Law of Succession, and Statistical Inference", JASA 22, 1927.
        """
        share, count = self.caught(false_positives), len(self.members)
        square = _NORMAL**2 / count
        middle = share + square / 2
        spread = _NORMAL * math.sqrt(share * (1 - share) / count + square / (4 * count))
        return max(0.0, (middle - spread) / (1 + square))

    def curve(self, points: int = 60) -> list[tuple[float, float]]:
        """(false positives, caught) from 0 to 1."""
        return [(share, self.caught(share)) for share in np.linspace(0, 1 - 1 / len(self.others), points).tolist()]


def by_loss(members: Sequence[float], others: Sequence[float]) -> Inference:
    """The attack that takes those with a small loss for members."""
    return Inference(-np.array(members, np.float64), -np.array(others, np.float64))
