"""`TorchClients`: one model and one data set, divided among many clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor, nn

from umbel.arrays import Arrays
from umbel.block import Assessed, ClientSource, Descent, Trained
from umbel.clients.arguments import check_enough, check_passes, checked_parts
from umbel.clients.order import Numbers, Parts, rows_of
from umbel.clients.torch.client import Metric, TorchClient
from umbel.clients.torch.data import prepared
from umbel.clients.torch.optimizer import OptimizerFactory
from umbel.errors import ConfigError, NotSupported
from umbel.local import Correction
from umbel.message import Context


@final
class TorchClients(ClientSource):
    """A `client_fn` for clients that train one torch model on parts of one data set.

    Each is a `TorchClient` on its rows of `data`. With the engine "vmap" a block of them trains without that any is
    built, and its changes are added up at once: small models cost microseconds per client.

    Args:
        model: the module; all clients share it.
        loss: `(output, target) → mean loss`.
        optimizer: a factory `params → Optimizer`.
        data: a tuple (x, y) of tensors or arrays of equal length.
        parts: the rows of each client, `parts[i]` for partition i: a `Partition`, or a list of arrays; or a function
            `i → rows`, of which nothing is kept.
        test_parts: the rows that each client evaluates on, in the same forms; None leaves evaluation out.
        batch_size, epochs, max_steps, shuffle, clip_grad_norm, metrics, device: as for `TorchClient`.

    Raises:
        ConfigError: the data are no tuple of arrays of equal length, a number is out of range, or parts have rows that
            the data do not.

    Example:
        >>> x, y, parts = torch.zeros(6, 3), torch.zeros(6, dtype=torch.long), [[0, 1], [2, 3, 4, 5]]
        >>> sgd = lambda params: torch.optim.SGD(params, lr=0.1)
        >>> clients = TorchClients(nn.Linear(3, 2), nn.CrossEntropyLoss(), sgd, (x, y), parts)
        >>> len(clients), clients(Context("1", 1, 2)).num_examples
        (2, 4)
    """

    def __init__(
        self,
        model: nn.Module,
        loss: Callable[..., Tensor],
        optimizer: OptimizerFactory,
        data: Any,
        parts: Parts,
        *,
        test_parts: Parts | None = None,
        batch_size: int = 32,
        epochs: int = 1,
        max_steps: int | None = None,
        shuffle: bool = True,
        clip_grad_norm: float | None = None,
        metrics: Mapping[str, Metric] | None = None,
        device: str | torch.device | None = None,
    ) -> None:
        check_passes(batch_size=batch_size, epochs=epochs, shuffle=shuffle, max_steps=max_steps)
        self._data = prepared("data", data, batch_size)
        if not isinstance(self._data, tuple) or not self._data:
            raise ConfigError(f"data must be a tuple of arrays such as (x, y), got {type(data).__name__}")
        self._model, self._loss, self._optimizer = model, loss, optimizer
        size = len(cast("tuple[Tensor, ...]", self._data)[0])
        self._parts = checked_parts("parts", parts, size)
        self._test_parts = None if test_parts is None else checked_parts("test_parts", test_parts, size)
        self._sized = {"parts": parts, "test_parts": test_parts}
        self._more: dict[str, Any] = {
            "batch_size": batch_size,
            "epochs": epochs,
            "max_steps": max_steps,
            "shuffle": shuffle,
            "clip_grad_norm": clip_grad_norm,
            "metrics": metrics,
            "device": device,
        }
        self._client(np.empty(0, np.int64), None)  # refuses numbers that are none

    def __len__(self) -> int:
        """How many clients there are.

        Raises:
            TypeError: `parts` is a function, which does not say.
        """
        return len(cast("Sequence[Any]", self._sized["parts"]))

    def __call__(self, context: Context) -> TorchClient:
        check_enough(context, **self._sized)
        number = context.partition_id
        return self._client(
            rows_of(self._parts, number), None if self._test_parts is None else rows_of(self._test_parts, number)
        )

    def _client(self, rows: Numbers, test_rows: Numbers | None) -> TorchClient:
        data = cast("tuple[Tensor, ...]", self._data)
        test = None if test_rows is None else tuple(column[test_rows] for column in data)
        mine = tuple(column[rows] for column in data)
        return TorchClient(self._model, self._loss, self._optimizer, mine, test_data=test, **self._more)

    def train_many(
        self, start: Arrays, ctx: Context, partitions: Sequence[int], keys: Sequence[int], correction: Correction | None
    ) -> Trained:
        lots = [rows_of(self._parts, number) for number in partitions]
        data = cast("tuple[Tensor, ...]", self._data)
        return self._client(lots[0], None).train_rows(start, ctx, data, lots, keys, correction)

    def gradient_many(self, start: Arrays, ctx: Context, partitions: Sequence[int], *, uniform: bool) -> Descent:
        lots = [rows_of(self._parts, number) for number in partitions]
        data = cast("tuple[Tensor, ...]", self._data)
        return self._client(np.empty(0, np.int64), None).gradient_rows(start, ctx, data, lots, uniform=uniform)

    def evaluate_many(self, model: Arrays, ctx: Context, partitions: Sequence[int]) -> Assessed:
        parts = self._test_parts
        if parts is None:
            raise NotSupported("it has no test_parts")
        lots = [rows_of(parts, number) for number in partitions]
        data = cast("tuple[Tensor, ...]", self._data)
        return self._client(np.empty(0, np.int64), lots[0]).evaluate_rows(model, ctx, data, lots)
