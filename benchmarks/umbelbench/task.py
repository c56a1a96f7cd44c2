"""What is trained: a model, its start and every client's data, the same for all contestants."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

Samples = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Task:
    """One federated training task. Batches go in order, the last of a client may be smaller.

    Args:
        population, cohort: how many clients there are, and how many a round asks.
        initial_parameters: in the order of the module's parameters.
        client_data: a client's samples, features and labels, as views.
        table, rows: the samples of all clients, and which of them are a client's, where they lie in one table.
        equal: all clients have equally many samples, so that a plain mean is the weighted one.
    """

    population: int
    cohort: int
    batch: int
    learning_rate: float
    net: Callable[[], nn.Module]
    initial_parameters: Callable[[], list[np.ndarray]]
    client_data: Callable[[int], Samples]
    table: Callable[[], Samples] | None = None
    rows: Callable[[int], range] | None = None
    equal: bool = True

    def sgd(self, parameters: object) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, lr=self.learning_rate)


def tabled(table: Callable[[], Samples], rows: Callable[[int], range], **more: Any) -> Task:
    """A task whose clients' samples are rows of one table."""

    def read(client: int) -> Samples:
        (x, y), mine = table(), slice(rows(client).start, rows(client).stop)
        return x[mine], y[mine]

    return Task(client_data=read, table=table, rows=rows, **more)


def named(name: str) -> Task:
    """The task of that name; only its module is imported."""
    if name == "lenet":
        from umbelbench import lenet

        return lenet.TASK
    if name == "tiny":
        from umbelbench import tiny_task

        return tiny_task.TASK
    if name == "fashion":
        from umbelbench import fashion

        return fashion.TASK
    from umbelbench import mlp

    return mlp.TASKS[name]


def uniform_start(net: nn.Module, seed: int = 1) -> list[np.ndarray]:
    """The same start for every contestant: uniform within 1/sqrt(fan-in), layer by layer."""
    rng = np.random.default_rng(seed)
    arrays, fan_in = [], 1
    for parameter in net.parameters():
        shape = tuple(parameter.shape)
        fan_in = int(np.prod(shape[1:])) if len(shape) > 1 else fan_in
        arrays.append((rng.uniform(-1, 1, shape) / np.sqrt(fan_in)).astype(np.float32))
    return arrays
