"""The losses of linear models with their gradients, in NumPy; models may be stacked, a client in each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, final

import numpy as np
from numpy.typing import NDArray

Values: TypeAlias = NDArray[Any]
Loss: TypeAlias = Literal["cross_entropy", "mse"]


def scores_of(params: Mapping[str, Values], x: Values) -> Values:
    """(…, rows, outputs) of models that may be stacked."""
    return np.matmul(x, np.swapaxes(params["weight"], -1, -2)) + params["bias"][..., None, :]


def by_row(loss: Loss, scores: Values, y: Values) -> tuple[Values, Values]:
    """(the loss of each row, its gradient by the scores); row by row, of models that may be stacked."""
    if loss == "mse":
        error = scores - y
        return np.square(error).mean(-1), 2 / y.shape[-1] * error
    scores = scores - scores.max(-1, keepdims=True)
    powers = np.exp(scores)
    sums = powers.sum(-1, keepdims=True)
    gradient = powers / sums
    chosen = np.take_along_axis(scores, y[..., None], -1)[..., 0]
    np.put_along_axis(gradient, y[..., None], np.take_along_axis(gradient, y[..., None], -1) - 1, -1)
    return np.log(sums[..., 0]) - chosen, gradient


def penalty(l2: float, weight: Values) -> Any:
    """What large weights cost, of each model."""
    return l2 / 2 * np.square(weight).sum((-1, -2)) if l2 else 0.0


def summed(
    loss: Loss, l2: float, params: Mapping[str, Values], x: Values, y: Values, shares: Values
) -> tuple[Values, dict[str, Values]]:
    """The loss and its gradient where row r has the share `shares[…, r]`, of models that may be stacked."""
    losses, by_score = by_row(loss, scores_of(params, x), y)
    by_score = by_score * shares[..., None].astype(by_score.dtype)
    by_weight = np.matmul(np.swapaxes(by_score, -1, -2), x)
    if l2:
        by_weight += np.asarray(l2, by_weight.dtype) * params["weight"]
    whole = (losses * shares).sum(-1) + penalty(l2, params["weight"])
    return whole, {"weight": by_weight, "bias": by_score.sum(-2)}


@final
@dataclass(frozen=True)
class LinearLoss:
    """`(params, x, y) → (mean loss, gradients)`, of one model or of many at once."""

    loss: Loss
    l2: float

    def __call__(self, params: Mapping[str, Values], x: Values, y: Values) -> tuple[float, dict[str, Values]]:
        return gradient(self.loss, self.l2, params, x, y)

    def many(self, params: Mapping[str, Values], *batches: Values, shares: Values) -> tuple[Values, dict[str, Values]]:
        """The same of models that are stacked, as `summed`."""
        x, y = batches
        return summed(self.loss, self.l2, params, x, y, shares)


def gradient(
    loss: Loss, l2: float, params: Mapping[str, Values], x: Values, y: Values
) -> tuple[float, dict[str, Values]]:
    """(mean loss, gradients) of one model."""
    value, gradients = summed(loss, l2, params, x, y, np.full(len(x), 1 / max(1, len(x))))
    return float(value), gradients


def assessed(loss: Loss, params: Mapping[str, Values], x: Values, y: Values) -> tuple[Values, Values | None]:
    """(the loss of each row, whether it is put into its class)."""
    scores = scores_of(params, x)
    right = (scores.argmax(-1) == y).astype(np.float64) if loss == "cross_entropy" else None
    return by_row(loss, scores, y)[0].astype(np.float64), right


def evaluate(
    loss: Loss, l2: float, params: Mapping[str, Values], x: Values, y: Values
) -> tuple[float, dict[str, float]]:
    """(mean loss, metrics) of one model."""
    losses, right = assessed(loss, params, x, y)
    metrics = {} if right is None else {"accuracy": float(right.mean())}
    return float(losses.mean() + penalty(l2, params["weight"])), metrics
