"""Multi-layer perceptrons: clients of equal size, ragged ones, and silos that all take part.

A client's samples are rows of one table of noise that its number selects; the label is the largest of the first ten
features, so that there is something to learn.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from torch import nn

from umbelbench.task import Samples, Task, tabled, uniform_start

CLASSES, MOST = 10, 500
_ROWS = 20_000
RAGGED_POPULATION, MEDIAN, SIGMA = 10_000, 60, 1.5


def net(inputs: int, hidden: int) -> nn.Module:
    """One hidden layer: 159,010 parameters with 784 inputs and 200 hidden units, 3,610 with 64 and 48."""
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, CLASSES))


@cache
def table(inputs: int) -> Samples:
    x = np.random.default_rng(0).standard_normal((_ROWS + MOST, inputs), dtype=np.float32)
    return torch.from_numpy(x), torch.from_numpy(x[:, :CLASSES].argmax(1))


@cache
def ragged_sizes() -> np.ndarray:
    """Lognormal with a median of 60 and sigma 1.5, from 1 to 500."""
    drawn = np.random.default_rng(7).lognormal(np.log(MEDIAN), SIGMA, RAGGED_POPULATION)
    return np.clip(np.rint(drawn), 1, MOST).astype(np.int64)


def equal_rows(samples: int, client: int) -> range:
    start = client * samples % _ROWS
    return range(start, start + samples)


def ragged_rows(client: int) -> range:
    start = client * 37 % _ROWS
    return range(start, start + int(ragged_sizes()[client]))


def _task(rows: Callable[[int], range], *, inputs: int = 784, hidden: int = 200, **more: Any) -> Task:
    build = partial(net, inputs, hidden)
    start = partial(_start, build)
    return tabled(
        partial(table, inputs), rows, batch=20, learning_rate=0.05, net=build, initial_parameters=start, **more
    )


def _start(build: Callable[[], nn.Module]) -> list[np.ndarray]:
    return uniform_start(build())


_RAGGED = {"population": RAGGED_POPULATION, "cohort": 500, "equal": False}
TASKS = {
    "mlp": _task(partial(equal_rows, 100), population=1_000, cohort=100),
    "ragged": _task(ragged_rows, **_RAGGED),
    "ragged-small": _task(ragged_rows, inputs=64, hidden=48, **_RAGGED),
    "silo": _task(partial(equal_rows, 500), population=8, cohort=8),
}
