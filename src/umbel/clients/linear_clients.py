"""`LinearClients`: linear and logistic regression on parts of one data set, many clients at once, in NumPy alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, cast, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays
from umbel.block import Assessed, ClientSource, Descent, Trained, blank_rows
from umbel.clients import linear
from umbel.clients.arguments import check_enough, check_rate, checked_parts, is_whole
from umbel.clients.descend import descend
from umbel.clients.gradient import GradientClient
from umbel.clients.linear import LinearLoss, Loss, Values
from umbel.clients.order import Numbers, Order, Parts, Passes, means, rows_of, shares
from umbel.errors import ConfigError
from umbel.local import Correction
from umbel.message import Context, is_number, require
from umbel.randomness import generator
from umbel.schema import Schema


@final
class LinearClients(ClientSource):
    """A `client_fn` for clients that fit y ≈ x·Wᵀ + b on parts of one data set by SGD, each one a `GradientClient`.

    For class labels (whole numbers) the loss is the cross entropy of softmax(x·Wᵀ + b), else the mean squared error; to
    either comes l2/2·‖W‖². With the engine "vmap" a block of them trains as one batched computation, without that any
    is built and without any other library.

    Args:
        data: a tuple (x, y) of arrays of equal length: x of shape (rows, features); y of shape (rows,) with labels from
            0, or (rows,) or (rows, outputs) with numbers.
        parts: the rows of each client, `parts[i]` for partition i: a `Partition`, or a list of arrays; or a function
            `i → rows`, of which nothing is kept.
        test_parts: the rows that each client evaluates on, in the same forms; None takes those it trains on.
        num_classes: how many labels there are; None counts those of `y`.
        lr: local learning rate, above 0.
        momentum: of the local SGD, from 0 to below 1.
        l2: weight of the penalty, at least 0.
        batch_size, epochs, shuffle: as for `GradientClient`.

    The model has the arrays `weight` (outputs, features) and `bias` (outputs,), zeros at first, of x's dtype.

    Raises:
        ConfigError: the data are no such arrays, a number is out of range, or parts have rows that the data do not.

    Example:
        >>> x, y = np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1])
        >>> clients = LinearClients((x, y), [[0, 1], [2, 3]], lr=0.5, batch_size=None)
        >>> clients(Context("1", 1, 2)).num_examples
        2
    """

    def __init__(
        self,
        data: tuple[Any, Any],
        parts: Parts,
        *,
        test_parts: Parts | None = None,
        num_classes: int | None = None,
        lr: float = 0.1,
        momentum: float = 0.0,
        l2: float = 0.0,
        batch_size: int | None = 32,
        epochs: int = 1,
        shuffle: bool = True,
    ) -> None:
        self._x, self._y, outputs = _table(data, num_classes)
        self._loss: Loss = "cross_entropy" if self._y.ndim == 1 else "mse"
        check_rate(lr)
        require(is_number(l2) and l2 >= 0, f"l2 must be a number of at least 0, got {l2!r}")
        self._sized = {"parts": parts, "test_parts": test_parts}
        self._parts = checked_parts("parts", parts, len(self._x))
        self._test_parts = self._parts if test_parts is None else checked_parts("test_parts", test_parts, len(self._x))
        self._lr, self._momentum, self._l2 = lr, momentum, l2
        self._batch_size, self._epochs, self._shuffle = batch_size, epochs, shuffle
        shapes = {"weight": (outputs, self._x.shape[1]), "bias": (outputs,)}
        self._initial = Arrays.of({name: np.zeros(shape, self._x.dtype) for name, shape in shapes.items()})
        self._client(np.empty(0, np.int64), np.empty(0, np.int64))  # refuses numbers that are none

    def __call__(self, context: Context) -> GradientClient:
        check_enough(context, **self._sized)
        number = context.partition_id
        return self._client(rows_of(self._parts, number), rows_of(self._test_parts, number))

    def _client(self, rows: Numbers, test_rows: Numbers) -> GradientClient:
        return GradientClient(
            LinearLoss(self._loss, self._l2),
            self._initial,
            (self._x[rows], self._y[rows]),
            lr=self._lr,
            momentum=self._momentum,
            batch_size=self._batch_size,
            epochs=self._epochs,
            shuffle=self._shuffle,
            evaluate=partial(linear.evaluate, self._loss, self._l2),
            test_data=(self._x[test_rows], self._y[test_rows]),
        )

    def train_many(
        self, start: Arrays, ctx: Context, partitions: Sequence[int], keys: Sequence[int], correction: Correction | None
    ) -> Trained:
        lots = [rows_of(self._parts, number) for number in partitions]
        passes = [Passes(self._batch_size or max(1, len(lot)), self._epochs, None, self._shuffle) for lot in lots]
        order = Order.drawn(lots, keys, passes, lambda key: generator(key).permutation)
        places = np.argsort(-order.steps, kind="stable")
        count = len(lots)
        values, losses = descend(
            LinearLoss(self._loss, self._l2),
            (self._x, self._y),
            [start] * count,
            [correction] * count,
            order.of(places),
            lr=lambda step: self._lr,
            momentum=self._momentum,
        )
        back = np.argsort(places)
        changes = {name: values[name] - start[name] for name in values}
        examples = order.counts * (order.steps > 0)
        return Trained(
            _rows(start.schema.delta, changes)[back],
            [float(count) for count in examples],
            [int(steps) for steps in order.steps],
            [float(losses[place]) if order.steps[at] else None for at, place in enumerate(back)],
        )

    def gradient_many(self, start: Arrays, ctx: Context, partitions: Sequence[int], *, uniform: bool) -> Descent:
        lots = [rows_of(self._parts, number) for number in partitions]
        counts = np.array([len(lot) for lot in lots], np.int64)
        rows = np.concatenate([*lots, np.zeros(0, np.int64)])
        x, y = self._x[rows], self._y[rows]
        change = Arrays.zeros(start.schema.delta)
        if len(rows):
            found = linear.summed(self._loss, self._l2, start, x, y, shares(counts, uniform=uniform))[1]
            change.fill({name: -gradient for name, gradient in found.items()})
        penalty = linear.penalty(self._l2, start["weight"])
        means_ = means(linear.assessed(self._loss, start, x, y)[0], counts)
        losses = [mean + penalty if count else None for mean, count in zip(means_, counts, strict=True)]
        return Descent(change.frozen(), [float(count) for count in counts], losses)

    def evaluate_many(self, model: Arrays, ctx: Context, partitions: Sequence[int]) -> Assessed:
        lots = [rows_of(self._test_parts, number) for number in partitions]
        rows = np.concatenate([*lots, np.zeros(0, np.int64)])
        losses, right = linear.assessed(self._loss, model, self._x[rows], self._y[rows])
        counts = np.array([len(lot) for lot in lots], np.int64)
        penalty = linear.penalty(self._l2, model["weight"])
        found = [mean + penalty if count else 0.0 for mean, count in zip(means(losses, counts), counts, strict=True)]
        metrics = {} if right is None else {"accuracy": means(right, counts)}
        return Assessed([float(count) for count in counts], found, metrics)


def _table(data: Any, num_classes: int | None) -> tuple[Values, Values, int]:
    """(x, y, the number of outputs) as arrays: y is labels, or a matrix of numbers of x's dtype."""
    pair = cast("tuple[Any, ...]", data)
    if not isinstance(data, tuple) or len(pair) != 2:
        raise ConfigError(f"data must be a tuple (x, y) of arrays, got {type(pair).__name__}")
    x: Values = np.asarray(pair[0])
    y: Values = np.asarray(pair[1])
    if x.dtype.kind in "iub":
        x = x.astype(np.float32)
    if x.ndim != 2 or x.dtype.name not in ("float32", "float64"):
        raise ConfigError(f"x must be numbers of shape (rows, features), got {x.dtype}{list(x.shape)}")
    if len(x) != len(y):
        raise ConfigError(f"x has {len(x)} rows and y has {len(y)}; they must be equal")
    if y.dtype.kind in "iub" and y.ndim == 1:
        least = int(y.max(initial=0)) + 1
        require(not len(y) or y.min() >= 0, f"labels count from 0, got {y.min(initial=0)}")
        require(
            num_classes is None or is_whole(num_classes, least),
            f"num_classes is {num_classes!r} and y has the label {least - 1}; labels count from 0",
        )
        return x, y.astype(np.int64), num_classes or least
    if y.dtype.kind not in "iubf" or y.ndim not in (1, 2):
        raise ConfigError(f"y must be labels or numbers of shape (rows,) or (rows, outputs), got {y.dtype}{y.shape}")
    require(num_classes is None, "num_classes is for labels, and y holds numbers")
    outputs: Values = y.astype(x.dtype).reshape(len(x), -1)
    return x, outputs, int(outputs.shape[1])


def _rows(schema: Schema, values: Mapping[str, Values]) -> NDArray[np.uint8]:
    """One row of bytes for each client with its part of each stacked array."""
    memory = blank_rows(schema, len(next(iter(values.values()))))
    header = len(schema.header)
    for name, start, stop, dtype, _ in schema.places:
        memory[:, header + start : header + stop].view(dtype)[:] = values[name].reshape(len(memory), -1)
    return memory
