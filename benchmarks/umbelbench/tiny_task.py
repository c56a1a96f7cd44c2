"""The tiny task of `tiny` as a torch model, for the contestants that train it with one."""

from functools import cache

import numpy as np
import torch
from torch import nn

from umbelbench import tiny
from umbelbench.task import Samples, tabled


def net() -> nn.Module:
    return nn.Linear(tiny.FEATURES, tiny.CLASSES)


@cache
def table() -> Samples:
    x, y = tiny.table()
    return torch.from_numpy(x), torch.from_numpy(y)


def rows(client: int) -> range:
    mine = tiny.rows(client)
    return range(int(mine[0]), int(mine[-1]) + 1)


def start() -> list[np.ndarray]:
    return list(tiny.initial_parameters().values())


TASK = tabled(
    table, rows, population=tiny.POPULATION, cohort=1_000, batch=tiny.BATCH, learning_rate=tiny.LEARNING_RATE,
    net=net, initial_parameters=start,
)  # fmt: skip
