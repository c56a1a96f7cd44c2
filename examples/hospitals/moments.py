"""Means and deviations of all hospitals' columns, from sums alone: one round, in which the updates are sums."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import umbel as fl


@dataclass(frozen=True)
class Scaling:
    """Mean and deviation per column, of the values that were measured; a column never measured has 0 and 1."""

    mean: Any
    deviation: Any

    def apply(self, features: Any) -> Any:
        """Columns in deviations from the mean; what was not measured becomes 0, the mean."""
        return np.where(np.isnan(features), 0.0, (features - self.mean) / self.deviation)


class Sums(fl.Client):
    """One hospital in this round: it answers with three numbers per column and keeps its rows."""

    def __init__(self, features: Any) -> None:
        self.features = features

    def fit(self, parameters: Any, context: fl.Context) -> Any:
        known = ~np.isnan(self.features)
        values = np.where(known, self.features, 0.0)
        sums = {"count": known.sum(axis=0), "sum": values.sum(axis=0), "square": (values**2).sum(axis=0)}
        return fl.Delta(sums), len(values), {}


def federated_scaling(hospitals: Sequence[Any]) -> Scaling:
    """The scaling of all hospitals' rows together, of shape (patients, columns) each, NaN where not measured.

    In a one-hot column the sum is the number of patients in the category, so its mean is the category's share.
    """
    nothing = np.zeros(hospitals[0].shape[1])
    history = fl.simulate(
        lambda context: Sums(hospitals[context.partition_id]),
        len(hospitals),
        strategy=fl.FedAvg(weighting="uniform"),
        config=fl.ServerConfig(num_rounds=1, fraction_evaluate=0.0, seed=1),
        initial_parameters={"count": nothing, "sum": nothing, "square": nothing},
        engine="serial",
        progress=False,
    )
    # The server averages: every sum arrives divided by the number of hospitals, which cancels in the ratios below.
    count, total, square = (history.parameters[name] for name in ("count", "sum", "square"))
    some = np.where(count > 0, count, 1.0)
    mean = total / some
    deviation = np.sqrt(np.maximum(square / some - mean**2, 0.0))
    return Scaling(mean, np.where(deviation > 0, deviation, 1.0))
