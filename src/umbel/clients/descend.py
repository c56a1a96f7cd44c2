"""SGD of many clients side by side, in NumPy: a model for each, stacked, and one computation for a step of all."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays
from umbel.clients.order import Order
from umbel.local import Correction

Values = NDArray[Any]


@runtime_checkable
class Stackable(Protocol):
    """A gradient that can be had of many models at once."""

    def many(
        self, params: Mapping[str, Values], *batches: Values, shares: Values
    ) -> tuple[Values, Mapping[str, Values]]:
        """(loss of each model, gradients), where row r of model m has the share `shares[m, r]` of its loss."""
        ...


def descend(
    gradient: Stackable,
    columns: Sequence[Values],
    starts: Sequence[Arrays],
    corrections: Sequence[Correction | None],
    order: Order,
    *,
    lr: Callable[[int], float],
    momentum: float,
) -> tuple[dict[str, Values], Values]:
    """The clients' models and mean losses after training.

    Args:
        columns: the examples of all of them; `order` says which rows are whose.
        starts: where each one begins; clients are sorted by their number of steps, most first, here and below.
        corrections: each one's, or none for all.
        lr: the learning rate of a step.
    """
    count = len(starts)
    params = {name: np.stack([start[name] for start in starts]) for name in starts[0]}
    velocity = {name: np.zeros_like(values) for name, values in params.items()}
    loss_sum, seen = np.zeros(count), np.zeros(count)
    for number in range(int(order.steps.max(initial=0))):
        rows, sizes = order.step(number)
        those = slice(0, len(rows))
        now = {name: values[those] for name, values in params.items()}
        counts: Values = sizes[:, None]
        across: Values = np.arange(int(rows.shape[1]))
        shares: Values = np.less(across, counts) / counts
        losses, gradients = gradient.many(now, *(column[rows] for column in columns), shares=shares)
        for name, slopes in gradients.items():
            # A rule may look at a whole array, for its norm, so it sees one client at a time.
            each = zip(corrections, slopes, now[name], starts, strict=False)
            moves = slopes if corrections[0] is None else np.stack([_corrected(name, *one) for one in each])
            if momentum:
                velocity[name][those] = momentum * velocity[name][those] + moves
                moves = velocity[name][those]
            np.subtract(now[name], lr(number) * moves, out=now[name], casting="same_kind")
        loss_sum[those] += losses * sizes
        seen[those] += sizes
    return params, loss_sum / np.maximum(seen, 1)


def _corrected(name: str, correction: Correction | None, slope: Values, own: Values, start: Arrays) -> Values:
    if correction is None:
        return slope
    return correction.rule(slope, own, start[name], None if correction.extra is None else correction.extra.get(name))
