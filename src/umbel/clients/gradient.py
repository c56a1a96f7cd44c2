"""`GradientClient`: an open client in NumPy alone, from a function that gives loss and gradient."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any, TypeAlias, cast, final

import numpy as np
from numpy.typing import NDArray

from umbel.arrays import Arrays, ArraysLike
from umbel.block import BlockClient, Member
from umbel.clients.alone import one_by_one
from umbel.clients.arguments import check_function, check_momentum, check_passes, check_rate
from umbel.clients.descend import Stackable, descend
from umbel.clients.order import Numbers, Order, Passes
from umbel.errors import ConfigError, NotSupported
from umbel.local_client import Capability, Combine, Correct, Fitted
from umbel.message import Context, Evaluation

Values: TypeAlias = Mapping[str, NDArray[Any]]
Gradient: TypeAlias = Callable[..., tuple[float, Values]]


@final
class GradientClient(BlockClient):
    """A model given as one function; strategies may enter its training loop.

    Args:
        gradient: `(params, *batch) → (mean loss, gradients)`; `params` and the gradients map names to arrays.
        parameters: the initial parameters, a mapping by name.
        data: one array, or a tuple of arrays of equal length whose slices make a batch; () for a model without data.
        lr: local learning rate, above 0; or a function of the local step number.
        momentum: of the local SGD, from 0 to below 1.
        batch_size: None takes all data as one batch.
        epochs: passes over the data in one turn.
        shuffle: draw a new order each pass, from the context's generator.
        evaluate: `(params, *data) → (loss, metrics)`; default: the loss of `gradient`.
        test_data: what to evaluate on; default: `data`.

    Example:
        >>> def gradient(params, x):
        ...     error = params["mean"] - x.mean()
        ...     return 0.5 * error**2, {"mean": error}
        >>> client = GradientClient(gradient, {"mean": 0.0}, np.array([1.0, 3.0]), lr=0.5)
        >>> client.num_examples
        2
    """

    def __init__(
        self,
        gradient: Gradient,
        parameters: ArraysLike,
        data: NDArray[Any] | tuple[NDArray[Any], ...] = (),
        *,
        lr: float | Callable[[int], float] = 0.1,
        momentum: float = 0.0,
        batch_size: int | None = None,
        epochs: int = 1,
        shuffle: bool = True,
        evaluate: Callable[..., tuple[float, Mapping[str, Any]]] | None = None,
        test_data: NDArray[Any] | tuple[NDArray[Any], ...] | None = None,
    ) -> None:
        if not callable(gradient):
            raise ConfigError(f"gradient must be a function (params, *batch) → (loss, gradients), got {gradient!r}")
        if not callable(lr):
            check_rate(lr)
        check_passes(batch_size=batch_size, epochs=epochs, shuffle=shuffle, whole_batch=True)
        check_momentum(momentum)
        check_function("evaluate", evaluate, "(params, *data) → (loss, metrics)")
        self._function = gradient
        self._initial = Arrays.of(parameters)
        self._data = data if isinstance(data, tuple) else (data,)
        self._test = self._data if test_data is None else test_data if isinstance(test_data, tuple) else (test_data,)
        for name, parts in (("data", self._data), ("test_data", self._test)):
            lengths = [len(part) for part in parts]
            if len(set(lengths)) > 1:
                raise ConfigError(f"the arrays of {name} differ in length: {lengths}; they must be equal")
        self._lr: Callable[[int], float] = lr if callable(lr) else _constant(lr)
        self._rate: Hashable = id(lr) if callable(lr) else lr
        self._momentum, self._batch_size, self._epochs, self._shuffle = momentum, batch_size, epochs, shuffle
        self._evaluate = evaluate
        self.capabilities: frozenset[Capability] = frozenset({"fit", "evaluate", "inside", "partial"})

    @property
    def num_examples(self) -> int:
        return len(self._data[0]) if self._data else 1

    @property
    def turn_steps(self) -> int:
        count = self.num_examples
        return self._epochs * (-(-count // (self._batch_size or count)) if count else 0)

    @property
    def progress(self) -> tuple[int, float]:
        return self._steps, self._path

    def parameters(self, ctx: Context) -> Arrays:
        return self._initial

    def load(self, arrays: Arrays, ctx: Context) -> None:
        self._params = arrays.copy()
        self._velocity = {name: np.zeros_like(view) for name, view in self._params.views.items()}
        self._steps, self._path, self._reach = 0, 0.0, 0.0

    def native(self, arrays: Arrays) -> Mapping[str, Any]:
        return arrays

    def batches(self, ctx: Context) -> Iterator[tuple[NDArray[Any], ...]]:
        count = self.num_examples
        size = count if self._batch_size is None else self._batch_size
        for _ in range(self._epochs):
            if not count:
                return
            if not self._data or (size >= count and not self._shuffle):
                yield self._data
                continue
            order = ctx.rng.permutation(count) if self._shuffle else np.arange(count)
            for start in range(0, count, size):
                chosen = order[start : start + size]
                yield tuple(part[chosen] for part in self._data)

    def step(self, batch: Any, correct: Correct | None) -> tuple[float, float]:
        loss, gradients = self._function(self._params.views, *batch)
        self._descend(gradients, correct)
        return float(loss), len(batch[0]) if batch else 1

    def _descend(self, gradients: Values, correct: Correct | None) -> None:
        lr = self._lr(self._steps)
        for name, grad in gradients.items():
            param = self._params.views[name]
            if correct is not None:
                grad = correct(name, grad, param)
            if self._momentum:
                velocity = self._velocity[name]
                velocity *= self._momentum
                velocity += grad
                grad = velocity
            np.subtract(param, lr * grad, out=param, casting="same_kind")
        self._steps += 1
        self._reach = self._momentum * self._reach + 1.0
        self._path += lr * self._reach

    def step_by_example(self, rows: Sequence[int], combine: Combine, correct: Correct | None) -> None:
        self._descend(combine(self._gradients_of(rows, self._params, 1)), correct)

    def dump(self) -> Arrays:
        return self._params.frozen()

    def fit_arrays(self, start: Arrays, ctx: Context) -> Fitted:
        raise AssertionError("an open client is trained by umbel.local.run_steps")

    def gradient(self, start: Arrays, ctx: Context) -> Fitted:
        result = Arrays.zeros(start.schema.delta)
        if not self.num_examples:
            return Fitted(result.frozen(), 0, is_delta=True)
        loss, gradients = self._function(start.copy().views, *self._data)
        for name in result:
            if name in gradients:
                np.negative(gradients[name], out=result.views[name], casting="same_kind")
        return Fitted(result.frozen(), self.num_examples, 1, 1.0, {"loss": float(loss)}, is_delta=True)

    def example_gradients(self, start: Arrays, ctx: Context) -> Iterator[Arrays]:
        yield from self._gradients_of(range(self.num_examples if self._data else 0), start.copy(), -1)

    def _gradients_of(self, rows: Sequence[int], params: Arrays, sign: int) -> Iterator[Arrays]:
        def of_row(row: int, result: Arrays) -> None:
            _, gradients = self._function(params.views, *(part[row : row + 1] for part in self._data))
            for name in result:
                if name in gradients:
                    np.multiply(gradients[name], sign, out=result.views[name], casting="same_kind")

        return one_by_one(rows, params.schema.delta, of_row)

    def example_losses(self, model: Arrays, ctx: Context, *, held_out: bool = False) -> Iterator[float]:
        data = self._test if held_out else self._data
        if held_out and self._test is self._data:
            return
        views = model.copy().views
        for number in range(len(data[0]) if data else 0):
            yield float(self._function(views, *(part[number : number + 1] for part in data))[0])

    def loss(self, start: Arrays, ctx: Context) -> float:
        return float(self._function(start.copy().views, *self._data)[0]) if self.num_examples else 0.0

    def evaluate_arrays(self, model: Arrays, ctx: Context) -> Evaluation:
        count = len(self._test[0]) if self._test else 1
        if not count:
            return Evaluation(0.0, 0.0)
        if self._evaluate is None:
            return Evaluation(float(self._function(model.copy().views, *self._test)[0]), count)
        loss, metrics = self._evaluate(model, *self._test)
        return Evaluation(float(loss), count, metrics)

    def block_kind(self, ctx: Context) -> Hashable:
        if not isinstance(self._function, Stackable):
            raise NotSupported("the function of a GradientClient gives the gradient of one model at a time")
        looks = tuple((column.dtype, column.shape[1:]) for column in self._data)
        return self._function, self._initial.schema, self._rate, self._momentum, looks

    @classmethod
    def train_block(cls, members: Sequence[Member], *, most_steps: int | None = None) -> list[Fitted]:
        clients = [cast("GradientClient", member.client) for member in members]
        first, counts = clients[0], [client.num_examples for client in clients]
        lots: list[Numbers] = [np.arange(count, dtype=np.int64) for count in counts]
        for lot, end, count in zip(lots, np.cumsum(counts), counts, strict=True):
            lot += end - count
        passes = [client._passes(most_steps) for client in clients]
        # Copies: a trial trains the same members several times.
        order = Order.drawn(
            lots, range(len(members)), passes, lambda number: deepcopy(members[number].ctx.rng).permutation
        )
        places: list[int] = np.argsort(-order.steps, kind="stable").tolist()
        sorted_members = [members[place] for place in places]
        values, losses = descend(
            cast("Stackable", first._function),
            [np.concatenate(parts) for parts in zip(*(client._data for client in clients), strict=True)],
            [member.start for member in sorted_members],
            [member.correction for member in sorted_members],
            order.of(np.array(places, np.int64)),
            lr=first._lr,
            momentum=first._momentum,
        )
        paths = first._paths(int(order.steps.max(initial=0)))
        fitted: list[Fitted | None] = [None] * len(members)
        for at, place in enumerate(places):
            model, steps = members[place].start.copy(), int(order.steps[place])
            model.fill({name: stacked[at] for name, stacked in values.items()})
            seen = min(counts[place], steps * int(order.sizes[place]))
            metrics = {"loss": float(losses[at])} if steps else {}
            fitted[place] = Fitted(model.frozen(), seen, steps, paths[steps], metrics)
        return cast("list[Fitted]", fitted)

    def _passes(self, most_steps: int | None) -> Passes:
        return Passes(self._batch_size or max(1, self.num_examples), self._epochs, most_steps, self._shuffle)

    def _paths(self, most: int) -> list[float]:
        """How long the way is after so many steps."""
        paths, reach = [0.0], 0.0
        for step in range(most):
            reach = self._momentum * reach + 1.0
            paths.append(paths[-1] + self._lr(step) * reach)
        return paths


def _constant(lr: float) -> Callable[[int], float]:
    def rate(step: int) -> float:
        return lr

    return rate
